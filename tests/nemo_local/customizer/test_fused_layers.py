"""Decoder layers in few operations against those of transformers and PEFT."""

import pytest
import torch
from torch.nn import functional

from nemo_local.customizer.layers.answers_only import end_at_answers
from nemo_local.customizer.layers.fused_compiled import Compiled
from nemo_local.customizer.layers.fused_layers import fuse_layers
from nemo_local.customizer.layers.fused_torch import InTorch
from nemo_local.customizer.training.activations import Size
from nemo_local.customizer.training.choices import FUSED_MODELS
from nemo_local.customizer.training.facts import UNMASKED
from nemo_local.customizer.training.objectives import answer_logits, places_before
from tests.nemo_local.customizer.architectures import ARCHITECTURES, make_architecture
from tests.nemo_local.customizer.test_gpu_ways import saved_bytes

# Of transformers and PEFT between themselves.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

FUSED = ["llama 3", "mistral", "qwen 2.5", "smollm"]
ROWS, TOKENS = 3, 14
"""Shorter than the window of the tiny Mistral."""


@pytest.fixture(scope="module", params=FUSED)
def checkpoint(request, tmp_path_factory):
    return make_architecture(request.param, tmp_path_factory.mktemp("base"))


@pytest.fixture(params=[Compiled, InTorch], ids=["for a CPU", "for a GPU"])
def operations(request):
    return request.param()


def test_every_architecture_that_is_fused_is_tried_here():
    kinds = {ARCHITECTURES[name]().config.model_type for name in FUSED}
    assert kinds == set(FUSED_MODELS)


def adapted(checkpoint, targets="all-linear", dtype="float32", ending=True):
    """A model with adapters that are no longer nothing, of a scaling that is not one."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=dtype, attn_implementation=UNMASKED
    )
    if ending:
        end_at_answers(base)
    model = get_peft_model(base, LoraConfig(r=5, lora_alpha=8, target_modules=targets))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
        if name.endswith("proj.base_layer.bias"):
            torch.nn.init.normal_(weight)
    return model.train()


def inputs():
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, 260, (ROWS, TOKENS), generator=generator)
    return ids, places_before(torch.rand(ids.shape, generator=generator) < 0.5)


def loss_and_gradients(model, bf16=False):
    ids, places = inputs()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = answer_logits(model, {"input_ids": ids}, places)
    loss = functional.cross_entropy(logits, ids.flatten()[places + 1])
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("targets", "trained"),
    [("all-linear", 28), (["q_proj", "v_proj"], 8), (["k_proj", "up_proj", "down_proj"], 12)],
    ids=["all", "few", "others"],
)
@pytest.mark.parametrize("ending", [True, False], ids=["ending at answers", "whole"])
def test_loss_and_gradients_are_those_of_peft(checkpoint, targets, trained, ending, operations):
    theirs, ours = (adapted(checkpoint, targets, ending=ending) for _ in range(2))
    fuse_layers(ours, torch.float32, operations)
    expected_loss, expected = loss_and_gradients(theirs)
    loss, gradients = loss_and_gradients(ours)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
    assert len(gradients) == trained


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_in_bfloat16_are_hardly_farther_from_the_truth_than_those_of_peft(
    checkpoint, dtype, operations
):
    theirs, ours = (adapted(checkpoint, dtype=dtype) for _ in range(2))
    fuse_layers(ours, torch.bfloat16, operations)
    _, true = loss_and_gradients(adapted(checkpoint))

    def error(model):
        _, gradients = loss_and_gradients(model, bf16=True)
        assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
        away = sum((gradients[name] - true[name]).square().sum() for name in true)
        return (away / sum(value.square().sum() for value in true.values())).sqrt()

    # On a CPU scores of attention are rounded, which PyTorch's kernel keeps in float32.
    assert error(ours) < 2 * error(theirs) < 0.4


@pytest.fixture
def memory_holds_nan():
    """What is allocated and not yet written is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("memory_holds_nan")
