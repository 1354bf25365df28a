"""What a Llama does in float32 on a CPU, compiled (numba): whole steps, and parts of prompts.

A decoding step of a small model is hundreds of short operations, and in PyTorch each costs more to
begin than to compute, and asks for Python's lock, for which other threads wait. A kernel here does
several at once without the lock, in one thread, and reads memory in the order in which it lies.

Arrays are float32 unless they say otherwise; bfloat16, which a cache may hold, is uint16 here. N
rows, L layers, E hidden size, I intermediate size, d head size, T cached columns. A row's numbers
depend on no other row.

All kernels are in one file: what numba keeps on disk is made anew when the file changes that calls
a kernel, not when the kernel's own does. After a change of intrinsics.py, empty __pycache__.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numba import carray, njit

from nemo_local.nim import amx
from nemo_local.nim.halves import shape_of
from nemo_local.nim.intrinsics import (
    LANES,
    TILE,
    add_dots,
    add_halves_1,
    add_halves_2,
    add_halves_4,
    add_two_strips_1,
    add_two_strips_2,
    as_in,
    exponentials,
    highest,
    number,
    pointer,
    set_tile,
    weigh_columns,
    weigh_rows,
)

Function = TypeVar("Function", bound=Callable[..., Any])

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.1219444005469e-4)
_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_LEAST, _MOST = np.float32(-87.0), np.float32(88.0)
"""Between them an exponential is a normal float32."""
_WIDE = torch.backends.cpu.get_cpu_capability() == "AVX512"
"""Whether the sums of four rows by 2 LANES columns stay in registers."""


def _kernel(*signatures: str) -> Callable[[Function], Function]:
    """Compiled when the module is imported, and kept on disk; without a signature when used."""
    given = list(signatures) or None
    # Sums may be reordered, so that they run in vectors; NaN and infinity stay what they are.
    rules = {"reassoc", "contract", "nsz", "arcp"}

    def compiled(function: Function) -> Function:
        kept: Function
        how = {"fastmath": rules, "nogil": True, "error_model": "numpy"}
        try:
            kept = njit(given, cache=True, **how)(function)
        except RuntimeError:  # neither this folder nor the user's cache can be written
            kept = njit(given, **how)(function)
        return kept

    return compiled


@_kernel()
def _exp(x: Any) -> Any:
    """2^n e^r with x = n ln 2 + r, by the first terms of the series: within 2e-7 of itself."""
    x = min(max(x, _LEAST), _MOST)  # in this order a NaN stays one
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    term = _ONE + r * np.float32(1 / 7)
    term = _ONE + r * np.float32(1 / 6) * term
    term = _ONE + r * np.float32(1 / 5) * term
    term = _ONE + r * np.float32(1 / 4) * term
    term = _ONE + r * np.float32(1 / 3) * term
    term = _ONE + r * _HALF * term
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (_ONE + r * term) * power


@_kernel()
def _add_sum(c: Any, m: Any, y: Any) -> None:
    """y [n] += c [k] m [k, n], m of the cache."""
    count, n = c.shape[0], y.shape[0]
    whole = count - count % 4
    for i in range(0, whole, 4):
        c0, c1, c2, c3 = c[i], c[i + 1], c[i + 2], c[i + 3]
        m0, m1, m2, m3 = m[i], m[i + 1], m[i + 2], m[i + 3]
        for j in range(n):
            y[j] += c0 * number(m0[j]) + c1 * number(m1[j])
            y[j] += c2 * number(m2[j]) + c3 * number(m3[j])
    for i in range(whole, count):
        for j in range(n):
            y[j] += c[i] * number(m[i, j])


@_kernel()
def _weigh(scores: Any, row: Any, seen: Any, end: Any) -> Any:
    """Exponentials of a row's first `seen` scores; those from there to the `end` become zero.

    Returns what makes their sum 1; NaN when there is a NaN or a plus infinity.
    """
    width = _up_to_tiles(seen)
    for t in range(seen, width):
        scores[row, t] = -np.inf
    place = scores.ctypes.data + scores.strides[0] * row
    total = exponentials(place, width // LANES, highest(place, width // LANES))
    for t in range(seen, end):
        scores[row, t] = 0
    return _ONE / total


@_kernel()
def _up_to_tiles(columns: Any) -> Any:
    return (columns + TILE[1] - 1) // TILE[1] * TILE[1]


@_kernel("void(f4[:,::1], f4[::1], f8, f4[:,::1])")
def norm(x: Any, weight: Any, epsilon: Any, y: Any) -> None:
    """y [N, E] = weight x / sqrt(mean(x^2) + epsilon)"""
    size = x.shape[1]
    for i in range(x.shape[0]):
        total = np.float32(0)
        for e in range(size):
            total += x[i, e] * x[i, e]
        factor = np.float32(1 / np.sqrt(total / size + epsilon))
        for e in range(size):
            y[i, e] = x[i, e] * (weight[e] * factor)


@_kernel("void(f4[:,::1], f4[:,::1])", "void(u2[:,::1], u2[:,::1])")
def gated(both: Any, y: Any) -> None:
    """y [N, I] = silu(gate) up, from [gate, up] [N, 2 I]; both float32, or both bfloat16"""
    size = y.shape[1]
    for i in range(y.shape[0]):
        gates, ups, out = both[i, :size], both[i, size:], y[i]
        for e in range(size):
            gate = number(gates[e])
            out[e] = as_in(out, gate / (_ONE + _exp(-gate)) * number(ups[e]))


@_kernel("void(f4[:,:,:], f4[:,::1], f4[:,::1])")
def rotate(x: Any, cos: Any, sin: Any) -> None:
    """Turn the heads of x [N, H, d] to their positions, in place.

    cos and sin are [N, d]; the first half of a sine is negative.
    """
    half = x.shape[2] // 2
    for i in range(x.shape[0]):
        for h in range(x.shape[1]):
            for e in range(half):
                a, b = x[i, h, e], x[i, h, e + half]
                x[i, h, e] = a * cos[i, e] + b * sin[i, e]
                x[i, h, e + half] = b * cos[i, e + half] + a * sin[i, e + half]


@_kernel()
def _in_words(rows: Any) -> Any:
    """Whether rows [T, d] are of bfloat16 and of whole registers of words; T of LANES."""
    return rows.itemsize == 2 and rows.shape[1] % (2 * LANES) == 0 and rows.shape[0] % LANES == 0


@_kernel()
def _attend_to_words(query: Any, key: Any, value: Any, seen: Any, scores: Any, out: Any) -> None:
    """Attention [d] to the first `seen` keys and values [T, d] in bfloat16, two in a word."""
    size, stride = query.shape[0], key.strides[0]
    wide, to_value = _up_to_tiles(seen), value.ctypes.data - key.ctypes.data
    to_next_key = stride * key.shape[0] - to_value
    halves = np.empty((2, LANES), np.float32)
    for t in range(wide):
        scores[0, t] = 0
    for begin in range(0, size, 2 * LANES):
        for e in range(LANES):
            halves[0, e], halves[1, e] = query[begin + 2 * e], query[begin + 2 * e + 1]
        add_dots(
            halves.ctypes.data, key.ctypes.data + 2 * begin, stride, wide // LANES,
            scores.ctypes.data, to_value,
        )  # fmt: skip
    factor = _weigh(scores, 0, seen, seen)
    fours = seen // 4  # what stands behind the last need be no number
    for begin in range(0, size, 2 * LANES):
        halves[:] = 0
        if fours:
            weigh_rows(
                scores.ctypes.data, value.ctypes.data + 2 * begin, stride, fours,
                halves.ctypes.data, to_next_key,
            )  # fmt: skip
        for t in range(4 * fours, seen):
            for e in range(LANES):
                halves[0, e] += scores[0, t] * number(value[t, begin + 2 * e])
                halves[1, e] += scores[0, t] * number(value[t, begin + 2 * e + 1])
        for e in range(LANES):
            out[begin + 2 * e] = halves[0, e] * factor
            out[begin + 2 * e + 1] = halves[1, e] * factor


@_kernel(
    "void(f4[:,:,:], f4[:,:,:], f4[:,:,:], f4[:,:,:,::1], f4[:,:,:,::1], i8[::1], f4[:,:,::1])",
    "void(f4[:,:,:], f4[:,:,:], f4[:,:,:], u2[:,:,:,::1], u2[:,:,:,::1], i8[::1], f4[:,:,::1])",
)
def attend(q: Any, k: Any, v: Any, keys: Any, values: Any, columns: Any, y: Any) -> None:
    """Attention of one new token in each of N sequences; takes note of its key and value.

    q [N, heads, d], k and v [N, kv, d]; keys and values [B, kv, T, d] of the cache; columns [N]
    where each token stands in them; y [N, heads, d].
    """
    heads, size = q.shape[1], q.shape[2]
    share = heads // k.shape[1]
    scale = np.float32(1 / np.sqrt(size))
    scores = np.empty((1, _up_to_tiles(keys.shape[2])), np.float32)
    query = np.empty(size, np.float32)
    for i in range(q.shape[0]):
        seen = columns[i] + 1
        for h in range(heads):
            group = h // share
            key, value, out = keys[i, group], values[i, group], y[i, h]
            if h % share == 0:
                for e in range(size):
                    key[columns[i], e] = as_in(key, k[i, group, e])
                    value[columns[i], e] = as_in(value, v[i, group, e])
            for e in range(size):
                query[e] = q[i, h, e] * scale
            if _in_words(key):
                _attend_to_words(query, key, value, seen, scores, out)
                continue
            for t in range(seen):
                total = np.float32(0)
                for e in range(size):
                    total += query[e] * number(key[t, e])
                scores[0, t] = total
            factor = _weigh(scores, 0, seen, seen)
            out[:] = 0
            _add_sum(scores[0, :seen], value, out)
            for e in range(size):
                out[e] *= factor


@_kernel()
def _product(a: Any, b: Any, count: Any, columns: Any, y: Any) -> None:
    """y[:, :columns] = a[:, :count] b[:count, :columns], columns rounded up to whole tiles."""
    for begin in range(0, columns, TILE[1]):
        set_tile(
            a.ctypes.data, a.strides[0], b.ctypes.data + 4 * begin, b.strides[0], count,
            y.ctypes.data + 4 * begin, y.strides[0],
        )  # fmt: skip


@_kernel(
    "void(f4[:,:,:], f4[:,:,:], f4[:,:,:], f4[:,:,::1], f4[:,:,::1], i8, f4[:,:,::1])",
    "void(f4[:,:,:], f4[:,:,:], f4[:,:,:], u2[:,:,::1], u2[:,:,::1], i8, f4[:,:,::1])",
)
def attend_prompt(q: Any, k: Any, v: Any, keys: Any, values: Any, known: Any, y: Any) -> None:
    """Attention of the next tokens of one sequence; takes note of their keys and values.

    k and v [n, kv, d] are those of the tokens after the first `known`; keys and values [kv, T, d]
    of the cache; q [m, heads, d] and y of the last m of them.
    """
    count, heads, size = q.shape
    share, total = heads // k.shape[1], known + k.shape[0]
    before = total - count
    rows, wide, deep = TILE[0], _up_to_tiles(total), _up_to_tiles(size)
    turned, value = np.zeros((size, wide), np.float32), np.zeros((total, deep), np.float32)
    query, scores = np.empty((rows, size), np.float32), np.empty((rows, wide), np.float32)
    seen, factors = np.empty((rows, deep), np.float32), np.empty(rows, np.float32)
    scale = np.float32(1 / np.sqrt(size))
    for h in range(heads):
        group = h // share
        key, own_value = keys[group], values[group]
        if h % share == 0:
            for t in range(total):
                for e in range(size):
                    if t >= known:
                        key[t, e] = as_in(key, k[t - known, group, e])
                        own_value[t, e] = as_in(own_value, v[t - known, group, e])
                    turned[e, t], value[t, e] = number(key[t, e]), number(own_value[t, e])
        for i in range(0, count, rows):
            for r in range(rows):
                for e in range(size):
                    query[r, e] = q[min(i + r, count - 1), h, e] * scale
            end = before + min(i + rows, count)
            _product(query, turned, size, end, scores)
            for r in range(rows):
                factors[r] = _weigh(scores, r, min(before + i + r + 1, end), end)
            _product(scores, value, end, size, seen)
            for r in range(min(rows, count - i)):
                for e in range(size):
                    y[i + r, h, e] = seen[r, e] * factors[r]


@_kernel()
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


@_kernel()
def _room(rows: Any, columns: Any) -> Any:
    """Zeros [rows, columns] from the beginning of a line of the cache on.

    A tile whose rows lie across two lines takes twice as long to load.
    """
    line, count = 16, rows * columns
    memory = np.zeros(count + line, np.float32)
    skipped = -memory.ctypes.data // 4 % line
    return memory[skipped : skipped + count].reshape(rows, columns)


@_kernel()
def _multiply(
    halves: Any, rows: Any, words: Any, strips: Any, count: Any, y: Any, y_stride: Any
) -> None:
    """Add to rows at y the product of rows in two halves with the first strips and their words."""
    strip, deep, high, low = words.strides[0], min(count, amx.ROWS), halves[0], halves[1]
    high_at, low_at, x_stride = high.ctypes.data, low.ctypes.data, high.strides[0]
    whole = rows - rows % amx.ROWS
    for first, end, together in ((0, whole, amx.ROWS), (whole, rows, rows - whole)):
        if first == end:
            continue
        amx.begin(together, deep)
        s = 0
        while s < strips:
            wide = 4 if s + 4 <= strips else 1
            words_at = words.ctypes.data + strip * s
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


@_kernel()
def _halves_of(rows: Any, count: Any) -> Any:
    """Room for so many rows of words in two halves (see amx)."""
    return _room(2 * rows, count).view(np.uint16).reshape(2, rows, 2 * count)


@_kernel()
def _add_tiles(
    x: Any, of: Any, at: Any, words: Any, y: Any, to: Any, begin: Any, width: Any
) -> None:
    """`add_product` with words for tiles."""
    rows, count = of.shape[0], words.shape[1]
    halves, size, in_turn = _halves_of(rows, count), min(2 * count, x.shape[1] - at), True
    x_at, high_at, stride = x.ctypes.data + 4 * at, halves.ctypes.data, halves.strides[1]
    for n in range(rows):
        own = high_at + stride * n
        amx.halve(x_at + x.strides[0] * of[n], own, own + halves.strides[0], size)
        in_turn = in_turn and to[n] == to[0] + n
    whole = width // LANES if in_turn else 0
    y_at = y.ctypes.data + y.strides[0] * to[0] + 4 * begin
    _multiply(halves, rows, words, whole, count, y_at, y.strides[0])
    first, left = begin + LANES * whole, width - LANES * whole
    if left:  # what tiles cannot reach, or would write beyond
        rest = words[whole:]
        own = _room(rows, LANES * rest.shape[0])
        for n in range(rows):
            for j in range(left):
                own[n, j] = y[to[n], first + j]
        _multiply(halves, rows, rest, rest.shape[0], count, own.ctypes.data, own.strides[0])
        for n in range(rows):
            for j in range(left):
                y[to[n], first + j] = own[n, j]


@_kernel("void(f4[:,::1], i8[::1], i8, u4[:,:,::1], b1, f4[:,::1], i8[::1], i8, i8)")
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


_shape_of = _kernel()(shape_of)


@_kernel()
def _words_at(address: Any, rows: Any, columns: Any, tiles: Any) -> Any:
    """The words of a matrix of so many rows and columns."""
    shape = _shape_of(rows, columns, tiles)
    return carray(pointer(address), shape, np.float32).view(np.uint32)


@_kernel("void(f4[:,::1], i8, b1, i8[:,::1], i8[::1], i8[::1], i8[::1], f4[:,::1])")
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


@_kernel()
def _on_tiles(keys: Any) -> Any:
    """Whether `attend_on_tiles` can read keys [kv, T, d]: whole tiles of them."""
    rows, size = keys.shape[1], keys.shape[2]
    return rows % amx.ROWS == 0 and size % 2 == 0 and (size <= 32 or size % 32 == 0)


@_kernel("void(f4[:,:,::1], i8, i8, u2[:,:,::1], u2[:,:,::1], i8, f4[:,:,::1])")
def attend_on_tiles(
    qkv: Any, first: Any, heads: Any, keys: Any, values: Any, known: Any, y: Any
) -> None:
    """`attend_prompt` on tiles, for 16 tokens at a time, which are the columns of all tiles.

    q, k and v lie side by side in qkv [n, heads + 2 kv, d]; y is for the tokens from the first on.
    """
    new, every, size = qkv.shape
    kv_heads = (every - heads) // 2
    if not _on_tiles(keys):
        q, k, v = qkv[first:, :heads], qkv[:, heads : heads + kv_heads], qkv[:, heads + kv_heads :]
        attend_prompt(q, k, v, keys, values, known, y)
        return
    tile, count, share, total = amx.ROWS, new - first, heads // kv_heads, known + new
    before, wide = total - count, (total + 2 * tile - 1) // (2 * tile) * 2 * tile
    deep, tall = min(size // 2, tile), (size + tile - 1) // tile * tile
    turned = _room(tall, wide // 2).view(np.uint16)
    query = _room(tile, size)
    halves = _halves_of(tile, size // 2).view(np.uint32)
    words, weights = _room(size, tile).view(np.uint32), _room(wide, tile).view(np.uint32)
    scores, found, sums = _room(wide, tile), _room(tall, tile), _room(1, tile)
    scale = np.float32(1 / np.sqrt(size))
    for h in range(heads):
        group = h // share
        key, value = keys[group], values[group]
        if h % share == 0:
            for t in range(new):
                for e in range(size):
                    key[known + t, e] = as_in(key, qkv[t, heads + group, e])
                    value[known + t, e] = as_in(value, qkv[t, heads + kv_heads + group, e])
            for t in range(total):
                for e in range(size):
                    turned[e, t] = value[t, e]
        for i in range(0, count, tile):
            together = min(tile, count - i)
            end = before + i + together
            for r in range(together):
                for e in range(size):
                    query[r, e] = qkv[first + i + r, h, e] * scale
            at = halves.ctypes.data
            amx.halve(query.ctypes.data, at, at + halves.strides[0], tile * size)
            for half in range(2):
                for r in range(tile):
                    for pair in range(size // 2):
                        words[half * (size // 2) + pair, r] = halves[half, r, pair]
            amx.begin(tile, deep)
            for t in range(0, end, tile):
                amx.multiply_words(
                    key.ctypes.data + key.strides[0] * t, key.strides[0], words.ctypes.data,
                    words[size // 2 :].ctypes.data, size // 2, deep, scores[t:].ctypes.data,
                )  # fmt: skip
            steps = (end + 2 * tile - 1) // (2 * tile)
            for t in range(before + i + 1, 2 * tile * steps):
                for r in range(min(tile, t - before - i)):
                    scores[t, r] = -np.inf
            weigh_columns(
                scores.ctypes.data, tile * steps, weights.ctypes.data,
                weights[wide // 2 :].ctypes.data, sums.ctypes.data,
            )  # fmt: skip
            amx.begin(tile, tile)
            for e in range(0, size, tile):
                amx.multiply_words(
                    turned[e:].ctypes.data, turned.strides[0], weights.ctypes.data,
                    weights[wide // 2 :].ctypes.data, tile * steps, tile, found[e:].ctypes.data,
                )  # fmt: skip
            for r in range(together):
                factor = _ONE / sums[0, r]
                for e in range(size):
                    y[i + r, h, e] = found[e, r] * factor
    amx.end()


@_kernel()
def _queries(
    h: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, heads: Any, cos: Any, sin: Any,
    layer: Any, table: Any, rows: Any, starts: Any, qkv: Any,
) -> None:  # fmt: skip
    """Fill qkv [N, heads + 2 kv, d] of a layer, turned to their positions."""
    count, every, size = qkv.shape
    kv_heads = (every - heads) // 2
    x = np.empty_like(h)
    norm(h, norms[2 * layer], epsilon, x)
    flat, at = qkv.reshape(count, every * size), 4 * layer
    flat[:] = 0
    sizes = np.array([heads * size, kv_heads * size, kv_heads * size])
    add_linear(x, weights[at], tiles, table[at], rows, starts, sizes, flat)
    rotate(qkv[:, : heads + kv_heads], cos, sin)


@_kernel()
def _add_rest(
    h: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, inner: Any, layer: Any, table: Any,
    rows: Any, starts: Any, seen: Any,
) -> None:  # fmt: skip
    """What follows a layer's attention, `seen` [N, heads, d]; overwrites h [N, E]."""
    count, at = h.shape[0], 4 * layer
    flat = seen.reshape(count, seen.shape[1] * seen.shape[2])
    hidden, both = np.array([h.shape[1]]), np.array([inner, inner])
    add_linear(flat, weights[at + 1], tiles, table[at + 1], rows, starts, hidden, h)
    x = np.empty_like(h)
    norm(h, norms[2 * layer + 1], epsilon, x)
    gate_up = np.zeros((count, 2 * inner), np.float32)
    add_linear(x, weights[at + 2], tiles, table[at + 2], rows, starts, both, gate_up)
    inside = np.empty((count, inner), np.float32)
    gated(gate_up, inside)
    add_linear(inside, weights[at + 3], tiles, table[at + 3], rows, starts, hidden, h)


