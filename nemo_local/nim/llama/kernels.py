"""What a Llama does in float32 on a CPU, compiled: whole steps and prompts, and parts of them.

A decoding step of a small model is hundreds of short operations, and in PyTorch each costs more to
begin than to compute, and asks for Python's lock, for which other threads wait. A kernel here does
several at once without the lock, in one thread, and reads memory in the order in which it lies.

Arrays are float32 unless they say otherwise; bfloat16, which a cache may hold, is uint16 here. N
rows, L layers, E hidden size, I intermediate size, d head size, T cached columns. A row's numbers
depend on no other row.
"""

from typing import Any

import numpy as np

from nemo_local.core import gates
from nemo_local.nim.llama.attention import attend, attend_on_tiles
from nemo_local.nim.llama.compiled import kernel
from nemo_local.nim.llama.products import linear


@kernel("void(f4[:,::1], f4[::1], f8, f4[:,::1])")
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


gate = kernel("void(f4[:,::1], f4[:,::1])", "void(u2[:,::1], u2[:,::1])")(gates.gate)


@kernel("void(f4[:,:,:], f4[:,::1], f4[:,::1])")
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


@kernel("i8[::1](i8, i8, i8)")
def _members(count: Any, first: Any, others: Any) -> Any:
    """Outputs of so many members of a site (see `linear`)."""
    sizes = np.empty(count, np.int64)
    for k in range(count):
        sizes[k] = others if k else first
    return sizes


@kernel()
def _queries(
    h: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, heads: Any, cos: Any, sin: Any,
    layer: Any, table: Any, ranges: Any, qkv: Any,
) -> None:  # fmt: skip
    """Fill qkv [N, heads + 2 kv, d] of a layer, turned to their positions."""
    count, every, size = qkv.shape
    kv_heads = (every - heads) // 2
    x = np.empty(h.shape, np.float32)
    norm(h, norms[2 * layer], epsilon, x)
    flat, at = qkv.reshape(count, every * size), 4 * layer
    sizes = _members(3, heads * size, kv_heads * size)
    linear(x, weights[at], tiles, table[at], ranges, sizes, flat, True)
    rotate(qkv[:, : heads + kv_heads], cos, sin)


@kernel()
def _add_rest(
    h: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, inner: Any, layer: Any, table: Any,
    ranges: Any, seen: Any,
) -> None:  # fmt: skip
    """What follows a layer's attention, `seen` [N, heads, d]; overwrites h [N, E]."""
    count, at = h.shape[0], 4 * layer
    flat = seen.reshape(count, seen.shape[1] * seen.shape[2])
    hidden, both = _members(1, h.shape[1], 0), _members(2, inner, inner)
    linear(flat, weights[at + 1], tiles, table[at + 1], ranges, hidden, h, False)
    x = np.empty(h.shape, np.float32)
    norm(h, norms[2 * layer + 1], epsilon, x)
    gate_up = np.empty((count, 2 * inner), np.float32)
    linear(x, weights[at + 2], tiles, table[at + 2], ranges, both, gate_up, True)
    inside = np.empty((count, inner), np.float32)
    gate(gate_up, inside)
    linear(inside, weights[at + 3], tiles, table[at + 3], ranges, hidden, h, False)


@kernel()
def _predict(
    h: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, table: Any, ranges: Any, last: Any,
    logits: Any,
) -> None:  # fmt: skip
    """Fill `last` [N, E], which the head reads, and logits [N, V]."""
    norm(h, norms[-1], epsilon, last)
    vocabulary = _members(1, logits.shape[1], 0)
    linear(last, weights[-1], tiles, table[-1], ranges, vocabulary, logits, True)


@kernel("f4[:,::1](f4[:,:], i8[::1])")
def _gathered(table: Any, which: Any) -> Any:
    """The rows of a table with these numbers, in their order."""
    found = np.empty((which.shape[0], table.shape[1]), np.float32)
    for i in range(which.shape[0]):
        for e in range(table.shape[1]):
            found[i, e] = table[which[i], e]
    return found


_NETWORK = "i8[::1], b1, f4[:,::1], f8, i8, i8, f4[:,::1], f4[:,::1]"
_TABLE, _RESULTS = "i8[:,:,::1], i8[:,::1]", "f4[:,::1], f4[:,::1]"


