"""What numba has no words for, in LLVM's: memory at an address, numbers of 16 bits, the highest of
many numbers, and a tile of a product."""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Numbers that are computed at once: a register of AVX-512, two or four of others."""
TILE = (4, LANES)
"""Rows and columns whose sums stay in registers, also in those of 8 numbers."""

_AHEAD = 1024
"""Bytes of a weight that are asked for before they are needed."""

_NUMBER, _LANE, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_VECTOR, _BITS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_LANE, LANES)


@intrinsic  # type: ignore[untyped-decorator]
def pointer(context: Any, address: Any) -> Any:
    """The address of float32 numbers as a pointer to them."""
    kind = types.CPointer(types.float32)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64), code


def _ask_for(builder: Any, address: Any) -> None:
    kinds = [ir.IntType(8).as_pointer(), _LANE, _LANE, _LANE]
    fetch = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0i8"
    )
    how = [_LANE(0), _LANE(2), _LANE(1)]  # to read; into the second cache; data
    builder.call(fetch, [builder.inttoptr(address, kinds[0]), *how])


@intrinsic  # type: ignore[untyped-decorator]
def ask_for(context: Any, address: Any) -> Any:
    """Have the memory at this address fetched meanwhile; any address will do."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _ask_for(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def number(context: Any, kept: Any) -> Any:
    """A float32, or the one whose upper half these 16 bits are."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if kept == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], _LANE), _LANE(16))
        return builder.bitcast(bits, _FLOAT)

    return types.float32(kept), code


@intrinsic  # type: ignore[untyped-decorator]
def as_in(context: Any, array: Any, x: Any) -> Any:
    """x as this array holds numbers: as it is, or the upper half of the nearest (or even) one."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x = arguments[1]
        if array.dtype == types.float32:
            return x
        bits = builder.bitcast(x, _LANE)
        odd = builder.and_(builder.lshr(bits, _LANE(16)), _LANE(1))
        nearest = builder.add(bits, builder.add(odd, _LANE(0x7FFF)))
        none = builder.or_(bits, _LANE(0x400000))  # a NaN stays one
        rounded = builder.select(builder.fcmp_unordered("uno", x, x), none, nearest)
        return builder.trunc(builder.lshr(rounded, _LANE(16)), ir.IntType(16))

    return array.dtype(array, types.float32), code


def _address(builder: Any, base: Any, *steps: tuple[Any, Any]) -> Any:
    """The base, so many steps of so many bytes further."""
    for bytes_, count in steps:
        base = builder.add(base, builder.mul(bytes_, count))
    return base


def _load(builder: Any, kind: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)


def _store(builder: Any, vector: Any, address: Any) -> None:
    builder.store(vector, builder.inttoptr(address, vector.type.as_pointer()), align=4)


def _everywhere(builder: Any, address: Any) -> Any:
    """The number at an address, in all lanes."""
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, _load(builder, _FLOAT, address), _LANE(0))
    return builder.shuffle_vector(one, nothing, ir.Constant(_BITS, [0] * LANES))


Grown = Callable[[Any, list[Any]], list[Any]]
"""From the number of a turn, and vectors, to those after it."""


def _loop(builder: Any, count: Any, first: list[Any], grown: Grown) -> list[Any]:
    """What vectors have become after `count` turns, one at least."""
    before, loop = builder.block, builder.append_basic_block()
    after = builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(_NUMBER)
    sums = [builder.phi(_VECTOR) for _ in first]
    new = grown(step, sums)
    following = builder.add(step, _NUMBER(1))
    step.add_incoming(_NUMBER(0), before)
    step.add_incoming(following, loop)
    for total, begin, end in zip(sums, first, new, strict=True):
        total.add_incoming(begin, before)
        total.add_incoming(end, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return new


@intrinsic  # type: ignore[untyped-decorator]
def highest(context: Any, address: Any, count: Any) -> Any:
    """The highest of so many times LANES float32 numbers; a NaN is passed over.

    In a loop with `max`, which cares for NaN, numbers are compared one by one.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, count = arguments

        def grown(step: Any, best: list[Any]) -> list[Any]:
            new = _load(builder, _VECTOR, _address(builder, address, (_NUMBER(4 * LANES), step)))
            return [builder.select(builder.fcmp_ordered(">", new, best[0]), new, best[0])]

        [best] = _loop(builder, count, [ir.Constant(_VECTOR, [float("-inf")] * LANES)], grown)
        kind = ir.FunctionType(_FLOAT, [_VECTOR])
        name = f"llvm.vector.reduce.fmax.v{LANES}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [best])

    return types.float32(types.int64, types.int64), code


def _fused(builder: Any) -> Any:
    """x y + z of vectors, in one instruction where there is one."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")


