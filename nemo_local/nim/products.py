"""Products of a few rows, or on tiles of many, with weights that are kept in 16 bits (see halves).

As in kernels: float32, by one thread, and a row's numbers depend on no other row.
"""

from typing import Any

import numpy as np
import torch
from numba import carray

from nemo_local.nim import amx
from nemo_local.nim.compiled import kernel
from nemo_local.nim.halves import shape_of
from nemo_local.nim.intrinsics import (
    add_halves_1,
    add_halves_2,
    add_halves_4,
    add_two_strips_1,
    add_two_strips_2,
    pointer,
)
from nemo_local.nim.llvm import LANES

_WIDE = torch.backends.cpu.get_cpu_capability() == "AVX512"
"""Whether the sums of four rows by 2 LANES columns stay in registers."""


@kernel()
def _add_strips(x: Any, of: Any, at: Any, words: Any, y: Any, to: Any, begin: Any) -> None:
    """One strip of `add_product`, or two, which keep more sums in registers when rows are few."""
    x_at, y_at = x.ctypes.data + 4 * at, y.ctypes.data + 4 * begin
    x_stride, y_stride, count, n = x.strides[0], y.strides[0], words.shape[1], 0
    first, last = words[0].ctypes.data, words[-1].ctypes.data
    while n < of.shape[0]:
        left, of_n, to_n = of.shape[0] - n, of[n:].ctypes.data, to[n:].ctypes.data
        if _WIDE and left >= 4:
            add_halves_4(x_at, x_stride, of_n, first, count, y_at, y_stride, to_n)
            if last != first:
                y_last = y_at + 8 * LANES
                add_halves_4(x_at, x_stride, of_n, last, count, y_last, y_stride, to_n)
            n += 4
        elif left >= 2:
            if last == first:
                add_halves_2(x_at, x_stride, of_n, first, count, y_at, y_stride, to_n)
            else:
                add_two_strips_2(x_at, x_stride, of_n, first, count, y_at, y_stride, to_n)
            n += 2
        else:
            if last == first:
                add_halves_1(x_at, x_stride, of_n, first, count, y_at, y_stride, to_n)
            else:
                add_two_strips_1(x_at, x_stride, of_n, first, count, y_at, y_stride, to_n)
            n += 1


@kernel()
def room(rows: Any, columns: Any) -> Any:
    """Zeros [rows, columns] from the beginning of a line of the cache on.

    A tile whose rows lie across two lines takes twice as long to load.
    """
    line, count = 16, rows * columns
    memory = np.zeros(count + line, np.float32)
    skipped = -memory.ctypes.data // 4 % line
    return memory[skipped : skipped + count].reshape(rows, columns)


@kernel()
def _multiply(
    halves: Any, rows: Any, words: Any, strips: Any, count: Any, y: Any, y_stride: Any
) -> None:
    """Add to rows at y the product of rows in two halves with so many strips of words.

    words and y are addresses.
    """
    strip, deep, x_stride = 4 * LANES * count, min(count, amx.ROWS), halves.strides[1]
    high_at, low_at = halves.ctypes.data, halves.ctypes.data + halves.strides[0]
    whole = rows - rows % amx.ROWS
    for first, end, together in ((0, whole, amx.ROWS), (whole, rows, rows - whole)):
        if first == end:
            continue
        amx.begin(together, deep)
        s = 0
        while s < strips:
            wide = 4 if s + 4 <= strips else 1
            words_at = words + strip * s
            for n in range(first, end, together):
                own, y_at = x_stride * n, y + y_stride * n + 4 * LANES * s
                if wide == 4:
                    amx.multiply_4(
                        high_at + own, low_at + own, x_stride, words_at, strip, count, deep, y_at,
                        y_stride,
                    )  # fmt: skip
                else:
                    amx.multiply_1(
                        high_at + own, low_at + own, x_stride, words_at, strip, count, deep, y_at,
                        y_stride,
                    )  # fmt: skip
            s += wide
    amx.end()


@kernel()
def halves_of(rows: Any, count: Any) -> Any:
    """Room for so many rows of words in two halves (see amx)."""
    return room(2 * rows, count).view(np.uint16).reshape(2, rows, 2 * count)


