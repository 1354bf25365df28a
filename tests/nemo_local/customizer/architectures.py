"""Random checkpoints of a few thousand weights, one of each architecture that we say works."""

from pathlib import Path

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.nemo_local.customizer.tiny_llama import tokenizer

SIZE = {
    "vocab_size": 264,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    # Large weights make every difference show.
    "initializer_range": 0.2,
}
HEADS = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

ARCHITECTURES = {
    "llama 3": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZE, **HEADS, tie_word_embeddings=False, rope_parameters=LLAMA3_ROPE)
    ),
    "gemma 2": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            **SIZE, **HEADS, head_dim=8, query_pre_attn_scalar=8, sliding_window=16,
            tie_word_embeddings=True,
        )
    ),
    "qwen 2.5": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE, **HEADS, tie_word_embeddings=True)),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(**SIZE, **HEADS, tie_word_embeddings=False, sliding_window=16)
    ),
    "smollm": lambda: LlamaForCausalLM(
        LlamaConfig(
            **SIZE, hidden_size=36, num_attention_heads=9, num_key_value_heads=3,
            tie_word_embeddings=True,
        )
    ),
}  # fmt: skip


def make_architecture(name: str, folder: Path) -> Path:
    """Write the checkpoint into `folder`. Its tokenizer pads with the end of a turn, as many do."""
    torch.manual_seed(0)
    model = ARCHITECTURES[name]()
    for module in model.modules():  # Qwen's, which are zero at first and would show nothing
        if isinstance(module, torch.nn.Linear) and module.bias is not None:
            torch.nn.init.normal_(module.bias, std=0.2)
    model.save_pretrained(folder)
    made = tokenizer()
    made.pad_token = made.eos_token
    made.save_pretrained(folder)
    return folder
