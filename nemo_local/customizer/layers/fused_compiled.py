"""The operations of fused layers on a CPU, by our compiled kernels, in one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn

from nemo_local.customizer.layers import kernels
from nemo_local.customizer.layers.attention import attend_row_by_row
from nemo_local.customizer.layers.fused_linears import Beside, Kept, Linears, Merged
from nemo_local.customizer.layers.kernels import numbers
from nemo_local.customizer.layers.lora_forward import is_better_merged


class Compiled:
    """The operations of fused layers on a CPU, see `fused_layers.Operations`."""

    def linears(self, layers: Sequence[nn.Module], dtype: torch.dtype) -> Linears:
        adapted = [layer for layer in layers if isinstance(layer, Linear)]
        merged = bool(adapted) and all(map(is_better_merged, adapted))
        return Merged(layers, dtype) if merged else Beside(layers, dtype)

    def norm(self, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        y: Tensor = _Norm.apply(x, weight, epsilon, dtype)  # type: ignore[no-untyped-call]
        return y

    def heads(self, y: Tensor, cos: Tensor, sin: Tensor, counts: list[int]) -> list[Tensor]:
        q, k, v = (part.transpose(1, 2) for part in y.split(counts, 2))
        return [_turned(q, cos, sin), _turned(k, cos, sin), v.contiguous()]

    def heads_back(
        self, gradients: tuple[Tensor, ...], cos: Tensor, sin: Tensor, dy: Tensor
    ) -> None:
        q, k, v = (part.transpose(1, 2) for part in dy.split([g.shape[1] for g in gradients], 2))
        _turn(gradients[0], cos, -sin, q)
        _turn(gradients[1], cos, -sin, k)
        v.copy_(gradients[2])

    def attend(self, attention: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        return attend_row_by_row(attention, q, k, v, None, attention.scaling)[0]

    def gate(self, both: Tensor) -> tuple[Tensor, Kept]:
        y = both.new_empty(len(both), both.shape[1] // 2)
        kernels.gate(numbers(both), numbers(y))
        return y, (both,)

    def gate_back(self, dy: Tensor, kept: Kept, dboth: Tensor) -> None:
        kernels.gate_back(numbers(kept[0]), numbers(dy), numbers(dboth))


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        rows = x.flatten(0, 1).contiguous()
        y, factors = torch.empty(rows.shape, dtype=dtype), torch.empty(len(rows))
        kernels.norm(numbers(rows), numbers(weight), epsilon, numbers(y), numbers(factors))
        ctx.save_for_backward(rows, weight, factors)
        ctx.shape = x.shape
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, factors = ctx.saved_tensors
        dx, dy = torch.empty_like(x), gradients[0].contiguous()
        kernels.norm_back(*map(numbers, (x, weight, factors, dy, dx)))
        return dx.view(ctx.shape), None, None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, heads, T, d], rotated by its angles."""
    y = torch.empty(x.shape, dtype=x.dtype)
    _turn(x, cos, sin, y)
    return y


def _turn(x: Tensor, cos: Tensor, sin: Tensor, y: Tensor) -> None:
    if x.stride(-1) != 1:
        x = x.contiguous()
    cos, sin = (one.float().expand(len(x), -1, -1).contiguous() for one in (cos, sin))
    kernels.turn(*map(numbers, (x, cos, sin, y)))
