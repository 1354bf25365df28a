"""Trains on several processes, which `accelerate launch` starts from within this one."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from signal import SIGTERM
from typing import Any

from nemo_local.core.imports import imports_that_stay
from nemo_local.customizer.parallelism import Processes, processes_for
from nemo_local.customizer.progress import LIKELY_CAUSES, STOPPED, ProgressWriter
from nemo_local.customizer.task import Task
from nemo_local.customizer.training.rank import END_WITH_PARENT, ROWS_REFUSED

KILLED_FIRST_S = 10.0
"""A process killed within this time of the first error was the cause, not killed by the launcher:
that kills what hangs only half a minute after an error."""


def processes_of(task: Task) -> Processes:
    """The processes that a job gets on this machine."""
    with imports_that_stay():
        import torch

    gpus = 0 if task.device == "cpu" else torch.cuda.device_count()
    return processes_for(task.parallel, gpus, task.threads or os.cpu_count() or 1)


def launch(processes: Processes, task: Task, job_dir: Path, to: ProgressWriter) -> int:
    """Train on these processes to the end; returns the exit status as train.main does.

    When memory runs out in one, all restart from the last checkpoint, with half the rows a pass, or
    with activation checkpointing when it was one row; but not where other machines take part,
    whose processes this one cannot restart.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException

    for machine in range(processes.machines):
        command = shlex.join(processes.command(job_dir, machine))
        print(f"on machine {machine}: accelerate launch {command}")
    if task.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    arguments = [*processes.command(job_dir), END_WITH_PARENT]
    fewer: list[str] = []
    try:
        while True:
            failed = _run([*arguments, *fewer])
            if failed is None:
                return 0
            rows = failed.pop("rows", None)
            if rows is None or processes.machines > 1:
                to.write("failed", **failed)
                return 1
            fewer = [ROWS_REFUSED, str(rows)]
            what, _, _ = failed["message"].partition(";")
            instead = "fewer rows a pass" if rows > 1 else "activation checkpointing"
            print(f"{what}; all begin again with {instead}")
    except SignalException:  # passed on to all processes, which have ended
        return STOPPED


def _run(arguments: list[str]) -> dict[str, Any] | None:
    """Start the processes and wait for their end; the failure (see `cause`), or None."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as error:
        return cause(error.failures)
    return None


def cause(failures: Mapping[int, Any]) -> dict[str, Any]:
    """The report of what failed first; it makes the other processes fail with errors of their own.

    `failures` are PyTorch's, by rank. The report of an OutOfMemory has `rows`, too.
    """
    told = {
        rank: failure.error_file_data
        for rank, failure in failures.items()
        if "at" in failure.error_file_data
    }
    first = min(told.values(), key=lambda data: float(data["at"]), default=None)
    for rank, failure in failures.items():
        if _was_killed(failure, first["at"] if first else None):
            name = failure.signal_name()
            hint = LIKELY_CAUSES.get(name, "")
            return _report(
                f"training process {rank} of {len(failures)} was ended by {name}{hint}; "
                "see container-logs",
                name,
            )
    if first:
        message = first["message"]
        trace = message["extraInfo"]["py_callstack"]
        found = _report(message["message"], first["exception_type"], trace)
        return found | ({"rows": first["rows"]} if first.get("rows") else {})
    statuses = ", ".join(str(failure.exitcode) for failure in failures.values())
    return _report(
        f"the training processes ended with status {statuses}; see container-logs",
        "ChildFailedError",
    )


def _was_killed(failure: Any, first_error: float | None) -> bool:
    """Whether a signal ended the process, other than the launcher's for what hangs after an error.

    `first_error` is in seconds since the epoch, None without one.
    """
    if failure.exitcode >= 0 or failure.exitcode == -SIGTERM:
        return False
    return first_error is None or failure.timestamp - first_error <= KILLED_FIRST_S


def _report(message: str, kind: str, trace: str = "") -> dict[str, Any]:
    return {"message": message, "exception_type": kind, "trace": trace}
