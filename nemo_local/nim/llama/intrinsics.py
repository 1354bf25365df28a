"""What attention and products of a few rows do in the registers of a processor, in LLVM's words."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nemo_local.core import llvm
from nemo_local.core.intrinsics import exponential
from nemo_local.core.llvm import LANES

TILE = (4, LANES)
"""Rows and columns whose sums stay in registers, also in those of 8 numbers."""

_AHEAD = 1024
"""Bytes of a weight that are asked for before they are needed."""


@intrinsic  # type: ignore[untyped-decorator]
def weigh_columns(context: Any, scores: Any, pairs: Any, high: Any, low: Any, sums: Any) -> Any:
    """Exponentials of scores [2 pairs, LANES] less the highest of their column, as words.

    high and low [pairs, LANES] are each pair of rows in two halves (see amx); sums [LANES] are
    those of the columns. All by address.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scores, pairs, high, low, sums = arguments

        def two_rows(step: Any) -> list[Any]:
            place = llvm.address_of(builder, scores, (llvm.NUMBER(8 * LANES), step))
            return [
                llvm.load(builder, llvm.VECTOR, builder.add(place, llvm.NUMBER(4 * LANES * i)))
                for i in (0, 1)
            ]

        def higher(step: Any, best: list[Any]) -> list[Any]:
            return [
                builder.select(builder.fcmp_ordered(">", new, old), new, old)
                for new, old in zip(two_rows(step), best, strict=True)
            ]

        lowest = ir.Constant(llvm.VECTOR, [float("-inf")] * LANES)
        one, other = llvm.loop(builder, pairs, [lowest, lowest], higher)
        best = builder.select(builder.fcmp_ordered(">", one, other), one, other)
        nothing, cut = (
            ir.Constant(llvm.VECTOR, [0.0] * LANES),
            ir.Constant(llvm.BITS, [0xFFFF0000] * LANES),
        )

        def grown(step: Any, totals: list[Any]) -> list[Any]:
            found = [exponential(builder, builder.fsub(row, best)) for row in two_rows(step)]
            bits = [builder.bitcast(one, llvm.BITS) for one in found]
            llvm.store(
                builder,
                _word_of(builder, *bits),
                llvm.address_of(builder, high, (llvm.NUMBER(64), step)),
            )
            rests = []
            for one, own in zip(found, bits, strict=True):
                kept = builder.bitcast(builder.and_(own, cut), llvm.VECTOR)
                rest = builder.bitcast(builder.fsub(one, kept), llvm.BITS)
                rests.append(builder.add(rest, ir.Constant(llvm.BITS, [0x8000] * LANES)))
            llvm.store(
                builder,
                _word_of(builder, *rests),
                llvm.address_of(builder, low, (llvm.NUMBER(64), step)),
            )
            return [builder.fadd(a, b) for a, b in zip(totals, found, strict=True)]

        llvm.store(
            builder, builder.fadd(*llvm.loop(builder, pairs, [nothing, nothing], grown)), sums
        )
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), code


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
        fused = llvm.fused(builder)

        def grown(step: Any, sums: list[Any]) -> list[Any]:
            b_row = llvm.load(builder, llvm.VECTOR, llvm.address_of(builder, b, (b_stride, step)))
            places = [
                llvm.address_of(builder, a, (a_stride, llvm.NUMBER(i)), (llvm.NUMBER(4), step))
                for i in rows
            ]
            factors = [_everywhere(builder, place) for place in places]
            return [builder.call(fused, [factors[i], b_row, sums[i]]) for i in rows]

        nothing = ir.Constant(llvm.VECTOR, [0.0] * LANES)
        for i, total in enumerate(llvm.loop(builder, count, [nothing for _ in rows], grown)):
            llvm.store(builder, total, llvm.address_of(builder, y, (y_stride, llvm.NUMBER(i))))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), code


