"""What numba has no words for, in LLVM's: memory at an address, and a tile of a product."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

TILE = (4, 16)
"""Rows and columns whose sums stay in registers, also in those of 8 numbers."""


@intrinsic  # type: ignore[untyped-decorator]
def pointer(context: Any, address: Any) -> Any:
    """The address of float32 numbers as a pointer to them."""
    kind = types.CPointer(types.float32)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def ask_for(context: Any, address: Any) -> Any:
    """Have the memory at this address fetched meanwhile; any address will do."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        kinds = [ir.IntType(8).as_pointer(), number, number, number]
        fetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0i8"
        )
        how = [number(0), number(2), number(1)]  # to read; into the second cache; data
        builder.call(fetch, [builder.inttoptr(arguments[0], kinds[0]), *how])
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def set_tile(
    context: Any, a: Any, a_stride: Any, b: Any, b_stride: Any, count: Any, y: Any, y_stride: Any
) -> Any:
    """y = a b for a tile y, a of so many columns and b of so many rows (one at least).

    All float32, by their addresses and the bytes from a row to the next.
    """
    rows, columns = TILE
    number, float_ = ir.IntType(64), ir.FloatType()
    vector = ir.VectorType(float_, columns)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, a_stride, b, b_stride, count, y, y_stride = arguments

        def at(kind: Any, address: Any, stride: Any, row: Any) -> Any:
            place = builder.add(address, builder.mul(stride, row))
            return builder.inttoptr(place, kind.as_pointer())

        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{columns}f32"
        )
        nothing, first = ir.Constant(vector, ir.Undefined), ir.IntType(32)(0)
        every = ir.Constant(ir.VectorType(ir.IntType(32), columns), [0] * columns)
        before, loop = builder.block, builder.append_basic_block()
        after = builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(number)
        sums = [builder.phi(vector) for _ in range(rows)]
        b_row = builder.load(at(vector, b, b_stride, step), align=4)
        new = []
        for i, total in enumerate(sums):
            column = builder.add(a, builder.mul(step, number(4)))
            factor = builder.load(at(float_, column, a_stride, number(i)))
            factors = builder.insert_element(nothing, factor, first)
            factors = builder.shuffle_vector(factors, nothing, every)
            new.append(builder.call(fused, [factors, b_row, total]))
            total.add_incoming(ir.Constant(vector, [0.0] * columns), before)
            total.add_incoming(new[i], loop)
        next_step = builder.add(step, number(1))
        step.add_incoming(number(0), before)
        step.add_incoming(next_step, loop)
        builder.cbranch(builder.icmp_signed("<", next_step, count), loop, after)
        builder.position_at_end(after)
        for i, total in enumerate(new):
            builder.store(total, at(vector, y, y_stride, number(i)), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), code
