"""A decoding step of a Llama in float32 as one kernel, on one thread (`kernels.step`).

A step of few sequences takes as long as it takes to read the weights. So it is for those that were
stored in bfloat16 and are kept in 16 bits here, and so are the adapters beside them.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from nemo_local.nim import halves, kernels
from nemo_local.nim.fused_lora import Table
from nemo_local.nim.kv_cache import KvCache
from nemo_local.nim.sites import HEAD, Site


class CompiledStep:
    """The step of one network. Several threads may compute with it at once."""

    def __init__(
        self, weights: Mapping[Site, Tensor], norms: list[Tensor], epsilon: float, heads: int
    ) -> None:
        """Weights [d_in, d_out] that it `can_do`; norms [E], two of each layer and the last."""
        self._words = halves.words_of(list(weights.values()))
        self._addresses = np.array([words.ctypes.data for words in self._words])
        self._norms = torch.stack(norms).numpy()
        self._epsilon = epsilon
        self._heads = heads
        self._inner = weights[0, "down"].shape[0]
        self._vocabulary = weights[HEAD].shape[1]

    @staticmethod
    def can_do(weights: Mapping[Site, Tensor]) -> bool:
        """Whether they are float32 that was bfloat16, of sizes that the kernel takes."""
        return all(one.dtype == torch.float32 and halves.fits(one) for one in weights.values())

    def __call__(
        self, h: Tensor, cos: Tensor, sin: Tensor, cache: KvCache, positions: Tensor, lora: Table
    ) -> tuple[Tensor, Tensor]:
        """What the head reads [N, E], and logits [N, V]; overwrites the embeddings h [N, E].

        cos and sin [N, d] belong to the positions [N], which are also the columns in the cache.
        """
        last, logits = torch.empty_like(h), h.new_empty(h.shape[0], self._vocabulary)
        kernels.step(
            h.numpy(), self._addresses, self._norms, self._epsilon, self._heads,
            self._inner, cos.numpy(), sin.numpy(), cache.kv.numpy(), positions.numpy(),
            lora.addresses, lora.rows, lora.starts, last.numpy(), logits.numpy(),
        )  # fmt: skip
        return last, logits
