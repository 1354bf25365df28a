"""Linear layers with the same input x [N, d_in], and their adapters, as one product.

    beside   y = x W' + bias + s x A' B'
    merged   y = x (W + s B A)' + bias     on a CPU, as lora_forward has it

Source: https://arxiv.org/abs/2106.09685, section 4.1. N tokens, d_out outputs of all layers side by
side, r ranks of all adapters
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from nemo_local.customizer.layers.lora_forward import adapter_of

ALIGNED_TO = 8
"""Ranks of adapters with the same input are padded together to a multiple of it: all rows then
begin at a multiple of 16 bytes, as a GPU's fast products need it."""

Kept = tuple[Tensor, ...]
"""What a forward pass keeps, besides x, for its backward pass."""


class Linears(Protocol):
    """The interface of both forms, Beside and Merged."""

    dtype: torch.dtype
    """Type of x and of the products."""
    widths: list[int]
    """Output features of each layer."""
    trained: list[Tensor]
    """A and B of each adapter in turn."""
    copies: list[Tensor]
    """Where `trained` is copied to before each pass: as many tensors, or none."""

    def forward(self, x: Tensor) -> tuple[Tensor, Kept]:
        """The outputs [N, d_out]."""

    def forward_on(self, addend: Tensor, x: Tensor) -> tuple[Tensor, Kept]:
        """The outputs plus `addend` [N, d_out]; else as `forward`."""

    def room(self, rows: int) -> tuple[Tensor, Tensor]:
        """A buffer for `backward`, and its part for the outputs' gradients, to be filled in."""

    def backward(self, x: Tensor, kept: Kept, both: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The gradients of x, and of `trained`."""

    def backward_of(self, x: Tensor, kept: Kept, dy: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The gradients as from `backward`, for a dy that lies outside of such a buffer."""


class Beside:
    """y = x W' + bias + s x A' B'

    All W's, and all A's below, are one matrix [d_out + r, d_in]; the B's are the blocks of another,
    [d_out, r]. Frozen weights of the right type become views of the first.
    """

    def __init__(self, layers: Sequence[nn.Module], dtype: torch.dtype) -> None:
        bases: list[Any] = [getattr(layer, "base_layer", layer) for layer in layers]
        adapters = [adapter_of(layer) for layer in layers]
        given = [adapter for adapter in adapters if adapter is not None]
        self.dtype, self.scaling = dtype, given[0][2] if given else 1.0
        self.widths = [len(base.weight) for base in bases]
        self.ranks = [0 if adapter is None else len(adapter[0]) for adapter in adapters]
        self.ranks.append(-sum(self.ranks) % ALIGNED_TO)  # padding, always zero
        self.sizes = [sum(self.widths), sum(self.ranks)]
        first: Tensor = bases[0].weight
        self.both = first.new_zeros(sum(self.sizes), first.shape[1], dtype=dtype)
        self.weight, self.a = self.both.split(self.sizes)
        self.b = self.both.new_zeros(self.sizes)
        self.weight_t, self.a_t, self.b_t = self.weight.T, self.a.T, self.b.T
        self.bias: Tensor | None = None
        if any(base.bias is not None for base in bases):
            self.bias = self.both.new_zeros(len(self.both))
        self.wide = _multiplies_into_float32(self.both)
        self.trained, self.copies = list[Tensor](), list[Tensor]()
        """A and B of each adapter in turn, and where they are copied to."""
        parts = zip(bases, adapters, *map(self._of_each, (self.weight, self.b)), strict=True)
        for index, (base, adapter, weight, b) in enumerate(parts):
            weight.copy_(base.weight)
            if base.weight.dtype == dtype:
                base.weight.data = weight
            if self.bias is not None and base.bias is not None:
                self._of_each(self.bias)[index].copy_(base.bias)
            if adapter is not None:
                self.trained += adapter[:2]
                self.copies += [self.a.split(self.ranks)[index], b.split(self.ranks, 1)[index]]

    def _of_each(self, joint: Tensor) -> Sequence[Tensor]:
        """The rows of `joint` that belong to each layer."""
        parts: Sequence[Tensor] = joint[: self.sizes[0]].split(self.widths)
        return parts

    def forward(self, x: Tensor) -> tuple[Tensor, Kept]:
        y, inner = functional.linear(x, self.both, self.bias).split(self.sizes, 1)
        return y.addmm_(inner, self.b_t, alpha=self.scaling), (inner,)  # x A' [N, r]

    def forward_on(self, addend: Tensor, x: Tensor) -> tuple[Tensor, Kept]:
        if addend.dtype != self.dtype:
            y, kept = self.forward(x)
            return addend + y, kept
        inner = x @ self.a_t
        y = torch.addmm(addend, x, self.weight_t)
        if self.bias is not None:
            y += self.bias[: self.sizes[0]]
        return y.addmm_(inner, self.b_t, alpha=self.scaling), (inner,)

    def room(self, rows: int) -> tuple[Tensor, Tensor]:
        both = self.both.new_empty(rows, len(self.both))
        dy, outer = both.split(self.sizes, 1)
        if both.device.type == "cpu":  # oneDNN reads past the end of dy's rows, times 0
            outer.zero_()
        return both, dy

    def backward(self, x: Tensor, kept: Kept, both: Tensor) -> tuple[Tensor, list[Tensor]]:
        (inner,) = kept
        dy, outer = both.split(self.sizes, 1)
        self._outer(dy, outer)
        return both @ self.both, self._of_trained(x, inner, dy, outer)

    def backward_of(self, x: Tensor, kept: Kept, dy: Tensor) -> tuple[Tensor, list[Tensor]]:
        (inner,) = kept
        outer = self._outer(dy, torch.empty_like(inner))
        dx = (dy @ self.weight).addmm_(outer, self.a)
        return dx, self._of_trained(x, inner, dy, outer)

    def _outer(self, dy: Tensor, to: Tensor) -> Tensor:
        """s dy B [N, r]"""
        torch.mm(dy, self.b, out=to)
        return to if self.scaling == 1 else to.mul_(self.scaling)

    def _of_trained(self, x: Tensor, inner: Tensor, dy: Tensor, outer: Tensor) -> list[Tensor]:
        if not self.trained:
            return []
        product = partial(torch.mm, out_dtype=torch.float32) if self.wide else torch.mm
        da = product(outer.T, x).split(self.ranks)
        inner = inner if self.scaling == 1 else inner * self.scaling
        each = zip(da, dy.split(self.widths, 1), inner.split(self.ranks, 1), strict=False)
        return [one for a, y, own in each if len(a) for one in (a, product(y.T, own))]


class Merged:
    """y = x (W + s B A)' + bias, the matrix [d_out, d_in] built for each pass, or once for several.

    Weights and adapters are in float32, and so is the sum before it is rounded.
    """

    copies: list[Tensor] = []

    def __init__(self, layers: Sequence[nn.Module], dtype: torch.dtype) -> None:
        bases: list[Any] = [getattr(layer, "base_layer", layer) for layer in layers]
        self.weights: list[Tensor] = [base.weight for base in bases]
        self.adapters = [adapter_of(layer) for layer in layers]
        given = [adapter for adapter in self.adapters if adapter is not None]
        self.dtype, self.scaling = dtype, given[0][2] if given else 1.0
        self.widths, self.ranks = (
            [len(weight) for weight in self.weights],
            [len(a) for a, *_ in given],
        )
        self.trained = [one for adapter in given for one in adapter[:2]]
        self.bias: Tensor | None = None
        if any(base.bias is not None for base in bases):
            none = torch.zeros
            each = (none(len(b.weight)) if b.bias is None else b.bias.detach() for b in bases)
            self.bias = torch.cat(list(each)).to(dtype)
        self.built: Tensor | None = None
        """The matrix, while `built_once` holds it; else None."""

    def build(self) -> Tensor:
        """The matrix with the adapters as they are now."""
        found = torch.empty(sum(self.widths), self.weights[0].shape[1], dtype=self.dtype)
        parts = zip(self.weights, self.adapters, found.split(self.widths), strict=True)
        for weight, adapter, part in parts:
            if adapter is not None:
                a, b, scaling = adapter
                weight = torch.addmm(weight, b, a, alpha=scaling)
            part.copy_(weight)
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, Kept]:
        matrix = self.build() if self.built is None else self.built
        return functional.linear(x, matrix, self.bias), (matrix,)

    def forward_on(self, addend: Tensor, x: Tensor) -> tuple[Tensor, Kept]:
        y, kept = self.forward(x)
        return addend + y, kept

    def room(self, rows: int) -> tuple[Tensor, Tensor]:
        dy = torch.empty(rows, sum(self.widths), dtype=self.dtype)
        return dy, dy

    def backward(self, x: Tensor, kept: Kept, dy: Tensor) -> tuple[Tensor, list[Tensor]]:
        (matrix,) = kept
        parts = zip(self.adapters, dy.split(self.widths, 1), strict=True)
        given = [(*adapter[:2], part) for adapter, part in parts if adapter is not None]
        inner = x @ torch.cat([a for a, _, _ in given]).to(self.dtype).T  # x A' [N, r]
        outer = torch.empty_like(inner)  # dy B
        of_each = zip(given, inner.split(self.ranks, 1), outer.split(self.ranks, 1), strict=True)
        dbs = list[Tensor]()
        for (_, b, part), own, to in of_each:
            torch.mm(part, b.to(self.dtype), out=to)
            dbs.append((part.T @ own).float())
        das = (outer.T @ x).float().split(self.ranks)
        found = [one for pair in zip(das, dbs, strict=True) for one in pair]
        return dy @ matrix, [one.mul_(self.scaling) for one in found]

    backward_of = backward


def _multiplies_into_float32(matrix: Tensor) -> bool:
    """Whether products can be written in float32; of PyTorch's devices, NVIDIA's GPUs can."""
    tried = matrix.new_zeros(16, 16)
    try:
        return torch.mm(tried, tried, out_dtype=torch.float32).dtype == torch.float32
    except RuntimeError:
        return False