@_kernel()
def _predict(
    h: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, table: Any, rows: Any, starts: Any,
    last: Any, logits: Any,
) -> None:  # fmt: skip
    """Fill `last` [N, E], which the head reads, and logits [N, V]."""
    norm(h, norms[-1], epsilon, last)
    logits[:] = 0
    vocabulary = np.array([logits.shape[1]])
    add_linear(last, weights[-1], tiles, table[-1], rows, starts, vocabulary, logits)


_OF_A_NETWORK = "f4[:,::1], i8[::1], b1, f4[:,::1], f8, i8, i8, f4[:,::1], f4[:,::1]"
_TABLE = "i8[:,:,::1], i8[::1], i8[::1]"


@_kernel(f"void({_OF_A_NETWORK}, u2[:,:,:,:,:,::1], i8, i8[::1], {_TABLE}, f4[:,::1], f4[:,::1])")
def step(
    h: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, heads: Any, inner: Any, cos: Any,
    sin: Any, kv: Any, first: Any, columns: Any, table: Any, rows: Any, starts: Any, last: Any,
    logits: Any,
) -> None:  # fmt: skip
    """A Llama reads one more token in each of N sequences.

    h [N, E] are the embeddings, and overwritten. weights [4 L + 1] are the addresses of qkv, o,
    gate_up and down of each layer, then of the head; tiles, table [4 L + 1, G, 3], rows and starts
    as in `add_linear`; norms [2 L + 1, E]; `inner` is I; cos and sin as in `rotate`; kv [2, L, B,
    kv, T, d] of a cache in bfloat16, from row `first` on, and columns as in `attend`. Fills `last`
    [N, E], which the head reads, and logits [N, V].
    """
    kv_heads, size = kv.shape[3], kv.shape[5]
    both = heads + kv_heads
    qkv = np.empty((h.shape[0], both + kv_heads, size), np.float32)
    seen = np.empty((h.shape[0], heads, size), np.float32)
    for layer in range(kv.shape[1]):
        _queries(
            h, weights, tiles, norms, epsilon, heads, cos, sin, layer, table, rows, starts, qkv
        )
        attend(
            qkv[:, :heads], qkv[:, heads:both], qkv[:, both:], kv[0, layer][first:],
            kv[1, layer][first:], columns, seen,
        )  # fmt: skip
        _add_rest(h, weights, tiles, norms, epsilon, inner, layer, table, rows, starts, seen)
    _predict(h, weights, tiles, norms, epsilon, table, rows, starts, last, logits)


