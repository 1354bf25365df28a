"""LoRA beside joined linear layers: one product for query, key and value, one for gate and up.

    y = [W_q; W_k; W_v] x + [B_q A_q; B_k A_k; B_v A_v] x

Rows of several adapters are computed by a kernel of their own where all is float32 (see kernels).
Rows of one adapter that stand together need nothing where W + B A is kept (see merged_weights).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nemo_local.nim.kernels import add_adapters
from nemo_local.nim.layouts import Layout, Layouts, Stack
from nemo_local.nim.lora import AdapterSet
from nemo_local.nim.merged_weights import MergedWeights
from nemo_local.nim.sites import Site
from nemo_local.nim.token_rows import Chosen
from nemo_local.nim.weights import Weight

Places = Mapping[Site, tuple[int, NDArray[np.int64]]]
"""By site its place in the tables of adapters, and the outputs [K] of its members."""


class Selection(Protocol):
    """Which rows of a pass use which adapter."""

    @property
    def tokens(self) -> Chosen:
        """Which of them have tokens of their own."""
        ...

    def linear(self, x: Tensor, site: Site, weight: Weight, onto: Tensor | None = None) -> Tensor:
        """x [N, d_in] times a site's weight [d_in, d_out], as each row's adapter has it.

        With `onto` [N, d_out] the sum of both.
        """
        ...


class Range(NamedTuple):
    """Rows that stand together and use one adapter, or none."""

    start: int
    end: int
    stacks: Mapping[Site, Stack]
    merged: Mapping[Site, Weight]
    """Weights that have the adapter in them; then there are no stacks."""


@dataclass(frozen=True)
class Ranges:
    """Rows that stand together by adapter, all of them."""

    ranges: list[Range]
    tokens: Chosen

    def linear(self, x: Tensor, site: Site, weight: Weight, onto: Tensor | None = None) -> Tensor:
        if len(self.ranges) == 1:
            y = self.ranges[0].merged.get(site, weight).product(x, onto)
        elif not any(site in one.merged for one in self.ranges):
            y = weight.product(x, onto)
        else:
            y = x.new_empty(x.shape[0], weight.plain.shape[1])
            for start, end, _, merged in self.ranges:
                part = None if onto is None else onto[start:end]
                y[start:end] = merged.get(site, weight).product(x[start:end], part)
        for start, end, stacks, _ in self.ranges:
            if site in stacks:
                y[start:end] += stacks[site].product(x[start:end])
        return y


@dataclass(frozen=True)
class Mixed:
    """Rows in any order, G adapters."""

    groups: list[tuple[Layout, list[int]]]
    """Each adapter and its rows."""
    places: Places
    tokens: Chosen
    table: NDArray[np.int64]
    """[sites, G, 3]: where their matrices lie."""
    rows: NDArray[np.int64]
    """[N] the rows of the groups, one after the other."""
    starts: NDArray[np.int64]
    """[G + 1] where each group begins in `rows`."""

    def linear(self, x: Tensor, site: Site, weight: Weight, onto: Tensor | None = None) -> Tensor:
        y = weight.product(x, onto)
        if not any(site in layout.stacks for layout, _ in self.groups):
            return y
        if x.dtype == torch.float32:
            place, sizes = self.places[site]
            add_adapters(x.numpy(), self.table[place], self.rows, self.starts, sizes, y.numpy())
            return y
        for layout, rows in self.groups:
            if site in layout.stacks:
                y[rows] += layout.stacks[site].product(x[rows])
        return y


class FusedAdapters:
    """The adapters of one Llama, joined as its layers are; what they are to one batch."""

    def __init__(self, layouts: Layouts, merged: MergedWeights) -> None:
        """Several may share both, each in a thread of its own."""
        self.adapters: AdapterSet = layouts.adapters
        self._layouts = layouts
        self._merged = merged
        self._places: Places = {
            site: (place, np.array(sizes))
            for place, (site, sizes) in enumerate(layouts.sizes.items())
        }
        self._last: tuple[int, list[str | None], Selection] = (-1, [], Ranges([], []))

    def by_range(self, ranges: list[tuple[str | None, int, int]]) -> Selection:
        """For rows that stand together by adapter: (adapter, first row, end)."""
        own = self.adapters.tokens
        joined: list[tuple[str | None, int, int]] = []
        for name, start, end in ranges:
            if joined and joined[-1][0] == name:
                start = joined.pop()[1]
            joined.append((name, start, end))
        return Ranges(
            [self._range(*one) for one in joined],
            [(own[n], slice(start, end)) for n, start, end in joined if n in own],
        )

    def _range(self, name: str | None, start: int, end: int) -> Range:
        merged = None if name is None else self._merged.of(name)
        if merged is None:
            return Range(start, end, self._layouts.of(name).stacks, {})
        return Range(start, end, {}, merged)

    def by_row(self, names: list[str | None]) -> Selection:
        """For rows in any order: the adapter of each."""
        changes, last, _ = self._last
        if (changes, last) != (self.adapters.changes, names):
            self._last = (self.adapters.changes, list(names), self._select(names))
        return self._last[2]

    def _select(self, names: list[str | None]) -> Selection:
        if len(set(names)) == 1:
            return self.by_range([(names[0], 0, len(names))])
        rows_of: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            if name is not None:
                rows_of.setdefault(name, []).append(row)
        own = self.adapters.tokens
        groups = [(self._layouts.of(name), rows) for name, rows in rows_of.items()]
        return Mixed(
            groups,
            self._places,
            [(own[name], torch.tensor(rows)) for name, rows in rows_of.items() if name in own],
            table=np.stack([layout.table for layout, _ in groups], axis=1),
            rows=np.concatenate([rows for _, rows in groups]),
            starts=np.cumsum([0, *(len(rows) for _, rows in groups)]),
        )
