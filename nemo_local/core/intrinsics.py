"""What numba has no words for, in LLVM's: addresses, numbers of 16 bits, exponentials."""

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
    """Where an array's numbers begin: as int64, since sums with NumPy's uint64 are floats."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(made.data, llvm.NUMBER)

    return types.int64(array), code


@intrinsic  # type: ignore[untyped-decorator]
def number(context: Any, kept: Any) -> Any:
    """A float32, or the one whose upper half these 16 bits are."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if kept == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], llvm.LANE), llvm.LANE(16))
        return builder.bitcast(bits, llvm.FLOAT)

    return types.float32(kept), code


@intrinsic  # type: ignore[untyped-decorator]
def as_in(context: Any, array: Any, x: Any) -> Any:
    """x as this array holds numbers: as it is, or the upper half of the nearest (or even) one."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x = arguments[1]
        return x if array.dtype == types.float32 else nearest_halves(builder, x)

    return array.dtype(array, types.float32), code


@intrinsic  # type: ignore[untyped-decorator]
def highest(context: Any, address: Any, count: Any) -> Any:
    """The highest of so many times LANES float32 numbers; a NaN is passed over.

    In a loop with `max`, which cares for NaN, numbers are compared one by one.
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
    """The upper halves of the nearest (or even) numbers that have no lower ones."""
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
    """2^n e^r with x = n ln 2 + r, by the first terms of the series: within 2e-7 of itself.

    x is float32, one or LANES of them. It is held below 88, where the result is a float32; below
    -87, where it is none that is normal, it is 0. A NaN stays one.
    """
    single = x.type == llvm.FLOAT
    fused, of_bits = llvm.fused(builder, x.type), llvm.LANE if single else llvm.BITS
    every, all_bits = partial(_constant, x.type), partial(_constant, of_bits)

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
    exponent = builder.shl(builder.bitcast(shifted, of_bits), all_bits(23))
    power = builder.bitcast(builder.add(exponent, all_bits(127 << 23)), x.type)
    return builder.select(low, every(0.0), builder.fmul(series, power))


def _constant(kind: Any, value: float) -> Any:
    """A number as a constant of this type; as LANES of them if it is a vector's."""
    return ir.Constant(kind, [value] * LANES if isinstance(kind, ir.VectorType) else value)


@intrinsic  # type: ignore[untyped-decorator]
def exp(context: Any, x: Any) -> Any:
    """e^x (see `exponential`)"""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return exponential(builder, arguments[0])

    return types.float32(types.float32), code


@intrinsic  # type: ignore[untyped-decorator]
def exponentials(context: Any, address: Any, count: Any, most: Any) -> Any:
    """So many times LANES float32 numbers become e^(number - most); returns their sum."""

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
