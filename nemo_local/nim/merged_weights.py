"""Weights with an adapter added to them, W + B A, for rows that stand together: LoRA at no cost."""

import threading
from collections.abc import Mapping

import torch
from torch import Tensor

from nemo_local.nim.lora import AdapterSet
from nemo_local.nim.sites import Site
from nemo_local.nim.stacks import Stack

ROOM = 2**28
"""Bytes for the weights of all adapters of a base model."""


class MergedWeights:
    """Those of a base model's adapters, as many as there is room for; any thread may ask."""

    def __init__(self, adapters: AdapterSet, weights: Mapping[Site, Tensor], room: int) -> None:
        self._adapters = adapters
        self._weights = weights
        self._room = room
        self._lock = threading.Lock()
        self._changes = -1
        self._kept: dict[str, dict[Site, Tensor]] = {}
        self._size = 0

    def of(self, name: str, stacks: Mapping[Site, Stack]) -> Mapping[Site, Tensor] | None:
        """The weights of an adapter, whose matrices these are; None when there is no room."""
        with self._lock:
            if self._changes != self._adapters.changes:
                self._changes = self._adapters.changes
                self._kept, self._size = {}, 0
            size = sum(self._weights[site].nbytes for site in stacks)
            if name not in self._kept and self._size + size <= self._room:
                self._size += size
                self._kept[name] = {
                    site: self._weights[site] + _product(stack) for site, stack in stacks.items()
                }
            return self._kept.get(name)


def _product(stack: Stack) -> Tensor:
    """B A of its one adapter, [d_in, d_out]."""
    one = torch.eye(stack.a.shape[1], dtype=stack.a.dtype, device=stack.a.device)
    return stack.product(one[None])[0]
