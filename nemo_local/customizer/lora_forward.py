"""The forward pass of LoRA layers as one matrix product: y = (W + s B A) x.

PEFT computes W x + s B (A x), which is less arithmetic and four more passes over the activations in
each direction. On a CPU and for narrow layers the passes cost more than the sum of the matrices,
which is built once a forward pass. Both have the same value and the same gradients.
Source: https://arxiv.org/abs/2106.09685, section 4.1 (the merged form, used there to serve).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional

WIDEST = 2048
"""Features in or out up to which the merged form is used."""


def merge_in_forward(model: nn.Module) -> int:
    """Let every plain LoRA layer of a PEFT model on a CPU compute the merged form while it trains.

    Layers with dropout keep PEFT's form, since dropout acts on what A sees.

    Returns how many layers were changed.
    """
    changed = 0
    for layer in model.modules():
        if isinstance(layer, Linear) and _is_plain(layer):
            layer.forward = MethodType(_merged, layer)
            changed += 1
    return changed


@contextmanager
def merged_once(model: nn.Module) -> Iterator[None]:
    """Within, layers that compute the merged form add their matrices up once, and not every pass.

    The weights themselves are not touched; nothing may change them within.
    """
    changed = [
        (layer, layer.__dict__["forward"])
        for layer in model.modules()
        if isinstance(layer, Linear)
        and getattr(layer.__dict__.get("forward"), "__func__", None) is _merged
    ]
    try:
        for layer, _ in changed:
            base: Any = layer.get_base_layer()
            layer.forward = partial(functional.linear, weight=_merged_weight(layer), bias=base.bias)
        yield
    finally:
        for layer, forward in changed:
            layer.forward = forward


def _is_plain(layer: Linear) -> bool:
    base: Any = layer.get_base_layer()
    return (
        isinstance(base, nn.Linear)
        and base.weight.device.type == "cpu"
        and max(base.weight.shape) <= WIDEST
        and list(layer.lora_A) == list(layer.active_adapters)
        and all(isinstance(dropout, nn.Identity) for dropout in layer.lora_dropout.values())
        and not layer.lora_variant
        and not layer.merged
    )


def _merged(layer: Linear, x: Tensor) -> Tensor:
    """[..., d_in] to [..., d_out]."""
    base: Any = layer.get_base_layer()
    names = [] if layer.disable_adapters or layer.merged else layer.active_adapters
    if len(names) == 1 and not torch.is_autocast_enabled("cpu"):
        a, b = layer.lora_A[names[0]].weight, layer.lora_B[names[0]].weight
        given = (x, base.weight, a, b, layer.scaling[names[0]])
        y: Tensor = _Product.apply(*given)  # type: ignore[no-untyped-call]
        return y if base.bias is None else y + base.bias
    return functional.linear(x, _merged_weight(layer), base.bias)


class _Product(torch.autograd.Function):
    """x (W + s B A)', and its way back without the gradient of W, which nobody asks for.

    That gradient would be as large a product as the other two. The gradients of A [r, d_in] and
    B [d_out, r] come from x A' and dy B, which are small. In bfloat16 on tiles products cost less
    than the passes over x and dy, so there the sum of the matrices is left to autograd.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        merged = torch.addmm(weight, b, a, alpha=scaling)
        ctx.save_for_backward(x, merged, a, b)
        ctx.scaling = scaling
        return functional.linear(x, merged)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        x, merged, a, b = ctx.saved_tensors
        dy, rows = gradients[0].flatten(0, -2), x.flatten(0, -2)
        dx = (dy @ merged).view_as(x) if ctx.needs_input_grad[0] else None
        da = (dy @ b).mul_(ctx.scaling).T @ rows
        db = dy.T @ (rows @ a.T).mul_(ctx.scaling)
        return dx, None, da, db, None


def _merged_weight(layer: Linear) -> Tensor:
    """W + s B A, [d_out, d_in]."""
    base: Any = layer.get_base_layer()
    weight: Tensor = base.weight
    plain = layer.disable_adapters or layer.merged
    for name in () if plain else layer.active_adapters:
        a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
        with torch.autocast("cpu", enabled=False):
            weight = torch.addmm(weight, b, a, alpha=layer.scaling[name])
    return weight
