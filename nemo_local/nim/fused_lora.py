"""LoRA beside joined linear layers: one product for query, key and value, one for gate and up.

    y = [W_q; W_k; W_v] x + B A x       A stacks the adapters' A, B holds their B on its diagonal

Rows of several adapters are gathered by adapter and computed as one batched product.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from nemo_local.nim.lora import AdapterSet
from nemo_local.nim.token_rows import Chosen

Pair = tuple[Tensor, Tensor]
Site = tuple[int, str]
"""Layer number and part: qkv, o, gate_up or down; (-1, "head") is the language head."""

PARTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
HEAD: Site = (-1, "head")


def member_names(site: Site) -> list[str]:
    """The linear layers of transformers' Llama that are joined at a site."""
    layer, part = site
    return ["lm_head"] if site == HEAD else [f"model.layers.{layer}.{m}" for m in PARTS[part]]


class Selection(Protocol):
    """Which rows of a pass use which adapter."""

    @property
    def tokens(self) -> Chosen:
        """Which of them have tokens of their own."""
        ...

    def add(self, y: Tensor, x: Tensor, site: Site) -> None:
        """Add the adapters' share for inputs x [N, d_in] to outputs y [N, d_out], in place."""
        ...


@dataclass(frozen=True)
class Ranges:
    """Rows that stand together by adapter; other rows use none."""

    ranges: list[tuple[dict[Site, Pair], int, int]]
    tokens: Chosen

    def add(self, y: Tensor, x: Tensor, site: Site) -> None:
        for pairs, start, end in self.ranges:
            if site in pairs:
                a, b = pairs[site]
                y[start:end].addmm_(x[start:end] @ a.T, b.T)


@dataclass(frozen=True)
class Mixed:
    """Rows in any order. G adapters, at most M rows each."""

    stacks: dict[Site, Pair]
    """A [G, d_in, R] and B [G, R, d_out]."""
    gather: Tensor
    """[G * M] the row at each place; places left over repeat row 0 and are not read."""
    rows: Tensor
    """The rows that use an adapter."""
    places: Tensor
    """Their places in `gather`."""
    tokens: Chosen

    def add(self, y: Tensor, x: Tensor, site: Site) -> None:
        if site in self.stacks:
            a, b = self.stacks[site]
            grouped = x[self.gather].view(a.shape[0], -1, x.shape[1])
            share = torch.bmm(torch.bmm(grouped, a), b).flatten(0, 1)
            y.index_add_(0, self.rows, share[self.places])


@dataclass
class FusedAdapters:
    """The adapters of one Llama, joined as its layers are."""

    adapters: AdapterSet
    sizes: dict[Site, list[int]]
    """Outputs of each member of a site."""
    _changes: int = -1
    _pairs: dict[str, dict[Site, Pair]] = field(default_factory=dict)
    _stacked: tuple[str, ...] = ()
    _stacks: dict[Site, Pair] = field(default_factory=dict)
    _last: tuple[list[str | None], Selection] = field(default_factory=lambda: ([], Ranges([], [])))

    def by_range(self, ranges: list[tuple[str | None, int, int]]) -> Selection:
        """For rows that stand together by adapter: (adapter, first row, end)."""
        self._forget_old()
        own = self.adapters.tokens
        return Ranges(
            [(self._fused(n), start, end) for n, start, end in ranges if n is not None],
            [(own[n], slice(start, end)) for n, start, end in ranges if n in own],
        )

    def by_row(self, names: list[str | None]) -> Selection:
        """For rows in any order: the adapter of each."""
        self._forget_old()
        if names != self._last[0]:
            self._last = (list(names), self._select(names))
        return self._last[1]

    def _select(self, names: list[str | None]) -> Selection:
        used = sorted({name for name in names if name is not None})
        if not used:
            return Ranges([], [])
        if len(used) == 1 and None not in names:
            return self.by_range([(used[0], 0, len(names))])
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
        device = next(iter(self._stacks.values()))[0].device
        gather_at, rows_at, places_at = (
            torch.tensor(numbers, device=device) for numbers in (gather, rows, at)
        )
        own = self.adapters.tokens
        tokens: Chosen = [
            (own[name], torch.tensor(places[name], device=device)) for name in used if name in own
        ]
        return Mixed(self._stacks, gather_at, rows_at, places_at, tokens)

    def _stack(self, used: list[str]) -> None:
        """Stack the adapters in use; a stack that holds a few others besides will do."""
        if set(used) <= set(self._stacked) and 2 * len(used) >= len(self._stacked):
            return
        fused = [self._fused(name) for name in used]
        self._stacked, self._stacks = tuple(used), {}
        for site in sorted({site for pairs in fused for site in pairs}):
            some_a, some_b = next(pairs[site] for pairs in fused if site in pairs)
            rank = max(pairs[site][0].shape[0] for pairs in fused if site in pairs)
            a = some_a.new_zeros(len(fused), some_a.shape[1], rank)
            b = some_b.new_zeros(len(fused), rank, some_b.shape[0])
            for i, pairs in enumerate(fused):
                if site in pairs:
                    one_a, one_b = pairs[site]
                    a[i, :, : one_a.shape[0]] = one_a.T
                    b[i, : one_b.shape[1]] = one_b.T
            self._stacks[site] = (a, b)

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