def _exponential(builder: Any, x: Any) -> Any:
    """2^n e^r with x = n ln 2 + r, by the first terms of the series: within 2e-7 of itself.

    x is held below 88, where the result is a float32; below -87, where it is none that is normal,
    it is 0. A NaN stays one.
    """
    fused = _fused(builder)

    def every(value: float) -> Any:
        return ir.Constant(_VECTOR, [value] * LANES)

    def add_product(a: Any, b: Any, c: Any) -> Any:
        return builder.call(fused, [a, b, c])

    low = builder.fcmp_ordered("<", x, every(-87.0))
    x = builder.select(builder.fcmp_ordered(">", x, every(88.0)), every(88.0), x)
    whole = every(1.5 * 2**23)  # added to it, a number is rounded to its last bits
    shifted = add_product(x, every(math.log2(math.e)), whole)
    n = builder.fsub(shifted, whole)
    r = add_product(n, every(-0.693359375), x)
    r = add_product(n, every(2.1219444005469e-4), r)
    series = every(1 / math.factorial(7))
    for power in range(6, -1, -1):
        series = add_product(series, r, every(1 / math.factorial(power)))
    exponent = builder.shl(builder.bitcast(shifted, _BITS), ir.Constant(_BITS, [23] * LANES))
    one = ir.Constant(_BITS, [127 << 23] * LANES)
    found = builder.fmul(series, builder.bitcast(builder.add(exponent, one), _VECTOR))
    return builder.select(low, every(0.0), found)


@intrinsic  # type: ignore[untyped-decorator]
def exponentials(context: Any, address: Any, count: Any, most: Any) -> Any:
    """So many times LANES float32 numbers become e^(number - most); returns their sum."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, count, most = arguments
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(nothing, most, _LANE(0))
        every = builder.shuffle_vector(one, nothing, ir.Constant(_BITS, [0] * LANES))

        def grown(step: Any, sums: list[Any]) -> list[Any]:
            place = _address(builder, address, (_NUMBER(4 * LANES), step))
            new = _exponential(builder, builder.fsub(_load(builder, _VECTOR, place), every))
            _store(builder, new, place)
            return [builder.fadd(sums[0], new)]

        [total] = _loop(builder, count, [ir.Constant(_VECTOR, [0.0] * LANES)], grown)
        return _sum(builder, total)

    return types.float32(types.int64, types.int64, types.float32), code


def _word(builder: Any, first: Any, second: Any) -> Any:
    """The upper halves of two vectors' bits as one word each."""
    lower = builder.lshr(first, ir.Constant(_BITS, [16] * LANES))
    return builder.or_(lower, builder.and_(second, ir.Constant(_BITS, [0xFFFF0000] * LANES)))


