"""What is chosen for a training on its device, and the reason that its log gives.

No GPU is asked here: the facts of an H100 or a T4 are written down.
"""

import re
from dataclasses import replace

import pytest

from nemo_local.customizer.plan import Plan
from nemo_local.customizer.training.activations import Size
from nemo_local.customizer.training.choices import choose, with_less_memory
from nemo_local.customizer.training.facts import Facts

LLAMA_8B = Size(layers=32, hidden=4096, intermediate=14336, heads=32)
ALL = frozenset({"flash_attn", "liger_kernel", "triton", "cc"})

H100 = Facts(
    plan=Plan(target_modules=("q_proj",), batch_size=16),
    precision="bf16-mixed",
    device_asked="auto",
    device="cuda",
    device_name="NVIDIA H100 80GB HBM3",
    has_bf16=True,
    capability=(9, 0),
    free_bytes=84_000_000_000,
    installed=ALL,
    model_type="llama",
    size=LLAMA_8B,
    head_dim=128,
    parameters=8_000_000_000,
    checkpoint_bytes=16_000_000_000,
    longest=1024,
    most_learnt=100,
    vocabulary=128_256,
    pass_sizes=(8, 4, 2, 1),
    steps=2000,
    attentions=frozenset({"sdpa", "flash_attention_2"}),
    why_not_row_by_row="not on cuda",
    padding=(0.3, 0.04),
)
T4 = replace(
    H100,
    device_name="Tesla T4",
    has_bf16=False,
    capability=(7, 5),
    free_bytes=15_000_000_000,
    size=Size(layers=16, hidden=2048, intermediate=8192, heads=32),
    parameters=1_200_000_000,
    checkpoint_bytes=2_500_000_000,
)
CPU = replace(
    H100,
    device="cpu",
    device_name="a CPU with AVX2",
    has_bf16=False,
    capability=(0, 0),
    free_bytes=0,
    longest=300,
    why_not_row_by_row="",
)


def planned(facts, **changed):
    return replace(facts, plan=replace(facts.plan, **changed))


def packed(facts):
    return planned(facts, pack_sequences=True)


def dropping(facts):
    return planned(facts, adapter_dropout=0.1)


def without(facts, *names):
    return replace(facts, installed=facts.installed - set(names))


def lines(facts):
    return {choice.name: str(choice) for choice in choose(facts)}


def test_every_choice_is_a_line_of_name_value_and_reason():
    for facts in (H100, T4, CPU, packed(H100), without(H100, *ALL)):
        for choice in choose(facts):
            assert str(choice) == f"{choice.name}: {choice.value} ({choice.reason})"
            assert choice.value and len(choice.reason) > 5
    assert [choice.name for choice in choose(CPU)] == [
        *("device", "precision", "weights", "teacher", "TF32", "attention", "cuDNN attention"),
        *("packing", "rows a pass", "activation checkpointing", "fused layers"),
        *("Liger kernels", "torch.compile"),
    ]


