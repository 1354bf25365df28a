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
def _add_strips(x: Any, at: Any, words: Any, y: Any, begin: Any) -> None:
    """One strip of `add_product`, or two, which keep more sums in registers when rows are few."""
    x_stride, y_stride, count, n = x.strides[0], y.strides[0], words.shape[1], 0
    first, last = words[0].ctypes.data, words[-1].ctypes.data
    while n < x.shape[0]:
        left = x.shape[0] - n
        x_at, y_at = x.ctypes.data + 4 * at, y.ctypes.data + 4 * begin
        x_at, y_at = x_at + x_stride * n, y_at + y_stride * n
        if _WIDE and left >= 4:
            add_halves_4(x_at, x_stride, first, count, y_at, y_stride)
            if last != first:
                add_halves_4(x_at, x_stride, last, count, y_at + 8 * LANES, y_stride)
            n += 4
        elif left >= 2:
            if last == first:
                add_halves_2(x_at, x_stride, first, count, y_at, y_stride)
            else:
                add_two_strips_2(x_at, x_stride, first, count, y_at, y_stride)
            n += 2
        else:
            if last == first:
                add_halves_1(x_at, x_stride, first, count, y_at, y_stride)
            else:
                add_two_strips_1(x_at, x_stride, first, count, y_at, y_stride)
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
            left = strips - s
            wide = 4 if left >= 4 else 2 if left >= 2 else 1
            words_at = words + strip * s
            for n in range(first, end, together):
                high_at, low_at = high + stride * n, low + stride * n
                y_at = y + y_stride * n + 4 * LANES * s
                if wide == 4:
                    amx.multiply_4(
                        high_at, low_at, stride, words_at, strip, count, deep, y_at, y_stride
                    )
                elif wide == 2:
                    amx.multiply_2(
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
def _halve(x: Any, at: Any, size: Any, halves: Any) -> None:
    """So many numbers of each row of x, from `at` on, in two halves (see amx)."""
    for n in range(x.shape[0]):
        high = halves.ctypes.data + halves.strides[1] * n
        place = x.ctypes.data + x.strides[0] * n + 4 * at
        amx.halve(place, high, high + halves.strides[0], size)


@kernel()
def _add_tiles(x: Any, at: Any, words: Any, y: Any, begin: Any, width: Any) -> None:
    """`add_product` with words for tiles. The last strip may go beyond the rows of y."""
    rows, count, strips = x.shape[0], words.shape[1], words.shape[0]
    halves, sums = halves_of(rows, count), room(rows, LANES * strips)
    _halve(x, at, min(2 * count, x.shape[1] - at), halves)
    sums[:, :width] = y[:, begin : begin + width]
    multiply(
        halves, 0, 0, rows, words.ctypes.data, strips, count, sums.ctypes.data, sums.strides[0]
    )
    y[:, begin : begin + width] = sums[:, :width]


@kernel("void(f4[:,::1], i8, u4[:,:,::1], b1, f4[:,::1], i8, i8)")
def add_product(x: Any, at: Any, words: Any, tiles: Any, y: Any, begin: Any, width: Any) -> None:
    """y[:, begin : begin + width] += x[:, at : at + d_in] W [d_in, width].

    For a few rows it takes as long as it takes to read W, whose words, for `tiles` or not (see
    halves), are bfloat16. Sums are in float32.
    """
    if tiles:
        _add_tiles(x, at, words, y, begin, width)
        return
    whole, s = width // (2 * LANES), 0
    while s < whole:
        together = 2 if _WIDE and s + 1 < whole else 1
        _add_strips(x, at, words[s : s + together], y, begin + 2 * LANES * s)
        s += together
    if s < words.shape[0]:
        last, done = np.zeros((x.shape[0], 2 * LANES), np.float32), 2 * LANES * s
        _add_strips(x, at, words[s:], last, 0)
        y[:, begin + done : begin + width] += last[:, : width - done]


_shape_of = kernel()(shape_of)


@kernel()
def _words_at(address: Any, rows: Any, columns: Any, tiles: Any) -> Any:
    """The words of a matrix of so many rows and columns."""
    shape = _shape_of(rows, columns, tiles)
    return carray(pointer(address), shape, np.float32).view(np.uint32)


@kernel()
def _add_tiled_linear(x: Any, weight: Any, table: Any, ranges: Any, sizes: Any, y: Any) -> None:
    """`add_linear` on tiles. A strip of words goes beyond its matrix, and adds zeros there."""
    d_in, d_out, members, count = x.shape[1], y.shape[1], sizes.shape[0], x.shape[0]
    strips, words, _ = _shape_of(d_in, d_out, True)
    halves, whole = halves_of(count, words), d_out // LANES
    _halve(x, 0, d_in, halves)
    multiply(halves, 0, 0, count, weight, whole, words, y.ctypes.data, y.strides[0])
    if whole < strips:  # where a strip would go beyond the last row
        rest = _words_at(weight + 4 * LANES * words * whole, d_in, LANES, True)
        _add_tiles(x, 0, rest, y, LANES * whole, d_out - LANES * whole)
    most, widest, even = 0, 0, True
    for g in range(table.shape[0]):
        if table[g, 2]:
            most, widest = max(most, ranges[g, 1] - ranges[g, 0]), max(widest, table[g, 2])
    if most == 0:
        return
    for k in range(members):
        even = even and sizes[k] % LANES == 0
    low = room(most, members * widest + LANES)
    sums = room(0 if even else most, d_out + LANES)
    inner = halves_of(most, members * widest // 2 + amx.ROWS)
    for g in range(table.shape[0]):
        rank, first, end = table[g, 2], ranges[g, 0], ranges[g, 1]
        if rank == 0:
            continue
        own_count = end - first
        low[:] = 0
        a_strips, _, _ = _shape_of(d_in, members * rank, True)
        multiply(
            halves, first, 0, own_count, table[g, 0], a_strips, words, low.ctypes.data,
            low.strides[0],
        )  # fmt: skip
        _halve(low[:own_count], 0, members * rank, inner)
        own = y[first:end] if even else sums
        if not even:
            sums[:own_count, :d_out] = y[first:end]
        address, begin = table[g, 1], 0
        for k in range(members):
            b_strips, b_words, _ = _shape_of(rank, sizes[k], True)
            multiply(
                inner, 0, k * rank, own_count, address, b_strips, b_words,
                own.ctypes.data + 4 * begin, own.strides[0],
            )  # fmt: skip
            address += 4 * LANES * b_strips * b_words
            begin += sizes[k]
        if not even:
            y[first:end] = sums[:own_count, :d_out]


@kernel("void(f4[:,::1], i8, b1, i8[:,::1], i8[:,::1], i8[::1], f4[:,::1])")
def add_linear(
    x: Any, weight: Any, tiles: Any, table: Any, ranges: Any, sizes: Any, y: Any
) -> None:
    """y [N, d_out] += W x + B A x, x [N, d_in], with each row's own adapter of G; K members.

    weight is the address of W's words, for `tiles` or not (see halves). table [G, 3] holds the
    addresses of those of A [d_in, K r] and of B, each member's [r, size], one after the other; and
    r. Zeros where an adapter has nothing. ranges [G, 2] are the first row of each adapter and the
    one after its last; sizes [K] are the members' parts of d_out.
    """
    if tiles:
        _add_tiled_linear(x, weight, table, ranges, sizes, y)
        return
    d_in, members = x.shape[1], sizes.shape[0]
    add_product(x, 0, _words_at(weight, d_in, y.shape[1], False), False, y, 0, y.shape[1])
    for g in range(table.shape[0]):
        rank, address = table[g, 2], table[g, 1]
        if rank == 0:
            continue
        own_x, own_y = x[ranges[g, 0] : ranges[g, 1]], y[ranges[g, 0] : ranges[g, 1]]
        low = np.zeros((own_x.shape[0], members * rank), np.float32)
        a = _words_at(table[g, 0], d_in, members * rank, False)
        add_product(own_x, 0, a, False, low, 0, members * rank)
        begin = 0
        for k in range(members):
            b = _words_at(address, rank, sizes[k], False)
            add_product(low, k * rank, b, False, own_y, begin, sizes[k])
            address += 4 * b.size
            begin += sizes[k]