@intrinsic  # type: ignore[untyped-decorator]
def add_dots(context: Any, x: Any, rows: Any, stride: Any, count: Any, y: Any, ahead: Any) -> Any:
    """y [LANES count] += rows x, for rows of LANES words, two bfloat16 numbers each.

    x [2, LANES] is float32: what the lower halves are multiplied with, then the upper ones. All by
    address; `stride` is bytes from a row to the next, `ahead` to what is to be fetched meanwhile.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, rows, stride, count, y, ahead = arguments
        fused, each = llvm.fused(builder), builder.mul(stride, llvm.NUMBER(LANES))
        halves = [
            llvm.load(builder, llvm.VECTOR, builder.add(x, llvm.NUMBER(4 * LANES * i)))
            for i in (0, 1)
        ]

        def grown(step: Any, _: list[Any]) -> list[Any]:
            products = []
            for row in range(LANES):
                place = llvm.address_of(builder, rows, (each, step), (stride, llvm.NUMBER(row)))
                _ask_for(builder, builder.add(place, ahead))
                lower, upper = _both_halves(builder, place)
                product = builder.fmul(lower, halves[0])
                products.append(builder.call(fused, [upper, halves[1], product]))
            place = llvm.address_of(builder, y, (llvm.NUMBER(4 * LANES), step))
            total = builder.fadd(
                llvm.load(builder, llvm.VECTOR, place), _sums_of(builder, products)
            )
            llvm.store(builder, total, place)
            return []

        llvm.loop(builder, count, [], grown)
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
        fused, together = llvm.fused(builder), 4

        def grown(step: Any, sums: list[Any]) -> list[Any]:
            new = []
            first = builder.mul(step, llvm.NUMBER(together))
            for i in range(together):  # separate sums: one waits for the one before it
                number = builder.add(first, llvm.NUMBER(i))
                weight = _everywhere(
                    builder, llvm.address_of(builder, weights, (llvm.NUMBER(4), number))
                )
                place = llvm.address_of(builder, rows, (stride, number))
                _ask_for(builder, builder.add(place, ahead))
                for half, before in zip(_both_halves(builder, place), sums[2 * i :], strict=False):
                    new.append(builder.call(fused, [half, weight, before]))
            return new

        nothing = ir.Constant(llvm.VECTOR, [0.0] * LANES)
        sums = llvm.loop(builder, count, [nothing] * (2 * together), grown)
        for half in (0, 1):
            a, b, c, d = sums[half::2]
            total = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
            llvm.store(builder, total, builder.add(y, llvm.NUMBER(4 * LANES * half)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), code


def _halves_adder(rows: int, strips: int = 1) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def add_halves(
        context: Any, x: Any, x_stride: Any, words: Any, count: Any, y: Any, y_stride: Any
    ) -> Any:
        """y[:, : 2 LANES] += x[:, : count] W for so many rows and a strip of words (see halves).

        Two strips, which lie one after the other, are twice as wide. By addresses, and bytes from a
        row to the next.
        """

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, x_stride, words, count, y, y_stride = arguments
            fused, every = llvm.fused(builder), [llvm.NUMBER(i) for i in range(rows)]
            x_rows = [llvm.address_of(builder, x, (x_stride, i)) for i in every]
            places = [
                llvm.address_of(builder, y, (y_stride, i), (llvm.NUMBER(4 * LANES), llvm.NUMBER(n)))
                for i in every
                for n in range(2 * strips)
            ]
            strip_bytes = builder.mul(llvm.NUMBER(4 * LANES), count)

            def halves_at(step: Any, strip: int) -> list[Any]:
                place = llvm.address_of(
                    builder,
                    words,
                    (llvm.NUMBER(4 * LANES), step),
                    (strip_bytes, llvm.NUMBER(strip)),
                )
                _ask_for(builder, builder.add(place, llvm.NUMBER(_AHEAD)))
                return _both_halves(builder, place)

            def grown(step: Any, sums: list[Any]) -> list[Any]:
                parts = [half for strip in range(strips) for half in halves_at(step, strip)]
                remaining, new = iter(sums), []
                for x_row in x_rows:
                    factor = _everywhere(
                        builder, llvm.address_of(builder, x_row, (llvm.NUMBER(4), step))
                    )
                    new += [builder.call(fused, [factor, half, next(remaining)]) for half in parts]
                return new

            first = [llvm.load(builder, llvm.VECTOR, place) for place in places]
            for total, place in zip(llvm.loop(builder, count, first, grown), places, strict=True):
                llvm.store(builder, total, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), code

    return add_halves


add_halves_4, add_halves_2, add_halves_1 = map(_halves_adder, (4, 2, 1))
add_two_strips_2, add_two_strips_1 = _halves_adder(2, 2), _halves_adder(1, 2)


def _ask_for(builder: Any, address: Any) -> None:
    """Have the processor fetch what stands at an address, without waiting for it."""
    kinds = [ir.IntType(8).as_pointer(), llvm.LANE, llvm.LANE, llvm.LANE]
    fetch = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0i8"
    )
    how = [llvm.LANE(0), llvm.LANE(2), llvm.LANE(1)]  # to read; into the second cache; data
    builder.call(fetch, [builder.inttoptr(address, kinds[0]), *how])


def _everywhere(builder: Any, address: Any) -> Any:
    """The number at an address, in all lanes."""
    return llvm.in_all_lanes(builder, llvm.load(builder, llvm.FLOAT, address))


def _both_halves(builder: Any, place: Any) -> list[Any]:
    """The numbers in the lower and in the upper halves of LANES words."""
    both = llvm.load(builder, llvm.BITS, place)
    lower = builder.shl(both, ir.Constant(llvm.BITS, [16] * LANES))
    upper = builder.and_(both, ir.Constant(llvm.BITS, [0xFFFF0000] * LANES))
    return [builder.bitcast(bits, llvm.VECTOR) for bits in (lower, upper)]


def _word_of(builder: Any, first: Any, second: Any) -> Any:
    """The upper halves of two vectors' bits as one word each."""
    lower = builder.lshr(first, ir.Constant(llvm.BITS, [16] * LANES))
    return builder.or_(lower, builder.and_(second, ir.Constant(llvm.BITS, [0xFFFF0000] * LANES)))


def _sums_of(builder: Any, vectors: list[Any]) -> Any:
    """A vector of the sums of LANES vectors, two of which are folded into one again and again."""
    wide = LANES
    while len(vectors) > 1:
        # Lanes of every sum in the making, first those of one vector, then of the other.
        lanes = [lane for lane in range(2 * LANES) if lane % wide < wide // 2]
        first = ir.Constant(llvm.BITS, lanes)
        second = ir.Constant(llvm.BITS, [lane + wide // 2 for lane in lanes])
        vectors = [
            builder.fadd(builder.shuffle_vector(a, b, first), builder.shuffle_vector(a, b, second))
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        wide //= 2
    return vectors[0]
