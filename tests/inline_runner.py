"""A runner for tests of what jobs leave behind: each job is done when `submit` returns."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from nemo_local.core.jobs import JobRunner, Work


class InlineRunner(JobRunner):
    """Runs each job before `submit` returns."""

    def submit(self, job_id: str, work: Work) -> Future[None]:
        done: Future[None] = Future()
        self._run(job_id, work, threading.Event())
        done.set_result(None)
        return done
