"""Numba intrinsics in LLVM IR: array addresses, bfloat16 conversion, vectorized exponentials."""

import math
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nemo_local.core import llvm
from nemo_local.core.llvm import LANES


@intrinsic  # type: ignore[untyped-decorator]
def address(context: Any, array: Any) -> Any:
    """The address of an array's data, as int64: sums of NumPy's uint64 and int64 are floats."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(made.data, llvm.NUMBER)

    return types.int64(array), code


@intrinsic  # type: ignore[untyped-decorator]
def number(context: Any, kept: Any) -> Any:
    """A stored number as float32: itself, or the value of the 16 bits of a bfloat16."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if kept == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], llvm.LANE), llvm.LANE(16))
        return builder.bitcast(bits, llvm.FLOAT)

    return types.float32(kept), code


@intrinsic  # type: ignore[untyped-decorator]
def as_in(context: Any, array: Any, x: Any) -> Any:
    """x as `array` stores it: as float32, or as the bits of the nearest (or even) bfloat16."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x = arguments[1]
        return x if array.dtype == types.float32 else nearest_halves(builder, x)

    return array.dtype(array, types.float32), code


@intrinsic  # type: ignore[untyped-decorator]
def highest(context: Any, address: Any, count: Any) -> Any:
    """The highest of `count` * LANES float32 numbers at an address; NaNs are skipped.

    A loop with `max`, which must respect NaN, would compare numbers one by one.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, count = arguments

        def grown(step: Any, best: list[Any]) -> list[Any]:
            new = llvm.load(
                builder,
                llvm.VECTOR,
                llvm.address_of(builder, address, (llvm.NUMBER(4 * LANES), step)),
            )
            return [builder.select(builder.fcmp_ordered(">", new, best[0]), new, best[0])]

        [best] = llvm.loop(
            builder, count, [ir.Constant(llvm.VECTOR, [float("-inf")] * LANES)], grown
        )
        kind = ir.FunctionType(llvm.FLOAT, [llvm.VECTOR])
        name = f"llvm.vector.reduce.fmax.v{LANES}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [best])

    return types.float32(types.int64, types.int64), code


def nearest_halves(builder: Any, x: Any) -> Any:
    """The bits of x, one float32 or LANES of them, rounded to the nearest (or even) bfloat16."""
    single = x.type == llvm.FLOAT
    of_bits = llvm.LANE if single else llvm.BITS
    all_bits = partial(_constant, of_bits)
    bits = builder.bitcast(x, of_bits)
    odd = builder.and_(builder.lshr(bits, all_bits(16)), all_bits(1))
    nearest = builder.add(bits, builder.add(odd, all_bits(0x7FFF)))
    none = builder.or_(bits, all_bits(0x400000))  # a NaN stays one
    rounded = builder.select(builder.fcmp_unordered("uno", x, x), none, nearest)
    half = ir.IntType(16) if single else llvm.HALVES
    return builder.trunc(builder.lshr(rounded, all_bits(16)), half)


def exponential(builder: Any, x: Any) -> Any:
    """e^x as 2^n e^r with x = n ln 2 + r, by the first terms of the series; relative error 2e-7.

    x is one float32 or LANES of them. It is capped at 88, so that the result is finite; below -87,
    where results are about to become subnormal, the result is 0. NaN stays NaN.
    """
    single = x.type == llvm.FLOAT
    fused, of_bits = llvm.fused(builder, x.type), llvm.LANE if single else llvm.BITS
    every, all_bits = partial(_constant, x.type), partial(_constant, of_bits)

    def add_product(a: Any, b: Any, c: Any) -> Any:
        return builder.call(fused, [a, b, c])

    low = builder.fcmp_ordered("<", x, every(-87.0))
    x = builder.select(builder.fcmp_ordered(">", x, every(88.0)), every(88.0), x)
    whole = every(1.5 * 2**23)  # adding it rounds to an integer, in the low bits
    shifted = add_product(x, every(math.log2(math.e)), whole)
    n = builder.fsub(shifted, whole)
    r = add_product(n, every(-0.693359375), x)
    r = add_product(n, every(2.1219444005469e-4), r)
    series = every(1 / math.factorial(7))
    for power in range(6, -1, -1):
        series = add_product(series, r, every(1 / math.factorial(power)))
    exponent = builder.shl(builder.bitcast(shifted, of_bits), all_bits(23))
    power = builder.bitcast(builder.add(exponent, all_bits(127 << 23)), x.type)
    return builder.select(low, every(0.0), builder.fmul(series, power))


def _constant(kind: Any, value: float) -> Any:
    """A constant of this type; for a vector type, with the number in all LANES."""
    return ir.Constant(kind, [value] * LANES if isinstance(kind, ir.VectorType) else value)


@intrinsic  # type: ignore[untyped-decorator]
def exp(context: Any, x: Any) -> Any:
    """e^x (see `exponential`)"""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return exponential(builder, arguments[0])

    return types.float32(types.float32), code


@intrinsic  # type: ignore[untyped-decorator]
def exponentials(context: Any, address: Any, count: Any, most: Any) -> Any:
    """Replace `count` * LANES float32 numbers by e^(number - most), and return the new sum."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, count, most = arguments
        every = llvm.in_all_lanes(builder, most)

        def grown(step: Any, sums: list[Any]) -> list[Any]:
            place = llvm.address_of(builder, address, (llvm.NUMBER(4 * LANES), step))
            new = exponential(builder, builder.fsub(llvm.load(builder, llvm.VECTOR, place), every))
            llvm.store(builder, new, place)
            return [builder.fadd(sums[0], new)]

        [total] = llvm.loop(builder, count, [ir.Constant(llvm.VECTOR, [0.0] * LANES)], grown)
        return llvm.sum_of(builder, total)

    return types.float32(types.int64, types.int64, types.float32), code
