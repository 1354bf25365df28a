"""The training process of one job: `python -m nemo_local.customizer.train <job folder>`.

The folder holds `job.json` (see runner.py) and `data/`. The process reports to `progress.jsonl` and
leaves its output in `adapter/` or `model/`. It ends when its standard input closes: then its
parent is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path

from nemo_local.customizer.batches import read_rows
from nemo_local.customizer.progress import (
    DISK_FULL,
    STOPPED,
    ProgressWriter,
    Stopped,
    TrainingFailed,
)
from nemo_local.customizer.rendering import UntrainableData
from nemo_local.customizer.rows import InvalidRow


def main(job_dir: Path, stop: threading.Event) -> int:
    """Run the job of this folder until it ends, or `stop` is set.

    Returns the exit status: 0, 1 after reporting a failure, STOPPED, or DISK_FULL.
    """
    progress = ProgressWriter(job_dir)
    try:
        job = json.loads((job_dir / "job.json").read_text(encoding="utf-8"))
        rows = read_rows(job, job_dir / "data")
        # Only now, so that bad data is told before seconds of imports.
        from nemo_local.customizer.trainer import train

        train(job, rows, job_dir, progress, stop)
        return 0
    except Stopped:
        return STOPPED
    except Exception as error:
        traceback.print_exc()
        shutil.rmtree(job_dir / "tokens", ignore_errors=True)  # a full disk has room for the reason
        report = {"exception_type": type(error).__name__, "trace": traceback.format_exc()}
        try:
            progress.write("failed", message=reason_of(error, job_dir), **report)
        except OSError:  # the disk is full to the last byte
            return DISK_FULL
        return 1
    finally:
        progress.close()


def reason_of(error: Exception, job_dir: Path) -> str:
    """Why a run failed, as a sentence for who started it."""
    if isinstance(error, InvalidRow | UntrainableData | TrainingFailed):
        return str(error)
    # safetensors and torch wrap the system's error in one of their own.
    if any(sign in str(error) for sign in ("No space left", "StorageFull", "os error 28")):
        free = shutil.disk_usage(job_dir).free / 1e9
        return (
            f"the disk is full ({free:.1f} GB are free where jobs are kept): {error}. Checkpoints "
            "hold the trained weights three times, and a token of the rows takes 8 bytes; "
            "make room and start the job again"
        )
    return f"{type(error).__name__}: {error}"


def stop_on_sigterm() -> threading.Event:
    """An event that SIGTERM sets from now on."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


def end_with_parent() -> None:
    """End this process when standard input closes; the kernel closes it for a dead parent."""

    def wait() -> None:
        while os.read(0, 4096):
            continue
        os._exit(3)

    threading.Thread(target=wait, name="parent watch", daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    status = main(Path(sys.argv[1]), stop_on_sigterm())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking torch apart politely lasts a second and more
