"""What a CPU computes number by number in fused layers, against PyTorch: values and gradients."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from nemo_local.customizer.layers import kernels
from nemo_local.customizer.layers.fused_compiled import Compiled
from nemo_local.customizer.layers.fused_torch import InTorch
from nemo_local.customizer.layers.kernels import numbers

ROWS, TOKENS = 2, 7
in_each_type = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def close(found, expected):
    """Within what rounding to their type allows; sums are made in float32."""
    by = 1e-5 if found.dtype == torch.float32 else 2**-7
    torch.testing.assert_close(found.double(), expected.double(), rtol=by, atol=by)


@in_each_type
@pytest.mark.parametrize("read_in", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [5, 64, 130])
def test_a_norm_and_its_gradient_are_those_of_pytorch(size, dtype, read_in):
    x = (3 * torch.randn(ROWS, TOKENS, size)).to(dtype).requires_grad_()
    weight, given = torch.randn(size).to(dtype), torch.randn(ROWS * TOKENS, size).to(read_in)
    y = Compiled().norm(x, weight, 1e-5, read_in)
    (dx,) = torch.autograd.grad(y, x, given)
    whole = x.detach().double().requires_grad_()
    expected = functional.rms_norm(whole, (size,), weight.double(), 1e-5).flatten(0, 1)
    expected.backward(given.double())
    assert (y.dtype, dx.dtype) == (read_in, dtype)
    close(y, expected.detach())
    close(dx, whole.grad)


@in_each_type
@pytest.mark.parametrize("size", [1, 40, 96])
def test_a_gate_and_its_gradient_are_those_of_pytorch(size, dtype):
    both = (6 * torch.randn(TOKENS, 2 * size)).to(dtype)
    given = torch.randn(TOKENS, size).to(dtype)
    y, kept = Compiled().gate(both)
    found = torch.empty_like(both)
    Compiled().gate_back(given, kept, found)
    whole = both.double().requires_grad_()
    gate, up = whole.chunk(2, 1)
    expected = functional.silu(gate) * up
    expected.backward(given.double())
    close(y, expected.detach())
    close(found, whole.grad)


@in_each_type
@pytest.mark.parametrize("rows_of_angles", [1, ROWS])
@pytest.mark.parametrize("width", [6, 32, 50])
def test_heads_are_turned_and_turned_back(width, rows_of_angles, dtype):
    counts = [4, 2, 2]
    angles = torch.randn(rows_of_angles, TOKENS, width // 2).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    y = torch.randn(ROWS, TOKENS, sum(counts), width)
    both = []
    for operations in (Compiled(), InTorch()):
        of = dtype if isinstance(operations, Compiled) else torch.float32
        found = operations.heads(y.to(of), cos, sin, counts)
        back = torch.empty(y.shape, dtype=of)
        operations.heads_back(tuple(found), cos, sin, back)
        both.append([*found, back])
    close(both[0][-1], y)  # there and back
    for found, expected in zip(*both, strict=True):
        close(found, expected)


def test_gradients_that_lie_otherwise_are_turned_back_all_the_same():
    counts, angles = [2, 2, 2], torch.randn(1, TOKENS, 16).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    given = [torch.randn(ROWS, 2, 32, TOKENS) for _ in counts]
    found = []
    for gradients in (given, [one.mT.contiguous().mT for one in given]):
        found.append(torch.empty(ROWS, TOKENS, 6, 32))
        Compiled().heads_back(tuple(one.mT for one in gradients), cos, sin, found[-1])
    assert torch.equal(*found)


@in_each_type
@pytest.mark.parametrize("length", [1, 15, 16, 17, 40])
def test_weights_of_what_a_token_looks_back_at(length, dtype):
    scores = (30 * torch.randn(3, length, length)).to(dtype)
    future = torch.full((length, length), -torch.inf).triu_(1)
    expected = torch.softmax(0.3 * scores.float() + future, -1)
    kernels.softmax(numbers(scores), np.float32(0.3))
    close(scores, expected)
    assert scores.triu(1).eq(0).all()


@in_each_type
def test_a_score_that_is_no_number_stays_none_in_its_row(dtype):
    scores = torch.randn(1, 20, 20).to(dtype)
    scores[0, 4, 2] = torch.nan
    scores[0, 5, 9] = torch.nan  # in the future
    kernels.softmax(numbers(scores), np.float32(1))
    assert scores[0, 4, :5].isnan().all()
    assert not scores[0, [*range(4), *range(5, 20)]].isnan().any()
