"""Products of a few rows, or on tiles of many, with weights that are kept in 16 bits (see halves).

As in kernels: float32, by one thread, and a row's numbers depend on no other row.
"""

from typing import Any

import numpy as np
import torch
from numba import carray, types
from numba.extending import intrinsic

from nemo_local.core.intrinsics import address
from nemo_local.core.llvm import LANES
from nemo_local.nim.llama import amx
from nemo_local.nim.llama.compiled import kernel
from nemo_local.nim.llama.halves import shape_of
from nemo_local.nim.llama.intrinsics import (
    add_halves_1,
    add_halves_2,
    add_halves_4,
    add_two_strips_1,
    add_two_strips_2,
)

_WIDE = torch.backends.cpu.get_cpu_capability() == "AVX512"
"""Whether the sums of four rows by 2 LANES columns stay in registers."""


@kernel("void(f4[:,::1], i8, u4[:,:,::1], f4[:,::1], i8)")
def _add_strips(x: Any, at: Any, words: Any, y: Any, begin: Any) -> None:
    """One strip of `_add_product`, or two, which keep more sums in registers when rows are few."""
    x_stride, y_stride, count, n = x.strides[0], y.strides[0], words.shape[1], 0
    first, last = address(words[0]), address(words[-1])
    while n < x.shape[0]:
        left = x.shape[0] - n
        x_at, y_at = address(x) + 4 * at, address(y) + 4 * begin
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


@kernel("f4[:,::1](i8, i8)")
def room(rows: Any, columns: Any) -> Any:
    """Memory for float32 [rows, columns] that begins where a line of the processor's cache does.

    A tile whose rows lie across two lines takes twice as long to load.
    """
    line, count = 16, rows * columns
    memory = np.empty(count + line, np.float32)
    skipped = -address(memory) // 4 % line
    return memory[skipped : skipped + count].reshape(rows, columns)


@kernel("void(u2[:,:,::1], i8, i8, i8, i8, i8, i8, i8, i8, b1, u2[:,:,::1], i8, i8, i8)")
def multiply(
    x: Any, row: Any, at: Any, rows: Any, words: Any, strips: Any, count: Any, y: Any,
    y_stride: Any, fresh: Any, more: Any, more_at: Any, more_words: Any, more_count: Any,
) -> None:  # fmt: skip
    """Add to rows at y the product of rows in two halves with so many strips of words.

    The rows are those of x from `row` on, their numbers those from `at` on; words and y are
    addresses. `fresh` rows at y are overwritten. The product of `more` is added, too; its rows
    begin at 0 and its words are as deep, or there are none. An array of which only the address is
    known may be gone: numba frees it after its last use.
    """
    stride, more_stride = x.strides[1], more.strides[1]
    high, more_high = address(x) + stride * row + 2 * at, address(more) + 2 * more_at
    low, more_low = high + x.strides[0], more_high + more.strides[0]
    strip, more_strip = 4 * LANES * count, 4 * LANES * more_count
    deep, whole = min(count, amx.ROWS), rows - rows % amx.ROWS
    for first, end, together in ((0, whole, amx.ROWS), (whole, rows, rows - whole)):
        if first == end:
            continue
        amx.begin(together, deep)
        s = 0
        while s < strips:
            left = strips - s
            wide = 4 if left >= 4 else 2 if left >= 2 else 1
            own, own_more = words + strip * s, more_words + more_strip * s
            for n in range(first, end, together):
                y_at, of_n, of_more = y + y_stride * n + 4 * LANES * s, stride * n, more_stride * n
                one = high + of_n, low + of_n, stride, own, strip, count
                other = (
                    more_high + of_more, more_low + of_more, more_stride, own_more, more_strip,
                    more_count,
                )  # fmt: skip
                if wide == 4:
                    amx.multiply_4(y_at, y_stride, fresh, deep, one, other)
                elif wide == 2:
                    amx.multiply_2(y_at, y_stride, fresh, deep, one, other)
                else:
                    amx.multiply_1(y_at, y_stride, fresh, deep, one, other)
            s += wide
    amx.end()


@kernel("u2[:,:,::1](i8, i8)")
def halves_of(rows: Any, count: Any) -> Any:
    """Room for so many rows of words in two halves (see amx)."""
    return room(2 * rows, count).view(np.uint16).reshape(2, rows, 2 * count)


@kernel("void(f4[:,:], f4[:,:])")
def _copy(x: Any, y: Any) -> None:
    """The first rows and columns of y become x."""
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[n, j] = x[n, j]