def test_the_note_names_what_is_used_in_a_few_words():
    assert choose(packed(H100)).note() == (
        "cuda, bf16 (bf16-mixed asked for, which NVIDIA H100 80GB HBM3 computes), "
        "flash_attention_2 attention, packing, Liger kernels"
    )
    assert choose(CPU).note() == (
        "cpu, fp32 (bf16-mixed asked for, but bf16 is slower than fp32 on a CPU with AVX2), "
        "row_by_row attention, fused layers"
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (H100, "cuda (NEMO_LOCAL_DEVICE is auto; NVIDIA H100 80GB HBM3, 84.0 GB free)"),
        (CPU, "cpu (NEMO_LOCAL_DEVICE is auto, and no CUDA device is visible)"),
        (replace(CPU, device_asked="cpu"), "cpu (NEMO_LOCAL_DEVICE is cpu)"),
    ],
    ids=["h100", "cpu", "cpu-asked-for"],
)
def test_the_device_is_told_with_who_asked_for_it(facts, expected):
    assert lines(facts)["device"] == f"device: {expected}"


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        (H100, "bf16", "bf16-mixed asked for, which NVIDIA H100"),
        (T4, "fp32", "bf16-mixed asked for, but Tesla T4 has no bf16 of its own"),
        (replace(H100, precision="fp32"), "fp32", "asked for"),
        (CPU, "fp32", "bf16 is slower than fp32 on a CPU with AVX2"),
        (replace(CPU, has_bf16=True, device_name="a CPU with AVX512_BF16"), "bf16", "AVX512_BF16"),
        (
            replace(CPU, has_bf16=True, processes=2, parallelism="zero2"),
            "fp32",
            "DeepSpeed on a CPU",
        ),
    ],
    ids=["h100", "t4", "fp32", "cpu", "cpu-with-bf16", "cpu-deepspeed"],
)
def test_bf16_is_used_where_the_device_computes_it_itself(facts, value, reason):
    precision = choose(facts).precision
    assert precision.value == value and reason in precision.reason
    assert choose(facts).bf16 == (value == "bf16")


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        (H100, "bf16", "frozen, 16.0 GB: above 1.0 GB"),
        (replace(H100, checkpoint_bytes=300_000_000), "fp32", "frozen, 300.0 MB: up to 1.0 GB"),
        (planned(H100, finetuning_type="all_weights"), "fp32", "all are trained"),
        (replace(H100, precision="fp32"), "fp32", "frozen, 16.0 GB: products are in fp32"),
        (T4, "fp32", "products are in fp32"),
        (CPU, "fp32", "products are in fp32"),
    ],
    ids=["large", "small", "all-weights", "fp32-asked-for", "t4", "cpu"],
)
def test_frozen_weights_are_small_when_there_are_many_and_bf16_multiplies_them(
    facts, value, reason
):
    weights = choose(facts).weights
    assert weights.value == value and reason in weights.reason


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        (H100, "on", "products that bf16 leaves in fp32"),
        (replace(H100, precision="fp32"), "off", "would round"),
        (T4, "off", "Tesla T4 is older than Ampere"),
        (CPU, "off", "GPUs"),
    ],
    ids=["h100", "fp32-asked-for", "t4", "cpu"],
)
def test_tf32_never_rounds_what_was_asked_for_in_fp32(facts, value, reason):
    tf32 = choose(facts).tf32
    assert tf32.value == value and reason in tf32.reason


GEMMA = replace(H100, model_type="gemma2", attentions=frozenset({"flash_attention_2"}))


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        (CPU, "row_by_row", "rows of up to 300 tokens"),
        (replace(CPU, why_not_row_by_row="rows of 900 tokens"), "sdpa", "rows of 900 tokens"),
        (
            replace(CPU, attentions=frozenset(), why_not_row_by_row="the model has x"),
            "eager",
            "the model's own; not row_by_row: the model has x",
        ),
        (H100, "sdpa_unmasked", "need no mask"),
        (planned(H100, training_type="dpo"), "sdpa_unmasked", "need no mask"),
        (replace(H100, why_masked="not tested"), "sdpa", "with a mask; not tested"),
        (packed(H100), "flash_attention_2", "end to end in one row"),
        (packed(without(H100, "flash_attn")), "sdpa_unmasked", "need no mask"),
        (GEMMA, "flash_attention_2", "gemma2 has no sdpa"),
        (without(GEMMA, "flash_attn"), "eager", "the architecture's own; not flash_attention_2"),
    ],
    ids=[
        *("cpu", "cpu-long-rows", "cpu-plain", "h100", "pairs", "masked", "packed"),
        *("packed-no-flash", "gemma", "gemma-no-flash"),
    ],
)
def test_attention_is_the_fastest_that_device_rows_and_model_allow(facts, value, reason):
    attention = choose(facts).attention
    assert attention.value == value and reason in attention.reason


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        (H100, "off", "sequence_packing_enabled was not asked for"),
        (replace(H100, why_not_packed="two answers of a pair"), "off", "two answers of a pair"),
        (packed(CPU), "on", "padding is 4% of what a pass computes, 30% without it"),
        (packed(H100), "on", "padding is 0% of what a pass computes, 30% without it"),
        (packed(without(H100, "flash_attn")), "off", "flash_attn is not installed"),
        (packed(T4), "off", "cost a GPU more than 30% of padding; not flash_attention_2: Tesla T4"),
        (packed(replace(H100, precision="fp32")), "off", "does not compute in fp32"),
        (packed(replace(H100, head_dim=512)), "off", "heads are 512 wide"),
        (packed(replace(H100, attentions=frozenset({"sdpa"}))), "off", "llama cannot use it"),
    ],
    ids=[
        *("not-asked-for", "pairs", "rows", "one-row", "no-flash", "t4", "fp32", "wide-heads"),
        "no-flash-model",
    ],
)
def test_packing_is_on_when_asked_for_and_possible_and_says_what_it_saves(facts, value, reason):
    packing = choose(facts).packing
    assert packing.value == value and reason in packing.reason


