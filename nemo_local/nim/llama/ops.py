"""What a layer of a Llama does between its products: compiled for small models, else in PyTorch.

N rows, E hidden size, I intermediate size, d head size, T cached columns.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_local.nim.kv_cache import KvCache, array_of
from nemo_local.nim.llama import attention, kernels

_FUSED_FROM = 512
"""Prompt tokens from which PyTorch's fused attention is worth its start; plain products are faster
below."""


Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Attention of a layer: [N, heads, d] each of q, k and v (k, v: key-value heads) to [N, heads * d].
The new keys and values are put into the cache."""


class TorchOps:
    """The operations in PyTorch: for any type, on all threads."""

    def norm(self, h: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """weight * h / sqrt(mean(h^2) + epsilon), [N, E]."""
        return weight * F.rms_norm(h.float(), (h.shape[-1],), eps=epsilon).to(h.dtype)

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Turn heads [N, H, d] to their positions, in place.

        cos and sin are [N, d]; the first half of a sine is negative.
        """
        turned = x.roll(x.shape[-1] // 2, -1) * sin[:, None]
        x.mul_(cos[:, None]).add_(turned)

    def gated(self, both: Tensor) -> Tensor:
        """silu(gate) * up, [N, I], from [gate, up] [N, 2 I]; computed in float32."""
        gate, up = both.float().chunk(2, dim=-1)
        return (F.silu(gate) * up).to(both.dtype)

    def attend_to(self, cache: KvCache, positions: Tensor) -> Attend:
        """Attention of one new token in each sequence of a cache, at these columns [N] of it."""
        count, longest = len(positions), int(positions.max()) + 1
        rows = torch.arange(count)
        seen = torch.arange(longest) <= positions[:, None]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = cache.layer(layer)
            keys[rows, :, positions], values[rows, :, positions] = k.to(keys), v.to(values)
            return F.scaled_dot_product_attention(
                q[:, :, None],
                keys[:count, :, :longest].to(q.dtype), values[:count, :, :longest].to(q.dtype),
                attn_mask=seen[:, None, None], enable_gqa=True,
            ).flatten(1)  # fmt: skip

        return attend

    def attend_prompt(
        self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, known: int
    ) -> Tensor:
        """Attention [m, heads, d] of a sequence's last m tokens, whose queries q are.

        Also takes note of k and v [n, kv, d], of the tokens after the first `known`, in the
        sequence's keys and values [kv, T, d].
        """
        new, size = len(q), known + len(k)
        keys, values = keys[:, :size], values[:, :size]
        keys[:, known:], values[:, known:] = k.transpose(0, 1), v.transpose(0, 1)
        keys, values = keys.to(q.dtype), values.to(q.dtype)
        share = q.shape[1] // k.shape[1]
        if share > 1:
            keys, values = keys.repeat_interleave(share, 0), values.repeat_interleave(share, 0)
        query = q.transpose(0, 1)
        if new >= _FUSED_FROM:
            seen = torch.ones(new, size, dtype=torch.bool).tril(size - new)
            y = F.scaled_dot_product_attention(
                query[None], keys[None], values[None], attn_mask=seen
            )[0]
        else:
            later = q.new_full((new, size), float("-inf")).triu(size - new + 1)
            scores = torch.baddbmm(later, query, keys.mT, alpha=1 / math.sqrt(q.shape[2]))
            y = torch.bmm(scores.softmax(dim=-1), values)
        return y.transpose(0, 1)


class CompiledOps(TorchOps):
    """The operations as a kernel each, in one thread; float32 only."""

    def norm(self, h: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        y = torch.empty_like(h)
        kernels.norm(h.numpy(), weight.numpy(), epsilon, y.numpy())
        return y

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        kernels.rotate(x.numpy(), cos.numpy(), sin.numpy())

    def gated(self, both: Tensor) -> Tensor:
        y = both.new_empty(both.shape[0], both.shape[1] // 2)
        kernels.gate(array_of(both), array_of(y))
        return y

    def attend_to(self, cache: KvCache, positions: Tensor) -> Attend:
        places, columns = np.arange(len(positions)), positions.numpy()

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            y, (keys, values) = q.new_empty(q.shape), map(array_of, cache.layer(layer))
            attention.attend(
                q.numpy(), k.numpy(), v.numpy(), keys, values, places, columns, y.numpy()
            )
            return y.flatten(1)

        return attend

    def attend_prompt(
        self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, known: int
    ) -> Tensor:
        y = q.new_empty(q.shape)
        attention.attend_prompt(
            q.numpy(), k.numpy(), v.numpy(), array_of(keys), array_of(values), known, y.numpy()
        )
        return y


def ops_of(dtype: torch.dtype, small: bool) -> TorchOps:
    """The operations of a model whose numbers have this type; on one thread if it is small."""
    return CompiledOps() if small and dtype == torch.float32 else TorchOps()
