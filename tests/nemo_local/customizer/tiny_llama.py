"""A random Llama of a few thousand weights, with a tokenizer and a chat template with tools."""

import json
from pathlib import Path

TEMPLATE = """\
{%- set last = namespace(user=none) -%}
{%- for m in messages if m.role == "user" -%}{%- set last.user = m -%}{%- endfor -%}
{{- bos_token -}}
{%- for m in messages -%}
  {{- "<|" + m.role + "|>" -}}
  {%- for call in m.tool_calls or [] -%}
    {{- {"name": call.function.name, "parameters": call.function.arguments} | tojson -}}
    {{- "" if loop.last else "; " -}}
  {%- endfor -%}
  {{- m.content + "<|eot_id|>" -}}
  {%- if m == last.user -%}
    {%- for tool in tools or [] -%}{{- "[" + tool.function.name + "]" -}}{%- endfor -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|assistant|>" -}}{%- endif -%}
"""

SPECIAL = [
    "<|bos|>",
    "<|eot_id|>",
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
]


def tokenizer():
    """A byte-level tokenizer: one token a byte, and the special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate([*SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|bos|>",
        eos_token="<|eot_id|>",
        pad_token="<|pad|>",
        extra_special_tokens=SPECIAL[3:],
    )
    made.chat_template = TEMPLATE
    return made


def make_checkpoint(folder: Path, context: int = 512) -> Path:
    """Write the model and its tokenizer into `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tool(name: str) -> dict:
    return {
        "type": "function",
        "function": {"name": name, "description": "d", "parameters": {"type": "object"}},
    }


def call_row(number: int) -> dict:
    """A row of the tutorial's form: one user turn, one tool call, arguments as an object."""
    name = ("add", "sum")[number % 2]
    call = {"type": "function", "function": {"name": name, "arguments": {"a": number}}}
    return {
        "messages": [
            {"role": "user", "content": f"{name} {number}"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ],
        "tools": [tool("add"), tool("sum")],
    }


def write_rows(path: Path, rows: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