@kernel()
def _add_tiles(
    x: Any, of: Any, at: Any, words: Any, y: Any, to: Any, begin: Any, width: Any
) -> None:
    """`add_product` with words for tiles."""
    rows, count = of.shape[0], words.shape[1]
    halves, size, in_turn = halves_of(rows, count), min(2 * count, x.shape[1] - at), True
    x_at, high_at, stride = x.ctypes.data + 4 * at, halves.ctypes.data, halves.strides[1]
    for n in range(rows):
        own = high_at + stride * n
        amx.halve(x_at + x.strides[0] * of[n], own, own + halves.strides[0], size)
        in_turn = in_turn and to[n] == to[0] + n
    whole = width // LANES if in_turn else 0
    words_at, y_at = words.ctypes.data, y.ctypes.data + y.strides[0] * to[0] + 4 * begin
    _multiply(halves, rows, words_at, whole, count, y_at, y.strides[0])
    first, left = begin + LANES * whole, width - LANES * whole
    if left:  # what tiles cannot reach, or would write beyond
        rest = words.shape[0] - whole
        sums = room(rows, LANES * rest)
        for n in range(rows):
            for j in range(left):
                sums[n, j] = y[to[n], first + j]
        words_at += words.strides[0] * whole
        _multiply(halves, rows, words_at, rest, count, sums.ctypes.data, sums.strides[0])
        for n in range(rows):
            for j in range(left):
                y[to[n], first + j] = sums[n, j]


@kernel("void(f4[:,::1], i8[::1], i8, u4[:,:,::1], b1, f4[:,::1], i8[::1], i8, i8)")
def add_product(
    x: Any, of: Any, at: Any, words: Any, tiles: Any, y: Any, to: Any, begin: Any, width: Any
) -> None:
    """y[to, begin : begin + width] += x[of, at : at + d_in] W [d_in, width].

    For a few rows `of` x that go `to` rows of y: it takes as long as it takes to read W, whose
    words, for `tiles` or not (see halves), are bfloat16. Sums are in float32.
    """
    if tiles:
        if of.shape[0]:
            _add_tiles(x, of, at, words, y, to, begin, width)
        return
    rows, whole, s = of.shape[0], width // (2 * LANES), 0
    while s < whole:
        together = 2 if _WIDE and s + 1 < whole else 1
        _add_strips(x, of, at, words[s : s + together], y, to, begin + 2 * LANES * s)
        s += together
    if s < words.shape[0]:
        last = np.zeros((rows, 2 * LANES), np.float32)
        _add_strips(x, of, at, words[s:], last, np.arange(rows), 0)
        for n in range(rows):
            for j in range(width - 2 * LANES * s):
                y[to[n], begin + 2 * LANES * s + j] += last[n, j]


_shape_of = kernel()(shape_of)


@kernel()
def _words_at(address: Any, rows: Any, columns: Any, tiles: Any) -> Any:
    """The words of a matrix of so many rows and columns."""
    shape = _shape_of(rows, columns, tiles)
    return carray(pointer(address), shape, np.float32).view(np.uint32)


@kernel("void(f4[:,::1], i8, b1, i8[:,::1], i8[::1], i8[::1], i8[::1], f4[:,::1])")
def add_linear(
    x: Any, weight: Any, tiles: Any, table: Any, rows: Any, starts: Any, sizes: Any, y: Any
) -> None:
    """y [N, d_out] += W x + B A x, x [N, d_in], with each row's own adapter of G; K members.

    weight is the address of W's words, for `tiles` or not (see halves). table [G, 3] holds the
    addresses of those of A [d_in, K r] and of B, each member's [r, size], one after the other; and
    r. Zeros where an adapter has nothing. The rows of adapter g are rows[starts[g] : starts[g +
    1]]; sizes [K] are the members' parts of d_out.
    """
    d_in, members = x.shape[1], sizes.shape[0]
    every = np.arange(x.shape[0])
    w = _words_at(weight, d_in, y.shape[1], tiles)
    add_product(x, every, 0, w, tiles, y, every, 0, y.shape[1])
    for g in range(table.shape[0]):
        rank, address = table[g, 2], table[g, 1]
        if rank == 0:
            continue
        own = rows[starts[g] : starts[g + 1]]
        low = np.zeros((own.shape[0], members * rank), np.float32)
        a = _words_at(table[g, 0], d_in, members * rank, tiles)
        add_product(x, own, 0, a, tiles, low, every[: own.shape[0]], 0, members * rank)
        begin = 0
        for k in range(members):
            b = _words_at(address, rank, sizes[k], tiles)
            add_product(low, every[: own.shape[0]], k * rank, b, tiles, y, own, begin, sizes[k])
            address += 4 * b.size
            begin += sizes[k]
