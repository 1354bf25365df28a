"""The matrices of LoRA adapters at the joined layers of a Llama, laid out for products."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nemo_local.nim.llama import amx
from nemo_local.nim.llama.halves import Words, words_of
from nemo_local.nim.llama.sites import Site, member_names
from nemo_local.nim.lora import AdapterSet

Pairs = Mapping[str, tuple[Tensor, Tensor]]
"""An adapter's A [r, d_in] and B [d_out, r], already scaled, by linear layer."""


@dataclass(frozen=True)
class Stack:
    """One adapter at a site whose K members have an A and a B each, of one rank r."""

    a: Tensor
    """[d_in, K * r]"""
    b: Tensor
    """[r * d_out]: [r, size] of each member, one after the other."""
    sizes: list[int]
    """Outputs of the members."""

    @property
    def rank(self) -> int:
        """The rank r, which all members have."""
        return self.a.shape[1] // len(self.sizes)

    @property
    def matrices(self) -> list[Tensor]:
        """A, [d_in, K * r], and B of each member, [r, size]."""
        parts = self.b.split([self.rank * size for size in self.sizes])
        return [self.a, *(part.view(self.rank, -1) for part in parts)]

    def product(self, x: Tensor) -> Tensor:
        """B A x: [M, d_in] to [M, d_out]."""
        low = (x.to(self.a.dtype) @ self.a).split(self.rank, dim=1)
        high = [part @ b for part, b in zip(low, self.matrices[1:], strict=True)]
        return high[0] if len(high) == 1 else torch.cat(high, dim=1)


@dataclass(frozen=True)
class Layout:
    """One adapter at every site where it has something."""

    stacks: Mapping[Site, Stack]
    addresses: NDArray[np.int64]
    """[sites, 3]: where A and B lie, for `products.linear`, and r; 0 where it has nothing."""
    kept: list[Words]
    """What lies at the addresses, to be kept alive."""


@dataclass
class Layouts:
    """The layouts of a base model's adapters, each made when any thread first asks for it."""

    adapters: AdapterSet
    sizes: Mapping[Site, list[int]]
    """Outputs of the members of every site; its order is that of the addresses."""
    halves: bool = False
    """Whether adapters are rounded to bfloat16, as the weights are, for a compiled step."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _changes: int = -1
    _made: dict[str | None, Layout] = field(default_factory=dict)

    def of(self, name: str | None) -> Layout:
        """The layout of an adapter; that of None has nothing anywhere."""
        with self._lock:
            if self._changes != self.adapters.changes:
                self._changes, self._made = self.adapters.changes, {}
            if name not in self._made:
                self._made[name] = self._make({} if name is None else self.adapters.pairs_of(name))
            return self._made[name]

    def _make(self, pairs: Pairs) -> Layout:
        if self.halves:
            pairs = {
                name: (a.bfloat16().float(), b.bfloat16().float()) for name, (a, b) in pairs.items()
            }
        found = {site: _at(pairs, member_names(site), own) for site, own in self.sizes.items()}
        stacks = {site: stack for site, stack in found.items() if stack is not None}
        addresses = np.zeros((len(self.sizes), 3), dtype=np.int64)
        words: list[Words] = []
        if self.halves:
            words = words_of(
                [one for stack in stacks.values() for one in stack.matrices], amx.usable()
            )
        at = 0
        for place, stack in enumerate(found.values()):
            if words and stack is not None:
                addresses[place] = words[at].ctypes.data, words[at + 1].ctypes.data, stack.rank
                at += len(stack.matrices)
        return Layout(stacks, addresses, words)


def _at(pairs: Pairs, names: list[str], sizes: list[int]) -> Stack | None:
    """The adapter at the site of these layers, with zeros up to the highest of their ranks."""
    present = [pairs[name] for name in names if name in pairs]
    if not present:
        return None
    rank = max(a.shape[0] for a, _ in present)
    some = present[0][0]
    a = some.new_zeros(len(names), rank, some.shape[1])
    b = some.new_zeros(rank * sum(sizes))
    begins = accumulate(sizes[:-1], initial=0)
    for k, (name, begin, size) in enumerate(zip(names, begins, sizes, strict=True)):
        if name in pairs:
            own_a, own_b = pairs[name]
            a[k, : own_a.shape[0]] = own_a
            place = b[rank * begin : rank * (begin + size)].view(rank, size)
            place[: own_b.shape[1]] = own_b.T
    return Stack(a.flatten(0, 1).T.contiguous(), b, sizes)
