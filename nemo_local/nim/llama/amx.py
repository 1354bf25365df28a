"""Products of a few rows on the tiles of a processor with AMX: 16 rows of 32 bfloat16 numbers by as
many rows of 16 columns, 16 times as fast as vectors multiply float32.

Rows are float32. Each is the sum of two in bfloat16 to a part in 100,000, so two products with what
was stored in bfloat16 are one in nearly float32.
"""

from functools import lru_cache
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from nemo_local.core.llvm import LANES

ROWS = 16
"""Rows of a tile, at most."""
_BYTES = 64
"""Bytes of a tile's row: 16 numbers of float32 or 32 of bfloat16."""
_SUMS, _HIGH, _LOW, _WEIGHTS = range(4), 4, 5, (6, 7)
"""Which of the eight tiles hold sums, the two halves of rows, and weights."""

_BYTE, _SHORT, _NUMBER = ir.IntType(8), ir.IntType(16), ir.IntType(64)
_PLACE = _BYTE.as_pointer()


@lru_cache
def usable() -> bool:
    """Whether this processor has tiles for bfloat16, and the system lets this process use them."""
    return _COMPILED and torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx()


_COMPILED = "+amx-bf16" in cpu_target.target_context.codegen()._get_host_cpu_features().split(",")
"""Whether numba compiles tile instructions here; if not, the functions below are empty."""


def _tell(builder: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    told = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}")
    builder.call(told, arguments)


def _place(builder: Any, *parts: Any) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = builder.add(total, part)
    return builder.inttoptr(total, _PLACE)


