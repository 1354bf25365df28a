"""One of several processes of a training: `accelerate launch -m` this module with a job's folder.

The first reports to `progress.jsonl` in the job's folder and writes what all share. With
`--end-with-parent` a process ends when its standard input closes: the platform is then gone. With
`--rows-refused 8` it uses less memory than with 8 rows a pass, for which memory ran out before.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from threading import Event

from nemo_local.core.imports import imports_that_stay
from nemo_local.customizer.integrations import KEY
from nemo_local.customizer.parent import end_with_parent
from nemo_local.customizer.progress import STOPPED, OutOfMemory, ProgressWriter, Stopped, Unheard
from nemo_local.customizer.task import Task
from nemo_local.customizer.training.batches import read_rows
from nemo_local.customizer.training.train import reason_of, stop_on_sigterm

END_WITH_PARENT, ROWS_REFUSED = "--end-with-parent", "--rows-refused"


def main(job_dir: Path, stop: Event, rows_refused: int | None = None) -> int:
    """Train as one of several processes; returns 0, STOPPED, or 1 with an error file."""
    first = os.environ["RANK"] == "0"
    if not first:
        os.environ.pop(KEY, None)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        task = Task.read(job_dir)
        rows = read_rows(task, job_dir / "data") if first else None
        with imports_that_stay():
            from nemo_local.customizer.training.trainer import train

        train(
            task, rows, job_dir, ProgressWriter(job_dir) if first else Unheard(), stop, rows_refused
        )
        return 0
    except Stopped:
        return STOPPED
    except Exception as error:
        traceback.print_exc()
        with suppress(OSError):  # the disk is full; the launcher says that somebody failed
            _tell_launcher(error, job_dir)
        return 1


def _tell_launcher(error: Exception, job_dir: Path) -> None:
    """Leave the reason where PyTorch's launcher looks for it, in the form that it reads."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        extra = {"py_callstack": traceback.format_exc(), "timestamp": str(int(time.time()))}
        report = {
            "message": {"message": reason_of(error, job_dir), "extraInfo": extra},
            "exception_type": type(error).__name__,
            "at": time.time(),
            "rows": error.rows if isinstance(error, OutOfMemory) else None,
        }
        Path(path).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    arguments = ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument(END_WITH_PARENT, action="store_true")
    arguments.add_argument(ROWS_REFUSED, type=int)
    given = arguments.parse_args()
    if given.end_with_parent:
        end_with_parent()
    status = main(given.folder, stop_on_sigterm(), given.rows_refused)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # as in train.py
