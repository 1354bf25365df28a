"""States of jobs and the transitions allowed between them, and the threads that run jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

logger = logging.getLogger(__name__)

TRANSITIONS: dict[str, tuple[str, ...]] = {
    # accepted and stored
    "created": ("pending", "running", "cancelling", "cancelled", "failed"),
    # waits for a worker
    "pending": ("running", "cancelling", "cancelled", "failed"),
    # works
    "running": ("pending", "cancelling", "cancelled", "failed", "completed"),
    # was asked to stop and has not stopped yet
    "cancelling": ("cancelled", "failed", "completed"),
    "cancelled": (),  # stopped on request
    "failed": (),  # stopped by an error
    "completed": (),  # done, results are stored
}
"""`running -> pending` is a job that a restarted platform picks up again."""

FINISHED = ("cancelled", "failed", "completed")


def can_move(old: str, new: str) -> bool:
    """Whether a job in state `old` may enter state `new`."""
    return new in TRANSITIONS.get(old, ())


Work = Callable[[threading.Event], None]
"""A job's work; it checks the event from time to time and stops once it is set."""


class JobRunner:
    """Runs submitted jobs on `workers` threads, first come first served."""

    def __init__(self, workers: int = 1, name: str = "jobs") -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._cancelled: dict[str, threading.Event] = {}

    def submit(self, job_id: str, work: Work) -> Future[None]:
        """Queue the work. A crash is only logged: the work must record its own failure."""
        cancelled = threading.Event()
        with self._lock:
            self._cancelled[job_id] = cancelled
        return self._pool.submit(self._run, job_id, work, cancelled)

    def cancel(self, job_id: str) -> bool:
        """Ask a queued or running job to stop; False when no such job is here."""
        with self._lock:
            cancelled = self._cancelled.get(job_id)
        if cancelled is None:
            return False
        cancelled.set()
        return True

    def shutdown(self) -> None:
        """Ask every job to stop, forget the queue and wait for the running ones."""
        with self._lock:
            for cancelled in self._cancelled.values():
                cancelled.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, job_id: str, work: Work, cancelled: threading.Event) -> None:
        try:
            work(cancelled)
        except Exception:
            logger.exception("job %s crashed", job_id)
        finally:
            with self._lock:
                self._cancelled.pop(job_id, None)
