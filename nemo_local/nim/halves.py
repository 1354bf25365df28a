"""Matrices of float32 that were stored in bfloat16, kept in half the memory.

The lower 16 bits of such numbers are zero. `kernels.add_product` reads them without, and multiplies
in float32 all the same.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nemo_local.nim.intrinsics import LANES

Words = NDArray[np.uint32]
"""A matrix [m, n] as [n / (2 LANES), m, LANES]: strips of columns, in the order in which they are
multiplied. The first LANES columns of a strip are in the lower halves of the bits, the others in
the upper ones; zeros follow the last column."""


def fits(matrix: Tensor) -> bool:
    """Whether its numbers, in float32, are bfloat16."""
    return not bool((_bits(matrix) & 0xFFFF).any())


def words_of(matrices: Sequence[Tensor]) -> list[Words]:
    """Matrices that fit; they lie one after the other: to read on is fast."""
    shapes = [(-(-one.shape[1] // (2 * LANES)), one.shape[0], LANES) for one in matrices]
    # PyTorch's memory begins where a line of the processor's cache does.
    memory = torch.zeros(sum(map(math.prod, shapes)), dtype=torch.int32).numpy()
    every, begin = [], 0
    for matrix, shape in zip(matrices, shapes, strict=True):
        strips, rows, _ = shape
        bits = np.zeros((rows, strips * 2 * LANES), np.uint32)
        bits[:, : matrix.shape[1]] = _bits(matrix)
        lower, upper = bits.reshape(rows, strips, 2, LANES).transpose(2, 1, 0, 3)
        words = memory[begin : begin + math.prod(shape)].view(np.uint32).reshape(shape)
        words[:] = lower >> 16 | upper
        every.append(words)
        begin += words.size
    return every


def _bits(matrix: Tensor) -> NDArray[np.uint32]:
    bits: NDArray[np.uint32] = matrix.contiguous().numpy().view(np.uint32)
    return bits