@kernel(
    f"void(f4[:,:], i8[::1], {_NETWORK}, u2[:,:,:,:,:,::1], i8[::1], i8[::1], {_TABLE}, {_RESULTS})"
)
def step(
    embeddings: Any, ids: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, heads: Any,
    inner: Any, cos: Any, sin: Any, kv: Any, rows: Any, columns: Any, table: Any, ranges: Any,
    last: Any, logits: Any,
) -> None:  # fmt: skip
    """A Llama reads one more token in N of B sequences.

    embeddings [V, E]; ids [B] are the tokens, columns [B] their positions. rows [N] are the
    sequences, those of one adapter together. weights [4 L + 1] are the addresses of qkv, o, gate_up
    and down of each layer, then of the head; tiles, table [4 L + 1, G, 3] and ranges as in
    `linear`; norms [2 L + 1, E]; `inner` is I; cos and sin [positions, d] as in `rotate`; kv [2, L,
    B, kv, T, d] of a cache in bfloat16. Fills these rows of `last` [B, E], which the head reads,
    and of logits [B, V].
    """
    kv_heads, size, count = kv.shape[3], kv.shape[5], rows.shape[0]
    both, own_ids, places = heads + kv_heads, np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(count):
        own_ids[i], places[i] = ids[rows[i]], columns[rows[i]]
    h = _gathered(embeddings, own_ids)
    own_cos, own_sin = _gathered(cos, places), _gathered(sin, places)
    qkv = np.empty((count, both + kv_heads, size), np.float32)
    seen = np.empty((count, heads, size), np.float32)
    for layer in range(kv.shape[1]):
        _queries(
            h, weights, tiles, norms, epsilon, heads, own_cos, own_sin, layer, table, ranges, qkv
        )
        attend(
            qkv[:, :heads], qkv[:, heads:both], qkv[:, both:], kv[0, layer], kv[1, layer], rows,
            places, seen,
        )  # fmt: skip
        _add_rest(h, weights, tiles, norms, epsilon, inner, layer, table, ranges, seen)
    own_last = np.empty((count, h.shape[1]), np.float32)
    own_logits = np.empty((count, logits.shape[1]), np.float32)
    _predict(h, weights, tiles, norms, epsilon, table, ranges, own_last, own_logits)
    for i in range(count):
        for e in range(last.shape[1]):
            last[rows[i], e] = own_last[i, e]
        for e in range(logits.shape[1]):
            logits[rows[i], e] = own_logits[i, e]


@kernel(
    f"void(f4[:,:], i8[::1], {_NETWORK}, u2[:,:,:,:,:,::1], i8[:,::1], {_TABLE}, {_TABLE}, "
    f"{_RESULTS})"
)
def read(
    embeddings: Any, ids: Any, weights: Any, tiles: Any, norms: Any, epsilon: Any, heads: Any,
    inner: Any, cos: Any, sin: Any, kv: Any, spans: Any, table: Any, ranges: Any, last_table: Any,
    last_ranges: Any, last: Any, logits: Any,
) -> None:  # fmt: skip
    """A Llama reads the tokens [N] of P prompts together.

    spans [P, 4] are each prompt's row in the cache, its first token in ids, where it ends there,
    and its tokens before them, which the cache knows. All else as in `step`; last_table and
    last_ranges belong to the prompts, as do `last` [P, E] and logits [P, V], of their last tokens.
    """
    prompts, layers, kv_heads, size = spans.shape[0], kv.shape[1], kv.shape[3], kv.shape[5]
    places = np.empty(ids.shape[0], np.int64)
    for p in range(prompts):
        for i in range(spans[p, 1], spans[p, 2]):
            places[i] = spans[p, 3] + i - spans[p, 1]
    h = _gathered(embeddings, ids)
    own_cos, own_sin = _gathered(cos, places), _gathered(sin, places)
    qkv = np.empty((h.shape[0], heads + 2 * kv_heads, size), np.float32)
    seen = np.empty((h.shape[0], heads, size), np.float32)
    ends = np.empty((prompts, h.shape[1]), np.float32)
    last_seen = np.empty((prompts, heads, size), np.float32)
    now, of_layer, own_table, own_ranges = h, seen, table, ranges
    for layer in range(layers):
        _queries(
            h, weights, tiles, norms, epsilon, heads, own_cos, own_sin, layer, table, ranges, qkv
        )
        if layer == layers - 1:  # above this point only the ends are needed
            for p in range(prompts):
                for e in range(h.shape[1]):
                    ends[p, e] = h[spans[p, 2] - 1, e]
            now, of_layer = ends, last_seen
            own_table, own_ranges = last_table, last_ranges
        for p in range(prompts):
            row, start, end, known = spans[p, 0], spans[p, 1], spans[p, 2], spans[p, 3]
            first, out = 0, of_layer[start:end]
            if layer == layers - 1:
                first, out = end - start - 1, of_layer[p : p + 1]
            attend_on_tiles(
                qkv[start:end], first, heads, kv[0, layer, row], kv[1, layer, row], known, out
            )
        _add_rest(
            now, weights, tiles, norms, epsilon, inner, layer, own_table, own_ranges, of_layer
        )
    _predict(ends, weights, tiles, norms, epsilon, last_table, last_ranges, last, logits)


@kernel("void(f4[:,:], i4[:,::1], i8[::1])")
def forbid(logits: Any, allowed: Any, rows: Any) -> None:
    """Logits [N, V] of tokens that are not allowed become minus infinity, in these rows.

    allowed [N, V / 32] holds a bit for each token, as xgrammar fills it.
    """
    size = logits.shape[1]
    for row in rows:
        for w in range(allowed.shape[1]):
            bits, first = allowed[row, w], 32 * w
            if bits == -1:
                continue
            for token in range(first, min(first + 32, size)):
                if not bits >> (token - first) & 1:
                    logits[row, token] = -np.inf
