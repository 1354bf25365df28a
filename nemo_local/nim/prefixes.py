"""Keys and values of prompt beginnings that several prompts share, such as a list of tools.

A beginning is kept once a second prompt repeats it, so prompts that share nothing cost nothing.
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor

SHORTEST = 32
"""Tokens from which a shared beginning is worth keeping."""
REMEMBERED = 256
"""Prompts remembered to compare with, as token ids only."""
KEPT_BYTES = 2**26

Key = tuple[str | None, tuple[int, ...]]


@dataclass(frozen=True)
class Prefix:
    """A beginning and what the network made of it."""

    tokens: list[int]
    kv: Tensor
    """Keys and values [2, layers, heads, tokens, d]."""


class Prefixes:
    """Beginnings by adapter: with other weights the same tokens have other keys and values."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Key, list[int]] = OrderedDict()
        self._kept: OrderedDict[Key, Prefix] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of everything that is kept."""
        return sum(one.kv.nbytes for one in self._kept.values())

    def find(self, prompt: list[int], adapter: str | None) -> tuple[int, Prefix] | None:
        """How many tokens of which kept prefix the prompt begins with; never all of the prompt."""
        key = _key(prompt, adapter)
        prefix = self._kept.get(key)
        if prefix is None:
            return None
        self._kept.move_to_end(key)
        shared = common(prefix.tokens, prompt[:-1])
        return (shared, prefix) if shared >= SHORTEST else None

    def worth_keeping(self, prompt: list[int], adapter: str | None) -> int:
        """Tokens at the beginning of the prompt that were seen before and are not kept; 0 = none.

        The prompt is remembered for those to come.
        """
        key = _key(prompt, adapter)
        seen = self._seen.pop(key, [])
        self._seen[key] = prompt
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        shared = common(seen, prompt)
        kept = self._kept.get(key)
        known = common(kept.tokens, prompt) if kept else 0
        return shared if shared >= max(SHORTEST, known + 1) else 0

    def keep(self, prompt: list[int], adapter: str | None, prefix: Prefix) -> None:
        """Keep the beginning of a prompt; the least recently used make room."""
        key = _key(prompt, adapter)
        self._kept.pop(key, None)
        self._kept[key] = prefix
        while self.size > KEPT_BYTES:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything: the weights of an adapter may have changed."""
        self._seen.clear()
        self._kept.clear()


def common(one: list[int], other: list[int]) -> int:
    """Tokens at the beginning that both have."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _key(prompt: list[int], adapter: str | None) -> Key:
    return adapter, tuple(prompt[:SHORTEST])
