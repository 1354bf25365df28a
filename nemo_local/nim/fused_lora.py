"""LoRA beside joined linear layers: one product for query, key and value, one for gate and up.

    y = [W_q; W_k; W_v] x + B A x       A stacks the adapters' A, B holds their B on its diagonal

Rows of several adapters are gathered by adapter and computed as one batched product. Rows of one
adapter that stand together need none where W + B A is kept (see merged_weights).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from nemo_local.nim.lora import AdapterSet
from nemo_local.nim.merged_weights import MergedWeights
from nemo_local.nim.sites import Pair, Site, member_names
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
    pairs: Mapping[Site, Pair]
    merged: Mapping[Site, Tensor]
    """Weights that have the adapter in them; then there are no pairs."""


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
        for start, end, pairs, _ in self.ranges:
            if site in pairs:
                a, b = pairs[site]
                y[start:end].addmm_(x[start:end] @ a.T, b.T)
        return y


class Stack(NamedTuple):
    """The matrices of G adapters at a site of K members, for batched products."""

    a: Tensor
    """[G, d_in, K * r]; joined members of different sizes count as one."""
    b: Tensor
    """[G * K, r, d_out / K]"""


@dataclass(frozen=True)
class Mixed:
    """Rows in any order. G adapters, at most M rows each."""

    stacks: dict[Site, Stack]
    gather: Tensor
    """[G * M] the row at each place; places left over repeat row 0 and are not read."""
    rows: Tensor
    """The rows that use an adapter."""
    places: Tensor
    """Their places in `gather`."""
    tokens: Chosen

    def linear(self, x: Tensor, site: Site, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        y = _product(x, weight, onto)
        if site in self.stacks:
            a, b = self.stacks[site]
            count, members = a.shape[0], b.shape[0] // a.shape[0]
            low = torch.bmm(x[self.gather].view(count, -1, x.shape[1]), a)  # [G, M, K * r]
            if members == 1:
                high = torch.bmm(low, b)
            else:
                low = low.unflatten(2, (members, -1)).transpose(1, 2).flatten(0, 1)
                high = torch.bmm(low, b)  # [G * K, M, d_out / K]
                high = high.unflatten(0, (count, members)).transpose(1, 2).flatten(2)
            y.index_add_(0, self.rows, high.flatten(0, 1)[self.places])
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
    _pairs: dict[str, dict[Site, Pair]] = field(default_factory=dict)
    _stacked: tuple[str, ...] = ()
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
        pairs = {} if name is None else self._fused(name)
        merged = None if name is None else self.merged.of(name, pairs)
        return Range(start, end, pairs, {}) if merged is None else Range(start, end, {}, merged)

    def by_row(self, names: list[str | None]) -> Selection:
        """For rows in any order: the adapter of each."""
        self._forget_old()
        if names != self._last[0]:
            self._last = (list(names), self._select(names))
        return self._last[1]

    def _select(self, names: list[str | None]) -> Selection:
        used = sorted({name for name in names if name is not None})
        if len(set(names)) == 1:
            return self.by_range([(names[0], 0, len(names))])
        self._stack(used)
        places = {name: [i for i, n in enumerate(names) if n == name] for name in self._stacked}
        width = max(map(len, places.values()))
        gather: list[int] = []
        rows: list[int] = []
        at: list[int] = []
        for rows_of_one in places.values():
            at += [len(gather) + i for i in range(len(rows_of_one))]
            rows += rows_of_one
            gather += rows_of_one + [0] * (width - len(rows_of_one))
        gather_at, rows_at, places_at = map(torch.tensor, (gather, rows, at))
        own = self.adapters.tokens
        tokens: Chosen = [(own[name], torch.tensor(places[name])) for name in used if name in own]
        return Mixed(self._stacks, gather_at, rows_at, places_at, tokens)

    def _stack(self, used: list[str]) -> None:
        """Stack the adapters in use; a stack that holds a few others besides will do."""
        if set(used) <= set(self._stacked) and 2 * len(used) >= len(self._stacked):
            return
        pairs = [self.adapters.pairs_of(name) for name in used]
        self._stacked = tuple(used)
        stacks = {site: _stack(pairs, site, sizes) for site, sizes in self.sizes.items()}
        self._stacks = {site: stack for site, stack in stacks.items() if stack is not None}

    def _fused(self, name: str) -> dict[Site, Pair]:
        if name not in self._pairs:
            pairs = self.adapters.pairs_of(name)
            joined = {site: _join(pairs, site, sizes) for site, sizes in self.sizes.items()}
            self._pairs[name] = {site: pair for site, pair in joined.items() if pair is not None}
        return self._pairs[name]

    def _forget_old(self) -> None:
        if self._changes != self.adapters.changes:
            self._changes = self.adapters.changes
            self._pairs, self._stacked, self._stacks = {}, (), {}
            self._last = ([], Ranges([], []))


def _stack(pairs: list[dict[str, Pair]], site: Site, sizes: list[int]) -> Stack | None:
    """The matrices of several adapters at a site; None when none has any there.

    Members of one size are kept apart, so that nothing is multiplied by zeros.
    """
    members: list[list[Pair | None]]
    if len(set(sizes)) == 1:
        members = [[own.get(name) for name in member_names(site)] for own in pairs]
    else:
        members = [[_join(own, site, sizes)] for own in pairs]
    present = [pair for group in members for pair in group if pair is not None]
    if not present:
        return None
    some_a, some_b = present[0]
    count, rank = len(members[0]), max(a.shape[0] for a, _ in present)
    a = some_a.new_zeros(len(pairs), some_a.shape[1], count, rank)
    b = some_b.new_zeros(len(pairs), count, rank, some_b.shape[0])
    for i, group in enumerate(members):
        for k, pair in enumerate(group):
            if pair is not None:
                own = pair[0].shape[0]
                a[i, :, k, :own] = pair[0].T
                b[i, k, :own] = pair[1].T
    return Stack(a.flatten(2), b.flatten(0, 1))


def _join(pairs: dict[str, Pair], site: Site, sizes: list[int]) -> Pair | None:
    """The members' A above each other, their B on the diagonal; None when none is adapted."""
    members = [pairs.get(name) for name in member_names(site)]
    present = [pair for pair in members if pair is not None]
    if not present:
        return None
    a = torch.cat([pair[0] for pair in present])
    b = a.new_zeros(sum(sizes), a.shape[0])
    row = column = 0
    for pair, size in zip(members, sizes, strict=True):
        if pair is not None:
            rank = pair[0].shape[0]
            b[row : row + size, column : column + rank] = pair[1]
            column += rank
        row += size
    return a, b
