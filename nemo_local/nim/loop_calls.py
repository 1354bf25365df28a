"""Calls from threads into an event loop, with one wake-up for several, as each is dear."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any


class LoopCalls:
    """Calls that any thread may ask one event loop for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], Any]] = deque()
        self._woken = False

    def ask(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a function called soon, after those asked for before; by a closed loop never."""
        if self.loop.is_closed():
            return
        self._calls.append(partial(function, *arguments))
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._make)

    def _make(self) -> None:
        self._woken = False  # what is asked for from here on wakes the loop again
        while self._calls:
            self._calls.popleft()()