@intrinsic  # type: ignore[untyped-decorator]
def weigh_columns(context: Any, scores: Any, pairs: Any, high: Any, low: Any, sums: Any) -> Any:
    """Exponentials of scores [2 pairs, LANES] less the highest of their column, as words.

    high and low [pairs, LANES] are each pair of rows in two halves (see amx); sums [LANES] are
    those of the columns. All by address.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scores, pairs, high, low, sums = arguments

        def two_rows(step: Any) -> list[Any]:
            place = _address(builder, scores, (_NUMBER(8 * LANES), step))
            return [
                _load(builder, _VECTOR, builder.add(place, _NUMBER(4 * LANES * i))) for i in (0, 1)
            ]

        def higher(step: Any, best: list[Any]) -> list[Any]:
            return [
                builder.select(builder.fcmp_ordered(">", new, old), new, old)
                for new, old in zip(two_rows(step), best, strict=True)
            ]

        lowest = ir.Constant(_VECTOR, [float("-inf")] * LANES)
        one, other = _loop(builder, pairs, [lowest, lowest], higher)
        best = builder.select(builder.fcmp_ordered(">", one, other), one, other)
        nothing, cut = (
            ir.Constant(_VECTOR, [0.0] * LANES),
            ir.Constant(_BITS, [0xFFFF0000] * LANES),
        )

        def grown(step: Any, totals: list[Any]) -> list[Any]:
            found = [_exponential(builder, builder.fsub(row, best)) for row in two_rows(step)]
            bits = [builder.bitcast(one, _BITS) for one in found]
            _store(builder, _word(builder, *bits), _address(builder, high, (_NUMBER(64), step)))
            rests = []
            for one, own in zip(found, bits, strict=True):
                kept = builder.bitcast(builder.and_(own, cut), _VECTOR)
                rest = builder.bitcast(builder.fsub(one, kept), _BITS)
                rests.append(builder.add(rest, ir.Constant(_BITS, [0x8000] * LANES)))
            _store(builder, _word(builder, *rests), _address(builder, low, (_NUMBER(64), step)))
            return [builder.fadd(a, b) for a, b in zip(totals, found, strict=True)]

        _store(builder, builder.fadd(*_loop(builder, pairs, [nothing, nothing], grown)), sums)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), code


def _sum(builder: Any, vector: Any) -> Any:
    """Of its numbers, in halves."""
    for width in (8, 4, 2, 1):
        nothing = ir.Constant(vector.type, ir.Undefined)
        lower, upper = (
            builder.shuffle_vector(
                vector, nothing,
                ir.Constant(ir.VectorType(_LANE, width), list(range(first, first + width))),
            )
            for first in (0, width)
        )  # fmt: skip
        vector = builder.fadd(lower, upper)
    return builder.extract_element(vector, _LANE(0))


@intrinsic  # type: ignore[untyped-decorator]
def set_tile(
    context: Any, a: Any, a_stride: Any, b: Any, b_stride: Any, count: Any, y: Any, y_stride: Any
) -> Any:
    """y = a b for a tile y, a of so many columns and b of so many rows (one at least).

    All float32, by their addresses and the bytes from a row to the next.
    """
    rows = range(TILE[0])

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, a_stride, b, b_stride, count, y, y_stride = arguments
        fused = _fused(builder)

        def grown(step: Any, sums: list[Any]) -> list[Any]:
            b_row = _load(builder, _VECTOR, _address(builder, b, (b_stride, step)))
            places = [
                _address(builder, a, (a_stride, _NUMBER(i)), (_NUMBER(4), step)) for i in rows
            ]
            factors = [_everywhere(builder, place) for place in places]
            return [builder.call(fused, [factors[i], b_row, sums[i]]) for i in rows]

        nothing = ir.Constant(_VECTOR, [0.0] * LANES)
        for i, total in enumerate(_loop(builder, count, [nothing for _ in rows], grown)):
            _store(builder, total, _address(builder, y, (y_stride, _NUMBER(i))))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), code


def _both_halves(builder: Any, place: Any) -> list[Any]:
    """The numbers in the lower and in the upper halves of LANES words."""
    both = _load(builder, _BITS, place)
    lower = builder.shl(both, ir.Constant(_BITS, [16] * LANES))
    upper = builder.and_(both, ir.Constant(_BITS, [0xFFFF0000] * LANES))
    return [builder.bitcast(bits, _VECTOR) for bits in (lower, upper)]


def _sums_of(builder: Any, vectors: list[Any]) -> Any:
    """A vector of the sums of LANES vectors, two of which are folded into one again and again."""
    wide = LANES
    while len(vectors) > 1:
        # Lanes of every sum in the making, first those of one vector, then of the other.
        lanes = [lane for lane in range(2 * LANES) if lane % wide < wide // 2]
        first = ir.Constant(_BITS, lanes)
        second = ir.Constant(_BITS, [lane + wide // 2 for lane in lanes])
        vectors = [
            builder.fadd(builder.shuffle_vector(a, b, first), builder.shuffle_vector(a, b, second))
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        wide //= 2
    return vectors[0]


@intrinsic  # type: ignore[untyped-decorator]
def add_dots(context: Any, x: Any, rows: Any, stride: Any, count: Any, y: Any, ahead: Any) -> Any:
    """y [LANES count] += rows x, for rows of LANES words, two bfloat16 numbers each.

    x [2, LANES] is float32: what the lower halves are multiplied with, then the upper ones. All by
    address; `stride` is bytes from a row to the next, `ahead` to what is to be fetched meanwhile.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, rows, stride, count, y, ahead = arguments
        fused, each = _fused(builder), builder.mul(stride, _NUMBER(LANES))
        halves = [_load(builder, _VECTOR, builder.add(x, _NUMBER(4 * LANES * i))) for i in (0, 1)]

        def grown(step: Any, _: list[Any]) -> list[Any]:
            products = []
            for row in range(LANES):
                place = _address(builder, rows, (each, step), (stride, _NUMBER(row)))
                _ask_for(builder, builder.add(place, ahead))
                lower, upper = _both_halves(builder, place)
                product = builder.fmul(lower, halves[0])
                products.append(builder.call(fused, [upper, halves[1], product]))
            place = _address(builder, y, (_NUMBER(4 * LANES), step))
            total = builder.fadd(_load(builder, _VECTOR, place), _sums_of(builder, products))
            _store(builder, total, place)
            return []

        _loop(builder, count, [], grown)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), code


