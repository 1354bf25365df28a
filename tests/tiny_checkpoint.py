"""Random Llama checkpoints of a few thousand parameters, for tests that need a model at once."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from nemo_local.catalog import Catalog, CatalogModel
from nemo_local.nim.checkpoint import Checkpoint
from nemo_local.nim.llama.layouts import Layouts
from nemo_local.nim.llama.merged_weights import ROOM, MergedWeights
from nemo_local.nim.llama.network import COMPILED_ROWS, Llama
from nemo_local.nim.llama.ops import ops_of
from nemo_local.nim.llama.sequences import LlamaSequences

SPECIAL = ["<|pad|>", "<|begin_of_text|>", "<|start|>", "<|end|>", "<|eot_id|>"]
TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}<|start|>{{ m.role }}<|end|>"
    "{% for c in m.tool_calls or [] %}"
    '{"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}'
    "{% endfor %}{{ m.content }}<|eot_id|>{% endfor %}"
    "{% for t in tools or [] %}{{ t.function.name }} {% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>{% endif %}"
)
TEXT = [
    '{"name": "add", "parameters": {"a": 1, "b": 2}}; {"name": "time", "parameters": {}}',
    "What time is it in the city? Please add the two numbers.",
]
LINEAR = ["self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of about 350 pieces with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=350,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|pad|>",
        chat_template=TEMPLATE,
    )


def make_checkpoint(
    folder: Path, seed: int = 0, context: int = 512, dtype: torch.dtype = torch.float32
) -> Path:
    """A two-layer Llama with random weights, saved like any other."""
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 6,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=4,
        pad_token_id=0,
        # Large weights make random replies differ clearly from each other.
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def store_network(folder: Path, model: PreTrainedModel) -> Path:
    """A model of another architecture, beside the same tokenizer."""
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_adapter(folder: Path, seed: int, rank: int = 4, alpha: int = 8) -> Path:
    """A random LoRA adapter for `make_checkpoint`, in the files PEFT writes."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"q_proj": (32, 32), "v_proj": (32, 16), "o_proj": (32, 32), "down_proj": (64, 32)}
    tensors = {}
    for layer in range(2):
        for module in LINEAR:
            inputs, outputs = sizes[module.split(".")[-1]]
            key = f"base_model.model.model.layers.{layer}.{module}"
            a = torch.randn(rank, inputs, generator=generator)
            b = torch.randn(outputs, rank, generator=generator)
            tensors[f"{key}.lora_A.weight"] = a * 0.3
            tensors[f"{key}.lora_B.weight"] = b * 0.3
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": [module.split(".")[-1] for module in LINEAR],
        "bias": "none",
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def entry(model_id: str, path: Path | None, context: int = 512) -> CatalogModel:
    """A catalogue entry for a tiny checkpoint."""
    return CatalogModel(
        id=model_id,
        path=path,
        answered_by="tiny" if path else "",
        stand_in=path is not None,
        max_model_len=context,
        num_parameters=30_000,
        role="chat",
        why="a test" if path else f"no weights of {model_id} here",
    )


def catalog_of(*entries: CatalogModel) -> Catalog:
    return Catalog(list(entries))


def llama_sequences(
    checkpoint: Checkpoint, room: int = ROOM, small: bool = True,
    compiled_rows: int = COMPILED_ROWS, prompts_in_bfloat16: bool = False,
) -> LlamaSequences:  # fmt: skip
    """No sequences yet of a Llama, with so many bytes for weights that adapters are added to.

    It computes as `small` models do, or as large ones.
    """
    llama = Llama(checkpoint.model)
    llama.ops = ops_of(llama.dtype, small)
    llama.keep_copies(prompts_in_bfloat16, compiled_rows)
    layouts = Layouts(checkpoint.adapters, llama.sizes, llama.halves)
    return LlamaSequences(llama, layouts, MergedWeights(layouts, llama.weights, room))
