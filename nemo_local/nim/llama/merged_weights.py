"""Weights with an adapter added to them, W + B A, for rows that stand together: LoRA at no cost."""

import threading
from collections.abc import Mapping

import torch
from torch import Tensor

from nemo_local.nim.llama.layouts import Layouts, Stack
from nemo_local.nim.llama.sites import Site
from nemo_local.nim.llama.weights import Weight

ROOM = 2**29
"""Bytes for the weights of all adapters of a base model."""


class MergedWeights:
    """Merged weights of a base model's adapters, as many as there is room for; for any thread."""

    def __init__(self, layouts: Layouts, weights: Mapping[Site, Weight], room: int) -> None:
        self._layouts = layouts
        self._weights = weights
        self._room = room
        self._lock = threading.Lock()
        self._changes = -1
        self._kept: dict[str, dict[Site, Weight]] = {}
        self._size = 0

    def of(self, name: str) -> Mapping[Site, Weight] | None:
        """The weights where an adapter has something; None when there is no room."""
        stacks = self._layouts.of(name).stacks
        with self._lock:
            changes = self._layouts.adapters.changes
            if self._changes != changes:
                self._changes, self._kept, self._size = changes, {}, 0
            size = sum(self._weights[site].bytes for site in stacks)
            if name not in self._kept and self._size + size <= self._room:
                self._size += size
                self._kept[name] = {
                    site: self._weights[site].plus(_product(stack))
                    for site, stack in stacks.items()
                }
            return self._kept.get(name)


def _product(stack: Stack) -> Tensor:
    """B A, [d_in, d_out]."""
    return stack.product(torch.eye(stack.a.shape[0], dtype=stack.a.dtype, device=stack.a.device))
