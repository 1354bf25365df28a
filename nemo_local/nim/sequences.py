"""Sequences that one network continues together: what is cached of them, and their next logits.

Two ways to the same numbers: `PaddedSequences` drives any causal model of transformers, and
`LlamaSequences` computes the Llama architecture itself, several times as fast on a CPU.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Cache, DynamicCache

from nemo_local.nim.checkpoint import Checkpoint


class Sequences(Protocol):
    """B sequences in progress."""

    def join(self, prompts: list[list[int]], adapters: list[str | None]) -> Tensor:
        """Read new prompts below the present sequences; their next logits [new, V], float32."""

    def step(self, ids: list[int]) -> Tensor:
        """Extend every sequence by one token; their next logits [B, V], float32."""

    def keep(self, indices: list[int]) -> list[int]:
        """Forget all other sequences. Returns the kept indices in the order that they now have."""

    def room_for(self, rows: int, longest: int) -> tuple[int, int]:
        """Rows and columns of the cache once it holds so many sequences of so many tokens."""
        return rows, longest

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept of sequences of the past."""
        return 0

    def forget(self, cache: bool) -> None:
        """Forget the past, and give back the memory of the `cache` if no sequence is left."""
        return None


class PaddedSequences(Sequences):
    """Any causal model: rows end at the right edge of the key-value cache.

        row 0   . . . p p p p t t        .  padding, masked
        row 1   p p p p p p p p t        p  prompt
        row 2   . . . . . . p p t        t  written

    so a new token is always the last column. Positions count from each row's own first token.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._cache: Cache | None = None
        self._mask: Tensor = torch.empty(0, 0, dtype=torch.long)  # [B, T], 1 = a real token
        self._names: list[str | None] = []

    def join(self, prompts: list[list[int]], adapters: list[str | None]) -> Tensor:
        width = max(map(len, prompts))
        device = self._checkpoint.device
        padded = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
        real = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        ids, mask = torch.tensor(padded, device=device), torch.tensor(real, device=device)
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        cache = DynamicCache()  # keeps every position, also in layers with a sliding window
        logits = self._checkpoint.forward(ids, mask, positions, cache, adapters)
        self._merge(cache, mask)
        self._names = [*self._names, *adapters]
        return logits

    def step(self, ids: list[int]) -> Tensor:
        assert self._cache is not None
        column = torch.tensor(ids, device=self._checkpoint.device)[:, None]
        # The newest token is not cached yet: it stands right after the cached ones.
        positions = self._mask.sum(dim=-1, keepdim=True)
        self._mask = torch.cat([self._mask, torch.ones_like(column)], dim=-1)
        return self._checkpoint.forward(column, self._mask, positions, self._cache, self._names)

    def keep(self, indices: list[int]) -> list[int]:
        self._names = [self._names[i] for i in indices]
        if not indices or self._cache is None:
            self._cache = None
            return indices
        chosen = torch.tensor(indices, device=self._mask.device)
        self._mask = self._mask[chosen]
        empty = int(self._mask.argmax(dim=-1).min())
        self._mask = self._mask[:, empty:]
        for layer in self._cache.layers:
            for name in ("keys", "values"):
                setattr(layer, name, getattr(layer, name)[chosen, :, empty:])
        return indices

    def _merge(self, cache: Cache, mask: Tensor) -> None:
        """Put freshly read rows below the present ones, both right-aligned."""
        if self._cache is None:
            self._cache, self._mask = cache, mask
            return
        width = max(self._mask.shape[1], mask.shape[1])
        self._mask = torch.cat([_widen(self._mask, width, -1), _widen(mask, width, -1)])
        for mine, theirs in zip(self._cache.layers, cache.layers, strict=True):
            for name in ("keys", "values"):
                both = [_widen(getattr(layer, name), width, -2) for layer in (mine, theirs)]
                setattr(mine, name, torch.cat(both))


def _widen(tensor: Tensor, width: int, dim: int) -> Tensor:
    """The tensor with zeros put before it along `dim` (negative), up to `width`."""
    missing = width - tensor.shape[dim]
    return F.pad(tensor, [*[0, 0] * (-1 - dim), missing, 0]) if missing else tensor