@_kernel(
    f"void({_OF_A_NETWORK}, u2[:,:,:,:,:,::1], i8[:,::1], {_TABLE}, {_TABLE}, f4[:,::1], f4[:,::1])"
)
def read(
    h: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, heads: Any, inner: Any, cos: Any,
    sin: Any, kv: Any, spans: Any, table: Any, rows: Any, starts: Any, last_table: Any,
    last_rows: Any, last_starts: Any, last: Any, logits: Any,
) -> None:  # fmt: skip
    """A Llama reads the tokens of P prompts, N of them together.

    spans [P, 4] are each prompt's row in the cache, its first token in h, where it ends there, and
    its tokens before them, which the cache knows. All else as in `step`; last_table, last_rows and
    last_starts belong to the prompts, as do `last` [P, E] and logits [P, V], of their last tokens.
    """
    prompts, layers, kv_heads, size = spans.shape[0], kv.shape[1], kv.shape[3], kv.shape[5]
    both = heads + kv_heads
    qkv = np.empty((h.shape[0], both + kv_heads, size), np.float32)
    seen = np.empty((h.shape[0], heads, size), np.float32)
    ends = np.empty((prompts, h.shape[1]), np.float32)
    last_seen = np.empty((prompts, heads, size), np.float32)
    for layer in range(layers):
        _queries(
            h, weights, tiles, norms, epsilon, heads, cos, sin, layer, table, rows, starts, qkv
        )
        for p in range(prompts):
            row, start, end, known = spans[p]
            first, out = 0, seen[start:end]
            if layer == layers - 1:  # above this point only the ends are needed
                first, out = end - start - 1, last_seen[p : p + 1]
                ends[p] = h[end - 1]
            attend_on_tiles(
                qkv[start:end], first, heads, kv[0, layer, row], kv[1, layer, row], known, out
            )
        if layer < layers - 1:
            _add_rest(h, weights, tiles, norms, epsilon, inner, layer, table, rows, starts, seen)
    _add_rest(
        ends, weights, tiles, norms, epsilon, inner, layers - 1, last_table, last_rows, last_starts,
        last_seen,
    )  # fmt: skip
    _predict(ends, weights, tiles, norms, epsilon, last_table, last_rows, last_starts, last, logits)
