"""Slow work of requests, in threads of its own and for no longer than a request may take."""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nemo_local.nim.errors import TimeUp

T = TypeVar("T")


class Aside:
    """A few threads for one kind of work, so that much of it keeps no other kind waiting."""

    def __init__(self, what: str, threads: int) -> None:
        """`what` names the work, for whoever waits in vain."""
        self._what = what
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=what)

    async def run(
        self,
        work: Callable[[], T],
        deadline: float,
        unwanted: Callable[[T], None] = lambda result: None,
    ) -> T:
        """The result of the work.

        Work that has begun goes on when nobody waits any more; `unwanted` then takes the result.

        Raises:
            TimeUp: the deadline (time.monotonic() seconds) came first.
        """
        submitted = self._threads.submit(work)
        waiting = asyncio.wrap_future(submitted)
        try:
            left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
            await asyncio.wait([waiting], timeout=left)
            if not waiting.done():
                raise TimeUp(
                    f"{self._what} took longer than a request may; raise NEMO_LOCAL_REQUEST_TIMEOUT"
                )
        except (TimeUp, asyncio.CancelledError):
            if not submitted.cancel():
                submitted.add_done_callback(lambda future: _hand_over(future, unwanted))
                waiting.add_done_callback(lambda future: future.exception())  # nobody looks
            raise
        return waiting.result()


def _hand_over(future: Future[T], take: Callable[[T], None]) -> None:
    if future.exception() is None:
        take(future.result())
