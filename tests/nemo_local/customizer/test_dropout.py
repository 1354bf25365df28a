"""The dropouts of SFT in architectures whose blocks have other names, or switches of their own."""

import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MptConfig,
    OPTConfig,
    PhiConfig,
)

from nemo_local.customizer.layers.dropout import (
    OF_HIDDEN_STATES,
    add_hidden_dropout,
    switches,
)
from nemo_local.customizer.plan import Plan
from nemo_local.customizer.progress import TrainingFailed
from tests.nemo_local.customizer.tiny_llama import call_row, tokenizer, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES

TOKENS = {"vocab_size": 264, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
GPT = {**TOKENS, "n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 2}
SIZE = {**TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {**SIZE, "intermediate_size": 64}
CONFIGS = {
    "bloom": BloomConfig(**TOKENS, hidden_size=32, n_layer=2, n_head=2),
    "falcon": FalconConfig(**SIZE),
    "gpt2": GPT2Config(**GPT),
    "gpt_bigcode": GPTBigCodeConfig(**GPT),
    "gpt_neo": GPTNeoConfig(
        **TOKENS, hidden_size=32, num_layers=2, num_heads=2, attention_types=[[["global"], 2]]
    ),
    "gpt_neox": GPTNeoXConfig(**WIDE),
    "gptj": GPTJConfig(**GPT, rotary_dim=4),
    "llama": LlamaConfig(**WIDE),
    "opt": OPTConfig(**SIZE, ffn_dim=64, word_embed_proj_dim=32, max_position_embeddings=128),
    "phi": PhiConfig(**WIDE),
}


def built(config, **dropouts):
    """The model, in training, with what the configuration and hooks drop of a plan."""
    plan = Plan(target_modules=(), **dropouts)
    for name, value in switches(config, plan).items():
        setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config).train()
    if plan.hidden_dropout and config.model_type not in OF_HIDDEN_STATES:
        add_hidden_dropout(model, plan.hidden_dropout)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_dropout_drops_what_both_blocks_of_a_layer_add(name):
    config = CONFIGS[name].__class__.from_dict(CONFIGS[name].to_dict())
    model = built(config, hidden_dropout=1.0)
    passed = []
    for layer in next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList)):
        layer.register_forward_hook(lambda _, given, output: passed.append((given[0], output)))
    model(torch.tensor([[0, 4, 70, 71, 72, 1]]))
    for given, output in passed:
        assert torch.equal(given, output if isinstance(output, torch.Tensor) else output[0])
    assert len(passed) == 2


def test_hidden_dropout_of_layers_with_one_block_that_is_known_is_refused():
    mpt = MptConfig(d_model=32, n_heads=2, n_layers=1, vocab_size=264)
    mamba = MambaConfig(vocab_size=264, hidden_size=32, num_hidden_layers=1)
    for config in (mpt, mamba):
        with pytest.raises(TrainingFailed, match="hidden_dropout: M.* leave it out for this model"):
            built(config, hidden_dropout=0.1)


def test_attention_dropout_of_an_architecture_without_it_is_refused():
    config = MambaConfig(vocab_size=264, hidden_size=32, num_hidden_layers=1)
    assert switches(config, Plan(target_modules=(), attention_dropout=0.0)) == {}
    with pytest.raises(TrainingFailed, match="attention_dropout: the architecture mamba has none"):
        switches(config, Plan(target_modules=(), attention_dropout=0.1))


def test_dropouts_of_a_gpt2_act_under_its_own_names_and_are_not_stored(tmp_path):
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(CONFIGS["gpt2"]).save_pretrained(base)
    tokenizer().save_pretrained(base)
    seen = []
    for sft in ({}, {"attention_dropout": 0.5}, {"hidden_dropout": 0.5}):
        folder = tmp_path / f"job{len(seen)}"
        write_rows(folder / "data/training/a.jsonl", [call_row(i) for i in range(6)])
        job = make_job(
            base, max_steps=1, log_every_n_steps=1, finetuning_type="all_weights", sft=sft
        )
        seen.append(train_job(job, folder).train_loss[0]["value"])
        stored = json.loads((folder / "model/config.json").read_text())
        assert (stored["attn_pdrop"], stored["resid_pdrop"]) == (0.1, 0.1)
        assert "attention_dropout" not in stored
    assert len(set(seen)) == 3