DROPPING = dropping(H100)
"""Whose layers are not fused by us."""


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        (DROPPING, "on", "fused layers of llama; the loss stays ours"),
        (dropping(T4), "on", "fused layers of llama"),
        (H100, "off", "our fused layers have no place for them"),
        (dropping(CPU), "off", "not on a CPU"),
        (without(DROPPING, "liger_kernel"), "off", "liger_kernel is not installed"),
        (without(DROPPING, "triton"), "off", "Triton is not installed"),
        (without(DROPPING, "cc"), "off", "C compiler"),
        (replace(DROPPING, capability=(6, 1)), "off", "needs compute capability 7.0"),
        (
            replace(DROPPING, kernel_error="RuntimeError: Failed to find C compiler."),
            "off",
            "a kernel was tried and failed: RuntimeError: Failed to find C compiler.",
        ),
        (
            replace(DROPPING, model_type="gemma2"),
            "off",
            "only for llama, mistral, qwen2, not for gemma2",
        ),
        (
            replace(DROPPING, activation="gelu"),
            "off",
            "they compute silu, and this llama has gelu",
        ),
        (
            replace(DROPPING, processes=2, parallelism="fsdp"),
            "off",
            "weights are split (fsdp)",
        ),
        (
            replace(DROPPING, processes=2, parallelism="zero3"),
            "off",
            "weights are split (zero3)",
        ),
        (replace(DROPPING, processes=2), "on", "fused layers of llama"),
    ],
    ids=[
        *(
            "h100",
            "t4",
            "fused",
            "cpu",
            "no-liger",
            "no-triton",
            "no-compiler",
            "pascal",
            "no-kernel",
        ),
        *("unknown-model", "gelu", "fsdp", "zero3", "ddp"),
    ],
)
def test_liger_is_used_for_the_layers_that_it_computes_on_gpus_with_triton(facts, value, reason):
    liger = choose(facts).liger
    assert liger.value == value and reason in liger.reason


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        (H100, "on", "llama with adapters, in few operations"),
        (T4, "on", "llama with adapters"),
        (planned(H100, finetuning_type="lora_merged"), "on", "llama with adapters"),
        (planned(H100, training_type="dpo"), "on", "llama with adapters"),
        (replace(H100, processes=2), "on", "llama with adapters"),
        (CPU, "on", "llama with adapters, in few operations, in threads with rows of their own"),
        (planned(CPU, training_type="dpo"), "off", "on a CPU they are for sft, not for dpo"),
        (replace(CPU, processes=2), "off", "share this processor already"),
        (replace(CPU, why_not_row_by_row="rows of 900"), "off", "sdpa attention takes masks"),
        (replace(CPU, model_type="gemma2"), "off", "llama, mistral, qwen2, not for gemma2"),
        (packed(H100), "off", "flash_attention_2 attention takes masks"),
        (replace(H100, why_masked="not tested"), "off", "sdpa attention takes masks"),
        (planned(H100, finetuning_type="all_weights"), "off", "beside frozen weights"),
        (replace(H100, activation="gelu"), "off", "they compute silu, and this llama has gelu"),
        (planned(H100, training_type="distillation"), "off", "a teacher would round otherwise"),
        (dropping(H100), "off", "no dropout"),
        (planned(H100, hidden_dropout=0.1), "off", "no dropout"),
        (replace(H100, processes=2, parallelism="zero2"), "off", "nobody tried them with zero2"),
    ],
    ids=[
        *("h100", "t4", "merged", "dpo", "ddp", "cpu", "dpo-on-cpu", "two-on-cpu", "long-on-cpu"),
        *("gemma-on-cpu", "packed", "masked", "all-weights", "gelu"),
        *("distillation", "adapter-dropout", "hidden-dropout", "zero2"),
    ],
)
def test_layers_are_fused_where_adapters_of_a_llama_are_trained(facts, value, reason):
    fused = choose(facts).fused
    assert fused.value == value and reason in fused.reason


