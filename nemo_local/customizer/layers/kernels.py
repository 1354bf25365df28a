"""Compiled kernels for what a CPU training computes besides products, each in one pass over rows.

PyTorch takes a pass for each operation, and twice as long where types are mixed. Kernels run in
one thread, without the GIL.

Arrays are float32 or bfloat16 (here as uint16), as they are given; sums are float32. N tokens,
B rows of T tokens, E hidden size, I intermediate size, H heads of size d
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from nemo_local.core import gates, llvm
from nemo_local.core.compiler import Compiler
from nemo_local.core.intrinsics import (
    address,
    as_in,
    exp,
    exponentials,
    highest,
    nearest_halves,
    number,
)
from nemo_local.core.llvm import LANES

kernel = Compiler(Path(__file__).parent, "kernels")

_ONE = np.float32(1)


def numbers(tensor: Tensor) -> NDArray[Any]:
    """A tensor's memory as the array that kernels read and write; bfloat16 as uint16."""
    tensor = tensor.detach()
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    bits: NDArray[Any] = tensor.view(torch.int16).numpy()
    return bits.view(np.uint16)


@kernel()
def norm(x: Any, weight: Any, epsilon: Any, y: Any, factors: Any) -> None:
    """y [N, E] = weight x factor, with factors [N] = 1 / sqrt(mean(x^2) + epsilon)"""
    size = x.shape[1]
    for i in range(x.shape[0]):
        row, out, total = x[i], y[i], np.float32(0)
        for e in range(size):
            total += number(row[e]) * number(row[e])
        factor = np.float32(1 / np.sqrt(total / size + epsilon))
        factors[i] = factor
        for e in range(size):
            out[e] = as_in(out, number(row[e]) * factor * number(weight[e]))


@kernel()
def norm_back(x: Any, weight: Any, factors: Any, dy: Any, dx: Any) -> None:
    """The backward pass of `norm`: dx [N, E] from dy [N, E]."""
    size = x.shape[1]
    for i in range(x.shape[0]):
        row, given, out, total = x[i], dy[i], dx[i], np.float32(0)
        for e in range(size):
            total += number(given[e]) * number(weight[e]) * number(row[e])
        factor = factors[i]
        share = total * factor * factor * factor / np.float32(size)
        for e in range(size):
            scaled = number(given[e]) * number(weight[e]) * factor
            out[e] = as_in(out, scaled - number(row[e]) * share)


gate = kernel()(gates.gate)


@kernel()
def gate_back(both: Any, dy: Any, dboth: Any) -> None:
    """The backward pass of `gate`: dboth [N, 2 I] from dy [N, I]."""
    size = dy.shape[1]
    for i in range(dy.shape[0]):
        gates, ups, given = both[i, :size], both[i, size:], dy[i]
        dgates, dups = dboth[i, :size], dboth[i, size:]
        for e in range(size):
            x, dout = number(gates[e]), number(given[e])
            sigmoid = _ONE / (_ONE + exp(-x))
            dups[e] = as_in(dups, dout * x * sigmoid)
            slope = sigmoid * (_ONE + x * (_ONE - sigmoid))
            dgates[e] = as_in(dgates, dout * number(ups[e]) * slope)


def _numbers_at(builder: Any, kept: Any, place: Any) -> Any:
    """Load LANES numbers as float32 from `place`, where they may be bfloat16 (see `number`)."""
    if kept == types.float32:
        return llvm.load(builder, llvm.VECTOR, place)
    halves = builder.zext(llvm.load(builder, llvm.HALVES, place, 2), llvm.BITS)
    return builder.bitcast(builder.shl(halves, ir.Constant(llvm.BITS, [16] * LANES)), llvm.VECTOR)


def _keep_numbers(builder: Any, kept: Any, x: Any, place: Any) -> None:
    """Store LANES float32 numbers at `place` in the type `kept`."""
    if kept == types.float32:
        llvm.store(builder, x, place)
    else:
        llvm.store(builder, nearest_halves(builder, x), place, 2)


