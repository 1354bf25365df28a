"""Calls that threads ask of an event loop: none is lost, and few wake-ups make many of them."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

from nemo_local.nim.loop_calls import LoopCalls

Arguments = TypeVarTuple("Arguments")


class Counting(asyncio.SelectorEventLoop):
    """A loop that counts how often threads wake it."""

    wakeups = 0

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Arguments], object],
        *arguments: *Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        self.wakeups += 1
        return super().call_soon_threadsafe(callback, *arguments, context=context)


def test_calls_of_several_threads_are_all_made_each_threads_in_its_order() -> None:
    made: list[tuple[int, int]] = []

    async def wait() -> None:
        calls = LoopCalls(asyncio.get_running_loop())

        def ask(number: int) -> None:
            for i in range(3000):
                calls.ask(made.append, (number, i))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while len(made) < 12_000 and time.monotonic() < deadline:
            await asyncio.sleep(0)

    asyncio.run(wait())
    for number in range(4):
        assert [i for n, i in made if n == number] == list(range(3000))


def test_a_busy_loop_is_woken_once_for_all_that_came_meanwhile() -> None:
    made: list[int] = []
    loop = Counting()

    async def be_busy() -> None:
        calls = LoopCalls(loop)

        def ask() -> None:
            for i in range(100):
                calls.ask(made.append, i)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()  # the loop cannot do anything else here
        assert not made
        await asyncio.sleep(0)  # after all that it was asked for

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(be_busy())
    assert made == list(range(100)) and loop.wakeups == 1


def test_a_closed_loop_is_left_alone() -> None:
    loop = asyncio.new_event_loop()
    calls = LoopCalls(loop)
    loop.close()
    calls.ask(print, "nobody hears this")