@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("hidden", [256, 200])
def test_gradients_are_numbers_whatever_memory_held_before(hidden, kept, operations):
    """oneDNN's tiles read the numbers after a row's last ones, where none had been written."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": 264, "hidden_size": hidden, "intermediate_size": 1004,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    torch.manual_seed(3)
    base = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation=UNMASKED)).to(kept)
    model = get_peft_model(base, LoraConfig(r=5, target_modules="all-linear")).train()
    fuse_layers(model, torch.bfloat16, operations)
    loss, gradients = loss_and_gradients(model, bf16=True)
    assert torch.isfinite(loss)
    assert [n for n, g in gradients.items() if not torch.isfinite(g).all()] == []


def test_adapters_that_have_learnt_are_seen_in_the_next_pass(checkpoint, operations):
    theirs, ours = adapted(checkpoint), adapted(checkpoint)
    fuse_layers(ours, torch.float32, operations)
    losses = []
    for model in (theirs, ours):
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
        found = []
        for _ in range(4):
            loss, _ = loss_and_gradients(model)
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.item())
        losses.append(found)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[0][-1] < losses[0][0] - 0.1


def test_gradients_of_several_passes_add_up(checkpoint, operations):
    once, twice = adapted(checkpoint), adapted(checkpoint)
    for model in (once, twice):
        fuse_layers(model, torch.float32, operations)
    _, expected = loss_and_gradients(once)
    loss_and_gradients(twice)
    _, gradients = loss_and_gradients(twice)
    torch.testing.assert_close(gradients, {name: 2 * value for name, value in expected.items()})


def test_layers_that_are_computed_twice_have_the_same_gradients(checkpoint, operations):
    plain, again = adapted(checkpoint), adapted(checkpoint)
    for model in (plain, again):
        fuse_layers(model, torch.float32, operations)
    again.gradient_checkpointing_enable({"use_reentrant": False})
    torch.testing.assert_close(loss_and_gradients(again), loss_and_gradients(plain))


def test_replies_with_a_cache_are_those_of_peft(checkpoint, operations):
    theirs, ours = adapted(checkpoint).eval(), adapted(checkpoint).eval()
    fuse_layers(ours, torch.float32, operations)
    loss_and_gradients(ours)  # a pass of training before
    ids, _ = inputs()
    replies = []
    for model in (theirs, ours):
        model.get_base_model().set_attn_implementation("sdpa")
        mask = torch.ones_like(ids)
        mask[0, :4] = 0
        with torch.no_grad():
            output = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False,
                pad_token_id=0, return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
        replies.append(torch.stack(output.logits))
    torch.testing.assert_close(replies[1], replies[0])


def test_weights_that_lie_in_joint_matrices_are_merged_and_saved_as_ever(
    checkpoint, tmp_path, operations
):
    from safetensors.torch import load_file

    files = []
    for name in ("theirs", "ours"):
        model = adapted(checkpoint)
        if name == "ours":
            fuse_layers(model, torch.float32, operations)
            loss_and_gradients(model)
        model.merge_and_unload().save_pretrained(tmp_path / name)
        files.append(load_file(tmp_path / name / "model.safetensors"))
    torch.testing.assert_close(files[1], files[0])


@pytest.mark.parametrize("bf16", [True, False], ids=["bf16", "fp32"])
def test_no_more_is_kept_for_the_way_back_than_is_estimated(bf16):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    size, rows, tokens = Size(layers=3, hidden=256, intermediate=768, heads=4), 2, 128
    shape = {
        "vocab_size": 64, "hidden_size": size.hidden, "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers, "num_attention_heads": size.heads,
        "num_key_value_heads": 2,
    }  # fmt: skip
    dtype = torch.bfloat16 if bf16 else torch.float32
    base = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation=UNMASKED)).to(dtype)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    fuse_layers(model, dtype, InTorch())
    kept = saved_bytes(model, rows, tokens, bf16)
    estimated = size.activations(rows, tokens, 2 if bf16 else 4, fused=True)
    # A CPU's norms keep more than those of a GPU.
    assert kept <= 1.01 * estimated <= 2 * kept
