"""The training process of one job: `python -m nemo_local.customizer.train <job folder>`.

The folder holds `job.json` (see runner.py) and `data/`. The process reports to `progress.jsonl` and
leaves its output in `adapter/` or `model/`. It ends when its standard input closes: then its
parent is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path

from nemo_local.customizer.batches import read_rows
from nemo_local.customizer.progress import ProgressWriter, TrainingFailed
from nemo_local.customizer.rendering import UntrainableData
from nemo_local.customizer.rows import InvalidRow


def main(job_dir: Path) -> int:
    """Run the job of this folder. Returns the exit status: 0, or 1 after reporting a failure."""
    progress = ProgressWriter(job_dir)
    try:
        job = json.loads((job_dir / "job.json").read_text(encoding="utf-8"))
        rows = read_rows(job, job_dir / "data")
        # Only now, so that bad data is told before seconds of imports.
        from nemo_local.customizer.trainer import train

        train(job, rows, job_dir, progress)
        return 0
    except Exception as error:
        known = isinstance(error, InvalidRow | UntrainableData | TrainingFailed)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        traceback.print_exc()
        progress.write(
            "failed",
            message=message,
            exception_type=type(error).__name__,
            trace=traceback.format_exc(),
        )
        return 1
    finally:
        progress.close()


def end_with_parent() -> None:
    """End this process when standard input closes; the kernel closes it for a dead parent."""

    def wait() -> None:
        while os.read(0, 4096):
            continue
        os._exit(3)

    threading.Thread(target=wait, name="parent watch", daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking torch apart politely lasts a second and more
