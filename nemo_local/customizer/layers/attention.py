"""Causal attention without a mask, for training rows that are padded on the right.

Causal attention never looks at padding there. On a CPU short rows are computed one at a time:
scores of one row fit into the processor's cache, those of a batch do not. At 80 to 400 tokens a
training step takes 60 to 90 % of its time with plain attention, and less than with PyTorch's fused
kernel. On a GPU that kernel is used, under a name of our own: under its usual one transformers asks
in each pass whether the positions on the GPU need a mask, and waits for the answer.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PretrainedConfig

from nemo_local.customizer.layers import kernels
from nemo_local.customizer.layers.dropout import OF_ATTENTION
from nemo_local.customizer.layers.kernels import numbers
from nemo_local.customizer.training.facts import ROW_BY_ROW, SDPA, UNMASKED

UP_TO_TOKENS = 512
"""Longest row for ROW_BY_ROW, which keeps all probabilities of a pass for the backward pass."""
SPECIAL = ("sliding_window", "attention_chunk_size", "attn_logit_softcapping", *OF_ATTENTION)
"""Config fields of what ROW_BY_ROW does not compute."""


def why_not(
    config: PretrainedConfig, architecture: type | None, device: torch.device, longest: int
) -> str:
    """Why a model may not train with `attn_implementation=ROW_BY_ROW` on rows of so many tokens.

    Empty when it may.
    """
    if device.type != "cpu":
        return f"not on {device.type}"
    if longest > UP_TO_TOKENS:
        return f"rows of {longest} tokens, it is for up to {UP_TO_TOKENS}"
    if not getattr(architecture, "_supports_attention_backend", False):
        return f"{config.model_type} computes attention in code of its own"
    text = config.get_text_config()  # of a model that also sees or hears, the part that reads
    found = [name for name in SPECIAL if getattr(text, name, None)]
    return f"the model has {found[0]}" if found else ""


ONLY_LOOKS_BACK = ("llama", "mistral", "qwen2")
"""Architectures (`model_type`) whose attention, as a test shows, is purely causal, apart from a
sliding window."""
GROUPED_HEAD_DIM = 256
"""The widest heads for which PyTorch's FlashAttention repeats keys and values itself."""


def why_masked(config: PretrainedConfig, longest: int) -> str:
    """Why a model may not train with `attn_implementation=UNMASKED` on rows of so many tokens.

    Empty when it may.
    """
    if config.model_type not in ONLY_LOOKS_BACK:
        return f"not tested without for {config.model_type}"
    window = getattr(config, "sliding_window", None)
    if window and window < longest:
        return f"it sees {window} tokens, and rows have up to {longest}"
    return ""


def takes_no_mask(implementation: str, device: torch.device) -> bool:
    """Whether a model with this attention is given no mask for rows that are padded on the right.

    On a GPU a mask would keep PyTorch from its FlashAttention kernel. On a CPU SDPA has its mask.
    """
    on_gpu = implementation == SDPA and device.type == "cuda"
    return on_gpu or implementation in (ROW_BY_ROW, UNMASKED)


class _RowByRow(torch.autograd.Function):
    """softmax(q k' s) v per row and head; q, k, v are [batch, heads, length, width]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        rows, heads, length, width = v.shape
        weights = q.new_empty(rows, heads, length, length)
        output = v.new_empty(rows, length, heads, width)
        future = None
        if torch.get_num_threads() > 1:  # our kernel uses only one
            future = torch.full((length, length), -torch.inf, dtype=q.dtype).triu_(1)
        for row in range(rows):
            if future is None:
                torch.bmm(q[row], k[row].transpose(1, 2), out=weights[row])
                kernels.softmax(numbers(weights[row]), np.float32(scaling))
            else:
                scores = torch.baddbmm(future, q[row], k[row].transpose(1, 2), alpha=scaling)
                torch.softmax(scores, -1, out=weights[row])
            output[row] = torch.bmm(weights[row], v[row]).transpose(0, 1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scaling = scaling
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for row, given in enumerate(gradients[0].transpose(1, 2)):
            given = given.contiguous()
            torch.bmm(weights[row].transpose(1, 2), given, out=dv[row])
            dweights = torch.bmm(given, v[row].transpose(1, 2))
            dscores = torch._softmax_backward_data(dweights, weights[row], -1, q.dtype)
            dscores.mul_(ctx.scaling)
            torch.bmm(dscores, k[row], out=dq[row])
            torch.bmm(dscores.transpose(1, 2), q[row], out=dk[row])
        return dq, dk, dv, None


def attend_row_by_row(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """ROW_BY_ROW as transformers calls it; returns [batch, length, heads, width]."""
    if attention_mask is not None:
        raise ValueError("row_by_row attention takes rows padded on the right, and no mask")
    if dropout:
        raise ValueError(f"row_by_row attention drops nothing, and {dropout} was asked for")
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else query.dtype
    with torch.autocast("cpu", enabled=False):
        parts = (part.to(dtype) for part in (query, key, value))
        return _RowByRow.apply(*parts, scaling), None  # type: ignore[no-untyped-call]


def attend_unmasked(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """UNMASKED as transformers calls it: PyTorch's causal SDPA; returns as `attend_row_by_row`."""
    if attention_mask is not None:
        raise ValueError(f"{UNMASKED} attention takes rows padded on the right, and no mask")
    groups, kind = query.shape[1] // key.shape[1], query.device.type
    halves = torch.is_autocast_enabled(kind) or query.dtype != torch.float32
    grouped = groups > 1 and halves and query.shape[-1] <= GROUPED_HEAD_DIM
    if groups > 1 and not grouped:  # the fused kernels of float32 have no groups
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    output = functional.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
    )
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(ROW_BY_ROW, attend_row_by_row)
AttentionInterface.register(UNMASKED, attend_unmasked)