PLAIN = without(DROPPING, "liger_kernel")


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        (H100, "off", "our fused layers would cut its graphs apart"),
        (PLAIN, "on", "2000 steps make up for compiling"),
        (replace(PLAIN, steps=100), "off", "100 steps are too few"),
        (dropping(H100), "off", "Liger's kernels are fused already"),
        (dropping(CPU), "off", "not on a CPU"),
        (without(PLAIN, "triton"), "off", "Triton is not installed"),
        (without(PLAIN, "cc"), "off", "C compiler"),
        (
            replace(dropping(H100), kernel_error="no driver"),
            "off",
            "a kernel was tried and failed: no driver",
        ),
        (replace(PLAIN, precision="fp32"), "off", "round the products of fp32 to TF32"),
        (replace(PLAIN, has_bf16=False), "off", "round the products of fp32 to TF32"),
        (replace(PLAIN, processes=2, parallelism="fsdp"), "off", "fsdp gathers weights"),
        (replace(PLAIN, processes=2, parallelism="zero2"), "off", "zero2 gathers weights"),
        (replace(PLAIN, processes=2), "on", "2000 steps"),
        (planned(PLAIN, training_type="dpo"), "off", "dpo calls the model"),
        (planned(PLAIN, training_type="distillation"), "off", "distillation calls the model"),
        (packed(PLAIN), "off", "packed rows change their form"),
        (planned(PLAIN, hidden_dropout=0.1), "off", "dropout hooks"),
        (replace(PLAIN, free_bytes=20_000_000_000), "off", "computed again"),
    ],
    ids=[
        *(
            "fused",
            "long-run",
            "short-run",
            "liger",
            "cpu",
            "no-triton",
            "no-compiler",
            "no-kernel",
        ),
        *(
            "fp32",
            "no-bf16",
            "fsdp",
            "zero2",
            "ddp",
            "dpo",
            "distillation",
            "packed",
            "dropout",
            "checkpointed",
        ),
    ],
)
def test_a_model_is_compiled_only_where_that_pays(facts, value, reason):
    compiled = choose(facts).compile
    assert compiled.value == value and reason in compiled.reason


def test_a_pass_that_fits_keeps_its_rows_and_its_activations():
    choices = choose(replace(H100, free_bytes=200_000_000_000))
    assert choices.rows_of_a_pass == 8
    assert choices.checkpointing.value == "off"
    # 32 layers x 8192 tokens x (8 x 14336 + 36 x 4096) bytes, 16 GB of weights, and logits of
    # 8 x 100 x 128256 x 16 bytes.
    reason = "8 rows a pass need about 86.4 GB of 200.0 GB free"
    assert choices.checkpointing.reason == reason
    assert choices.rows.reason == f"a batch has 16 rows, a pass takes 32768 tokens; {reason}"
    assert choose(CPU).rows.reason == "a batch has 16 rows, a pass takes 8192 tokens"


def test_dropout_of_adapters_takes_memory():
    dropped = choose(planned(replace(H100, free_bytes=200_000_000_000), adapter_dropout=0.1))
    # 32 layers x 8192 tokens x 3 x (6 x 4096 + 14336) bytes more.
    assert "8 rows a pass need about 117.0 GB of 200.0 GB free" in dropped.rows.reason


def test_fewer_rows_come_before_computing_activations_twice():
    choices = choose(H100)
    assert choices.rows_of_a_pass == 4
    assert "4 rows a pass need about" in choices.rows.reason
    assert choices.checkpointing.value == "off"


def test_activations_are_computed_twice_only_where_not_one_row_fits():
    choices = choose(replace(H100, longest=8192, pass_sizes=(1,), free_bytes=40_000_000_000))
    assert choices.checkpointing.on and choices.rows_of_a_pass == 1
    assert "1 row a pass would need about" in choices.checkpointing.reason
    assert "of 40.0 GB free" in choices.checkpointing.reason
    small = choose(replace(H100, free_bytes=22_500_000_000))
    assert small.checkpointing.on and small.rows_of_a_pass == 1
    # What it saves may hold more rows again.
    roomy = choose(replace(H100, longest=2048, pass_sizes=(4, 2, 1), free_bytes=38_000_000_000))
    assert roomy.checkpointing.on and roomy.rows_of_a_pass == 4


