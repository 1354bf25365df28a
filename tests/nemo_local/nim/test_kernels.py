"""Compiled kernels against PyTorch: the same numbers, whatever the sizes."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_local.nim.kv_cache import KvCache, array_of
from nemo_local.nim.llama import amx, attention, halves, kernels, products
from nemo_local.nim.llama.ops import CompiledOps, TorchOps, ops_of
from nemo_local.nim.llama.weights import Weight, multiplies_bfloat16

ODD = (1, 3, 4, 17, 130)
of_both_caches = pytest.mark.parametrize(
    "kept", [torch.float32, torch.bfloat16], ids=["cached whole", "cached in bfloat16"]
)


on_tiles = pytest.mark.skipif(not amx.usable(), reason="this processor has no tiles")


def close(found: Tensor, expected: Tensor, by: float = 2e-6) -> None:
    torch.testing.assert_close(found, expected, atol=by, rtol=by)


def test_small_models_in_float32_are_compiled_and_others_are_not() -> None:
    assert type(ops_of(torch.float32, small=True)) is CompiledOps
    assert type(ops_of(torch.float32, small=False)) is TorchOps
    assert type(ops_of(torch.bfloat16, small=True)) is TorchOps


@pytest.mark.parametrize("ops", [CompiledOps(), TorchOps()])
@pytest.mark.parametrize("size", ODD)
def test_norms_and_gates_compute_what_pytorch_does(ops: TorchOps, size: int) -> None:
    torch.manual_seed(size)
    h, weight = 30 * torch.randn(5, size), torch.randn(size)
    close(ops.norm(h, weight, 1e-5), F.rms_norm(h, (size,), weight, 1e-5))
    h[0] = 0.0
    assert ops.norm(h, weight, 1e-5)[0].eq(0).all()
    both = 40 * torch.randn(5, 2 * size)
    close(ops.gated(both), F.silu(both[:, :size]) * both[:, size:])
    halved = both.bfloat16()
    assert torch.equal(ops.gated(halved), ops.gated(halved.float()).bfloat16())


@pytest.mark.parametrize("ops", [CompiledOps(), TorchOps()])
def test_heads_are_turned_where_they_stand(ops: TorchOps) -> None:
    x, cos, sin = torch.randn(3, 7, 6), torch.randn(3, 6), torch.randn(3, 6)
    turned = x.roll(3, -1) * sin[:, None] + x * cos[:, None]
    before = x.clone()
    ops.rotate(x[:, :5], cos, sin)
    close(x[:, :5], turned[:, :5])
    assert torch.equal(x[:, 5:], before[:, 5:])


@of_both_caches
@pytest.mark.parametrize("ops", [CompiledOps(), TorchOps()])
@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("size", [6, 64])
def test_each_sequence_attends_to_its_own_tokens(
    ops: TorchOps, size: int, heads: int, kept: torch.dtype
) -> None:
    torch.manual_seed(heads)
    lengths = [1, 5, 300, 2]
    cache = KvCache(1, 2, size, kept, torch.device("cpu"))
    cache.add(lengths)
    cache.kv.copy_(torch.randn(cache.kv.shape))
    old_keys, old_values = (one.clone() for one in cache.layer(0))
    q, k, v = 3 * torch.randn(4, heads, size), torch.randn(4, 2, size), torch.randn(4, 2, size)
    attend = ops.attend_to(cache, torch.tensor(lengths))
    found = attend(0, q, k, v).view(4, heads, size)
    for i, length in enumerate(lengths):
        keys = torch.cat([old_keys[i, :, :length], k[i, :, None].to(kept)], dim=1)
        values = torch.cat([old_values[i, :, :length], v[i, :, None].to(kept)], dim=1)
        expected = F.scaled_dot_product_attention(
            q[i, :, None][None], keys[None].float(), values[None].float(), enable_gqa=True
        )
        close(found[i], expected[0, :, 0], by=1e-5)
    for new, old, cached in zip((k, v), (old_keys, old_values), cache.layer(0), strict=True):
        for i, length in enumerate(lengths):
            old[i, :, length] = new[i]
        assert torch.equal(cached, old)


of_prompts = pytest.mark.parametrize(
    ("size", "heads", "new", "known"),
    [
        *((6, 2, 3, 0), (6, 2, 4, 13), (6, 6, 600, 5)),
        *((16, 6, 1, 0), (16, 2, 47, 0), (16, 6, 600, 5)),
        *((40, 6, 4, 13), (40, 2, 600, 5)),  # not on tiles
        *((64, 6, 1, 60), (64, 2, 47, 0), (64, 6, 600, 5)),
    ],
)


@of_both_caches
@pytest.mark.parametrize("ops", [CompiledOps(), TorchOps()])
@of_prompts
def test_a_prompt_attends_to_what_stands_before_each_token(
    ops: TorchOps, size: int, heads: int, new: int, known: int, kept: torch.dtype
) -> None:
    torch.manual_seed(size + new)
    total = known + new
    cached = torch.randn(2, 2, total + 3, size).to(kept)
    q, k, v = torch.randn(new, heads + 4, size).split([heads, 2, 2], dim=1)
    before, expected = cached.clone(), cached.clone()
    expected[0, :, known:total], expected[1, :, known:total] = k.transpose(0, 1), v.transpose(0, 1)
    seen = torch.ones(new, total, dtype=torch.bool).tril(known)
    whole = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None], *expected[:, None, :, :total].float(),
        attn_mask=seen, enable_gqa=True,
    )[0].transpose(0, 1)  # fmt: skip
    close(ops.attend_prompt(q, k, v, cached[0], cached[1], known), whole, by=1e-5)
    assert torch.equal(cached, expected)
    last = ops.attend_prompt(q[-1:], k, v, before[0], before[1], known)
    close(last, whole[-1:], by=1e-5)
    assert torch.equal(before, expected)


@on_tiles
@of_prompts
def test_attention_on_tiles_is_that_of_vectors(size: int, heads: int, new: int, known: int) -> None:
    torch.manual_seed(size + new)
    cached = torch.randn(2, 2, (known + new + 31) // 16 * 16, size).bfloat16()
    cached[:, :, known + new :] = float("nan")  # whatever memory held
    qkv = torch.randn(new, heads + 4, size)
    q, k, v = qkv.split([heads, 2, 2], dim=1)
    expected = cached.clone()
    whole = CompiledOps().attend_prompt(q, k, v, expected[0], expected[1], known)
    for first in (0, new - 1):
        own, y = cached.clone(), torch.empty(new - first, heads, size)
        attention.attend_on_tiles(
            qkv.numpy(), first, heads, array_of(own[0]), array_of(own[1]), known, y.numpy()
        )
        close(y, whole[first:], by=2e-5)
        assert torch.equal(own[:, :, : known + new], expected[:, :, : known + new])


@of_both_caches
def test_a_token_of_a_prompt_has_the_same_numbers_wherever_the_reading_begins(
    kept: torch.dtype,
) -> None:
    q, k, v = torch.randn(50, 6, 24).split([4, 1, 1], dim=1)
    ops, cached = CompiledOps(), torch.zeros(2, 1, 64, 24, dtype=kept)
    whole = ops.attend_prompt(q, k, v, cached[0], cached[1], 0)
    for known in (1, 6, 17, 49):
        rest = q[known:], k[known:], v[known:]
        assert torch.equal(ops.attend_prompt(*rest, cached[0], cached[1], known), whole[known:])


@of_both_caches
def test_a_number_that_is_none_is_not_lost(kept: torch.dtype) -> None:
    ops, nan, infinity = CompiledOps(), float("nan"), float("inf")
    all_bits = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32).item()
    cache = KvCache(1, 1, 4, kept, torch.device("cpu"))
    for broken in (nan, all_bits, infinity):
        cache.lengths = []
        cache.add([3, 3])
        q, k, v = torch.ones(2, 1, 4), torch.ones(2, 1, 4), torch.ones(2, 1, 4)
        k[0, 0, 1] = broken
        found = ops.attend_to(cache, torch.tensor([3, 3]))(0, q, k, v)
        assert found[0].isnan().all() and found[1].isfinite().all()
        q, k, v = torch.ones(40, 1, 4), torch.ones(40, 1, 4), torch.ones(40, 1, 4)
        k[20, 0, 1] = broken
        cached = torch.zeros(2, 1, 40, 4, dtype=kept)
        found = ops.attend_prompt(q, k, v, cached[0], cached[1], 0)
        assert found[:20].isfinite().all() and found[20:].isnan().all()
    h = torch.ones(2, 4)
    h[0, 2] = nan
    assert ops.norm(h, torch.ones(4), 1e-6)[0].isnan().all()
    assert ops.gated(h)[0].isnan().any() and ops.gated(h)[1].isfinite().all()


def test_exponentials_are_as_good_as_float32_allows() -> None:
    x = torch.linspace(-80, 80, 100_001)
    y = torch.empty(len(x), 1)
    kernels.gate(torch.stack([-x, torch.ones_like(x)], dim=1).numpy(), y.numpy())
    exact = -x.double() / (1 + x.double().exp())
    error = (y[:, 0].double() - exact).abs() / exact.abs().clamp(min=1e-30)
    assert float(error.max()) < 5e-7


of_both_words = pytest.mark.parametrize(
    "tiles",
    [
        False,
        pytest.param(True, marks=on_tiles),
    ],
    ids=["vectors", "tiles"],
)


def coarse(*size: int) -> Tensor:
    """Random numbers of bfloat16, in float32."""
    return torch.randn(size).bfloat16().float()


@pytest.mark.parametrize("tiles", [False, True], ids=["for vectors", "for tiles"])
def test_bfloat16_is_kept_in_half_the_memory_without_loss(tiles: bool) -> None:
    matrices = [coarse(4, 6), coarse(8, 2), coarse(37, 40), torch.full((4, 5), 2.0**120)]
    matrices[0][1, 2], matrices[0][2, 5] = float("-inf"), -0.0
    assert all(halves.fits(one) for one in matrices)
    for matrix, words in zip(matrices, halves.words_of(matrices, tiles), strict=True):
        lower = torch.from_numpy((words << 16).view(np.float32))
        upper = torch.from_numpy((words & 0xFFFF0000).view(np.float32))
        if tiles:
            both = torch.stack([lower, upper], dim=2).flatten(1, 2).transpose(0, 1).flatten(1)
        else:
            both = torch.cat([lower, upper], dim=2).transpose(0, 1).flatten(1)
        rows, columns = matrix.shape
        assert torch.equal(both[:rows, :columns], matrix)
        assert not both[rows:].any() and not both[:, columns:].any()


def test_numbers_that_halves_cannot_hold_do_not_fit() -> None:
    fine = coarse(4, 5)
    assert halves.fits(fine)
    fine[3, 4] = 1 + 2**-10
    assert not halves.fits(fine)


@of_both_words
@pytest.mark.parametrize("fresh", [True, False], ids=["written", "added"])
@pytest.mark.parametrize(
    ("rows", "d_in", "sizes"),
    [
        *((1, 4, [2]), (37, 4, [2])),
        *((2, 27, [40, 6, 5]), (90, 27, [40, 6, 5])),
        *((1, 32, [2600]), (16, 32, [2600])),
        *((5, 70, [96]), (37, 70, [96])),
        *((2, 64, [48, 16, 80]), (16, 64, [48, 16, 80]), (90, 64, [48, 16, 80])),
    ],
)
def test_rows_get_what_their_own_adapter_adds(
    rows: int, d_in: int, sizes: list[int], fresh: bool, tiles: bool
) -> None:
    torch.manual_seed(rows)
    d_out, members = sum(sizes), len(sizes)
    weight = coarse(d_in, d_out)
    kept, table = halves.words_of([weight], tiles), []
    x, y = torch.randn(rows, d_in), torch.randn(rows, d_out)
    expected = x @ weight if fresh else y + x @ weight
    # The first rows have no adapter, and the third adapter has nothing here.
    bounds = [rows * i // 5 for i in range(1, 6)]
    ranges = np.array(list(itertools.pairwise(bounds)))
    for rank, (first, end) in zip((3, 32, 0, 8), ranges, strict=True):
        own = list(range(first, end))
        if not rank:
            table.append((0, 0, 0))
            continue
        a, b = coarse(d_in, members * rank), [coarse(rank, size) / 8 for size in sizes]
        for k, high in enumerate(b):
            begin = sum(sizes[:k])
            low = x[own] @ a[:, k * rank : (k + 1) * rank]
            expected[own, begin : begin + sizes[k]] += low @ high
        words = halves.words_of([a, *b], tiles)
        kept += words
        table.append((words[0].ctypes.data, words[1].ctypes.data, rank))
    if fresh:
        y.fill_(torch.nan)
    products.linear(
        x.numpy(), kept[0].ctypes.data, tiles, np.array(table), ranges, np.array(sizes), y.numpy(),
        fresh,
    )  # fmt: skip
    close(y, expected, by=5e-4 if tiles else 1e-4)


def product(x: Tensor, matrix: Tensor, tiles: bool) -> Tensor:
    """x times a matrix of bfloat16, by the kernel."""
    [words] = halves.words_of([matrix], tiles)
    y = torch.empty(len(x), matrix.shape[1])
    nothing = np.zeros((0, 3), dtype=np.int64), np.zeros((0, 2), dtype=np.int64)
    sizes = np.array([matrix.shape[1]])
    products.linear(x.numpy(), words.ctypes.data, tiles, *nothing, sizes, y.numpy(), True)
    return y


@of_both_words
def test_a_row_has_the_same_numbers_alone_and_in_company(tiles: bool) -> None:
    x, matrix = torch.randn(37, 64), coarse(64, 300)
    together = product(x, matrix, tiles)
    for i in range(len(x)):
        assert torch.equal(together[i], product(x[i : i + 1], matrix, tiles)[0])


@of_both_words
def test_rows_of_an_adapter_have_the_same_numbers_many_and_few_at_a_time(tiles: bool) -> None:
    torch.manual_seed(1)
    sizes, rank, x = [48, 16, 80], 32, torch.randn(90, 64)
    words = halves.words_of(
        [coarse(64, 144), coarse(64, 3 * rank), *(coarse(rank, size) for size in sizes)], tiles
    )
    table = np.array([[words[1].ctypes.data, words[2].ctypes.data, rank]])

    def adapted(rows: Tensor) -> Tensor:
        y, every = torch.empty(len(rows), 144), np.array([[0, len(rows)]])
        products.linear(
            rows.numpy(), words[0].ctypes.data, tiles, table, every, np.array(sizes), y.numpy(),
            True,
        )  # fmt: skip
        return y

    assert torch.equal(adapted(x), torch.cat([adapted(few) for few in x.split(5)]))


@of_both_words
def test_products_are_nearly_as_exact_as_in_float32(tiles: bool) -> None:
    torch.manual_seed(5)
    x, matrix = torch.randn(16, 704), coarse(704, 256)
    exact = x.double() @ matrix.double()
    error = (product(x, matrix, tiles) - exact).abs().max() / exact.abs().max()
    assert error < (5e-6 if tiles else 1e-6)


@of_both_words
def test_a_row_that_is_no_number_leaves_the_others_alone(tiles: bool) -> None:
    x = torch.randn(5, 64)
    x[2, 7] = float("nan")
    found = product(x, coarse(64, 96), tiles)
    assert found[2].isnan().all() and found[[0, 1, 3, 4]].isfinite().all()


@pytest.mark.parametrize("rows", [1, 2, 3, 16, 200])
def test_a_packed_weight_multiplies_as_the_plain_one(rows: int) -> None:
    torch.manual_seed(rows)
    plain = Weight(torch.randn(24, 40))
    packed = plain.with_packed()
    if packed is plain:
        pytest.skip("this processor has no AVX-512: weights are not packed")
    assert packed.bytes == 2 * plain.bytes
    x, onto, change = torch.randn(rows, 24), torch.randn(rows, 40), torch.randn(24, 40)
    for one, same in ((packed, plain), (packed.plus(change), plain.plus(change))):
        torch.testing.assert_close(one.product(x), same.product(x), atol=1e-4, rtol=1e-5)
        added = one.product(x, onto), same.product(x, onto)
        torch.testing.assert_close(*added, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 200])
def test_a_rounded_weight_multiplies_in_bfloat16(rows: int) -> None:
    if not multiplies_bfloat16():
        pytest.skip("this processor has no products in bfloat16")
    torch.manual_seed(rows)
    plain = Weight(coarse(24, 40))
    rounded, change = plain.with_rounded(), torch.randn(24, 40)
    assert rounded.bytes == 1.5 * plain.bytes
    x = torch.randn(rows, 24)
    for one, same in ((rounded, plain), (rounded.plus(change), plain.plus(change))):
        exact, found = same.product(x), one.rounded_product(x)
        assert torch.equal(one.product(x), exact)
        error = (found - exact).abs().mean() / exact.abs().mean()
        assert found.dtype == torch.bfloat16 and 1e-4 < error < 0.01
