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
def multiply(
    halves: Any, row: Any, at: Any, rows: Any, words: Any, strips: Any, count: Any, y: Any,
    y_stride: Any,
) -> None:  # fmt: skip
    """Add to rows at y the product of rows in two halves with so many strips of words.

    The rows are those from `row` on, their numbers those from `at` on; words and y are addresses.
    An array of which only the address is known may be gone: numba frees it after its last use.
    """
    stride = halves.strides[1]
    high = halves.ctypes.data + stride * row + 2 * at
    low = high + halves.strides[0]
    strip, deep, whole = 4 * LANES * count, min(count, amx.ROWS), rows - rows % amx.ROWS
    for first, end, together in ((0, whole, amx.ROWS), (whole, rows, rows - whole)):
        if first == end:
            continue
        amx.begin(together, deep)
        s = 0
        while s < strips:
            wide = 4 if s + 4 <= strips else 1
            words_at = words + strip * s
            for n in range(first, end, together):
                high_at, low_at = high + stride * n, low + stride * n
                y_at = y + y_stride * n + 4 * LANES * s
                if wide == 4:
                    amx.multiply_4(
                        high_at, low_at, stride, words_at, strip, count, deep, y_at, y_stride
                    )
                else:
                    amx.multiply_1(
                        high_at, low_at, stride, words_at, strip, count, deep, y_at, y_stride
                    )
            s += wide
    amx.end()


@kernel()
def halves_of(rows: Any, count: Any) -> Any:
    """Room for so many rows of words in two halves (see amx)."""
    return room(2 * rows, count).view(np.uint16).reshape(2, rows, 2 * count)


@kernel()
def _halve_row(x: Any, row: Any, at: Any, size: Any, halves: Any, n: Any) -> None:
    """So many numbers of a row of x, from `at` on, as row n of two halves (see amx)."""
    own = halves.ctypes.data + halves.strides[1] * n
    place = x.ctypes.data + x.strides[0] * row + 4 * at
    amx.halve(place, own, own + halves.strides[0], size)


@kernel()
def _add_tiles(
    x: Any, of: Any, at: Any, words: Any, y: Any, to: Any, begin: Any, width: Any
) -> None:
    """`add_product` with words for tiles."""
    rows, count, strips = of.shape[0], words.shape[1], words.shape[0]
    halves, size = halves_of(rows, count), min(2 * count, x.shape[1] - at)
    sums = room(rows, LANES * strips)
    for n in range(rows):
        _halve_row(x, of[n], at, size, halves, n)
        for j in range(width):
            sums[n, j] = y[to[n], begin + j]
    multiply(
        halves, 0, 0, rows, words.ctypes.data, strips, count, sums.ctypes.data, sums.strides[0]
    )
    for n in range(rows):
        for j in range(width):
            y[to[n], begin + j] = sums[n, j]


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


@kernel()
def _add_tiled_linear(
    x: Any, weight: Any, table: Any, rows: Any, starts: Any, sizes: Any, y: Any
) -> None:
    """`add_linear` on tiles. A strip of words goes beyond its matrix, and adds zeros there."""
    d_in, d_out, members, count = x.shape[1], y.shape[1], sizes.shape[0], x.shape[0]
    strips, words, _ = _shape_of(d_in, d_out, True)
    halves, whole = halves_of(count, words), d_out // LANES
    for n in range(count):
        _halve_row(x, n, 0, d_in, halves, n)
    multiply(halves, 0, 0, count, weight, whole, words, y.ctypes.data, y.strides[0])
    if whole < strips:  # where a strip would go beyond the last row
        every = np.arange(count)
        rest = _words_at(weight + 4 * LANES * words * whole, d_in, LANES, True)
        _add_tiles(x, every, 0, rest, y, every, LANES * whole, d_out - LANES * whole)
    most, widest, even = 0, 0, True
    for g in range(table.shape[0]):
        if table[g, 2]:
            most, widest = max(most, starts[g + 1] - starts[g]), max(widest, table[g, 2])
    if most == 0:
        return
    for k in range(members):
        even = even and sizes[k] % LANES == 0
    copies, sums = halves_of(most, words), room(most, d_out + LANES)
    low = room(most, members * widest + LANES)
    inner = halves_of(most, members * widest // 2 + amx.ROWS)
    for g in range(table.shape[0]):
        first, own_count, rank = starts[g], starts[g + 1] - starts[g], table[g, 2]
        if rank == 0 or own_count == 0:
            continue
        in_turn = even
        for n in range(own_count):
            in_turn = in_turn and rows[first + n] == rows[first] + n
            for e in range(low.shape[1]):
                low[n, e] = 0
        own, row, y_at, y_stride = copies, 0, sums.ctypes.data, sums.strides[0]
        if in_turn:
            own, row, y_stride = halves, rows[first], y.strides[0]
            y_at = y.ctypes.data + y_stride * row
        else:
            for n in range(own_count):
                for half in range(2):
                    for e in range(2 * words):
                        copies[half, n, e] = halves[half, rows[first + n], e]
                for j in range(d_out):
                    sums[n, j] = y[rows[first + n], j]
        a_strips, _, _ = _shape_of(d_in, members * rank, True)
        multiply(
            own, row, 0, own_count, table[g, 0], a_strips, words, low.ctypes.data, low.strides[0]
        )
        for n in range(own_count):
            _halve_row(low, n, 0, members * rank, inner, n)
        address, begin = table[g, 1], 0
        for k in range(members):
            b_strips, b_words, _ = _shape_of(rank, sizes[k], True)
            multiply(
                inner, 0, k * rank, own_count, address, b_strips, b_words, y_at + 4 * begin,
                y_stride,
            )  # fmt: skip
            address += 4 * LANES * b_strips * b_words
            begin += sizes[k]
        if not in_turn:
            for n in range(own_count):
                for j in range(d_out):
                    y[rows[first + n], j] = sums[n, j]


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
    if tiles:
        _add_tiled_linear(x, weight, table, rows, starts, sizes, y)
        return
    d_in, members = x.shape[1], sizes.shape[0]
    every = np.arange(x.shape[0])
    w = _words_at(weight, d_in, y.shape[1], False)
    add_product(x, every, 0, w, False, y, every, 0, y.shape[1])
    for g in range(table.shape[0]):
        rank, address = table[g, 2], table[g, 1]
        if rank == 0:
            continue
        own = rows[starts[g] : starts[g + 1]]
        low = np.zeros((own.shape[0], members * rank), np.float32)
        a = _words_at(table[g, 0], d_in, members * rank, False)
        add_product(x, own, 0, a, False, low, every[: own.shape[0]], 0, members * rank)
        begin = 0
        for k in range(members):
            b = _words_at(address, rank, sizes[k], False)
            add_product(low, every[: own.shape[0]], k * rank, b, False, y, own, begin, sizes[k])
            address += 4 * b.size
            begin += sizes[k]