@intrinsic  # type: ignore[untyped-decorator]
def begin(context: Any, rows: Any, deep: Any) -> Any:
    """Configure the tiles, for so many rows and for weights of `deep` words below each other."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not _COMPILED:
            return context.get_dummy_value()
        rows, deep = (builder.trunc(one, _BYTE) for one in arguments)
        form = cgutils.alloca_once(builder, ir.ArrayType(_BYTE, 64), zfill=True)
        start = builder.ptrtoint(form, _NUMBER)

        def set_at(offset: int, value: Any) -> None:
            place = builder.add(start, _NUMBER(offset))
            builder.store(value, builder.inttoptr(place, value.type.as_pointer()))

        set_at(0, _BYTE(1))
        words = builder.mul(builder.zext(deep, _SHORT), _SHORT(4))
        for tile in range(8):
            set_at(16 + 2 * tile, words if tile in (_HIGH, _LOW) else _SHORT(_BYTES))
            set_at(48 + tile, deep if tile in _WEIGHTS else rows)
        _tell(builder, "ldtilecfg", builder.bitcast(form, _PLACE))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def end(context: Any) -> Any:
    """Give the tiles back."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _COMPILED:
            _tell(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic  # type: ignore[untyped-decorator]
def halve(context: Any, x: Any, high: Any, low: Any, count: Any) -> Any:
    """Split `count` float32 numbers into sums of two in bfloat16 each, by addresses.

    The first is cut off, the second rounded. A NaN stays one in either.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, high, low, count = arguments
        whole = builder.and_(count, _NUMBER(-LANES))
        _halve(builder, LANES, x, high, low, _NUMBER(0), whole)
        _halve(builder, 1, x, high, low, whole, count)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), code


def _halve(builder: Any, lanes: int, x: Any, high: Any, low: Any, first: Any, end: Any) -> None:
    """Split the numbers from the first to the end, so many at once."""
    of_bits = ir.VectorType(ir.IntType(32), lanes)
    of_numbers, of_halves = (ir.VectorType(kind, lanes) for kind in (ir.FloatType(), _SHORT))

    def every(value: int) -> Any:
        return ir.Constant(of_bits, [value] * lanes)

    with cgutils.for_range_slice(builder, first, end, _NUMBER(lanes)) as (number, _):

        def keep(bits: Any, address: Any) -> None:
            upper = builder.trunc(builder.lshr(bits, every(16)), of_halves)
            place = _place(builder, address, builder.mul(number, _NUMBER(2)))
            builder.store(upper, builder.bitcast(place, of_halves.as_pointer()), align=2)

        place = _place(builder, x, builder.mul(number, _NUMBER(4)))
        bits = builder.load(builder.bitcast(place, of_bits.as_pointer()), align=4)
        keep(bits, high)
        cut = builder.bitcast(builder.and_(bits, every(0xFFFF0000)), of_numbers)
        rest = builder.bitcast(builder.fsub(builder.bitcast(bits, of_numbers), cut), of_bits)
        odd = builder.and_(builder.lshr(rest, every(16)), every(1))
        keep(builder.add(rest, builder.add(odd, every(0x7FFF))), low)


def _multiplier(strips: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def multiply(
        context: Any, y: Any, y_stride: Any, fresh: Any, deep: Any, one: Any, other: Any
    ) -> Any:
        """y [rows, 16 strips] += (high + low) W, twice; `fresh` sums begin at zero.

        Each of the two has the addresses of high and low, the bytes from a row to the next, the
        address of W's words, the bytes from a strip to the next, and the words of a strip.
        """

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if _COMPILED:
                y, y_stride, fresh, deep, *both = arguments
                operands = [cgutils.unpack_tuple(builder, one, 6) for one in both]
                _multiply(builder, strips, y, y_stride, fresh, deep, operands)
            return context.get_dummy_value()

        operand, number = types.UniTuple(types.int64, 6), types.int64
        return types.void(number, number, types.boolean, number, operand, operand), code

    return multiply


def _multiply(
    builder: Any, strips: int, y: Any, y_stride: Any, fresh: Any, deep: Any, operands: Any
) -> None:
    places = [_place(builder, y, _NUMBER(_BYTES * tile)) for tile in _SUMS[:strips]]
    with builder.if_else(cgutils.is_true(builder, fresh)) as (begin, go_on):
        with begin:
            for tile in _SUMS[:strips]:
                _tell(builder, "tilezero", _BYTE(tile))
        with go_on:
            for tile, place in enumerate(places):
                _tell(builder, "tileloadd64", _BYTE(tile), place, y_stride)
    for high, low, x_stride, words, strip, count in operands:
        with cgutils.for_range_slice(builder, _NUMBER(0), count, deep) as (done, _):
            _add(builder, strips, done, (high, low), x_stride, words, strip)
    for tile, place in enumerate(places):
        _tell(builder, "tilestored64", _BYTE(tile), place, y_stride)


def _add(
    builder: Any, strips: int, done: Any, x: tuple[Any, Any], x_stride: Any, words: Any, strip: Any
) -> None:
    """Add the products of a tile of rows, in two halves, with a tile of each strip."""
    one_row, of_x = _NUMBER(_BYTES), builder.mul(done, _NUMBER(4))
    for tile, half in zip((_HIGH, _LOW), x, strict=True):
        _tell(builder, "tileloadd64", _BYTE(tile), _place(builder, half, of_x), x_stride)
    of_words = builder.add(words, builder.mul(done, one_row))
    for first in range(0, strips, 2):
        both = range(first, min(first + 2, strips))
        for tile in both:
            place = builder.add(of_words, builder.mul(strip, _NUMBER(tile)))
            weights = _BYTE(_WEIGHTS[tile % 2])
            _tell(builder, "tileloadd64", weights, _place(builder, place), one_row)
        for half in (_HIGH, _LOW):  # a product waits for the one before it in the same sums
            for tile in both:
                _tell(builder, "tdpbf16ps", _BYTE(tile), _BYTE(half), _BYTE(_WEIGHTS[tile % 2]))


multiply_4, multiply_2, multiply_1 = map(_multiplier, (4, 2, 1))


@intrinsic  # type: ignore[untyped-decorator]
def multiply_words(
    context: Any, rows: Any, stride: Any, high: Any, low: Any, count: Any, deep: Any, y: Any
) -> Any:
    """y [16, 16] = rows (high + low), for rows in bfloat16 and the first `count` words of strips.

    By addresses, and bytes from a row to the next.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not _COMPILED:
            return context.get_dummy_value()
        rows, stride, high, low, count, deep, y = arguments
        one_row, total = _NUMBER(_BYTES), _BYTE(_SUMS[0])
        _tell(builder, "tilezero", total)
        with cgutils.for_range_slice(builder, _NUMBER(0), count, deep) as (done, _):
            place = _place(builder, rows, builder.mul(done, _NUMBER(4)))
            _tell(builder, "tileloadd64", _BYTE(_HIGH), place, stride)
            for words, tile in zip((high, low), _WEIGHTS, strict=True):
                place = _place(builder, words, builder.mul(done, one_row))
                _tell(builder, "tileloadd64", _BYTE(tile), place, one_row)
                _tell(builder, "tdpbf16ps", total, _BYTE(_HIGH), _BYTE(tile))
        _tell(builder, "tilestored64", total, _place(builder, y), one_row)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), code
