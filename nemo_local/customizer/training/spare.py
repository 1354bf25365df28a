"""The spare: a process, started as this module, that is ready before there is a job.

It imports and tries what a training needs, and waits for the lines that name jobs (see train.py).
For each it forks: the fork trains, and this process writes the fork's id and then its exit status
to standard output, a line each. Where it cannot fork, it does the first job itself and writes none.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module

from nemo_local.core.imports import imports_that_stay
from nemo_local.customizer.parent import PARENT_GONE
from nemo_local.customizer.training.train import next_job, run

logger = logging.getLogger(__name__)

LIBRARIES = (
    "torch",
    "transformers",
    "datasets",
    "peft",
    "nemo_local.customizer.training.trainer",
    "torch.utils.tensorboard",  # every job has this tracker
)
LOWEST_PRIORITY = 19
PR_SET_PDEATHSIG = 1
"""Linux's prctl option for the signal that a process gets when its parent ends."""


def main() -> None:
    """Wait for jobs and have each done, until standard input closes."""
    reports = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no report
    wanted = threading.Event()
    at_leisure = threading.Thread(target=get_ready_at_leisure, args=(wanted,), daemon=True)
    at_leisure.start()
    line = next_job()
    wanted.set()
    at_leisure.join()
    while ready_to_fork() and train_in_a_fork(line, reports):
        line = next_job()
    os.close(reports)
    run(line)


def get_ready_at_leisure(wanted: threading.Event) -> None:
    """Get ready at the lowest priority, until the first job arrives.

    For a thread of its own: on Linux each thread has its own priority, and may not raise it again
    once lowered. The main thread, which trains or forks, keeps its priority.
    """
    if sys.platform == "linux":
        os.nice(LOWEST_PRIORITY)
    get_ready(wanted)


def get_ready(wanted: threading.Event | None = None) -> None:
    """Import and try what a training needs, once; stops between two steps if `wanted` is set."""
    steps: list[Callable[[], object]] = [partial(import_module, name) for name in LIBRARIES]
    steps.append(_rehearse)
    with imports_that_stay():
        for step in steps:
            if wanted and wanted.is_set():
                return
            step()


@cache
def _rehearse() -> None:
    from nemo_local.customizer.training.rehearsal import rehearse

    rehearse()


def ready_to_fork() -> bool:
    """Get ready; whether a fork of this process could then train.

    A fork cannot use a GPU that its parent has used, and outside Linux it lacks more than that.
    """
    try:
        get_ready()
    except Exception:  # the job will meet it, too, and can report it
        logger.debug("this process cannot prepare a training", exc_info=True)
        return False
    import torch

    return sys.platform == "linux" and not torch.cuda.is_available()


def train_in_a_fork(line: bytes, reports: int) -> bool:
    """Do the job that a line names in a fork of this process; False when it cannot fork."""
    gc.collect()
    gc.freeze()  # the copy shares our memory, until it looks for garbage there
    me = os.getpid()
    try:
        child = os.fork()
    except OSError:
        return False
    if not child:
        os.close(reports)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(PARENT_GONE)
        run(line)
    os.write(reports, b"%d\n" % child)
    _, status = os.waitpid(child, 0)
    os.write(reports, b"%d\n" % os.waitstatus_to_exitcode(status))
    return True


if __name__ == "__main__":
    main()
