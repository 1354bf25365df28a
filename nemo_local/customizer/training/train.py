"""The training process of one job: `python -m nemo_local.customizer.training.train`.

Its standard input names the job in one line: {"folder": "...", "environment": {"NAME": "..."}}. The
folder holds `job.json` (see task.py) and `data/`. The process reports to `progress.jsonl`, logs
to `train.log` and leaves its output in `adapter/` or `model/`. It hands a job for several devices
to as many processes (see launch.py). It ends when its standard input closes: its parent is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from nemo_local.core.imports import imports_that_stay
from nemo_local.customizer.parent import PARENT_GONE, end_with_parent
from nemo_local.customizer.progress import (
    DISK_FULL,
    STOPPED,
    ProgressWriter,
    Stopped,
    TrainingFailed,
)
from nemo_local.customizer.rows import InvalidRow
from nemo_local.customizer.task import Task
from nemo_local.customizer.texts import UntrainableData
from nemo_local.customizer.training.batches import read_rows

DISK_IS_FULL = (
    *("No space left", "StorageFull", "os error 28"),
    # PyTorch gives no reason when a file takes no more.
    *("PytorchStreamWriter failed", "unexpected pos", "iostream error"),
)
"""Phrases in messages of errors that a full disk caused."""


def main(job_dir: Path, stop: threading.Event) -> int:
    """Run the job of this folder until it ends, or `stop` is set.

    Returns the exit status: 0, 1 after reporting a failure, STOPPED, or DISK_FULL.
    """
    progress = ProgressWriter(job_dir)
    try:
        task = Task.read(job_dir)
        rows = read_rows(task, job_dir / "data")
        # Only now, so that bad data is told before seconds of imports.
        from nemo_local.customizer.training.launch import launch, processes_of

        processes = processes_of(task)
        if processes.count > 1:
            return launch(processes, task, job_dir, progress)
        with imports_that_stay():
            from nemo_local.customizer.training.trainer import train
        train(task, rows, job_dir, progress, stop)
        return 0
    except Stopped:
        return STOPPED
    except Exception as error:
        shutil.rmtree(job_dir / "tokens", ignore_errors=True)  # makes room to write the reason
        with suppress(OSError):
            traceback.print_exc()
        report = {"exception_type": type(error).__name__, "trace": traceback.format_exc()}
        try:
            progress.write("failed", message=reason_of(error, job_dir), **report)
        except OSError:  # the disk is full to the last byte
            return DISK_FULL
        return 1
    finally:
        with suppress(OSError):  # what a full disk did not take
            progress.close()


def reason_of(error: Exception, job_dir: Path) -> str:
    """Why a run failed, as a sentence for the user who started it."""
    if isinstance(error, InvalidRow | UntrainableData | TrainingFailed):
        return str(error)
    for folder in _weights_of(job_dir):
        if not folder.is_dir():  # transformers takes the path for the name of a repository
            return f"the weights in {folder} are gone"
    # safetensors and torch wrap the system's error in one of their own.
    if any(sign in str(error) for sign in DISK_IS_FULL):
        free = shutil.disk_usage(job_dir).free / 1e9
        return (
            f"the disk is full ({free:.1f} GB are free where jobs are kept): {error}. Checkpoints "
            "hold the trained weights three times, and a token of the rows takes 8 bytes; "
            "make room and start the job again"
        )
    return f"{type(error).__name__}: {error}"


def _weights_of(job_dir: Path) -> list[Path]:
    """The folders of the base model and the teacher."""
    try:
        task = Task.read(job_dir)
    except (OSError, ValueError):
        return []
    return [task.model_path, *([task.teacher_path] if task.teacher_path else [])]


def stop_on_sigterm() -> threading.Event:
    """An event that SIGTERM sets from now on."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


def next_job() -> bytes:
    """The next line of standard input, which names a job; ends the process if there is none."""
    with open(0, "rb", buffering=0, closefd=False) as lines:
        line = lines.readline()
    if not line.endswith(b"\n"):
        os._exit(PARENT_GONE)
    return line


def take(line: bytes) -> Path:
    """Adopt the environment, folder and log of the job that a line names; returns the folder."""
    end_with_parent()
    job = json.loads(line)
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    log = os.open("train.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for output in (1, 2):
        os.dup2(log, output)
    os.close(log)
    return Path(job["folder"])


def run(line: bytes) -> NoReturn:
    """Do the job that a line names, and end the process."""
    status = 1
    try:
        job_dir = take(line)
        status = main(job_dir, stop_on_sigterm())
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)  # taking torch apart politely lasts a second and more


if __name__ == "__main__":
    run(next_job())