@intrinsic  # type: ignore[untyped-decorator]
def _widen(context: Any, kept: Any, place: Any, factor: Any, to: Any) -> Any:
    """Load LANES numbers of the type of `kept`, store them times `factor` as float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, place, factor, to = arguments
        found = builder.fmul(_numbers_at(builder, kept, place), llvm.in_all_lanes(builder, factor))
        llvm.store(builder, found, to)
        return context.get_dummy_value()

    return types.void(kept, types.int64, types.float32, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def _narrow(context: Any, kept: Any, place: Any, factor: Any, to: Any) -> Any:
    """Load LANES float32 numbers, store them times `factor` in the type of `kept`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, place, factor, to = arguments
        numbers = llvm.load(builder, llvm.VECTOR, place)
        scaled = builder.fmul(numbers, llvm.in_all_lanes(builder, factor))
        _keep_numbers(builder, kept, scaled, to)
        return context.get_dummy_value()

    return types.void(kept, types.int64, types.float32, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def _turn_some(context: Any, kept: Any, x: Any, half: Any, cos: Any, sin: Any, y: Any) -> Any:
    """Rotate LANES pairs of numbers, which lie `half` bytes apart, by their angles."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, x, half, cos, sin, y = arguments
        a, b = (_numbers_at(builder, kept, place) for place in (x, builder.add(x, half)))
        c, s = (llvm.load(builder, llvm.VECTOR, place) for place in (cos, sin))
        first = builder.fsub(builder.fmul(a, c), builder.fmul(b, s))
        second = builder.fadd(builder.fmul(b, c), builder.fmul(a, s))
        _keep_numbers(builder, kept, first, y)
        _keep_numbers(builder, kept, second, builder.add(y, half))
        return context.get_dummy_value()

    return types.void(kept, *[types.int64] * 5), code


@kernel()
def turn(x: Any, cos: Any, sin: Any, y: Any) -> None:
    """y [B, H, T, d] = x with each head rotated by the angles [B, T, d] of its position (RoPE).

    Halves of d are the two coordinates. The numbers of a head are contiguous.
    """
    half, size = x.shape[3] // 2, x.strides[3]
    whole = half - half % LANES
    for b in range(x.shape[0]):
        for t in range(x.shape[2]):  # a token's heads lie together, in x or in y
            for h in range(x.shape[1]):
                row, out, c, s = x[b, h, t], y[b, h, t], cos[b, t], sin[b, t]
                for e in range(0, whole, LANES):
                    _turn_some(
                        row[0], address(row) + size * e, size * half, address(c) + 4 * e,
                        address(s) + 4 * e, address(out) + size * e,
                    )  # fmt: skip
                for e in range(whole, half):
                    first, second = number(row[e]), number(row[e + half])
                    out[e] = as_in(out, first * c[e] - second * s[e])
                    out[e + half] = as_in(out, second * c[e] + first * s[e])


@kernel()
def softmax(scores: Any, scaling: Any) -> None:
    """Causal softmax in place: each row of scores [H, T, T] becomes weights, later ones zero."""
    length, size = scores.shape[1], scores.strides[2]
    room = np.empty(-(-length // LANES) * LANES, np.float32)
    place = address(room)
    for h in range(scores.shape[0]):
        for i in range(length):
            row, seen, blocks = scores[h, i], i + 1, i // LANES + 1
            end = blocks * LANES
            whole = end if end <= length else end - LANES
            for j in range(0, whole, LANES):
                _widen(row[0], address(row) + size * j, scaling, place + 4 * j)
            for j in range(whole, seen):
                room[j] = number(row[j]) * scaling
            for j in range(seen, end):
                room[j] = -np.inf
            factor = _ONE / exponentials(place, blocks, highest(place, blocks))
            for j in range(0, whole, LANES):
                _narrow(row[0], place + 4 * j, factor, address(row) + size * j)
            for j in range(whole, seen):
                row[j] = as_in(row, room[j] * factor)
            for j in range(max(whole, seen), length):
                row[j] = 0
