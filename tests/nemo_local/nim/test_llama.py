"""Our Llama against transformers' own: the same logits, whoever joins and leaves."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from nemo_local.nim.batch import batches_of
from nemo_local.nim.checkpoint import SMALL_MODEL, Checkpoint, load_checkpoint
from nemo_local.nim.llama import amx
from nemo_local.nim.llama.compiled_step import parts_of
from nemo_local.nim.llama.merged_weights import ROOM
from nemo_local.nim.llama.network import computes
from nemo_local.nim.llama.weights import multiplies_bfloat16
from nemo_local.nim.lora import Adapter, read_adapter
from nemo_local.nim.prefixes import KEPT_BYTES, Prefix, Prefixes
from nemo_local.nim.sequences import PaddedSequences, Sequences
from tests.nemo_local.nim.conftest import MODEL
from tests.tiny_checkpoint import (
    entry,
    llama_sequences,
    make_adapter,
    make_checkpoint,
    make_tokenizer,
)

NAMES = (None, "a", "b", "c")
needs_bfloat16 = pytest.mark.skipif(
    not multiplies_bfloat16(), reason="this processor has no products in bfloat16"
)


def prompt(dice: random.Random, longest: int = 90) -> list[int]:
    return [dice.randrange(5, 290) for _ in range(dice.randrange(1, longest))]


def add_adapters(checkpoint: Checkpoint, tmp_path: Path, dtype: torch.dtype) -> None:
    """Three of different ranks, in numbers of this type, the last of them on other layers too."""
    generator = torch.Generator().manual_seed(9)
    for seed, name in enumerate(NAMES[1:]):
        pairs = dict(read_adapter(make_adapter(tmp_path / name, seed, rank=4 + 2 * seed)).pairs)
        if name == "c":
            pairs["model.layers.0.mlp.up_proj"] = (
                torch.randn(3, 32, generator=generator), torch.randn(64, 3, generator=generator)
            )  # fmt: skip
            pairs["lm_head"] = (
                torch.randn(2, 32, generator=generator),
                torch.randn(checkpoint.model.config.vocab_size, 2, generator=generator),
            )
        made = {layer: (a.to(dtype), b.to(dtype)) for layer, (a, b) in pairs.items()}
        checkpoint.adapters.add(name, Adapter(made))


of_both_sizes = pytest.mark.parametrize("small", [True, False], ids=["small", "large"])


@pytest.fixture
def adapted(checkpoint: Checkpoint, tmp_path: Path) -> Checkpoint:
    add_adapters(checkpoint, tmp_path, torch.float32)
    return checkpoint


@pytest.fixture
def halved(tmp_path: Path) -> Checkpoint:
    """All its numbers were stored in bfloat16."""
    folder = make_checkpoint(tmp_path / "halved", dtype=torch.bfloat16)
    checkpoint = load_checkpoint(entry(MODEL, folder), "cpu")
    add_adapters(checkpoint, tmp_path, torch.bfloat16)
    return checkpoint


def attend_to_rounded(
    module: Any, query: Tensor, key: Tensor, value: Tensor, *mask: Tensor, **options: Any
) -> tuple[Tensor, None]:
    """Attention of transformers to keys and values that were kept in bfloat16."""
    kept = (one.bfloat16().to(one.dtype) for one in (key, value))
    found: tuple[Tensor, None] = sdpa_attention_forward(module, query, *kept, *mask, **options)
    return found


AttentionInterface.register("to_rounded", attend_to_rounded)
AttentionMaskInterface.register("to_rounded", sdpa_mask)


def transformers_of(checkpoint: Checkpoint) -> PaddedSequences:
    """The same model in transformers, with numbers kept of a sequence as ours keeps them."""
    if llama_sequences(checkpoint)._llama.halves:
        checkpoint.model.set_attn_implementation("to_rounded")
    return PaddedSequences(checkpoint)


def close(found: Tensor, expected: Tensor, halves: bool) -> None:
    """Equal but for the order of sums, by which one in 16 bits is now and then its neighbour.

    On tiles, whose sums are nearly those of float32, more often: and then so are all that follow.
    """
    of_rows = (found - expected).abs().mean(1) / expected.abs().mean(1)
    if halves and amx.usable():
        assert of_rows.max() < 0.05
        return
    by = 1e-2 if halves else 1e-4
    torch.testing.assert_close(found, expected, atol=by, rtol=by)
    assert of_rows.mean() < 3e-4


@pytest.mark.parametrize(
    ("stored", "room"),
    [
        *(("halved", 0), ("halved", ROOM)),
        *(("adapted", 0), ("adapted", 100_000), ("adapted", ROOM)),
    ],
)
@of_both_sizes
@pytest.mark.parametrize("seed", range(2))
def test_logits_equal_transformers_while_sequences_come_and_go(
    request: pytest.FixtureRequest, seed: int, small: bool, stored: str, room: int
) -> None:
    """With adapters added to the weights for none of them, for some, and for all."""
    checkpoint = request.getfixturevalue(stored)
    dice = random.Random(seed)
    few = 4 * torch.get_num_threads()  # so that steps are computed in both ways
    ours, theirs = llama_sequences(checkpoint, room, small, few), transformers_of(checkpoint)
    halves = stored == "halved"
    assert ours._llama.halves == halves
    ours_rows: list[int] = []  # the same sequences stand in another order
    theirs_rows: list[int] = []
    born = 0
    with torch.inference_mode():
        for _ in range(25):
            if not born or dice.random() < 0.3:
                prompts = [prompt(dice) for _ in range(dice.randrange(1, 5))]
                names = [dice.choice(NAMES) for _ in prompts]
                new = list(range(born, born + len(prompts)))
                born += len(prompts)
                close(ours.join(prompts, names), theirs.join(prompts, names), halves)
                ours_rows, theirs_rows = ours_rows + new, theirs_rows + new
            elif theirs_rows and dice.random() < 0.3:
                stay = {row for row in theirs_rows if dice.random() < 0.6}
                order = ours.keep([i for i, row in enumerate(ours_rows) if row in stay])
                ours_rows = [ours_rows[i] for i in order]
                order = theirs.keep([i for i, row in enumerate(theirs_rows) if row in stay])
                theirs_rows = [theirs_rows[i] for i in order]
            elif theirs_rows:
                token = {row: dice.randrange(5, 290) for row in theirs_rows}
                found = ours.step([token[row] for row in ours_rows])
                expected = theirs.step([token[row] for row in theirs_rows])
                same = [theirs_rows.index(row) for row in ours_rows]
                close(found, expected[same], halves)
    assert born > 5 and sorted(ours_rows) == sorted(theirs_rows)


def test_bfloat16_is_as_close_to_float32_as_it_is_in_transformers(
    tiny_folder: Path, tmp_path: Path
) -> None:
    small = entry(MODEL, tiny_folder)
    coarse = load_checkpoint(replace(small, num_parameters=SMALL_MODEL + 1), "cpu")
    fine = load_checkpoint(small, "cpu")
    assert (coarse.model.dtype, fine.model.dtype) == (torch.bfloat16, torch.float32)
    for name in ("a", "b"):
        folder = make_adapter(tmp_path / name, seed=ord(name))
        for checkpoint in (coarse, fine):
            checkpoint.adapters.add(name, read_adapter(folder))
    dice = random.Random(4)
    prompts, names = [prompt(dice) for _ in range(5)], ["a", None, "b", "a", None]
    ways: list[Sequences] = [
        llama_sequences(coarse),
        PaddedSequences(coarse),
        PaddedSequences(fine),
    ]
    with torch.inference_mode():
        passes = [[way.join(prompts, names) for way in ways]]
        for _ in range(3):
            ids = [dice.randrange(5, 290) for _ in prompts]
            passes.append([way.step(ids) for way in ways])
    for ours, theirs, exact in passes:
        error, usual = (ours - exact).abs().mean(), (theirs - exact).abs().mean()
        assert 0 < error < 1.5 * usual < 0.1 * exact.abs().mean()


@needs_bfloat16
@of_both_sizes
@pytest.mark.parametrize("room", [0, 10_000, ROOM])
def test_prompts_in_bfloat16_are_as_close_to_float32_as_transformers_is_in_it(
    halved: Checkpoint, tmp_path: Path, small: bool, room: int
) -> None:
    stored = replace(entry(MODEL, tmp_path / "halved"), num_parameters=SMALL_MODEL + 1)
    coarse = load_checkpoint(stored, "cpu")
    for name in NAMES[1:]:
        coarse.adapters.add(name, Adapter(halved.adapters.pairs_of(name)))
    dice = random.Random(6)
    prompts, names = [prompt(dice) for _ in range(8)], [dice.choice(NAMES) for _ in range(8)]
    exact, usual = PaddedSequences(halved), PaddedSequences(coarse)
    ours = llama_sequences(halved, room, small, prompts_in_bfloat16=True)
    with torch.inference_mode():
        logits = [way.join(prompts, names) for way in (ours, usual, exact)]
        same = ours.step([7] * 8), exact.step([7] * 8)
    error, largest = (logits[0] - logits[2]).abs().mean(), (logits[1] - logits[2]).abs().mean()
    assert 0 < error < 1.5 * largest < 0.15 * logits[2].abs().mean()
    assert (same[0] - same[1]).abs().mean() < 1.5 * largest


@needs_bfloat16
@pytest.mark.parametrize("stored", ["halved", "adapted"])
def test_the_log_says_how_weights_that_were_stored_in_bfloat16_are_multiplied(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, stored: str
) -> None:
    with caplog.at_level("INFO"):
        batches_of(request.getfixturevalue(stored), most=2, limited=False)
    how = "on this processor's tiles" if amx.usable() else "prompts are multiplied in bfloat16"
    assert (how in caplog.text) == (stored == "halved")


@needs_bfloat16
@of_both_sizes
def test_prompts_in_bfloat16_have_the_same_numbers_alone_in_company_and_after_a_known_beginning(
    halved: Checkpoint, small: bool
) -> None:
    dice = random.Random(7)
    shared = [dice.randrange(5, 290) for _ in range(70)]
    prompts = [shared + prompt(dice, 30) for _ in range(6)] + [[*shared, 9]]
    names = [dice.choice(NAMES) for _ in prompts]
    with torch.inference_mode():
        together = llama_sequences(halved, small=small, prompts_in_bfloat16=True).join(
            prompts, names
        )
        one = llama_sequences(halved, small=small, prompts_in_bfloat16=True)
        for _ in range(3):  # the third time, all that is shared is known
            for i, name in enumerate(names):
                alone = one.join([prompts[i]], [name])
                torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)
                one.keep([])
        assert one._prefixes.find(prompts[0], names[0]) is not None


@pytest.mark.parametrize("kind", ["halved", "adapted"])
def test_adapters_that_change_under_a_running_batch_are_the_new_ones(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    checkpoint = request.getfixturevalue(kind)
    ours = llama_sequences(checkpoint)
    with torch.inference_mode():
        first = ours.join([[7, 8, 9]] * 3, ["a", "b", None])
        old = ours.step([1, 2, 3])
        ours.keep([])
        checkpoint.adapters.remove("a")
        checkpoint.adapters.add("a", read_adapter(make_adapter(tmp_path / "new", 77)))
        again = ours.join([[7, 8, 9]] * 3, ["a", "b", None])
        new = ours.step([1, 2, 3])
    for before, after in ((first, again), (old, new)):
        assert not torch.allclose(after[0], before[0])
        torch.testing.assert_close(after[1:], before[1:])


def test_a_step_has_the_same_numbers_on_one_thread_and_on_several(halved: Checkpoint) -> None:
    dice = random.Random(8)
    prompts = [prompt(dice) for _ in range(7)]
    names = [dice.choice(NAMES) for _ in prompts]
    before, passes = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            assert parts_of(7, threads) == threads
            ours = llama_sequences(halved, small=False)
            with torch.inference_mode():
                torch.set_num_threads(1)
                ours.join(prompts, names)
                torch.set_num_threads(threads)
                passes.append([ours.step([9 + i] * 7) for i in range(3)])
    finally:
        torch.set_num_threads(before)
    for alone, shared in zip(*passes, strict=True):
        torch.testing.assert_close(alone, shared, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "threads", "parts"), [(1, 8, 1), (3, 2, 1), (4, 2, 2), (16, 2, 2), (16, 64, 8)]
)
def test_each_thread_has_two_rows_of_a_step_at_least(rows: int, threads: int, parts: int) -> None:
    assert parts_of(rows, threads) == parts


def test_an_adapter_is_rounded_as_the_weights_beside_it_are(
    halved: Checkpoint, tmp_path: Path
) -> None:
    halved.adapters.add("fine", read_adapter(make_adapter(tmp_path / "fine", 5)))
    ours, theirs = llama_sequences(halved), transformers_of(halved)
    with torch.inference_mode():
        for found, exact in (
            (ours.join([[7, 8, 9]], ["fine"]), theirs.join([[7, 8, 9]], ["fine"])),
            (ours.step([5]), theirs.step([5])),
        ):
            error = (found - exact).abs().mean()
            assert 1e-4 < error < 0.02 * exact.abs().mean()


@of_both_sizes
def test_long_prompts_and_scaled_positions_equal_transformers(tmp_path: Path, small: bool) -> None:
    folder = make_checkpoint(tmp_path / "tiny", context=2048)
    config = LlamaConfig.from_pretrained(folder)
    config.rope_parameters = {
        "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 128,
    }  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    checkpoint = load_checkpoint(entry(MODEL, folder, 2048), "cpu")
    dice = random.Random(3)
    prompts = [[dice.randrange(5, 290) for _ in range(size)] for size in (700, 3, 511, 512)]
    ours, theirs = llama_sequences(checkpoint, small=small), PaddedSequences(checkpoint)
    with torch.inference_mode():
        none: list[str | None] = [None] * 4
        torch.testing.assert_close(
            ours.join(prompts, none), theirs.join(prompts, none), atol=1e-4, rtol=1e-4
        )
        for _ in range(3):
            ids = [dice.randrange(5, 290) for _ in prompts]
            torch.testing.assert_close(ours.step(ids), theirs.step(ids), atol=1e-4, rtol=1e-4)


def test_a_beginning_that_prompts_share_is_read_once(adapted: Checkpoint) -> None:
    dice = random.Random(5)
    tools = [dice.randrange(5, 290) for _ in range(80)]
    ours, read = llama_sequences(adapted), []
    theirs = PaddedSequences(adapted)
    with torch.inference_mode():
        for number in range(6):
            asked = [tools + prompt(dice, 20), tools + prompt(dice, 20)]
            names: list[str | None] = [None, "a"]
            found, expected = ours.join(asked, names), theirs.join(asked, names)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
            ids = [dice.randrange(5, 290) for _ in range(2 * number + 2)]
            same = ours.step(ids), theirs.step(ids)
            torch.testing.assert_close(*same, atol=1e-4, rtol=1e-4)
            read.append([ours._prefixes.find([*tools, 1], name) is not None for name in names])
        # The first prompts are read, the second show what is shared, from the third it is reused.
        assert read[0] == [False, False] and read[1] == [True, True]
        adapted.adapters.remove("b")
        ours.join([[*tools, 1]], [None])
        assert ours._prefixes.find([*tools, 1], "a") is None


def test_only_shared_beginnings_are_kept_and_within_bounds() -> None:
    prefixes = Prefixes()
    first, second = [*range(50), 1, 2], [*range(50), 3]
    assert prefixes.worth_keeping(first, None) == 0 and prefixes.find(second, None) is None
    assert prefixes.worth_keeping(second, None) == 50
    assert prefixes.worth_keeping(second, "a") == 0
    made = torch.zeros(1, 1, 50, 4)
    prefixes.keep(second, None, Prefix(second[:50], made))
    assert prefixes.find(first, None)[0] == 50 and prefixes.find(first, "a") is None
    # Exactly the kept tokens: the last one must be read for its logits.
    assert prefixes.find(list(range(50)), None)[0] == 49
    assert prefixes.worth_keeping(first, None) == 0
    huge = torch.zeros(1, 1, 50, KEPT_BYTES // 300)
    for start in range(100, 110):
        tokens = list(range(start, start + 50))
        prefixes.keep(tokens, None, Prefix(tokens, huge))
    assert prefixes.size <= KEPT_BYTES and prefixes.find(first, None) is None


def test_other_architectures_are_left_to_transformers(tmp_path: Path) -> None:
    folder, tokenizer = tmp_path / "qwen", make_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    checkpoint = load_checkpoint(entry(MODEL, folder), "cpu")
    assert not computes(checkpoint.model)
    (batch,) = batches_of(checkpoint, most=2, limited=False)
    assert isinstance(batch._sequences, PaddedSequences)


def test_joined_weights_are_shared_not_copied(checkpoint: Checkpoint) -> None:
    before = sum(p.untyped_storage().nbytes() for p in checkpoint.model.parameters())
    sequences = llama_sequences(checkpoint)
    layer = checkpoint.model.model.layers[0]  # type: ignore[union-attr]
    joined = sequences._llama.weights[(0, "qkv")].plain
    assert layer.self_attn.q_proj.weight.data_ptr() == joined.data_ptr()
    assert layer.self_attn.k_proj.weight.untyped_storage().data_ptr() == joined.data_ptr()
    unique = {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes()
        for p in checkpoint.model.parameters()
    }
    assert sum(unique.values()) <= before
