"""Matrices of float32 that were stored in bfloat16, kept in half the memory.

The lower 16 bits of such numbers are zero. `kernels.add_product` reads them without, and multiplies
in float32 all the same.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint32]
"""A matrix [m, n] as [m, h], h = n / 2 rounded up: the number of column j in the lower half of the
bits, and that of column j + h, or zero, in the upper half."""


def fits(matrix: Tensor) -> bool:
    """Whether its numbers, in float32, are bfloat16, and its rows as many as kernels take."""
    return matrix.shape[0] % 4 == 0 and not bool((_bits(matrix) & 0xFFFF).any())


def words_of(matrices: Sequence[Tensor]) -> list[Words]:
    """Matrices that fit; they lie one after the other: to read on is fast."""
    shapes = [(one.shape[0], (one.shape[1] + 1) // 2) for one in matrices]
    # PyTorch's memory begins where a line of the processor's cache does.
    memory = torch.zeros(sum(m * half for m, half in shapes), dtype=torch.int32).numpy()
    every, begin = [], 0
    for matrix, (m, half) in zip(matrices, shapes, strict=True):
        words = memory[begin : begin + m * half].view(np.uint32).reshape(m, half)
        bits = _bits(matrix)
        words[:] = bits[:, :half] >> 16
        words[:, : bits.shape[1] - half] |= bits[:, half:]
        every.append(words)
        begin += m * half
    return every


def _bits(matrix: Tensor) -> NDArray[np.uint32]:
    bits: NDArray[np.uint32] = matrix.contiguous().numpy().view(np.uint32)
    return bits
