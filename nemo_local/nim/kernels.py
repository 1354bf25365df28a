"""What a small float32 model does between its products on a CPU, compiled (numba).

A decoding step of a small model is hundreds of short operations, and in PyTorch each costs more to
begin than to compute, and asks for Python's lock, for which other threads wait. A kernel here does
several at once without the lock, in one thread, and reads memory in the order in which it lies.

Arrays are float32 unless they say otherwise. N rows, E hidden size, d head size, T cached columns.
A row's numbers depend on no other row.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.1219444005469e-4)
_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_LEAST, _MOST = np.float32(-87.0), np.float32(88.0)
"""Between them an exponential is a normal float32."""


def _kernel(*signature: str) -> Callable[[Function], Function]:
    """Compiled when the module is imported, and kept on disk; without a signature when used."""
    # Sums may be reordered, so that they run in vectors; NaN and infinity stay what they are.
    rules = {"reassoc", "contract", "nsz", "arcp"}

    def compiled(function: Function) -> Function:
        kept: Function
        how = {"fastmath": rules, "nogil": True, "error_model": "numpy"}
        try:
            kept = njit(*signature, cache=True, **how)(function)
        except RuntimeError:  # neither this folder nor the user's cache can be written
            kept = njit(*signature, **how)(function)
        return kept

    return compiled


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(context: Any, address: Any) -> Any:
    """The address of float32 numbers as a pointer to them."""
    kind = types.CPointer(types.float32)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64), code


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
def _add_product(c: Any, m: Any, y: Any) -> None:
    """y [n] += c [k] m [k, n]"""
    count, n = c.shape[0], y.shape[0]
    whole = count - count % 4
    for i in range(0, whole, 4):
        c0, c1, c2, c3 = c[i], c[i + 1], c[i + 2], c[i + 3]
        m0, m1, m2, m3 = m[i], m[i + 1], m[i + 2], m[i + 3]
        for j in range(n):
            y[j] += c0 * m0[j] + c1 * m1[j] + c2 * m2[j] + c3 * m3[j]
    for i in range(whole, count):
        for j in range(n):
            y[j] += c[i] * m[i, j]


@_kernel()
def _softmax(x: Any) -> None:
    """In place; all NaN when there is a NaN or a plus infinity."""
    highest, total = x[0], np.float32(0)
    for i in range(x.shape[0]):
        highest = max(highest, x[i])
    for i in range(x.shape[0]):
        x[i] = _exp(x[i] - highest)
        total += x[i]
    for i in range(x.shape[0]):
        x[i] /= total


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


@_kernel("void(f4[:,::1], f4[:,::1])")
def gated(both: Any, y: Any) -> None:
    """y [N, I] = silu(gate) up, from [gate, up] [N, 2 I]"""
    size = y.shape[1]
    for i in range(y.shape[0]):
        gate, up, out = both[i, :size], both[i, size:], y[i]
        for e in range(size):
            out[e] = gate[e] / (_ONE + _exp(-gate[e])) * up[e]


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
    "void(f4[:,:,:], f4[:,:,:], f4[:,:,:], f4[:,:,:,::1], f4[:,:,:,::1], i8[::1], f4[:,:,::1])"
)
def attend(q: Any, k: Any, v: Any, keys: Any, values: Any, columns: Any, y: Any) -> None:
    """Attention of one new token in each of N sequences; takes note of its key and value.

    q [N, heads, d], k and v [N, kv, d]; keys and values [B, kv, T, d]; columns [N] where each
    token stands in them; y [N, heads, d].
    """
    heads, size = q.shape[1], q.shape[2]
    share = heads // k.shape[1]
    scale = np.float32(1 / np.sqrt(size))
    every_score = np.empty(keys.shape[2], np.float32)
    query = np.empty(size, np.float32)
    for i in range(q.shape[0]):
        scores = every_score[: columns[i] + 1]
        for h in range(heads):
            group = h // share
            key, value, out = keys[i, group], values[i, group], y[i, h]
            if h % share == 0:
                for e in range(size):
                    key[columns[i], e] = k[i, group, e]
                    value[columns[i], e] = v[i, group, e]
            for e in range(size):
                query[e] = q[i, h, e] * scale
            for t in range(scores.shape[0]):
                total = np.float32(0)
                for e in range(size):
                    total += query[e] * key[t, e]
                scores[t] = total
            _softmax(scores)
            out[:] = 0
            _add_product(scores, value, out)


@_kernel("void(f4[:,::1], i8[:,::1], i8[::1], i8[::1], i8[::1], f4[:,::1])")
def add_adapters(x: Any, table: Any, rows: Any, starts: Any, sizes: Any, y: Any) -> None:
    """y [N, d_out] += B A x, x [N, d_in], for rows of G adapters at a site of K members.

    table [G, 3] int64 holds the addresses of A [d_in, K r] and of B, which has the members' [r,
    size] one after the other, and r; 0 where an adapter has nothing. The rows of adapter g are
    rows[starts[g] : starts[g + 1]]; sizes [K] are the members' parts of d_out.
    """
    d_in, d_out, members = x.shape[1], y.shape[1], sizes.shape[0]
    for g in range(table.shape[0]):
        rank = table[g, 2]
        if rank == 0:
            continue
        a = carray(_pointer(table[g, 0]), (d_in, members * rank), np.float32)
        b = carray(_pointer(table[g, 1]), (rank * d_out,), np.float32)
        low = np.empty(members * rank, np.float32)
        for i in rows[starts[g] : starts[g + 1]]:
            low[:] = 0
            _add_product(x[i], a, low)
            begin = 0
            for k in range(members):
                end = begin + sizes[k]
                own = b[rank * begin : rank * end].reshape(rank, sizes[k])
                _add_product(low[k * rank : (k + 1) * rank], own, y[i, begin:end])
                begin = end
