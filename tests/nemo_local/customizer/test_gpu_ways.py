"""The ways to train that are chosen on GPUs, as far as a CPU can go them."""

from array import array
from dataclasses import replace
from threading import Event

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from nemo_local.customizer.special_tokens import NO_TOKENS
from nemo_local.customizer.training.activations import Size, resident
from nemo_local.customizer.training.arguments import arguments
from nemo_local.customizer.training.choices import choose
from nemo_local.customizer.training.facts import Choice
from nemo_local.customizer.training.gather import gather
from nemo_local.customizer.training.networks import load_model
from nemo_local.customizer.training.passes import pass_sizes
from nemo_local.customizer.training.ranks import Ranks
from nemo_local.customizer.training.run import Run
from nemo_local.customizer.training.token_files import TokenFile
from tests.nemo_local.customizer.test_choices import H100, dropping, packed, planned, without
from tests.nemo_local.customizer.tiny_llama import call_row, make_checkpoint, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, TASK, make_job, train_job

pytestmark = OF_THE_LIBRARIES


def write_data(folder, training_type):
    def row(i):
        if training_type != "dpo":
            return call_row(i)
        return {"prompt": f"add {i}", "chosen": "yes" * (1 + i % 2), "rejected": "no"}

    write_rows(folder / "data/training/a.jsonl", [row(i) for i in range(16)])
    write_rows(folder / "data/validation/a.jsonl", [row(i) for i in range(16, 20)])
    return folder


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"finetuning_type": "all_weights"},
        {"sequence_packing_enabled": True},
        {"sft": {"hidden_dropout": 0.2}, "lora": {"adapter_dropout": 0.1}},
        {"training_type": "dpo"},
        {"training_type": "distillation", "distillation": {"teacher": "a/b@c"}},
    ],
    ids=["lora", "all weights", "packed", "dropouts", "dpo", "distillation"],
)
def test_activations_that_are_computed_twice_give_the_same_losses(
    checkpoint, tmp_path, tmp_path_factory, changed, monkeypatch, layer_calls
):
    from nemo_local.customizer.training import trainer

    teacher = make_checkpoint(tmp_path_factory.mktemp("teacher"))
    job = make_job(checkpoint, log_every_n_steps=1, max_steps=6, **changed)
    job = replace(job, teacher_path=teacher, teacher="a/b@c")
    training_type = changed.get("training_type", "sft")
    plain = train_job(job, write_data(tmp_path / "plain", training_type))
    once = sum(learns for _, learns, _ in layer_calls)
    layer_calls.clear()

    def without_memory(*given, **options):
        return replace(gather(*given, **options), pass_sizes=(4,), refused=4)

    monkeypatch.setattr(trainer, "gather", without_memory)
    twice = train_job(job, write_data(tmp_path / "twice", training_type))
    assert once and sum(learns for _, learns, _ in layer_calls) == 2 * once
    assert "activation checkpointing, 4 x 1" in twice.prepared["note"]
    for series in ("train_loss", "val_loss"):
        found, expected = getattr(twice, series), getattr(plain, series)
        assert [p["value"] for p in found] == pytest.approx(
            [p["value"] for p in expected], abs=1e-6
        )
        assert expected


def test_frozen_weights_that_are_too_large_for_fp32_are_trained_beside(
    checkpoint, tmp_path, monkeypatch
):
    from nemo_local.customizer.training import choices

    monkeypatch.setattr(choices, "FP32_UP_TO_BYTES", 0)
    job = replace(make_job(checkpoint), precision="bf16-mixed")
    progress = train_job(job, write_data(tmp_path, "sft"))
    assert progress.finished
    losses = [point["value"] for point in progress.train_loss]
    assert losses[-1] < losses[0] - 0.05


