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

from nemo_local.nim.intrinsics import (
    LANES,
    TILE,
    add_halves_1,
    add_halves_2,
    add_halves_4,
    add_two_strips_1,
    add_two_strips_2,
    as_in,
    ask_for,
    highest,
    number,
    pointer,
    set_tile,
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
def _weigh(scores: Any, seen: Any, end: Any) -> Any:
    """Exponentials of the first `seen` scores; those from there to the `end` become zero.

    Returns what makes their sum 1; NaN when there is a NaN or a plus infinity.
    """
    width = _up_to_tiles(seen)  # so that loops run in vectors to their end
    for t in range(seen, width):
        scores[t] = -np.inf
    most, total = highest(scores.ctypes.data, width // LANES), np.float32(0)
    for t in range(width):
        scores[t] = _exp(scores[t] - most)
        total += scores[t]
    for t in range(seen, end):
        scores[t] = 0
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
    scores, query = np.empty(_up_to_tiles(keys.shape[2]), np.float32), np.empty(size, np.float32)
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
            width = key.strides[0]
            own_value, next_key = value.ctypes.data, key.ctypes.data + width * key.shape[0]
            for t in range(seen):
                for offset in range(width * t, width * (t + 1), 64):
                    ask_for(own_value + offset)
                    ask_for(next_key + offset)
                total = np.float32(0)
                for e in range(size):
                    total += query[e] * number(key[t, e])
                scores[t] = total
            factor = _weigh(scores, seen, seen)
            out[:] = 0
            _add_sum(scores[:seen], value, out)
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
                factors[r] = _weigh(scores[r], min(before + i + r + 1, end), end)
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


@_kernel("void(f4[:,::1], i8[::1], i8, u4[:,:,::1], f4[:,::1], i8[::1], i8, i8)")
def add_product(
    x: Any, of: Any, at: Any, words: Any, y: Any, to: Any, begin: Any, width: Any
) -> None:
    """y[to, begin : begin + width] += x[of, at : at + d_in] W [d_in, width].

    For a few rows `of` x that go `to` rows of y: it takes as long as it takes to read W, whose
    words (see halves) are bfloat16. Sums are in float32.
    """
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


@_kernel()
def _words_at(address: Any, rows: Any, columns: Any) -> Any:
    """The words of a matrix of so many rows and columns."""
    shape = ((columns + 2 * LANES - 1) // (2 * LANES), rows, LANES)
    return carray(pointer(address), shape, np.float32).view(np.uint32)


@_kernel("void(f4[:,::1], i8, i8[:,::1], i8[::1], i8[::1], i8[::1], f4[:,::1])")
def add_linear(x: Any, weight: Any, table: Any, rows: Any, starts: Any, sizes: Any, y: Any) -> None:
    """y [N, d_out] += W x + B A x, x [N, d_in], with each row's own adapter of G; K members.

    weight is the address of W's words (see halves). table [G, 3] holds the addresses of those of A
    [d_in, K r] and of B, each member's [r, size], one after the other; and r. Zeros where an
    adapter has nothing. The rows of adapter g are rows[starts[g] : starts[g + 1]]; sizes [K] are
    the members' parts of d_out.
    """
    d_in, members = x.shape[1], sizes.shape[0]
    every = np.arange(x.shape[0])
    add_product(x, every, 0, _words_at(weight, d_in, y.shape[1]), y, every, 0, y.shape[1])
    for g in range(table.shape[0]):
        rank, address = table[g, 2], table[g, 1]
        if rank == 0:
            continue
        own = rows[starts[g] : starts[g + 1]]
        low = np.zeros((own.shape[0], members * rank), np.float32)
        a = _words_at(table[g, 0], d_in, members * rank)
        add_product(x, own, 0, a, low, every[: own.shape[0]], 0, members * rank)
        begin = 0
        for k in range(members):
            b = _words_at(address, rank, sizes[k])
            add_product(low, every[: own.shape[0]], k * rank, b, y, own, begin, sizes[k])
            address += 4 * b.size
            begin += sizes[k]


@_kernel(
    "void(f4[:,::1], i8[::1], f4[:,::1], f8, i8, i8, f4[:,::1], f4[:,::1], u2[:,:,:,:,:,::1],"
    " i8, i8[::1], i8[:,:,::1], i8[::1], i8[::1], f4[:,::1], f4[:,::1])"
)
def step(
    h: Any, weights: Any, norms: Any, epsilon: Any, heads: Any, inner: Any, cos: Any, sin: Any,
    kv: Any, first: Any, columns: Any, table: Any, rows: Any, starts: Any, last: Any, logits: Any,
) -> None:  # fmt: skip
    """A Llama reads one more token in each of N sequences.

    h [N, E] are the embeddings, and overwritten. weights [4 L + 1] are the addresses of qkv, o,
    gate_up and down of each layer, then of the head; table [4 L + 1, G, 3], rows and
    starts as in `add_linear`; norms [2 L + 1, E]; `inner` is I; cos and sin as in `rotate`; kv [2,
    L, B, kv, T, d] of a cache in bfloat16, from row `first` on, and columns as in `attend`. Fills
    `last` [N, E], which the head reads, and logits [N, V].
    """
    count, kv_heads, size = h.shape[0], kv.shape[3], kv.shape[5]
    both, every = heads + kv_heads, heads + 2 * kv_heads
    qkv_sizes = np.array([heads * size, kv_heads * size, kv_heads * size])
    hidden, gate_up_sizes = np.array([h.shape[1]]), np.array([inner, inner])
    x = np.empty((count, h.shape[1]), np.float32)
    qkv = np.empty((count, every * size), np.float32)
    seen = np.empty((count, heads, size), np.float32)
    gate_up = np.empty((count, 2 * inner), np.float32)
    inside = np.empty((count, inner), np.float32)
    turned, seen_flat = qkv.reshape(count, every, size), seen.reshape(count, heads * size)
    for layer in range(kv.shape[1]):
        at = 4 * layer
        norm(h, norms[2 * layer], epsilon, x)
        qkv[:] = 0
        add_linear(x, weights[at], table[at], rows, starts, qkv_sizes, qkv)
        rotate(turned[:, :both], cos, sin)
        attend(
            turned[:, :heads], turned[:, heads:both], turned[:, both:], kv[0, layer][first:],
            kv[1, layer][first:], columns, seen,
        )  # fmt: skip
        add_linear(seen_flat, weights[at + 1], table[at + 1], rows, starts, hidden, h)
        norm(h, norms[2 * layer + 1], epsilon, x)
        gate_up[:] = 0
        add_linear(x, weights[at + 2], table[at + 2], rows, starts, gate_up_sizes, gate_up)
        gated(gate_up, inside)
        add_linear(inside, weights[at + 3], table[at + 3], rows, starts, hidden, h)
    norm(h, norms[-1], epsilon, last)
    logits[:] = 0
    vocabulary = np.array([logits.shape[1]])
    add_linear(last, weights[-1], table[-1], rows, starts, vocabulary, logits)
