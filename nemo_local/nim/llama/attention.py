"""Attention of a Llama on a CPU, compiled: of a new token to its sequence, and of prompts.

Float32, but keys and values perhaps bfloat16 (uint16). d head size, T cached columns.
"""

from typing import Any

import numpy as np

from nemo_local.core.intrinsics import address, as_in, exponentials, highest, number
from nemo_local.core.llvm import LANES
from nemo_local.nim.llama import amx
from nemo_local.nim.llama.compiled import kernel
from nemo_local.nim.llama.intrinsics import TILE, add_dots, set_tile, weigh_columns, weigh_rows
from nemo_local.nim.llama.products import halves_of, room

_ONE = np.float32(1.0)
_NEW = "f4[:,:,:], f4[:,:,:], f4[:,:,:]"
"""Queries, keys and values of tokens that are read."""


@kernel()
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


@kernel()
def _weigh(scores: Any, row: Any, seen: Any, end: Any) -> Any:
    """Exponentials of a row's first `seen` scores; those from there to the `end` become zero.

    Returns what makes their sum 1; NaN when there is a NaN or a plus infinity.
    """
    width = _up_to_tiles(seen)
    for t in range(seen, width):
        scores[row, t] = -np.inf
    place = address(scores) + scores.strides[0] * row
    total = exponentials(place, width // LANES, highest(place, width // LANES))
    for t in range(seen, end):
        scores[row, t] = 0
    return _ONE / total


@kernel()
def _up_to_tiles(columns: Any) -> Any:
    return (columns + TILE[1] - 1) // TILE[1] * TILE[1]


@kernel()
def _in_words(rows: Any) -> Any:
    """Whether rows [T, d] are bfloat16, fill whole registers, and T is a multiple of LANES."""
    return rows.itemsize == 2 and rows.shape[1] % (2 * LANES) == 0 and rows.shape[0] % LANES == 0


@kernel()
def _attend_to_words(query: Any, key: Any, value: Any, seen: Any, scores: Any, out: Any) -> None:
    """Attention [d] to the first `seen` keys and values [T, d] in bfloat16, two in a word."""
    size, stride = query.shape[0], key.strides[0]
    wide, to_value = _up_to_tiles(seen), address(value) - address(key)
    to_next_key = stride * key.shape[0] - to_value
    halves = np.empty((2, LANES), np.float32)
    for t in range(wide):
        scores[0, t] = 0
    for begin in range(0, size, 2 * LANES):
        for e in range(LANES):
            halves[0, e], halves[1, e] = query[begin + 2 * e], query[begin + 2 * e + 1]
        add_dots(
            address(halves), address(key) + 2 * begin, stride, wide // LANES,
            address(scores), to_value,
        )  # fmt: skip
    factor = _weigh(scores, 0, seen, seen)
    fours = seen // 4  # rows behind the last may hold anything
    for begin in range(0, size, 2 * LANES):
        for e in range(LANES):
            halves[0, e] = halves[1, e] = 0
        if fours:
            weigh_rows(
                address(scores), address(value) + 2 * begin, stride, fours,
                address(halves), to_next_key,
            )  # fmt: skip
        for t in range(4 * fours, seen):
            for e in range(LANES):
                halves[0, e] += scores[0, t] * number(value[t, begin + 2 * e])
                halves[1, e] += scores[0, t] * number(value[t, begin + 2 * e + 1])
        for e in range(LANES):
            out[begin + 2 * e] = halves[0, e] * factor
            out[begin + 2 * e + 1] = halves[1, e] * factor


@kernel(
    f"void({_NEW}, f4[:,:,:,::1], f4[:,:,:,::1], i8[::1], i8[::1], f4[:,:,::1])",
    f"void({_NEW}, u2[:,:,:,::1], u2[:,:,:,::1], i8[::1], i8[::1], f4[:,:,::1])",
)
def attend(
    q: Any, k: Any, v: Any, keys: Any, values: Any, places: Any, columns: Any, y: Any
) -> None:
    """Attention of one new token in each of N sequences; takes note of its key and value.

    q [N, heads, d], k and v [N, kv, d]; keys and values [B, kv, T, d] of the cache; places [N] and
    columns [N] are where each token stands in them; y [N, heads, d].
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
            key, value, out = keys[places[i], group], values[places[i], group], y[i, h]
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
            for e in range(size):
                out[e] = 0
            _add_sum(scores[0, :seen], value, out)
            for e in range(size):
                out[e] *= factor


@kernel()
def _product(a: Any, b: Any, count: Any, columns: Any, y: Any) -> None:
    """y[:, :columns] = a[:, :count] b[:count, :columns], columns rounded up to whole tiles."""
    for begin in range(0, columns, TILE[1]):
        set_tile(
            address(a), a.strides[0], address(b) + 4 * begin, b.strides[0], count,
            address(y) + 4 * begin, y.strides[0],
        )  # fmt: skip


@kernel(
    f"void({_NEW}, f4[:,:,::1], f4[:,:,::1], i8, f4[:,:,::1])",
    f"void({_NEW}, u2[:,:,::1], u2[:,:,::1], i8, f4[:,:,::1])",
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


@kernel()
def _on_tiles(keys: Any) -> Any:
    """Whether `attend_on_tiles` can read keys [kv, T, d]: whole tiles of them."""
    rows, size = keys.shape[1], keys.shape[2]
    return rows % amx.ROWS == 0 and size % 2 == 0 and (size <= 32 or size % 32 == 0)


@kernel("void(f4[:,:,::1], i8, i8, u2[:,:,::1], u2[:,:,::1], i8, f4[:,:,::1])")
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
    turned = room(tall, wide // 2).view(np.uint16)
    for e in range(size):
        for t in range(total, wide):
            turned[e, t] = 0
    query = room(tile, size)
    halves = halves_of(tile, size // 2).view(np.uint32)
    words, weights = room(size, tile).view(np.uint32), room(wide, tile).view(np.uint32)
    scores, found, sums = room(wide, tile), room(tall, tile), room(1, tile)
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
            at = address(halves)
            amx.halve(address(query), at, at + halves.strides[0], tile * size)
            for half in range(2):
                for r in range(tile):
                    for pair in range(size // 2):
                        words[half * (size // 2) + pair, r] = halves[half, r, pair]
            amx.begin(tile, deep)
            for t in range(0, end, tile):
                amx.multiply_words(
                    address(key) + key.strides[0] * t, key.strides[0], address(words),
                    address(words[size // 2 :]), size // 2, deep, address(scores[t:]),
                )  # fmt: skip
            steps = (end + 2 * tile - 1) // (2 * tile)
            for t in range(before + i + 1, 2 * tile * steps):
                for r in range(min(tile, t - before - i)):
                    scores[t, r] = -np.inf
            weigh_columns(
                address(scores), tile * steps, address(weights),
                address(weights[wide // 2 :]), address(sums),
            )  # fmt: skip
            amx.begin(tile, tile)
            for e in range(0, size, tile):
                amx.multiply_words(
                    address(turned[e:]), turned.strides[0], address(weights),
                    address(weights[wide // 2 :]), tile * steps, tile, address(found[e:]),
                )  # fmt: skip
            for r in range(together):
                factor = _ONE / sums[0, r]
                for e in range(size):
                    y[i + r, h, e] = found[e, r] * factor
    amx.end()