def test_large_weights_do_not_round_a_training_that_asks_for_fp32(
    checkpoint, tmp_path, monkeypatch
):
    from nemo_local.customizer.training import choices

    job = make_job(checkpoint, max_steps=2, log_every_n_steps=1)
    expected = train_job(job, write_data(tmp_path / "small", "sft"))
    monkeypatch.setattr(choices, "FP32_UP_TO_BYTES", 0)
    found = train_job(job, write_data(tmp_path / "large", "sft"))
    for progress in (expected, found):
        assert "fp32 (asked for)" in progress.prepared["note"]
    series = [[point["value"] for point in one.train_loss] for one in (expected, found)]
    assert series[0] and series[0] == series[1]


def saved_bytes(model, rows, longest, bf16):
    """What PyTorch keeps for the way back through the layers of a model, its weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.zeros((rows, longest), dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        model.train()(input_ids=ids, logits_to_keep=1, use_cache=False)
    return sum(count for count, _ in kept.values())


@pytest.mark.parametrize(
    ("finetuning_type", "bf16"), [("lora", True), ("lora", False), ("all_weights", False)]
)
@pytest.mark.parametrize(
    ("config", "kind"),
    [(LlamaConfig, LlamaForCausalLM), (Qwen2Config, Qwen2ForCausalLM)],
    ids=["llama", "qwen2"],
)
def test_the_estimate_of_activations_is_near_what_pytorch_keeps(
    finetuning_type, bf16, config, kind
):
    size = Size(layers=3, hidden=256, intermediate=768, heads=4)
    model = kind(
        config(
            vocab_size=64,
            hidden_size=size.hidden,
            intermediate_size=size.intermediate,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=2,
            attn_implementation="sdpa",
        )
    ).to(torch.bfloat16 if bf16 else torch.float32)
    if finetuning_type == "lora":
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    width = 2 if bf16 else 4
    kept = saved_bytes(model, 2, 128, bf16)
    assert kept <= size.activations(2, 128, width, fused=True) <= 1.4 * kept
    model.gradient_checkpointing_enable({"use_reentrant": False})
    inputs = size.checkpointed(2, 128, width, True) - Size(1, 256, 768, 4).activations(
        2, 128, width, True
    )
    kept = saved_bytes(model, 2, 128, bf16)
    assert kept / 2 <= inputs <= 3 * kept


def test_plain_attention_keeps_its_scores_besides():
    size = Size(layers=2, hidden=8, intermediate=16, heads=2)
    fused, plain = (size.activations(3, 10, 2, fused=fused) for fused in (True, False))
    assert plain - fused == 2 * 3 * 2 * 10 * 10 * 10


def test_weights_and_what_trains_them_are_counted_once_for_each_process_that_holds_them():
    assert resident(10, 2, 2, False, 1, "ddp") == 20
    assert resident(10, 4, 2, False, 1, "ddp") == 40 + 20
    assert resident(10, 4, 4, True, 1, "ddp") == resident(10, 4, 4, True, 4, "ddp") == 160
    assert resident(10, 4, 4, True, 4, "zero2") == 40 + 30
    assert resident(10, 4, 4, True, 4, "fsdp") == resident(10, 4, 4, True, 4, "zero3") == 40


GPU_RUNS = [
    pytest.param(H100, {"bf16": True, "torch_compile": False}, id="h100"),
    pytest.param(packed(H100), {"bf16": True}, id="packed"),
    pytest.param(
        replace(H100, free_bytes=20 * 10**9),
        {
            "gradient_checkpointing": True,
            "gradient_checkpointing_kwargs": {"use_reentrant": False},
        },
        id="little memory",
    ),
    pytest.param(without(dropping(H100), "liger_kernel"), {"torch_compile": True}, id="compiled"),
]


def run_on(device, plan, folder):
    return Run(
        task=replace(TASK, plan=plan), folder=folder, ranks=Ranks(device=torch.device(device)),
        tokenizer=None, special=NO_TOKENS, training=TokenFile(folder, array("i", [100] * 64)),
        validation=TokenFile(folder, array("i", [100])),
        progress=None, stop=Event(), trackers=None, call_accuracy=None,
    )  # fmt: skip


@pytest.mark.parametrize(("facts", "expected"), GPU_RUNS)
@pytest.mark.parametrize("training_type", ["sft", "dpo"])
def test_the_arguments_of_a_gpu_run_are_those_that_the_trainers_know(
    tmp_path, facts, expected, training_type
):
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.sft_config import SFTConfig

    given = arguments(run_on("cpu", facts.plan, tmp_path), choose(facts))
    made = (DPOConfig if training_type == "dpo" else SFTConfig)(**given)
    assert {name: getattr(made, name) for name in expected} == expected
    # Layers get Liger's kernels when they are loaded; the trainers would change their losses.
    assert made.use_liger_kernel is False and made.tf32 is None
    assert made.per_device_train_batch_size == choose(facts).rows_of_a_pass


def test_a_gpu_validates_with_no_more_rows_than_were_estimated_to_fit(tmp_path):
    given = arguments(run_on("cuda", H100.plan, tmp_path), choose(H100))
    assert given["per_device_train_batch_size"] == given["per_device_eval_batch_size"] == 4


def test_a_pass_on_a_gpu_has_a_largest_size():
    plan = replace(H100.plan, batch_size=256)
    assert pass_sizes(plan, 500, device="cuda")[0] == 64
    assert pass_sizes(plan, 500)[0] == 16


def test_ligers_layers_are_put_in_without_its_losses(checkpoint, monkeypatch):
    from nemo_local.customizer.training import networks

    given = []
    monkeypatch.setattr(networks, "apply_liger_kernel", lambda *args: given.append(args))
    plan = make_job(checkpoint).plan
    choices = choose(gather(checkpoint, plan, Ranks(), [50], 9))
    networks.load_model(checkpoint, plan, Ranks(), choices)
    assert given == []
    on = replace(choices, liger=Choice("Liger kernels", "on", "for this test"))
    adapted = networks.load_model(checkpoint, plan, Ranks(), on)
    ((model, config),) = given
    assert model is adapted.get_base_model()
    assert config == {"cross_entropy": False, "fused_linear_cross_entropy": False}


@pytest.mark.parametrize("kept", ["fp32", "bf16"])
def test_frozen_weights_have_the_chosen_type_and_what_learns_has_fp32(checkpoint, kept):
    plan = make_job(checkpoint).plan
    choices = choose(gather(checkpoint, plan, Ranks(), [50], 9))
    choices = replace(choices, weights=Choice("weights", kept, "for this test"))
    learns = {
        (weight.requires_grad, weight.dtype)
        for weight in load_model(checkpoint, plan, Ranks(), choices).parameters()
    }
    frozen = torch.bfloat16 if kept == "bf16" else torch.float32
    assert learns == {(False, frozen), (True, torch.float32)}


def test_the_facts_of_a_checkpoint_are_those_of_its_files(checkpoint):
    plan = make_job(checkpoint).plan
    facts = gather(checkpoint, plan, Ranks(), [10, 50, 20], 9, precision="bf16-mixed")
    assert (facts.device, facts.model_type, facts.longest) == ("cpu", "llama", 50)
    assert facts.size == Size(layers=2, hidden=32, intermediate=64, heads=2)
    assert facts.head_dim == 16 and facts.pass_sizes == (4, 2, 1) and facts.steps == 2
    assert facts.attentions == {"sdpa", "flash_attention_2"} and facts.can_checkpoint
    assert facts.free_bytes == 0 and facts.kernel_error == "" and facts.activation == "silu"
    assert facts.device_name.startswith("a CPU with ")
    assert planned(facts, pack_sequences=True).plan.needs_masks
    masked = gather(checkpoint, replace(plan, pack_sequences=True), Ranks(), [10, 50, 20], 9)
    assert "masks" in masked.why_not_row_by_row and masked.padding[0] > masked.padding[1]