@kernel("void(f4[:,::1], i8, i8, u2[:,:,::1])")
def _halve(x: Any, at: Any, size: Any, halves: Any) -> None:
    """Split numbers of each row of x, from `at` on, into two halves (see amx); then zeros."""
    for n in range(x.shape[0]):
        high = address(halves) + halves.strides[1] * n
        place = address(x) + x.strides[0] * n + 4 * at
        amx.halve(place, high, high + halves.strides[0], size)
        for e in range(size, halves.shape[2]):
            halves[0, n, e] = halves[1, n, e] = 0


@kernel("void(f4[:,::1], i8, u4[:,:,::1], f4[:,::1], i8, i8)")
def _add_product(x: Any, at: Any, words: Any, y: Any, begin: Any, width: Any) -> None:
    """y[:, begin : begin + width] += x[:, at : at + d_in] W [d_in, width], on vectors.

    For a few rows it takes as long as it takes to read the words of W.
    """
    whole, s = width // (2 * LANES), 0
    while s < whole:
        together = 2 if _WIDE and s + 1 < whole else 1
        _add_strips(x, at, words[s : s + together], y, begin + 2 * LANES * s)
        s += together
    if s < words.shape[0]:
        last, done = np.zeros((x.shape[0], 2 * LANES), np.float32), 2 * LANES * s
        _add_strips(x, at, words[s:], last, 0)
        for n in range(x.shape[0]):
            for j in range(width - done):
                y[n, begin + done + j] += last[n, j]


_shape_of = kernel("UniTuple(i8, 3)(i8, i8, b1)")(shape_of)


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(context: Any, address: Any) -> Any:
    """The address of float32 numbers as a pointer to them."""
    kind = types.CPointer(types.float32)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64), code


@kernel("u4[:,:,::1](i8, i8, i8)")
def _words_at(place: Any, rows: Any, columns: Any) -> Any:
    """The words, for vectors, of a matrix of so many rows and columns."""
    shape = _shape_of(rows, columns, False)
    return carray(_pointer(place), shape, np.float32).view(np.uint32)


@kernel("void(u2[:,:,::1], i8, i8, i8, i8, f4[:,::1], b1)")
def _base_on_tiles(
    halves: Any, first: Any, end: Any, weight: Any, words: Any, y: Any, fresh: Any
) -> None:
    """y += W x for rows from the first to the end; a last strip may go beyond those of y."""
    rows, y_at, y_stride = end - first, address(y) + y.strides[0] * first, y.strides[0]
    whole = y.shape[1] // LANES
    multiply(halves, first, 0, rows, weight, whole, words, y_at, y_stride, fresh, halves, 0, 0, 0)
    done = LANES * whole
    if done < y.shape[1]:
        last = room(rows, LANES)
        _copy(y[first:end, done:], last)
        multiply(
            halves, first, 0, rows, weight + 4 * words * done, 1, words, address(last),
            last.strides[0], fresh, halves, 0, 0, 0,
        )  # fmt: skip
        _copy(last[:, : y.shape[1] - done], y[first:end, done:])


@kernel(
    "void(u2[:,:,::1], i8, i8, i8, i8, f4[:,::1], u2[:,:,::1], i8[::1], i8[::1], f4[:,::1], b1)"
)
def _adapter_on_tiles(
    halves: Any, first: Any, end: Any, weight: Any, words: Any, low: Any, inner: Any, adapter: Any,
    sizes: Any, y: Any, fresh: Any,
) -> None:  # fmt: skip
    """y += W x + B A x for rows from the first to the end, or without a weight (0) B A x."""
    rows, rank, members = end - first, adapter[2], sizes.shape[0]
    a_strips, _, _ = _shape_of(2 * words, members * rank, True)
    multiply(
        halves, first, 0, rows, adapter[0], a_strips, words, address(low), low.strides[0], True,
        halves, 0, 0, 0,
    )  # fmt: skip
    _halve(low[:rows], 0, members * rank, inner)
    of_b, begin, y_stride = adapter[1], 0, y.strides[0]
    for k in range(members):
        y_at = address(y) + 4 * begin
        strips, b_words, _ = _shape_of(rank, sizes[k], True)
        if weight:
            multiply(
                halves, first, 0, rows, weight, strips, words, y_at, y_stride, fresh, inner,
                k * rank, of_b, b_words,
            )  # fmt: skip
            weight += 4 * LANES * strips * words
        else:
            multiply(
                inner, 0, k * rank, rows, of_b, strips, b_words, y_at, y_stride, fresh, inner, 0,
                0, 0,
            )  # fmt: skip
        of_b += 4 * LANES * strips * b_words
        begin += sizes[k]


