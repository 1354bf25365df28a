"""The matrices of LoRA adapters at the joined layers of a Llama, laid out for batched products."""

from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_local.nim.sites import Site, member_names

Pairs = Mapping[str, tuple[Tensor, Tensor]]
"""An adapter's A [r, d_in] and B [d_out, r], already scaled, by linear layer."""


class Stack(NamedTuple):
    """G adapters at a site whose K members each have a B of their own.

    Members of different sizes count as one, whose B has theirs on its diagonal.
    """

    a: Tensor
    """[G, d_in, K * r]"""
    b: Tensor
    """[G * K, r, d_out / K]"""

    @property
    def rank(self) -> int:
        return self.b.shape[1]

    def product(self, x: Tensor) -> Tensor:
        """B A x: [G, M, d_in] to [G, M, d_out]."""
        count = self.a.shape[0]
        members = self.b.shape[0] // count
        low = torch.bmm(x, self.a)  # [G, M, K * r]
        if members == 1:
            return torch.bmm(low, self.b)
        low = low.unflatten(2, (members, -1)).transpose(1, 2).flatten(0, 1)
        high = torch.bmm(low, self.b).view(count, members, low.shape[1], -1)
        return high.transpose(1, 2).flatten(2)

    def of_rank(self, rank: int) -> "Stack":
        """The same product with zeros up to a higher rank."""
        missing = rank - self.rank
        if not missing:
            return self
        a = self.a.unflatten(2, (-1, self.rank))  # [G, d_in, K, r]
        return Stack(F.pad(a, (0, missing)).flatten(2), F.pad(self.b, (0, 0, 0, missing)))


def stacks_of(pairs: Pairs, sizes: Mapping[Site, list[int]]) -> dict[Site, Stack]:
    """One adapter at every site where it has something; `sizes` are the outputs of the members."""
    found = {site: _at(pairs, member_names(site), outputs) for site, outputs in sizes.items()}
    return {site: stack for site, stack in found.items() if stack is not None}


def together(adapters: list[Mapping[Site, Stack]]) -> dict[Site, Stack]:
    """Several adapters in this order, with zeros where one of them has nothing."""
    return {
        site: _stacked([stacks.get(site) for stacks in adapters])
        for site in {site for stacks in adapters for site in stacks}
    }


def _stacked(own: list[Stack | None]) -> Stack:
    present = [stack for stack in own if stack is not None]
    rank = max(stack.rank for stack in present)
    same = [(stack or _zeros_like(present[0])).of_rank(rank) for stack in own]
    return Stack(torch.cat([stack.a for stack in same]), torch.cat([stack.b for stack in same]))


def _zeros_like(stack: Stack) -> Stack:
    return Stack(torch.zeros_like(stack.a), torch.zeros_like(stack.b))


def _at(pairs: Pairs, names: list[str], sizes: list[int]) -> Stack | None:
    present = [pairs[name] for name in names if name in pairs]
    if not present:
        return None
    rank = max(a.shape[0] for a, _ in present)
    some = present[0][0]
    a = some.new_zeros(len(names), rank, some.shape[1])
    apart = len(set(sizes)) == 1  # nothing is multiplied by zeros then
    b = some.new_zeros(len(names), rank, sizes[0] if apart else sum(sizes))
    starts = accumulate(sizes[:-1], initial=0)
    for k, (name, start) in enumerate(zip(names, starts, strict=True)):
        if name in pairs:
            own_a, own_b = pairs[name]
            first = 0 if apart else start
            a[k, : own_a.shape[0]] = own_a
            b[k, : own_b.shape[1], first : first + sizes[k]] = own_b.T
    b = b if apart else b.flatten(0, 1)[None]
    return Stack(a.flatten(0, 1).T.contiguous()[None], b)
