"""LLVM IR building blocks that the intrinsics share: memory by address, loops, vectors."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

LANES = 16
"""Numbers per vector operation: one AVX-512 register, or two or four narrower ones."""
NUMBER, LANE, FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
VECTOR, BITS = ir.VectorType(FLOAT, LANES), ir.VectorType(LANE, LANES)
HALVES = ir.VectorType(ir.IntType(16), LANES)


def address_of(builder: Any, base: Any, *steps: tuple[Any, Any]) -> Any:
    """The address `base` plus bytes * count for each of `steps`."""
    for bytes_, count in steps:
        base = builder.add(base, builder.mul(bytes_, count))
    return base


def load(builder: Any, kind: Any, address: Any, align: int = 4) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)


def store(builder: Any, vector: Any, address: Any, align: int = 4) -> None:
    builder.store(vector, builder.inttoptr(address, vector.type.as_pointer()), align=align)


def in_all_lanes(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, number, LANE(0))
    return builder.shuffle_vector(one, nothing, ir.Constant(BITS, [0] * LANES))


Grown = Callable[[Any, list[Any]], list[Any]]
"""A loop body: from the iteration's number and the vectors before it to those after it."""


def loop(builder: Any, count: Any, first: list[Any], grown: Grown) -> list[Any]:
    """The vectors `first` after `count` iterations of the body `grown`, at least one."""
    before, loop = builder.block, builder.append_basic_block()
    after = builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(NUMBER)
    sums = [builder.phi(VECTOR) for _ in first]
    new = grown(step, sums)
    following = builder.add(step, NUMBER(1))
    step.add_incoming(NUMBER(0), before)
    step.add_incoming(following, loop)
    for total, begin, end in zip(sums, first, new, strict=True):
        total.add_incoming(begin, before)
        total.add_incoming(end, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return new


def fused(builder: Any, of: Any = VECTOR) -> Any:
    """The LLVM function x y + z of vectors or of numbers: one instruction where the CPU has it."""
    name = "llvm.fmuladd.f32" if of == FLOAT else f"llvm.fmuladd.v{LANES}f32"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(of, [of] * 3), name)


def sum_of(builder: Any, vector: Any) -> Any:
    """The sum of a vector's LANES numbers, by repeated halving."""
    for width in (8, 4, 2, 1):
        nothing = ir.Constant(vector.type, ir.Undefined)
        lower, upper = (
            builder.shuffle_vector(
                vector, nothing,
                ir.Constant(ir.VectorType(LANE, width), list(range(first, first + width))),
            )
            for first in (0, width)
        )  # fmt: skip
        vector = builder.fadd(lower, upper)
    return builder.extract_element(vector, LANE(0))
