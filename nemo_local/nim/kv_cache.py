"""Keys and values of sequences in progress, in memory that is reserved ahead and written in place.

    kv        [2, layers, B, heads, T, d]    keys, then values; a sequence's tokens stand from
                                             column 0 on

B and T grow by doubling, so that a step copies nothing.
"""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

COLUMNS = 256
"""Columns reserved at first; later twice as many whenever they run out."""


def capacity(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns that are reserved for so many sequences of so many tokens.

    capacity(5, 300) -> (8, 512)
    """
    have_rows, have_columns = min(rows, 1), COLUMNS
    while have_rows < rows:
        have_rows *= 2
    while have_columns < columns:
        have_columns *= 2
    return have_rows, have_columns


def array_of(cached: Tensor) -> NDArray[Any]:
    """The memory of a tensor for NumPy, which has no bfloat16: its bits as uint16."""
    if cached.dtype == torch.bfloat16:
        cached = cached.view(torch.uint16)
    found: NDArray[Any] = cached.numpy()
    return found


class KvCache:
    """The cache of `len(lengths)` sequences."""

    def __init__(
        self, layers: int, heads: int, size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.lengths: list[int] = []
        """Tokens cached of each sequence."""
        self.kv = torch.zeros(2, layers, 0, heads, 0, size, dtype=dtype, device=device)
        self.array = array_of(self.kv)
        """The memory of `kv`, for NumPy."""

    @property
    def reserved(self) -> tuple[int, int]:
        """Rows and columns that are reserved."""
        return self.kv.shape[2], self.kv.shape[4]

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, heads, T, d] of a layer."""
        return self.kv[0, layer], self.kv[1, layer]

    def add(self, lengths: list[int]) -> list[int]:
        """Make room for new sequences of these lengths. Returns their rows."""
        first, count = len(self.lengths), len(self.lengths) + len(lengths)
        self.reserve(count, max(lengths))
        self.lengths = [*self.lengths, *lengths]
        return list(range(first, count))

    def reserve(self, rows: int, columns: int) -> None:
        """Make sure that this many sequences of this many tokens fit."""
        have_rows, have_columns = self.reserved
        if rows > have_rows or columns > have_columns:
            rows, columns = capacity(max(rows, have_rows), max(columns, have_columns))
            two, layers, _, heads, _, size = self.kv.shape
            kv = self.kv.new_zeros(two, layers, rows, heads, columns, size)
            kv[:, :, :have_rows, :, :have_columns] = self.kv
            self.kv, self.array = kv, array_of(kv)

    def keep(self, indices: list[int]) -> list[int]:
        """Forget all others; the last ones move into the gaps. Returns the order they now have."""
        count, wanted = len(indices), set(indices)
        gaps = [row for row in range(count) if row not in wanted]
        placed = dict(zip(gaps, [row for row in indices if row >= count], strict=True))
        for gap, mover in placed.items():
            length = self.lengths[mover]
            self.kv[:, :, gap, :, :length] = self.kv[:, :, mover, :, :length]
        order = [placed.get(row, row) for row in range(count)]
        self.lengths = [self.lengths[row] for row in order]
        return order

    def release(self) -> None:
        """Give the memory back; nothing is cached any more."""
        self.lengths = []
        self.kv = self.kv[:, :, :0, :, :0].clone()
        self.array = array_of(self.kv)
