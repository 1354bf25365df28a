"""The forward pass of LoRA layers, with fewer passes over the activations than PEFT's.

    merged   y = (W + s B A) x               on a CPU, narrow layers whose weights are in float32
    beside   y = W x + s B (A dropout(x))    all others

PEFT computes the second form, which is less arithmetic, with four more passes over the activations
in each direction and, beside weights in bfloat16, with copies of them in float32. For narrow layers
on a CPU even the fewest passes cost more than summing the matrices, which is done once a forward
pass. Both forms have the same values and the same gradients.
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


def shorten_forward(model: nn.Module) -> int:
    """Let the plain LoRA layers of a PEFT model, all with one adapter, compute the forms above.

    Returns how many layers were changed; others (DoRA, convolutions, quantised) stay PEFT's.
    """
    changed = 0
    for layer in model.modules():
        if isinstance(layer, Linear) and _is_plain(layer):
            layer.forward = MethodType(_merged if is_better_merged(layer) else _beside, layer)
            changed += 1
    return changed


@contextmanager
def merged_once(model: nn.Module) -> Iterator[None]:
    """A context in which layers in the merged form sum their matrices once, not in every pass.

    The weights themselves are not touched; nothing may change them meanwhile.
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
        and base.weight.is_floating_point()
        and len(layer.active_adapters) == 1
        and list(layer.lora_A) == list(layer.active_adapters)
        and not layer.lora_variant
        and not layer.merged
    )


def is_better_merged(layer: Linear) -> bool:
    """Whether the merged form costs less. With dropout, which acts on A's input, there is none.

    Added to weights in bfloat16, much of an adapter would be lost to rounding.
    """
    weight: Any = layer.get_base_layer().weight
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and max(weight.shape) <= WIDEST
        and all(isinstance(dropout, nn.Identity) for dropout in layer.lora_dropout.values())
    )


def adapter_of(layer: nn.Module) -> tuple[Tensor, Tensor, float] | None:
    """A [r, d_in], B [d_out, r] and s of a layer's adapter; None when it has none to add."""
    if not isinstance(layer, Linear) or layer.disable_adapters or layer.merged:
        return None
    (name,) = layer.active_adapters
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


def _merged(layer: Linear, x: Tensor) -> Tensor:
    """[..., d_in] to [..., d_out]."""
    base: Any = layer.get_base_layer()
    adapter, dtype = adapter_of(layer), _computed_in(x)
    if adapter is None:
        return functional.linear(x, base.weight, base.bias)
    y: Tensor = _Product.apply(x.to(dtype), base.weight, *adapter)  # type: ignore[no-untyped-call]
    return y if base.bias is None else y + base.bias.to(dtype)


def _computed_in(x: Tensor) -> torch.dtype:
    """The type in which a product of x is computed."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _merged_weight(layer: Linear) -> Tensor:
    """W + s B A, [d_out, d_in]."""
    weight: Tensor = layer.get_base_layer().weight
    adapter = adapter_of(layer)
    if adapter is None:
        return weight
    a, b, scaling = adapter
    with torch.autocast("cpu", enabled=False):
        return torch.addmm(weight, b, a, alpha=scaling)


class _Product(torch.autograd.Function):
    """x (W + s B A)', with a backward pass that leaves out the gradient of W, which nobody needs.

    That gradient would be as large a product as the other two. The gradients of A [r, d_in] and
    B [d_out, r] come from x A' and dy B, which are small. W, A and B are in float32, and everything
    else in the type of x.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        merged = torch.addmm(weight, b, a, alpha=scaling).to(x.dtype)
        ctx.save_for_backward(x, merged, a.to(x.dtype), b.to(x.dtype))
        ctx.scaling = scaling
        return functional.linear(x, merged)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        x, merged, a, b = ctx.saved_tensors
        dy, rows = gradients[0].flatten(0, -2), x.flatten(0, -2)
        dx = (dy @ merged).view_as(x) if ctx.needs_input_grad[0] else None
        da = (dy @ b).mul_(ctx.scaling).T @ rows
        db = dy.T @ (rows @ a.T).mul_(ctx.scaling)
        return dx, None, da.float(), db.float(), None


def _beside(layer: Linear, x: Tensor) -> Tensor:
    """[..., d_in] to [..., d_out]."""
    base: Any = layer.get_base_layer()
    adapter = adapter_of(layer)
    if adapter is None:
        y: Tensor = base(x)
        return y
    dtype = _computed_in(x)
    (dropout,) = layer.lora_dropout.values()
    rows = x.flatten(0, -2).to(dtype)
    dropped = None if isinstance(dropout, nn.Identity) else dropout(rows)
    y = _Sum.apply(rows, dropped, base.weight.to(dtype), base.bias, *adapter)  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], -1)


class _Sum(torch.autograd.Function):
    """x W' + bias + s d A' B' for x [N, d_in] and d, x after dropout (None = x itself).

    The second product is added to the first in place, in both directions. A and B are read in the
    type of x; their gradients are in their own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scaling: float,
    ) -> Tensor:
        ctx.scaling, ctx.dtype, ctx.in_place = scaling, a.dtype, dropped is None
        a, b, seen = a.to(x.dtype), b.to(x.dtype), x if dropped is None else dropped
        inner = seen @ a.T
        ctx.save_for_backward(seen, inner, weight, a, b)
        y = functional.linear(x, weight, None if bias is None else bias.to(x.dtype))
        return y.addmm_(inner, b.T, alpha=scaling)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        seen, inner, weight, a, b = ctx.saved_tensors
        (dy,) = gradients
        outer = dy @ b  # [N, r]
        dx = dy @ weight if ctx.needs_input_grad[0] else None
        dropped = None
        if not ctx.in_place:
            dropped = (outer @ a).mul_(ctx.scaling) if ctx.needs_input_grad[1] else None
        elif dx is not None:
            dx.addmm_(outer, a, alpha=ctx.scaling)
        da, db = (
            torch.mul(product, ctx.scaling, out=torch.empty_like(product, dtype=ctx.dtype))
            for product in (outer.T @ seen, dy.T @ inner)
        )
        return dx, dropped, None, None, da, db, None