@intrinsic  # type: ignore[untyped-decorator]
def weigh_rows(
    context: Any, weights: Any, rows: Any, stride: Any, count: Any, y: Any, ahead: Any
) -> Any:
    """y [2, LANES] = the sum of 4 count rows of LANES words, each times its weight.

    The lower halves of the words, then the upper ones. All by address, as in `add_dots`.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights, rows, stride, count, y, ahead = arguments
        fused, together = _fused(builder), 4

        def grown(step: Any, sums: list[Any]) -> list[Any]:
            new = []
            first = builder.mul(step, _NUMBER(together))
            for i in range(together):  # sums of their own, as one waits for the one before it
                number = builder.add(first, _NUMBER(i))
                weight = _everywhere(builder, _address(builder, weights, (_NUMBER(4), number)))
                place = _address(builder, rows, (stride, number))
                _ask_for(builder, builder.add(place, ahead))
                for half, before in zip(_both_halves(builder, place), sums[2 * i :], strict=False):
                    new.append(builder.call(fused, [half, weight, before]))
            return new

        nothing = ir.Constant(_VECTOR, [0.0] * LANES)
        sums = _loop(builder, count, [nothing] * (2 * together), grown)
        for half in (0, 1):
            a, b, c, d = sums[half::2]
            total = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
            _store(builder, total, builder.add(y, _NUMBER(4 * LANES * half)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), code


def _halves_adder(rows: int, strips: int = 1) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def add_halves(
        context: Any, x: Any, x_stride: Any, of: Any, words: Any, count: Any, y: Any, y_stride: Any,
        to: Any,
    ) -> Any:  # fmt: skip
        """y[to, : 2 LANES] += x[of, : count] W for so many rows and a strip of words (see halves).

        Two strips, which lie one after the other, are twice as wide. By addresses, also those of
        the indices, and bytes from a row to the next.
        """

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, x_stride, of, words, count, y, y_stride, to = arguments
            fused = _fused(builder)

            def row(base: Any, stride: Any, indices: Any, i: int) -> Any:
                index = _load(
                    builder, _NUMBER, _address(builder, indices, (_NUMBER(8), _NUMBER(i)))
                )
                return _address(builder, base, (stride, index))

            x_rows = [row(x, x_stride, of, i) for i in range(rows)]
            y_rows = [row(y, y_stride, to, i) for i in range(rows)]
            places = [
                _address(builder, y_row, (_NUMBER(4 * LANES), _NUMBER(part)))
                for y_row in y_rows
                for part in range(2 * strips)
            ]
            strip_bytes = builder.mul(_NUMBER(4 * LANES), count)

            def halves_at(step: Any, strip: int) -> list[Any]:
                place = _address(
                    builder, words, (_NUMBER(4 * LANES), step), (strip_bytes, _NUMBER(strip))
                )
                _ask_for(builder, builder.add(place, _NUMBER(_AHEAD)))
                return _both_halves(builder, place)

            def grown(step: Any, sums: list[Any]) -> list[Any]:
                parts = [half for strip in range(strips) for half in halves_at(step, strip)]
                remaining, new = iter(sums), []
                for x_row in x_rows:
                    factor = _everywhere(builder, _address(builder, x_row, (_NUMBER(4), step)))
                    new += [builder.call(fused, [factor, half, next(remaining)]) for half in parts]
                return new

            first = [_load(builder, _VECTOR, place) for place in places]
            for total, place in zip(_loop(builder, count, first, grown), places, strict=True):
                _store(builder, total, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), code

    return add_halves


add_halves_4, add_halves_2, add_halves_1 = map(_halves_adder, (4, 2, 1))
add_two_strips_2, add_two_strips_1 = _halves_adder(2, 2), _halves_adder(1, 2)
