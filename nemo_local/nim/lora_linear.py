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
"""Bytes of adapters that are computed together, for which their matrices are copied."""


@dataclass(frozen=True)
class Group:
    """The rows of a batch that use one adapter."""

    adapter: str
    rows: Tensor | None
    """Row numbers; None when every row of the batch uses this adapter."""


@dataclass(frozen=True)
class Mixture:
    """The rows of a batch that use several adapters, each as often as the one with most rows."""

    adapters: Tensor | None
    """[adapters] which of those that are stacked; None for all."""
    places: Tensor
    """[adapters x most] row numbers; an adapter with fewer rows has its first again."""
    first: Tensor
    """[rows] where in `places` each row stands first."""
    rows: Tensor
    """[rows] row numbers, in the order of `first`."""

    @classmethod
    def of(
        cls, chosen: dict[str, list[int]], stacked: tuple[str, ...], device: torch.device
    ) -> Mixture:
        """The mixture of these row numbers by adapter."""
        own = [(i, chosen[name]) for i, name in enumerate(stacked) if name in chosen]
        most = max(len(rows) for _, rows in own)
        places = [row for _, rows in own for row in rows + rows[:1] * (most - len(rows))]
        first = [k * most + j for k, (_, rows) in enumerate(own) for j in range(len(rows))]

        def numbers(given: list[int]) -> Tensor:
            return torch.tensor(given, device=device)

        return cls(
            adapters=None if len(own) == len(stacked) else numbers([i for i, _ in own]),
            places=numbers(places),
            first=numbers(first),
            rows=numbers([places[place] for place in first]),
        )


class LoraLinear(nn.Module):
    """A linear layer with adapters beside it."""

    def __init__(self, base: nn.Linear, adapters: AdapterSet, is_head: bool) -> None:
        super().__init__()
        self.base = base
        self._is_head = is_head
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        # In a tuple, so that the set (which knows the whole model) is not taken for a child.
        self._adapters = (adapters,)
        self._stack: tuple[tuple[Any, ...], tuple[Tensor, Tensor] | None] | None = None

    def forget(self, name: str) -> None:
        """Forget an adapter."""
        self.pairs.pop(name, None)
        self._stack = None

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, T, d_in] to [B, T, d_out]; some networks give [B T, d_in] to some layers."""
        y, rows = self.base(x), self._adapters[0].rows
        if len(x) != rows:
            flat = y.shape[:-1]
            x, y = (one.view(rows, -1, one.shape[-1]) for one in (x, y))
            return self._beside(y, x).view(*flat, -1)
        return self._beside(y, x)

    def _beside(self, y: Tensor, x: Tensor) -> Tensor:
        """The base's `y` of `x`, with what the adapters add to their rows."""
        adapters = self._adapters[0]
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
        """`y` with what several adapters add, in few operations: a GPU waits for each of them."""
        stacked = self._stacked()
        if stacked is None:
            return y
        a, b = stacked
        if mixture.adapters is not None:
            a, b = a[mixture.adapters], b[mixture.adapters]
        each = x[mixture.places].view(len(a), -1, x.shape[-1])
        added = torch.bmm(torch.bmm(each, a.transpose(1, 2)), b.transpose(1, 2))
        return y.index_add(0, mixture.rows, added.view(-1, *y.shape[1:])[mixture.first])

    def _stacked(self) -> tuple[Tensor, Tensor] | None:
        """A [adapters, r, d_in] and B [adapters, d_out, r]; zeros where one has less rank.

        None where no adapter has this layer.
        """
        names = self._adapters[0].stacked
        key = (*names, self._adapters[0].changes)
        if self._stack is None or self._stack[0] != key:
            weight, own = self.base.weight, [self.pairs.get(name) for name in names]
            rank = max((len(pair[0]) for pair in own if pair is not None), default=0)
            a = weight.new_zeros(len(names), rank, weight.shape[1])
            b = weight.new_zeros(len(names), weight.shape[0], rank)
            for i, pair in enumerate(own):
                if pair is not None:
                    a[i, : len(pair[0])], b[i, :, : len(pair[0])] = pair
            self._stack = key, (a, b) if rank else None
        return self._stack[1]
