"""LoRA beside joined linear layers: one product for query, key and value, one for gate and up.

    y = [W_q; W_k; W_v] x + [B_q A_q; B_k A_k; B_v A_v] x

Rows of several adapters are gathered by adapter and computed as one batched product (see stacks).
Rows of one adapter that stand together need none where W + B A is kept (see merged_weights).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from nemo_local.nim.lora import AdapterSet
from nemo_local.nim.merged_weights import MergedWeights
from nemo_local.nim.sites import Site
from nemo_local.nim.stacks import Stack, stacks_of, together
from nemo_local.nim.token_rows import Chosen


class Selection(Protocol):
    """Which rows of a pass use which adapter."""

    @property
    def tokens(self) -> Chosen:
        """Which of them have tokens of their own."""
        ...

    def linear(self, x: Tensor, site: Site, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        """x [N, d_in] times a site's weight [d_in, d_out], as each row's adapter has it.

        With `onto` [N, d_out] the sum of both.
        """
        ...


class Range(NamedTuple):
    """Rows that stand together and use one adapter, or none."""

    start: int
    end: int
    stacks: Mapping[Site, Stack]
    merged: Mapping[Site, Tensor]
    """Weights that have the adapter in them; then there are no stacks."""


@dataclass(frozen=True)
class Ranges:
    """Rows that stand together by adapter, all of them."""

    ranges: list[Range]
    tokens: Chosen

    def linear(self, x: Tensor, site: Site, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        if len(self.ranges) == 1:
            y = _product(x, self.ranges[0].merged.get(site, weight), onto)
        elif not any(site in one.merged for one in self.ranges):
            y = _product(x, weight, onto)
        else:
            y = x.new_empty(x.shape[0], weight.shape[1])
            for start, end, _, merged in self.ranges:
                part = None if onto is None else onto[start:end]
                y[start:end] = _product(x[start:end], merged.get(site, weight), part)
        for start, end, stacks, _ in self.ranges:
            if site in stacks:
                y[start:end] += stacks[site].product(x[None, start:end])[0]
        return y


@dataclass(frozen=True)
class Mixed:
    """Rows in any order. G adapters, at most M rows each; none is one more, of zeros."""

    stacks: dict[Site, Stack]
    gather: Tensor
    """[G * M] the row at each place; places left over repeat row 0 and are not read."""
    places: Tensor
    """[N] each row's place in `gather`."""
    tokens: Chosen

    def linear(self, x: Tensor, site: Site, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        y = _product(x, weight, onto)
        if site in self.stacks:
            stack = self.stacks[site]
            gathered = x.index_select(0, self.gather).view(stack.a.shape[0], -1, x.shape[1])
            y += stack.product(gathered).flatten(0, 1).index_select(0, self.places)
        return y


def _product(x: Tensor, weight: Tensor, onto: Tensor | None) -> Tensor:
    return torch.mm(x, weight) if onto is None else torch.addmm(onto, x, weight)


@dataclass
class FusedAdapters:
    """The adapters of one Llama, joined as its layers are."""

    adapters: AdapterSet
    sizes: dict[Site, list[int]]
    """Outputs of each member of a site."""
    merged: MergedWeights
    _changes: int = -1
    _own: dict[str, dict[Site, Stack]] = field(default_factory=dict)
    """Stacks of one adapter each, by its name."""
    _stacked: tuple[str | None, ...] = ()
    _stacks: dict[Site, Stack] = field(default_factory=dict)
    _last: tuple[list[str | None], Selection] = field(default_factory=lambda: ([], Ranges([], [])))

    def by_range(self, ranges: list[tuple[str | None, int, int]]) -> Selection:
        """For rows that stand together by adapter: (adapter, first row, end)."""
        self._forget_old()
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
        stacks = self._stacks_of(name)
        merged = None if name is None else self.merged.of(name, stacks)
        return Range(start, end, stacks, {}) if merged is None else Range(start, end, {}, merged)

    def by_row(self, names: list[str | None]) -> Selection:
        """For rows in any order: the adapter of each."""
        self._forget_old()
        if names != self._last[0]:
            self._last = (list(names), self._select(names))
        return self._last[1]

    def _select(self, names: list[str | None]) -> Selection:
        used = sorted(set(names), key=lambda name: name or "")
        if len(used) == 1:
            return self.by_range([(names[0], 0, len(names))])
        self._stack(used)
        rows_of = {name: [i for i, n in enumerate(names) if n == name] for name in self._stacked}
        width = max(map(len, rows_of.values()))
        gather: list[int] = []
        places = [0] * len(names)
        for rows in rows_of.values():
            for place, row in enumerate(rows, start=len(gather)):
                places[row] = place
            gather += rows + [0] * (width - len(rows))
        own = self.adapters.tokens
        tokens: Chosen = [(own[n], torch.tensor(rows_of[n])) for n in used if n in own]
        return Mixed(self._stacks, torch.tensor(gather), torch.tensor(places), tokens)

    def _stack(self, used: list[str | None]) -> None:
        """Stack the adapters in use; a stack that holds a few others besides will do."""
        if set(used) <= set(self._stacked) and 2 * len(used) >= len(self._stacked):
            return
        self._stacked = tuple(used)
        self._stacks = together([self._stacks_of(name) for name in used])

    def _stacks_of(self, name: str | None) -> Mapping[Site, Stack]:
        if name is None:
            return {}
        if name not in self._own:
            self._own[name] = stacks_of(self.adapters.pairs_of(name), self.sizes)
        return self._own[name]

    def _forget_old(self) -> None:
        if self._changes != self.adapters.changes:
            self._changes = self.adapters.changes
            self._own, self._stacked, self._stacks = {}, (), {}
            self._last = ([], Ranges([], []))
