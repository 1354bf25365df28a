"""A grammar matcher that measures its own CPU time, so that a slow grammar cannot stall others."""

import time
from typing import Any

import xgrammar

TOKEN_S = 0.1
"""What one token may take (CPU seconds). A string of `maxLength`, the slowest form that anybody
means, takes 10 ms after 3000 tokens; `((.*)*)*x` takes 500 after 30."""
REPLY_S, REPLY_TOKEN_S = 1.0, 0.01
"""What a reply may take, and what more for each of its tokens (CPU seconds)."""


class Matcher(xgrammar.GrammarMatcher):
    """Where a reply stands in its grammar, and the CPU time that was spent to know it.

    CPU time, so that no reply fails because the machine is busy.
    """

    def __init__(self, compiled: xgrammar.CompiledGrammar) -> None:
        super().__init__(compiled)
        self._tokens = 0
        self._accepting_s = self._longest_s = self._all_s = 0.0

    def accept_token(self, token_id: int, *, debug_print: bool = False) -> bool:
        began = time.thread_time()
        accepted = super().accept_token(token_id, debug_print=debug_print)
        self._accepting_s = time.thread_time() - began
        return accepted

    def fill_next_token_bitmask(
        self, bitmask: Any, index: int = 0, *, debug_print: bool = False
    ) -> bool:
        began = time.thread_time()
        needed = super().fill_next_token_bitmask(bitmask, index, debug_print=debug_print)
        seconds = self._accepting_s + time.thread_time() - began
        self._tokens += 1
        self._longest_s = max(self._longest_s, seconds)
        self._all_s += seconds
        return needed

    @property
    def too_slow(self) -> bool:
        """Whether it has taken more time than any honest form does."""
        return self._longest_s > TOKEN_S or self._all_s > REPLY_S + REPLY_TOKEN_S * self._tokens
