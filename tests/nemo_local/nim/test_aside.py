"""Slow work of requests: nobody waits for it longer than a request may take."""

import asyncio
import math
import threading
import time

import pytest

from nemo_local.nim.aside import Aside
from nemo_local.nim.errors import TimeUp


def test_work_gives_its_result_and_its_errors() -> None:
    aside = Aside("to count", 1)
    assert asyncio.run(aside.run(lambda: 3, math.inf)) == 3
    with pytest.raises(ZeroDivisionError):
        asyncio.run(aside.run(lambda: 1 // 0, time.monotonic() + 60))


@pytest.mark.parametrize("leaves", ["deadline", "cancelled"])
def test_what_nobody_waits_for_any_more_is_handed_over(leaves: str) -> None:
    aside, go_on, begun = Aside("to wait", 1), threading.Event(), threading.Event()
    handed_over: list[str] = []
    told = threading.Event()

    def work() -> str:
        begun.set()
        go_on.wait(30)
        return "late"

    def unwanted(result: str) -> None:
        handed_over.append(result)
        told.set()

    async def ask() -> None:
        soon = time.monotonic() + (0.2 if leaves == "deadline" else 60)
        asked = asyncio.ensure_future(aside.run(work, soon, unwanted))
        queued = asyncio.ensure_future(aside.run(lambda: "never", soon, unwanted))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        if leaves == "cancelled":
            await asyncio.sleep(0)
            asked.cancel()
            queued.cancel()
        expected = asyncio.CancelledError if leaves == "cancelled" else TimeUp
        for one in (asked, queued):
            with pytest.raises(expected):
                await one

    asyncio.run(ask())
    assert not handed_over
    go_on.set()
    assert told.wait(30)
    assert handed_over == ["late"]  # what had not begun never did
