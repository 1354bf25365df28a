"""Decoder layers of the Llama kind with LoRA, in few and large operations, for a GPU.

transformers and PEFT take some hundred operations for a layer and its way back, and asking for them
takes a processor longer than a GPU needs to compute them. Here a layer is six steps of autograd,
with their ways back written down. Linear layers that read the same are one product, A's and all;
sums are made where they lie; and adapters are turned into the type of the products once a pass.
Values and gradients are those of PEFT. Source: https://arxiv.org/abs/2106.09685, section 4.1.

B rows, T tokens of a row, N = B T, d width of a head, r ranks of the adapters that read the same
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional

from nemo_local.customizer.answers_only import Ending
from nemo_local.customizer.attention import attend_unmasked

ALIGNED_TO = 8
"""Adapters that read the same are filled up to a multiple of so many ranks: all rows then begin at
a multiple of 16 bytes, as a GPU's fast products need it."""


def fuse_layers(model: Any, dtype: torch.dtype) -> None:
    """Let the decoder layers of a PEFT model compute training passes as said above.

    Products are computed in `dtype`. Passes with a mask or a cache stay the library's. All adapters
    have one scaling, and no dropout.
    """
    decoder = model.get_base_model().get_decoder()
    groups = list[Linears]()
    for layer in decoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        layer.to_heads = Linears((attention.q_proj, attention.k_proj, attention.v_proj), dtype)
        layer.from_heads = Linears((attention.o_proj,), dtype)
        layer.to_gates = Linears((mlp.gate_proj, mlp.up_proj), dtype)
        layer.from_gates = Linears((mlp.down_proj,), dtype)
        groups += [layer.to_heads, layer.from_heads, layer.to_gates, layer.from_gates]
        kind = type(layer)
        layer.__class__ = type(kind.__name__, (_FusedLayer, kind), {})
    pairs = [pair for group in groups for pair in zip(group.copies, group.trained, strict=True)]
    # What lies alike is copied by one kernel.
    alike = [pair for pair in pairs if pair[0].stride() == pair[1].stride()]
    blocks = [pair for pair in pairs if pair[0].stride() != pair[1].stride()]

    def copy_adapters(*_: Any) -> None:
        with torch.no_grad():
            for copies, weights in (zip(*part, strict=True) for part in (alike, blocks) if part):
                torch._foreach_copy_(copies, weights)

    decoder.register_forward_pre_hook(copy_adapters)


