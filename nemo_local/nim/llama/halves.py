"""Matrices of float32 that were stored in bfloat16, kept in half the memory.

The lower 16 bits of such numbers are zero. Products leave them out (see `products`), and multiply
in float32 all the same, or nearly so on tiles (see `amx`).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nemo_local.core.llvm import LANES
from nemo_local.nim.llama.amx import ROWS

Words = NDArray[np.uint32]
"""A matrix [m, n] as strips of columns, in the order in which they are multiplied; two numbers are
a word, the first in the lower half of its bits.

For vectors it is [n / (2 LANES), m, LANES], and column j of a strip stands with column j + LANES.
For tiles it is [n / LANES, m / 2, LANES], and row i stands with row i + 1. Zeros follow the last
column, and the last row up to whole tiles.
"""


def fits(matrix: Tensor) -> bool:
    """Whether bfloat16 holds the numbers of a float32 matrix exactly."""
    return not bool((_bits(matrix) & 0xFFFF).any())


def shape_of(rows: int, columns: int, tiles: bool) -> tuple[int, int, int]:
    """The shape of the words of a matrix, for tiles or for vectors."""
    if not tiles:
        return -(-columns // (2 * LANES)), rows, LANES
    pairs = -(-rows // 2)
    return -(-columns // LANES), -(-pairs // ROWS) * ROWS if pairs > ROWS else pairs, LANES


def words_of(matrices: Sequence[Tensor], tiles: bool) -> list[Words]:
    """The words of matrices that fit, one after the other in memory: to read on is fast."""
    shapes = [shape_of(one.shape[0], one.shape[1], tiles) for one in matrices]
    # PyTorch's memory begins where a line of the processor's cache does.
    memory = torch.zeros(sum(map(math.prod, shapes)), dtype=torch.int32).numpy()
    every, begin = [], 0
    for matrix, shape in zip(matrices, shapes, strict=True):
        words = memory[begin : begin + math.prod(shape)].view(np.uint32).reshape(shape)
        lower, upper = _pairs(matrix, shape, tiles)
        words[:] = lower >> 16 | upper
        every.append(words)
        begin += words.size
    return every


def _pairs(matrix: Tensor, shape: tuple[int, int, int], tiles: bool) -> NDArray[np.uint32]:
    """The bits of the two numbers of each word [2, *shape]."""
    strips, count, _ = shape
    rows, columns = (2 * count, strips * LANES) if tiles else (count, strips * 2 * LANES)
    bits = np.zeros((rows, columns), np.uint32)
    bits[: matrix.shape[0], : matrix.shape[1]] = _bits(matrix)
    if tiles:
        return bits.reshape(count, 2, strips, LANES).transpose(1, 2, 0, 3)
    return bits.reshape(count, strips, 2, LANES).transpose(2, 1, 0, 3)


def _bits(matrix: Tensor) -> NDArray[np.uint32]:
    bits: NDArray[np.uint32] = matrix.contiguous().numpy().view(np.uint32)
    return bits
