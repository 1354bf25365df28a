"""Rows that are longer than a model has positions for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BioGptConfig,
    CodeGenConfig,
    CTRLConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoConfig,
    LlamaConfig,
    MptConfig,
    OpenAIGPTConfig,
    OPTConfig,
)

from nemo_local.customizer.progress import TrainingFailed
from nemo_local.customizer.training.positions import TABLES, check_positions
from tests.nemo_local.customizer.tiny_llama import tokenizer, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES

GPT = {"n_positions": 16, "n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 264}
OPT = {
    "max_position_embeddings": 16, "hidden_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "vocab_size": 264,
}  # fmt: skip
CONFIGS = {
    "biogpt": BioGptConfig(**OPT, intermediate_size=32),
    "codegen": CodeGenConfig(**GPT | {"n_head": 4}, rotary_dim=4),
    "ctrl": CTRLConfig(**GPT, dff=32),
    "gpt2": GPT2Config(**GPT, bos_token_id=0, eos_token_id=1),
    "gpt_bigcode": GPTBigCodeConfig(**GPT),
    "gpt_neo": GPTNeoConfig(
        max_position_embeddings=16, hidden_size=32, num_layers=1, num_heads=2, vocab_size=264,
        attention_types=[[["global"], 1]],
    ),
    "gptj": GPTJConfig(**GPT, rotary_dim=4),
    "mpt": MptConfig(d_model=32, n_heads=2, n_layers=1, max_seq_len=16, vocab_size=264),
    "openai-gpt": OpenAIGPTConfig(**GPT),
    "opt": OPTConfig(**OPT, ffn_dim=32, word_embed_proj_dim=32, bos_token_id=0, eos_token_id=1),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_an_architecture_with_a_table_takes_no_row_that_is_longer(name, tmp_path):
    config = CONFIGS[name]
    model = AutoModelForCausalLM.from_config(config).eval()
    model(torch.full((1, 16), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 17), 5))
    config.save_pretrained(tmp_path)
    check_positions(tmp_path, None, 16)
    with pytest.raises(TrainingFailed, match="row has 17 tokens, and the base model .* for 16; lo"):
        check_positions(tmp_path, None, 17)


def test_a_row_longer_than_a_llama_was_made_for_is_trained_on(tmp_path):
    LlamaConfig(max_position_embeddings=16).save_pretrained(tmp_path)
    check_positions(tmp_path, None, 17)


@pytest.fixture
def gpt2(tmp_path) -> Path:
    folder: Path = tmp_path / "gpt2"
    AutoModelForCausalLM.from_config(CONFIGS["gpt2"]).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("whose", ["base model", "teacher"])
def test_a_row_longer_than_the_table_of_positions_fails_with_both_numbers(
    checkpoint, gpt2, tmp_path, whose
):
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y" * 20}]
    write_rows(tmp_path / "data/training/a.jsonl", [{"messages": turns}] * 4)
    if whose == "teacher":
        distillation = {"training_type": "distillation", "distillation": {"teacher": "a/b"}}
        job = make_job(checkpoint, **distillation)
        job = replace(job, teacher="a/b", teacher_path=gpt2)
    else:
        job = make_job(gpt2)
    with pytest.raises(TrainingFailed) as failure:
        train_job(job, tmp_path)
    assert str(failure.value) == (
        f"the longest row has 26 tokens, and the {whose} (gpt2) has positions for 16; "
        "lower the config's max_seq_length to 16"
    )