@kernel("void(f4[:,::1], i8, i8[:,::1], i8[:,::1], i8[::1], f4[:,::1], b1)")
def _linear_on_tiles(
    x: Any, weight: Any, table: Any, ranges: Any, sizes: Any, y: Any, fresh: Any
) -> None:
    """`linear` on tiles.

    Where an adapter has many rows, sums stay on a tile for W and B; where it has few, W is read
    once for all.
    """
    d_in, d_out, members, count = x.shape[1], y.shape[1], sizes.shape[0], x.shape[0]
    _, words, _ = _shape_of(d_in, d_out, True)
    halves, most, widest, even = halves_of(count, words), 0, 0, True
    _halve(x, 0, d_in, halves)
    for k in range(members):
        even = even and sizes[k] % LANES == 0
    at_once = np.zeros(table.shape[0], np.bool_)
    for g in range(table.shape[0]):
        rank, rows = table[g, 2], ranges[g, 1] - ranges[g, 0]
        if rank:
            most, widest = max(most, rows), max(widest, rank)
            as_deep = rank % (2 * amx.ROWS) == 0 and words % amx.ROWS == 0
            at_once[g] = even and as_deep and rows >= amx.ROWS
    low, sums = room(most, members * widest + LANES), room(0 if even else most, d_out + LANES)
    inner = halves_of(most, members * widest // 2 + amx.ROWS)
    done = 0
    for g in range(table.shape[0]):
        if at_once[g]:
            first, end = ranges[g, 0], ranges[g, 1]
            _base_on_tiles(halves, done, first, weight, words, y, fresh)
            _adapter_on_tiles(
                halves, first, end, weight, words, low, inner, table[g], sizes, y[first:end], fresh
            )
            done = end
    _base_on_tiles(halves, done, count, weight, words, y, fresh)
    for g in range(table.shape[0]):
        if table[g, 2] == 0 or at_once[g]:
            continue
        first, end = ranges[g, 0], ranges[g, 1]
        own = y[first:end] if even else sums
        if not even:
            _copy(y[first:end], sums)
        _adapter_on_tiles(halves, first, end, 0, words, low, inner, table[g], sizes, own, False)
        if not even:
            _copy(sums[: end - first, :d_out], y[first:end])


@kernel("void(f4[:,::1], i8, b1, i8[:,::1], i8[:,::1], i8[::1], f4[:,::1], b1)")
def linear(
    x: Any, weight: Any, tiles: Any, table: Any, ranges: Any, sizes: Any, y: Any, fresh: Any
) -> None:
    """y [N, d_out] += W x + B A x, x [N, d_in], with each row's own adapter of G; K members.

    `fresh` rows of y are overwritten. weight is the address of W's words, for `tiles` or not (see
    halves). table [G, 3] holds the addresses of those of A [d_in, K r] and of B, each member's [r,
    size], one after the other; and r. Zeros where an adapter has nothing. ranges [G, 2] are the
    first row of each adapter and the one after its last, in ascending order; sizes [K] are the
    members' parts of d_out.
    """
    if tiles:
        _linear_on_tiles(x, weight, table, ranges, sizes, y, fresh)
        return
    for n in range(y.shape[0] if fresh else 0):
        for j in range(y.shape[1]):
            y[n, j] = 0
    d_in, members = x.shape[1], sizes.shape[0]
    _add_product(x, 0, _words_at(weight, d_in, y.shape[1]), y, 0, y.shape[1])
    for g in range(table.shape[0]):
        rank, of_b = table[g, 2], table[g, 1]
        if rank == 0:
            continue
        own_x, own_y = x[ranges[g, 0] : ranges[g, 1]], y[ranges[g, 0] : ranges[g, 1]]
        low = np.zeros((own_x.shape[0], members * rank), np.float32)
        a = _words_at(table[g, 0], d_in, members * rank)
        _add_product(own_x, 0, a, low, 0, members * rank)
        begin = 0
        for k in range(members):
            b = _words_at(of_b, rank, sizes[k])
            _add_product(low, k * rank, b, own_y, begin, sizes[k])
            of_b += 4 * b.size
            begin += sizes[k]
