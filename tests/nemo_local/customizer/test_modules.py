"""Which layers get adapters, in architectures that are not built like a Llama."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    MixtralConfig,
)

from nemo_local.core.client import UpstreamError
from nemo_local.core.errors import Invalid
from nemo_local.customizer.modules import linear_modules, resolve_modules, why_no_adapter
from nemo_local.nim.lora import AdapterSet, read_adapter
from tests.nemo_local.customizer.architectures import HEADS, SIZE
from tests.nemo_local.customizer.tiny_llama import tokenizer
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES

ATTENTION = [f"model.layers.0.self_attn.{leaf}" for leaf in ("q_proj", "k_proj", "o_proj")]
EXPERTS = [
    f"model.layers.0.mlp.experts.{n}.{leaf}"
    for n in range(2)
    for leaf in ("gate_proj", "up_proj", "down_proj")
]
MIXTURE = [
    *ATTENTION, "model.layers.0.mlp.gate", *EXPERTS,
    "model.layers.0.mlp.shared_expert.up_proj", "model.layers.0.mlp.shared_expert_gate",
]  # fmt: skip
FAMILIES = {
    "gpt 2": ("h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.mlp.c_proj"),
    "gpt neox": (
        "layers.0.attention.query_key_value", "layers.0.attention.dense",
        "layers.0.mlp.dense_h_to_4h", "layers.0.mlp.dense_4h_to_h",
    ),
    "opt": ("layers.0.self_attn.q_proj", "layers.0.self_attn.out_proj", "layers.0.fc1",
            "layers.0.fc2"),
    "phi": ("layers.0.self_attn.q_proj", "layers.0.self_attn.dense", "layers.0.mlp.fc1",
            "layers.0.mlp.fc2"),
    "starcoder 2": ("layers.0.self_attn.q_proj", "layers.0.self_attn.o_proj", "layers.0.mlp.c_fc",
                    "layers.0.mlp.c_proj"),
    "mpt": ("blocks.0.attn.Wqkv", "blocks.0.attn.out_proj", "blocks.0.ffn.up_proj",
            "blocks.0.ffn.down_proj"),
}  # fmt: skip


@pytest.mark.parametrize("names", FAMILIES.values(), ids=FAMILIES)
def test_each_family_knows_the_layers_by_the_names_of_nemo(names):
    for nemo, name in zip(("qkv", "proj", "fc1", "fc2"), names, strict=True):
        (found,) = resolve_modules([f"linear_{nemo}"], names)
        assert name.endswith(found)


def test_a_name_of_nemo_without_a_layer_is_not_suggested_for_itself():
    with pytest.raises(Invalid) as error:
        resolve_modules(["linear_fc1"], ATTENTION)
    known = "Known are: linear_qkv, linear_proj, q_proj, k_proj, o_proj."
    assert str(error.value.detail).endswith(known)
    assert "or 'linear_fc1'" not in str(error.value.detail)


@pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged"])
def test_routers_and_experts_get_no_adapters_unless_they_are_named(merged):
    leaves = ("q_proj", "k_proj", "o_proj", "shared_expert_gate")
    assert resolve_modules(None, MIXTURE, merged) == leaves


def test_adapters_of_experts_can_only_be_merged():
    for name in ("gate", "linear_fc1", "up_proj", "*.shared_expert.up_proj"):
        with pytest.raises(Invalid, match=r"means routers or experts .* 'lora_merged'"):
            resolve_modules([name], MIXTURE)
    assert resolve_modules(["*_proj"], MIXTURE) == ("q_proj", "k_proj", "o_proj")
    merged = resolve_modules(["linear_fc1", "q_proj"], MIXTURE, merged=True)
    assert merged == ("gate_proj", "up_proj", "q_proj")


def test_half_of_what_experts_have_as_one_matrix_is_refused():
    with pytest.raises(Invalid, match="only 'up_proj' is named; name both"):
        resolve_modules(["up_proj"], MIXTURE, merged=True)


def test_a_second_copy_of_all_weights_names_no_layers(tmp_path):
    weight = {f"{name}.weight": torch.zeros(2, 2) for name in ATTENTION}
    save_file(weight, tmp_path / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(weight, "model-00001-of-00001.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"layers.0.wq.weight": torch.zeros(2, 2)}, tmp_path / "consolidated.safetensors")
    assert sorted(linear_modules(tmp_path)) == sorted(ATTENTION)


def test_an_adapter_of_a_mixture_of_experts_can_be_served(tmp_path, job_dir):
    config = MixtralConfig(**SIZE, **HEADS, num_local_experts=4)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    train_job(make_job(tmp_path / "base", max_steps=2), job_dir)
    adapter = read_adapter(job_dir / "adapter")
    AdapterSet(AutoModelForCausalLM.from_pretrained(tmp_path / "base")).check(adapter)
    adapted = PeftModel.from_pretrained(model, job_dir / "adapter")
    assert len(adapter.pairs) == len(adapted.peft_config["default"].target_modules) * 2


def test_what_sees_gets_no_adapter(tmp_path, job_dir):
    text = {**SIZE, **HEADS, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
    eyes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = Gemma3Config(
        text_config=text,
        vision_config={**eyes, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4, image_token_index=5, boi_token_index=4, eoi_token_index=6,
    )  # fmt: skip
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    assert not [name for name in linear_modules(tmp_path / "base") if "vision" in name]
    train_job(make_job(tmp_path / "base", max_steps=2), job_dir)
    names = load_file(job_dir / "adapter" / "adapter_model.safetensors")
    assert {name.split(".")[3] for name in names} == {"language_model"}


def test_a_lora_job_whose_adapter_could_not_be_served_is_refused(client, dataset, tmp_path):
    config = GPT2Config(vocab_size=264, n_embd=32, n_layer=1, n_head=4, n_positions=128)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "gpt2")
    tokenizer().save_pretrained(tmp_path / "gpt2")
    assert "transposed (Conv1D)" in why_no_adapter(tmp_path / "gpt2")
    target = {
        "name": "gpt2@1", "namespace": "ns", "num_parameters": 5, "precision": "fp32",
        "model_path": str(tmp_path / "gpt2"),
    }  # fmt: skip
    config = {
        "max_seq_length": 128, "target": target,
        "training_options": [
            {"training_type": "sft", "finetuning_type": kind, "num_gpus": 1, "micro_batch_size": 1}
            for kind in ("lora", "lora_merged")
        ],
    }  # fmt: skip
    given = {"training_type": "sft", "finetuning_type": "lora", "epochs": 1}
    body = {"config": config, "dataset": dataset, "hyperparameters": given}
    with pytest.raises(UpstreamError, match=r"ns/gpt2@1 could not be served: .* 'lora_merged'"):
        client.post("/v1/customization/jobs", json=body)