def test_a_model_that_does_not_fit_at_all_is_tried_with_the_least():
    choices = choose(replace(H100, free_bytes=8_000_000_000))
    assert choices.checkpointing.on and choices.rows_of_a_pass == 1


def test_more_processes_need_less_where_weights_are_split():
    whole = planned(H100, finetuning_type="all_weights")
    # 8 billion weights, gradients and moments are 16 bytes each.
    assert choose(whole).checkpointing.on
    assert not choose(replace(whole, processes=8, parallelism="fsdp")).checkpointing.on
    assert choose(replace(whole, processes=8)).checkpointing.on


def test_a_teacher_takes_memory_too():
    one = replace(H100, longest=2048, pass_sizes=(4, 2, 1))
    assert choose(one).rows_of_a_pass == 2
    taught = replace(one, teacher_parameters=16_000_000_000, teacher_bytes=32_000_000_000)
    assert choose(taught).teacher.reason == "frozen, 32.0 GB: above 1.0 GB in bf16"
    assert choose(taught).rows_of_a_pass == 1
    # Its logits, too: of 2,000 tokens, each with 128,256 of 40 bytes instead of 16.
    learnt = replace(one, most_learnt=1000, free_bytes=10**12)
    needed = [
        float(re.search(r"need about ([\d.]+) GB", choose(facts).rows.reason)[1])
        for facts in (learnt, replace(learnt, teacher_parameters=1, teacher_bytes=1))
    ]
    assert needed[1] - needed[0] == pytest.approx(4 * 1000 * 128_256 * 24 / 1e9, abs=0.11)


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        (H100, "none", "sft has none"),
        (replace(H100, teacher_bytes=10**8), "fp32", "up to 1.0 GB in fp32"),
        (replace(H100, teacher_bytes=10**10), "bf16", "above 1.0 GB in bf16"),
        (replace(H100, teacher_bytes=10**10, precision="fp32"), "fp32", "products are in fp32"),
        (replace(T4, teacher_bytes=10**10), "fp32", "products are in fp32"),
    ],
    ids=["no-teacher", "small", "large", "fp32-asked-for", "no-bf16"],
)
def test_a_teacher_is_small_where_that_costs_no_precision(facts, value, reason):
    teacher = choose(facts).teacher
    assert teacher.value == value and reason in teacher.reason


def tries(facts):
    """Rows and checkpointing of every try, when memory always runs out."""
    while facts is not None:
        choices = choose(facts)
        yield choices.rows_of_a_pass, choices.checkpointing.value
        facts = with_less_memory(facts, choices)


@pytest.mark.parametrize("facts", [CPU, replace(H100, free_bytes=10**12)], ids=["cpu", "gpu"])
def test_when_memory_runs_out_rows_are_halved_and_then_activations_computed_twice(facts):
    assert list(tries(facts)) == [(8, "off"), (4, "off"), (2, "off"), (1, "off"), (1, "on")]
    halved = choose(replace(facts, refused=8))
    assert halved.rows.reason == "halved because memory ran out"
    last = choose(replace(facts, refused=1))
    assert last.checkpointing.reason == "memory ran out with 1 row a pass"


def test_what_was_checkpointed_already_is_only_halved():
    assert list(
        tries(replace(H100, longest=2048, pass_sizes=(4, 2, 1), free_bytes=38 * 10**9))
    ) == [
        (4, "on"),
        (2, "on"),
        (1, "on"),
    ]


def test_an_architecture_without_checkpointing_is_never_asked_for_it():
    cannot = replace(H100, can_checkpoint=False, model_type="mpt", free_bytes=8_000_000_000)
    assert choose(cannot).checkpointing.value == "off"
    assert choose(cannot).checkpointing.reason == "mpt has none"
    assert list(tries(replace(CPU, can_checkpoint=False)))[-1] == (1, "off")
