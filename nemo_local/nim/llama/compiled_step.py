"""A decoding step of a Llama in float32 as one kernel (`kernels.step`), on a thread or several.

A step of few sequences takes as long as it takes to read the weights. So weights that were stored
in bfloat16 are kept in 16 bits here, and so are the adapters beside them.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nemo_local.nim.kv_cache import KvCache
from nemo_local.nim.llama import amx, halves, kernels
from nemo_local.nim.llama.fused_lora import Arrangement, Table
from nemo_local.nim.llama.sites import HEAD, Site

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_ROWS_OF_A_PART = 2
"""Sequences from which it takes longer to multiply than to read the weights once more."""


def parts_of(rows: int, threads: int) -> int:
    """How many parts a step of so many sequences is computed in by so many threads."""
    return max(1, min(threads, rows // _ROWS_OF_A_PART))


class Span(NamedTuple):
    """Where the tokens of one prompt stand in a pass, and its row in the cache."""

    row: int
    start: int
    end: int
    known: int
    """Tokens of the prompt before these, whose keys and values are in the cache already."""


class CompiledStep:
    """The step of one network. Several threads may compute with it at once."""

    def __init__(
        self, weights: Mapping[Site, Tensor], norms: list[Tensor], epsilon: float, heads: int
    ) -> None:
        """Weights [d_in, d_out] that it `can_do`; norms [E], two of each layer and the last."""
        self._tiles = amx.usable()
        self._words = halves.words_of(list(weights.values()), self._tiles)
        self._network = (
            np.array([words.ctypes.data for words in self._words]),
            self._tiles,
            torch.stack(norms).numpy(),
            epsilon,
            heads,
            weights[0, "down"].shape[0],
        )
        self._vocabulary = weights[HEAD].shape[1]
        # Its threads begin when there is something for them to do.
        self._others = ThreadPoolExecutor(thread_name_prefix="nim-step")

    @staticmethod
    def can_do(weights: Mapping[Site, Tensor]) -> bool:
        """Whether all weights are float32 and were stored in bfloat16."""
        return all(one.dtype == torch.float32 and halves.fits(one) for one in weights.values())

    @property
    def on_tiles(self) -> bool:
        """Whether it multiplies on tiles, where many rows, as of prompts, are as fast as few."""
        return self._tiles

    def __call__(
        self, embeddings: Floats, ids: Integers, turns: tuple[Floats, Floats], cache: KvCache,
        columns: Integers, arranged: Arrangement,
    ) -> tuple[Floats, Floats]:  # fmt: skip
        """What the head reads [N, E], and logits [N, V], of ids [N] in embeddings [V, E].

        turns are the cosines and sines of positions [P, d]; columns [N] those of the tokens, which
        are also their places in the cache. Each of the arranged parts is computed by a thread.
        """
        last, logits = self._results(len(ids), embeddings)

        def compute(rows: Integers, lora: Table) -> None:
            kernels.step(
                embeddings, ids, *self._network, *turns, cache.array, rows, columns, *lora.arrays,
                last, logits,
            )  # fmt: skip

        running = [self._others.submit(compute, *part) for part in arranged.parts[1:]]
        compute(*arranged.parts[0])
        for one in running:
            one.result()
        return last, logits

    def read(
        self, embeddings: Floats, ids: Integers, turns: tuple[Floats, Floats], cache: KvCache,
        spans: list[Span], every: Table, ends: Table,
    ) -> tuple[Floats, Floats]:  # fmt: skip
        """What the head reads [P, E], and logits [P, V], after P prompts with ids [N] together.

        `every` are the adapters of the tokens, `ends` those of the prompts.
        """
        last, logits = self._results(len(spans), embeddings)
        kernels.read(
            embeddings, ids, *self._network, *turns, cache.array, np.array(spans), *every.arrays,
            *ends.arrays, last, logits,
        )  # fmt: skip
        return last, logits

    def _results(self, rows: int, embeddings: Floats) -> tuple[Floats, Floats]:
        return (
            np.empty((rows, embeddings.shape[1]), np.float32),
            np.empty((rows, self._vocabulary), np.float32),
        )
