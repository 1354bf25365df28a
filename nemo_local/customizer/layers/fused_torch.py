"""The operations of fused layers on a GPU, by PyTorch.

Sums and products are made in place, as each operation has to be launched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nemo_local.customizer.layers.attention import attend_unmasked
from nemo_local.customizer.layers.fused_linears import Beside, Kept, Linears


class InTorch:
    """The operations of fused layers on a GPU, see `fused_layers.Operations`."""

    def linears(self, layers: Sequence[nn.Module], dtype: torch.dtype) -> Linears:
        return Beside(layers, dtype)

    def norm(self, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        y = functional.rms_norm(x, weight.shape, weight, epsilon)
        return y.flatten(0, 1).to(dtype)

    def heads(self, y: Tensor, cos: Tensor, sin: Tensor, counts: list[int]) -> list[Tensor]:
        turned, v = y.split([sum(counts[:2]), counts[2]], 2)
        q, k = _turn(turned, turned * _of_heads(cos, y), _of_heads(sin, y)).split(counts[:2], 2)
        return [part.transpose(1, 2) for part in (q, k, v)]

    def heads_back(
        self, gradients: tuple[Tensor, ...], cos: Tensor, sin: Tensor, dy: Tensor
    ) -> None:
        cos, sin = _of_heads(cos, dy), _of_heads(sin, dy)
        found = [gradient.transpose(1, 2) for gradient in gradients]
        *turned, v = zip(found, dy.split([each.shape[2] for each in found], 2), strict=True)
        for gradient, to in turned:
            _turn(gradient, torch.mul(gradient, cos, out=to), sin, back=True)
        v[1].copy_(v[0])

    def attend(self, attention: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        return attend_unmasked(attention, q, k, v, None, attention.scaling, dropout)[0]

    def gate(self, both: Tensor) -> tuple[Tensor, Kept]:
        gate, up = both.chunk(2, 1)
        weights = functional.silu(gate)
        return weights * up, (gate, up, weights)

    def gate_back(self, dy: Tensor, kept: Kept, dboth: Tensor) -> None:
        gate, up, weights = kept
        dgate, dup = dboth.chunk(2, 1)
        torch.mul(dy, weights, out=dup)
        torch.ops.aten.silu_backward.grad_input(dy.mul_(up), gate, grad_input=dgate)


def _of_heads(angles: Tensor, of: Tensor) -> Tensor:
    """Angles as [B or 1, T, 1, d], in the type of `of`."""
    return angles.to(of.dtype)[:, :, None]


def _turn(x: Tensor, y: Tensor, sin: Tensor, back: bool = False) -> Tensor:
    """Turn y, which is x cos, into x with each token's heads rotated by its angles, or back.

    x and y are [B, T, heads, d]; halves of d are the two coordinates, so the angles, [B or 1, T, 1,
    d], are stored twice.
    """
    (x1, x2), (y1, y2), (sin, _) = x.chunk(2, -1), y.chunk(2, -1), sin.chunk(2, -1)
    sign = -1 if back else 1
    y1.addcmul_(x2, sin, value=-sign)
    y2.addcmul_(x1, sin, value=sign)
    return y