class Linears:
    """Linear layers that read the same x [N, d_in], with their adapters.

        y = x W' + bias + s x A' B'

    Their W's, and all A's below, are one matrix [d_out + r, d_in]; their B's are the blocks of
    another, [d_out, r]. Frozen weights of the right type lie there from now on.
    """

    def __init__(self, layers: Sequence[nn.Module], dtype: torch.dtype) -> None:
        bases: list[Any] = [getattr(layer, "base_layer", layer) for layer in layers]
        adapters = [_adapter(layer) for layer in layers]
        given = [adapter for adapter in adapters if adapter is not None]
        self.dtype, self.scaling = dtype, given[0][2] if given else 1.0
        self.widths = [len(base.weight) for base in bases]
        self.ranks = [0 if adapter is None else len(adapter[0]) for adapter in adapters]
        self.ranks.append(-sum(self.ranks) % ALIGNED_TO)  # nobody's, and zero
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
        """The rows of each layer."""
        parts: Sequence[Tensor] = joint[: self.sizes[0]].split(self.widths)
        return parts

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs [N, d_out] side by side, and x A' [N, r] for the way back."""
        y, inner = functional.linear(x, self.both, self.bias).split(self.sizes, 1)
        return y.addmm_(inner, self.b_t, alpha=self.scaling), inner

    def forward_on(self, addend: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, with `addend` [N, d_out] added."""
        if addend.dtype != self.dtype:
            y, inner = self.forward(x)
            return addend + y, inner
        inner = x @ self.a_t
        y = torch.addmm(addend, x, self.weight_t)
        if self.bias is not None:
            y += self.bias[: self.sizes[0]]
        return y.addmm_(inner, self.b_t, alpha=self.scaling), inner

    def room(self, rows: int) -> tuple[Tensor, Tensor]:
        """What `backward` takes, and of it the gradients of the outputs, to be filled in."""
        both = self.both.new_empty(rows, len(self.both))
        return both, both[:, : self.sizes[0]]

    def backward(self, x: Tensor, inner: Tensor, both: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The gradients of x, and of what is trained."""
        dy, outer = both.split(self.sizes, 1)
        self._outer(dy, outer)
        return both @ self.both, self._of_trained(x, inner, dy, outer)

    def backward_of(self, x: Tensor, inner: Tensor, dy: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `backward`, from gradients of the outputs that lie elsewhere."""
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


def _adapter(layer: nn.Module) -> tuple[Tensor, Tensor, float] | None:
    """A, B and s of a layer."""
    if not isinstance(layer, Linear):
        return None
    (name,) = layer.active_adapters
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


def _multiplies_into_float32(matrix: Tensor) -> bool:
    """Whether a product's sums can keep their digits; of PyTorch's devices, NVIDIA's GPUs do so."""
    tried = matrix.new_zeros(16, 16)
    try:
        return torch.mm(tried, tried, out_dtype=torch.float32).dtype == torch.float32
    except RuntimeError:
        return False


class _FusedLayer(nn.Module):
    """A layer of Llama, Mistral or Qwen 2."""

    self_attn: Any
    input_layernorm: Any
    post_attention_layernorm: Any
    to_heads: Linears
    from_heads: Linears
    to_gates: Linears
    from_gates: Linears

    def forward(self, hidden_states: Tensor, *positional: Any, **given: Any) -> Any:
        cache, mask = given.get("past_key_values"), given.get("attention_mask")
        if positional or cache is not None or mask is not None:
            return super().forward(hidden_states, *positional, **given)
        answers = given.get("answers") if isinstance(self, Ending) else None
        cos, sin = given["position_embeddings"]
        # All types are as they should be; autocast would have norms in float32.
        with torch.autocast(hidden_states.device.type, enabled=False):
            return self._fused(hidden_states, cos, sin, answers)

    def _fused(self, h: Tensor, cos: Tensor, sin: Tensor, answers: Tensor | None) -> Tensor:
        attention, x = self.self_attn, _norm(self.input_layernorm, h)
        q, k, v = _Heads.apply(x, cos, sin, self, *self.to_heads.trained)  # type: ignore[no-untyped-call]
        dropout = attention.attention_dropout if self.training else 0.0
        x, _ = attend_unmasked(attention, q, k, v, None, attention.scaling, dropout)
        h = _FromHeads.apply(x, h, self.from_heads, *self.from_heads.trained)  # type: ignore[no-untyped-call]
        if answers is not None:
            h = h.flatten(0, 1).index_select(0, answers)[None]
        x = _norm(self.post_attention_layernorm, h)
        trained = [*self.to_gates.trained, *self.from_gates.trained]
        y: Tensor = _Gates.apply(x, h, self, *trained)  # type: ignore[no-untyped-call]
        return y


def _norm(norm: Any, x: Tensor) -> Tensor:
    return functional.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


class _Heads(torch.autograd.Function):
    """x [B, T, d_in] to q, k and v [B, heads, T, d], of which q and k are turned."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, layer: _FusedLayer, *trained: Tensor
    ) -> tuple[Tensor, ...]:
        linears, width = layer.to_heads, layer.self_attn.head_dim
        rows = x.flatten(0, 1).to(linears.dtype)
        y, inner = linears.forward(rows)
        y = y.view(*x.shape[:2], -1, width)
        cos, sin = (angles.to(y.dtype)[:, :, None] for angles in (cos, sin))
        heads = [size // width for size in linears.widths]
        turned, v = y.split([sum(heads[:2]), heads[2]], 2)
        q, k = _turn(turned, turned * cos, sin).split(heads[:2], 2)
        ctx.save_for_backward(rows, inner, cos, sin)
        ctx.linears, ctx.shape = linears, x.shape
        return tuple(part.transpose(1, 2) for part in (q, k, v))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, cos, sin = ctx.saved_tensors
        both, dy = ctx.linears.room(len(x))
        found = [gradient.transpose(1, 2) for gradient in gradients]
        dy = dy.view(*found[0].shape[:2], -1, found[0].shape[3])
        *turned, v = zip(found, dy.split([each.shape[2] for each in found], 2), strict=True)
        for gradient, to in turned:
            _turn(gradient, torch.mul(gradient, cos, out=to), sin, back=True)
        v[1].copy_(v[0])
        dx, of_trained = ctx.linears.backward(x, inner, both)
        return dx.view(ctx.shape), None, None, None, *of_trained


def _turn(x: Tensor, y: Tensor, sin: Tensor, back: bool = False) -> Tensor:
    """Make y, which is x cos, each token's heads of x turned by its angles, or back.

    x and y are [B, T, heads, d]; halves of d are the two coordinates, so the angles, [B or 1, T, 1,
    d], are there twice.
    """
    (x1, x2), (y1, y2), (sin, _) = x.chunk(2, -1), y.chunk(2, -1), sin.chunk(2, -1)
    sign = -1 if back else 1
    y1.addcmul_(x2, sin, value=-sign)
    y2.addcmul_(x1, sin, value=sign)
    return y


class _FromHeads(torch.autograd.Function):
    """What was attended to, [B, T, heads, d], to [B, T, d_out], added to h."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, linears: Linears, *trained: Tensor) -> Tensor:
        rows = x.flatten(0, 1).flatten(1)
        y, inner = linears.forward_on(h.flatten(0, 1), rows)
        ctx.save_for_backward(rows, inner)
        ctx.linears, ctx.shape = linears, x.shape
        return y.view(h.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, inner = ctx.saved_tensors
        (dy,) = gradients
        dx, of_trained = ctx.linears.backward_of(x, inner, dy.flatten(0, 1).to(x.dtype))
        return dx.view(ctx.shape), dy, None, *of_trained


class _Gates(torch.autograd.Function):
    """The feed-forward block of x [B, T, d_in], added to h."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, layer: _FusedLayer, *trained: Tensor) -> Tensor:
        rows = x.flatten(0, 1).to(layer.to_gates.dtype)
        y, inner = layer.to_gates.forward(rows)
        gate, up = y.chunk(2, 1)
        weights = functional.silu(gate)
        product = weights * up
        y, last = layer.from_gates.forward_on(h.flatten(0, 1), product)
        ctx.save_for_backward(rows, inner, gate, up, weights, product, last)
        ctx.layer, ctx.shape = layer, x.shape
        return y.view(h.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, gate, up, weights, product, last = ctx.saved_tensors
        (dh,), layer = gradients, ctx.layer
        dproduct, of_last = layer.from_gates.backward_of(
            product, last, dh.flatten(0, 1).to(x.dtype)
        )
        both, dy = layer.to_gates.room(len(x))
        dgate, dup = dy.chunk(2, 1)
        torch.mul(dproduct, weights, out=dup)
        torch.ops.aten.silu_backward.grad_input(dproduct.mul_(up), gate, grad_input=dgate)
        dx, of_trained = layer.to_gates.backward(x, inner, both)
        return dx.view(ctx.shape), dh, None, *of_trained, *of_last
