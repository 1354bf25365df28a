"""A linear layer with LoRA adapters beside it, and which rows of a batch use which of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nemo_local.nim.token_rows import project

if TYPE_CHECKING:
    from nemo_local.nim.lora import AdapterSet

STACKED_BYTES = 2**31
"""Of the adapters of a batch that are computed together, for which their matrices are copied."""


@dataclass(frozen=True)
class Group:
    """The rows of a batch that use one adapter."""

    adapter: str
    rows: Tensor | None
    """Row numbers; None when every row of the batch uses this adapter."""


@dataclass(frozen=True)
class Mixture:
    """The rows of a batch that use several adapters, each as often as the one with most rows."""

    adapters: tuple[str, ...]
    places: Tensor
    """[adapters x most] row numbers; an adapter with fewer rows has its first again."""
    first: Tensor
    """[rows] where of `places` each row stands first."""
    rows: Tensor
    """[rows] their numbers, in that order."""

    @classmethod
    def of(cls, chosen: dict[str, list[int]], device: torch.device) -> Mixture:
        """Of the row numbers by adapter."""
        most = max(map(len, chosen.values()))
        places = [row for rows in chosen.values() for row in rows + rows[:1] * (most - len(rows))]
        first = [i * most + j for i, rows in enumerate(chosen.values()) for j in range(len(rows))]
        rows = [places[place] for place in first]
        numbers = (torch.tensor(each, device=device) for each in (places, first, rows))
        return cls(tuple(chosen), *numbers)


class LoraLinear(nn.Module):
    """A linear layer with adapters beside it."""

    def __init__(self, base: nn.Linear, adapters: AdapterSet, is_head: bool) -> None:
        super().__init__()
        self.base = base
        self._is_head = is_head
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        # In a tuple, so that the set (which knows the whole model) is not taken for a child.
        self._adapters = (adapters,)
        self._stack: tuple[tuple[Any, ...], Tensor, Tensor] | None = None

    def forget(self, name: str) -> None:
        """Be without an adapter."""
        self.pairs.pop(name, None)
        self._stack = None

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, T, d_in] to [B, T, d_out]."""
        adapters, y = self._adapters[0], self.base(x)
        if adapters.mixture is not None:
            y = self._mixed(y, x, adapters.mixture)
        else:
            for group in adapters.groups:
                y = self._alike(y, x, group)
        return project(y, x, adapters.chosen()) if self._is_head else y

    def _alike(self, y: Tensor, x: Tensor, group: Group) -> Tensor:
        pair = self.pairs.get(group.adapter)
        if pair is None:
            return y
        a, b = pair
        if group.rows is None:
            return y + x @ a.T @ b.T
        return y.index_add(0, group.rows, x[group.rows] @ a.T @ b.T)

    def _mixed(self, y: Tensor, x: Tensor, mixture: Mixture) -> Tensor:
        """As many operations for many adapters as for two: a GPU waits for each of them."""
        if not any(name in self.pairs for name in mixture.adapters):
            return y
        a, b = self._stacked(mixture.adapters)
        each = x[mixture.places].view(len(a), -1, x.shape[-1])
        added = torch.bmm(torch.bmm(each, a), b).view(-1, *y.shape[1:])
        return y.index_add(0, mixture.rows, added[mixture.first])

    def _stacked(self, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """A' [adapters, d_in, r] and B' [adapters, r, d_out]; zeros where one has less rank.

        Those of the last mixture are kept.
        """
        key = (*names, self._adapters[0].changes)
        if self._stack is None or self._stack[0] != key:
            weight = self.base.weight
            rank = max(len(self.pairs[name][0]) for name in names if name in self.pairs)
            a = weight.new_zeros(len(names), rank, weight.shape[1])
            b = weight.new_zeros(len(names), weight.shape[0], rank)
            for i, name in enumerate(names):
                if name in self.pairs:
                    own, other = self.pairs[name]
                    a[i, : len(own)], b[i, :, : len(own)] = own, other
            self._stack = key, a.transpose(1, 2), b.transpose(1, 2)
        return self._stack[1:]
