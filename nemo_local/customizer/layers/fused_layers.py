"""Llama's decoder layers with LoRA, computed in few and large operations.

transformers and PEFT take some hundred operations for a layer's forward and backward pass.
Launching them takes longer than a GPU needs to compute them, and on a CPU each is another pass over
all numbers. Here a layer is a few autograd functions with backward passes of their own. Linear
layers with the same input are one product (fused_linears); all else is in fused_torch for a GPU
and in fused_compiled for a CPU. Values and gradients are those of PEFT.

B rows, T tokens of a row, N = B T, d width of a head
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nemo_local.customizer.layers.answers_only import Ending
from nemo_local.customizer.layers.fused_linears import Kept, Linears, Merged


class Operations(Protocol):
    """What differs between devices: the form of linear layers, and all besides them."""

    def linears(self, layers: Sequence[nn.Module], dtype: torch.dtype) -> Linears:
        """Combine layers with the same input; their adapters have one scaling, and no dropout."""

    def norm(self, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        """RMS norm of x [B, T, E] with a weight [E], as rows [N, E] of `dtype`."""

    def heads(self, y: Tensor, cos: Tensor, sin: Tensor, counts: list[int]) -> list[Tensor]:
        """Queries, keys and values [B, heads, T, d] of y [B, T, all heads, d]; queries and keys are
        rotated (RoPE) by the angles [B or 1, T, d] of their positions."""

    def heads_back(
        self, gradients: tuple[Tensor, ...], cos: Tensor, sin: Tensor, dy: Tensor
    ) -> None:
        """The backward pass of `heads`: fill dy."""

    def attend(self, attention: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        """Causal attention, [B, T, heads, d]."""

    def gate(self, both: Tensor) -> tuple[Tensor, Kept]:
        """silu(gate) up [N, I], from [gate, up] [N, 2 I]."""

    def gate_back(self, dy: Tensor, kept: Kept, dboth: Tensor) -> None:
        """The backward pass of `gate`: fill dboth; dy may be overwritten."""


def fuse_layers(model: Any, dtype: torch.dtype, operations: Operations) -> None:
    """Let the decoder layers of a PEFT model compute training passes in fused form.

    Products are computed in `dtype`. Passes with a mask or a cache stay the library's. All adapters
    have one scaling, and no dropout.
    """
    decoder = model.get_base_model().get_decoder()
    groups = list[Linears]()
    for layer in decoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        layer.to_heads = operations.linears(
            (attention.q_proj, attention.k_proj, attention.v_proj), dtype
        )
        layer.from_heads = operations.linears((attention.o_proj,), dtype)
        layer.to_gates = operations.linears((mlp.gate_proj, mlp.up_proj), dtype)
        layer.from_gates = operations.linears((mlp.down_proj,), dtype)
        groups += [layer.to_heads, layer.from_heads, layer.to_gates, layer.from_gates]
        layer.operations, kind = operations, type(layer)
        layer.__class__ = type(kind.__name__, (_FusedLayer, kind), {})
    pairs = [pair for group in groups for pair in zip(group.copies, group.trained, strict=False)]
    # Tensors with the same strides are copied by one kernel.
    alike = [pair for pair in pairs if pair[0].stride() == pair[1].stride()]
    blocks = [pair for pair in pairs if pair[0].stride() != pair[1].stride()]

    def copy_adapters(*_: Any) -> None:
        with torch.no_grad():
            for copies, weights in (zip(*part, strict=True) for part in (alike, blocks) if part):
                torch._foreach_copy_(copies, weights)

    decoder.register_forward_pre_hook(copy_adapters)
    model.merged_groups = [group for group in groups if isinstance(group, Merged)]


@contextmanager
def built_once(model: Any) -> Iterator[None]:
    """A context in which fused layers share their merged matrices between passes.

    Nothing may change the adapters meanwhile; the optimiser would, and the weights' versions do
    not show it.
    """
    groups: list[Merged] = getattr(model, "merged_groups", [])
    with torch.no_grad():
        for group in groups:
            group.built = group.build()
    try:
        yield
    finally:
        for group in groups:
            group.built = None


class _FusedLayer(nn.Module):
    """A layer of Llama, Mistral or Qwen 2."""

    self_attn: Any
    input_layernorm: Any
    post_attention_layernorm: Any
    operations: Operations
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
        attention = self.self_attn
        x = self._norm(self.input_layernorm, h, self.to_heads)
        q, k, v = _Heads.apply(x, h.shape[:2], cos, sin, self, *self.to_heads.trained)  # type: ignore[no-untyped-call]
        dropout = attention.attention_dropout if self.training else 0.0
        x = self.operations.attend(attention, q, k, v, dropout)
        h = _FromHeads.apply(x, h, self.from_heads, *self.from_heads.trained)  # type: ignore[no-untyped-call]
        if answers is not None:
            h = h.flatten(0, 1).index_select(0, answers)[None]
        x = self._norm(self.post_attention_layernorm, h, self.to_gates)
        trained = [*self.to_gates.trained, *self.from_gates.trained]
        y: Tensor = _Gates.apply(x, h, self, *trained)  # type: ignore[no-untyped-call]
        return y

    def _norm(self, norm: Any, x: Tensor, read_by: Linears) -> Tensor:
        return self.operations.norm(x, norm.weight, norm.variance_epsilon, read_by.dtype)


class _Heads(torch.autograd.Function):
    """x [N, d_in] to q, k and v [B, heads, T, d], of which q and k are rotated."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shape: torch.Size, cos: Tensor, sin: Tensor, layer: _FusedLayer,
        *trained: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        linears, width = layer.to_heads, layer.self_attn.head_dim
        y, kept = linears.forward(x)
        y = y.view(*shape, -1, width)
        ctx.counts = [size // width for size in linears.widths]
        ctx.save_for_backward(x, cos, sin, *kept)
        ctx.layer, ctx.shape = layer, y.shape
        return tuple(layer.operations.heads(y, cos, sin, ctx.counts))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x, cos, sin, *kept = ctx.saved_tensors
        linears = ctx.layer.to_heads
        both, dy = linears.room(len(x))
        ctx.layer.operations.heads_back(gradients, cos, sin, dy.view(ctx.shape))
        dx, of_trained = linears.backward(x, kept, both)
        return dx, None, None, None, None, *of_trained


class _FromHeads(torch.autograd.Function):
    """The output projection of attention, [B, T, heads, d] to [B, T, d_out], added to h."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, linears: Linears, *trained: Tensor) -> Tensor:
        rows = x.flatten(0, 1).flatten(1)
        y, kept = linears.forward_on(h.flatten(0, 1), rows)
        ctx.save_for_backward(rows, *kept)
        ctx.linears, ctx.shape = linears, x.shape
        return y.view(h.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x, *kept = ctx.saved_tensors
        (dy,) = gradients
        dx, of_trained = ctx.linears.backward_of(x, kept, dy.flatten(0, 1).to(x.dtype))
        return dx.view(ctx.shape), dy, None, *of_trained


class _Gates(torch.autograd.Function):
    """The feed-forward block of x [N, d_in], added to h."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, layer: _FusedLayer, *trained: Tensor) -> Tensor:
        both, kept = layer.to_gates.forward(x)
        product, of_gate = layer.operations.gate(both)
        y, of_last = layer.from_gates.forward_on(h.flatten(0, 1), product)
        ctx.save_for_backward(x, product, *kept, *of_gate, *of_last)
        ctx.counts = [len(kept), len(of_gate), len(of_last)]
        ctx.layer = layer
        return y.view(h.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        (dh,), layer = gradients, ctx.layer
        x, product, *rest = ctx.saved_tensors
        others = iter(rest)
        of_inputs, of_gate, of_last = (list(islice(others, count)) for count in ctx.counts)
        dproduct, of_trained = layer.from_gates.backward_of(
            product, of_last, dh.flatten(0, 1).to(x.dtype)
        )
        both, dboth = layer.to_gates.room(len(x))
        layer.operations.gate_back(dproduct, of_gate, dboth)
        dx, of_gates = layer.to_gates.backward(x, of_inputs, both)
        return dx, dh, None, *of_gates, *of_trained
