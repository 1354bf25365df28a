"""LoRA beside joined linear layers: one product for query, key and value, one for gate and up.

    y = [W_q; W_k; W_v] x + [B_q A_q; B_k A_k; B_v A_v] x

Rows of one adapter that stand together need nothing where W + B A is kept (see merged_weights), and
a compiled step adds what rows of several need (see compiled_step).
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nemo_local.nim.llama.layouts import Layout, Layouts, Stack
from nemo_local.nim.llama.merged_weights import MergedWeights
from nemo_local.nim.llama.sites import Site
from nemo_local.nim.llama.weights import Weight
from nemo_local.nim.lora import AdapterSet
from nemo_local.nim.token_rows import Chosen

Place = tuple[str | None, int, int]
"""An adapter, its first row, and the one after its last."""


class Selection(Protocol):
    """Which rows of a pass use which adapter."""

    @property
    def tokens(self) -> Chosen:
        """Which rows have tokens of their own."""

    def linear(self, x: Tensor, site: Site, weight: Weight, onto: Tensor | None = None) -> Tensor:
        """x [N, d_in] times a site's weight [d_in, d_out], as each row's adapter has it.

        With `onto` [N, d_out] the sum of both; without, perhaps in bfloat16.
        """


class Range(NamedTuple):
    """Rows that stand together and use one adapter, or none."""

    start: int
    end: int
    stacks: Mapping[Site, Stack]
    merged: Mapping[Site, Weight]
    """Weights that have the adapter in them; then there are no stacks."""


@dataclass(frozen=True)
class Ranges:
    """All rows of a pass, those of one adapter together."""

    ranges: list[Range]
    tokens: Chosen
    in_bfloat16: bool
    """Whether to multiply in bfloat16, where a weight has a copy in it."""

    def linear(self, x: Tensor, site: Site, weight: Weight, onto: Tensor | None = None) -> Tensor:
        pieces = [(one.merged.get(site, weight), one.start, one.end) for one in self.ranges]
        if all(own is pieces[0][0] for own, _, _ in pieces):
            pieces = [(pieces[0][0], 0, x.shape[0])]
        if self.in_bfloat16 and weight.rounded is not None:
            y = _joined([own.rounded_product(x[a:b]) for own, a, b in pieces])
            y = y if onto is None else onto + y
        elif onto is None:
            y = _joined([own.product(x[a:b]) for own, a, b in pieces])
        else:
            y = _joined([own.product(x[a:b], onto[a:b]) for own, a, b in pieces])
        for start, end, stacks, _ in self.ranges:
            if site in stacks:
                y[start:end] += stacks[site].product(x[start:end])
        return y


@dataclass(frozen=True)
class Mixed:
    """Rows of a pass in any order."""

    groups: list[tuple[Layout, list[int]]]
    """Each adapter and its rows."""
    tokens: Chosen

    def linear(self, x: Tensor, site: Site, weight: Weight, onto: Tensor | None = None) -> Tensor:
        y = weight.product(x, onto)
        for layout, rows in self.groups:
            if site in layout.stacks:
                y[rows] += layout.stacks[site].product(x[rows])
        return y


@dataclass(frozen=True)
class Table:
    """Rows that stand together by adapter, for a compiled step or prompts; G adapters."""

    addresses: NDArray[np.int64]
    """[sites, G, 3]: where the adapters' matrices lie (see `Layout`)."""
    ranges: NDArray[np.int64]
    """[G, 2]: each adapter's first row, and the one after its last."""
    tokens: Chosen
    layouts: list[Layout]
    """What lies at the addresses, to be kept alive."""

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Addresses and ranges, as kernels take them."""
        return self.addresses, self.ranges


@dataclass(frozen=True)
class Arrangement:
    """Rows of a compiled step, in parts, those of one adapter together."""

    parts: list[tuple[NDArray[np.int64], Table]]
    """The rows of each part, and their adapters."""
    tokens: Chosen


class FusedAdapters:
    """The adapters of one Llama, joined as its layers are, for the rows of one batch."""

    def __init__(self, layouts: Layouts, merged: MergedWeights) -> None:
        """Several of these may share both arguments, each in a thread of its own."""
        self.adapters: AdapterSet = layouts.adapters
        self._layouts = layouts
        self._merged = merged
        self._changes = -1
        self._arranged: tuple[list[str | None], int, Arrangement] | None = None

    def by_range(self, ranges: list[Place], in_bfloat16: bool = False) -> Selection:
        """The selection of rows that stand together by adapter.

        `in_bfloat16` has them multiplied in it, with weights that have such a copy.
        """
        joined = _together(ranges)
        return Ranges([self._range(*one) for one in joined], self._tokens(joined), in_bfloat16)

    def _range(self, name: str | None, start: int, end: int) -> Range:
        merged = None if name is None else self._merged.of(name)
        if merged is None:
            return Range(start, end, self._layouts.of(name).stacks, {})
        return Range(start, end, {}, merged)

    def by_row(self, names: list[str | None]) -> Selection:
        """The selection of rows in any order, from the adapter of each."""
        if len(set(names)) == 1:
            return self.by_range([(names[0], 0, len(names))])
        return Mixed(*self._groups(names))

    def table(self, ranges: list[Place]) -> Table:
        """The table of rows that stand together by adapter, for a compiled step or prompts."""
        joined = [one for one in _together(ranges) if one[0] is not None]
        layouts = [self._layouts.of(name) for name, _, _ in joined]
        addresses = np.zeros((len(self._layouts.sizes), len(joined), 3), dtype=np.int64)
        for g, layout in enumerate(layouts):
            addresses[:, g] = layout.addresses
        bounds = np.array([place[1:] for place in joined], dtype=np.int64).reshape(-1, 2)
        return Table(addresses, bounds, self._tokens(joined), layouts)

    def arranged(self, names: list[str | None], parts: int) -> Arrangement:
        """The arrangement of rows in any order, in so many parts of a compiled step.

        The last one is kept: it is also the next step's if nobody comes or goes.
        """
        if self._changes != self.adapters.changes:
            self._changes, self._arranged = self.adapters.changes, None
        if self._arranged is None or self._arranged[:2] != (names, parts):
            self._arranged = names, parts, self._arrange(names, parts)
        return self._arranged[2]

    def _arrange(self, names: list[str | None], parts: int) -> Arrangement:
        order = sorted(range(len(names)), key=lambda row: names[row] or "")
        bounds = itertools.pairwise(len(names) * i // parts for i in range(parts + 1))
        pieces = [order[first:end] for first, end in bounds]
        tables = [
            self.table([(names[row], i, i + 1) for i, row in enumerate(piece)]) for piece in pieces
        ]
        _, tokens = self._groups(names)
        return Arrangement(list(zip(map(np.array, pieces), tables, strict=True)), tokens)

    def _tokens(self, ranges: list[Place]) -> Chosen:
        own = self.adapters.tokens
        return [(own[name], slice(a, b)) for name, a, b in ranges if name in own]

    def _groups(self, names: list[str | None]) -> tuple[list[tuple[Layout, list[int]]], Chosen]:
        rows_of: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            if name is not None:
                rows_of.setdefault(name, []).append(row)
        own = self.adapters.tokens
        return (
            [(self._layouts.of(name), rows) for name, rows in rows_of.items()],
            [(own[name], torch.tensor(rows)) for name, rows in rows_of.items() if name in own],
        )


def _together(ranges: list[Place]) -> list[Place]:
    """The ranges, with neighbours of one adapter joined."""
    joined: list[Place] = []
    for name, start, end in ranges:
        if joined and joined[-1][0] == name:
            start = joined.pop()[1]
        joined.append((name, start, end))
    return joined


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
