"""llama.cpp's server for benchmarks/serve.py: the pocket base as a GGUF file with the same weights.

Run by a Python that has `gguf`. The server is the program `llama-server`, whose source comes with
llama-cpp-python, or without --server the one inside the package `xllamacpp`.
"""

import argparse
import json
import os
import signal
from pathlib import Path
from typing import NoReturn

import gguf
import numpy as np

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
SLOTS = 32
CONTEXT = 512
"""Tokens a slot holds: the longest prompt has 318, and a reply at most 48."""


def read_bfloat16(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file in bfloat16, as float32."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    tensors = {}
    for name, entry in json.loads(content[8 : 8 + size]).items():
        if name != "__metadata__":
            assert entry["dtype"] == "BF16", f"{name} is {entry['dtype']}"
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            halves = np.frombuffer(content[begin:end], dtype=np.uint16).astype(np.uint32)
            tensors[name] = (halves << 16).view(np.float32).reshape(entry["shape"])
    return tensors


def gguf_name(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` -> `blk.3.ffn_up.weight`."""
    outside = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm"}
    if name in outside:
        return f"{outside[name]}.weight"
    _, _, layer, *part, _ = name.split(".")
    return f"blk.{layer}.{NAMES['.'.join(part)]}.weight"


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows in llama.cpp's order: the two rows that a rotary embedding mixes are adjacent."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(weights: Path, target: Path, dtype: str) -> None:
    """The checkpoint in llama.cpp's format; norms in float32, all else in `dtype`."""
    config = json.loads((weights / "config.json").read_text())
    tokenizer = json.loads((weights / "tokenizer.json").read_text())
    rope = config["rope_parameters"]
    assert config["tie_word_embeddings"] and rope["rope_type"] == "default"
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    add_vocabulary(writer, tokenizer)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    kind = gguf.GGMLQuantizationType[dtype]
    for name, tensor in read_bfloat16(weights / "model.safetensors").items():
        if ".q_proj." in name or ".k_proj." in name:
            tensor = interleaved(tensor, config["num_attention_heads"])
        if tensor.ndim == 1:
            writer.add_tensor(gguf_name(name), tensor)
        else:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: dict) -> None:
    """Add the tokens, to decode replies. GGUF cannot name our word splitting: prompts are ids."""
    special = {token["id"] for token in tokenizer["added_tokens"]}
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda pair: pair[1])
    kinds = [
        gguf.TokenType.CONTROL if number in special else gguf.TokenType.NORMAL
        for _, number in vocabulary
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types(kinds)
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=Path, help="llama-server; else xllamacpp's")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--port", required=True)
    parser.add_argument("--dtype", choices=["F32", "F16", "BF16"], default="F32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    model = given.work / "pocket.gguf"
    write_gguf(given.weights, model, given.dtype)
    if given.server is None:
        serve_in_process(model, int(given.port), given.threads)
    options = {
        "--model": model, "--port": given.port, "--host": "127.0.0.1", "--alias": "pocket",
        "--parallel": SLOTS, "--ctx-size": SLOTS * CONTEXT, "--threads": given.threads,
        "--threads-batch": given.threads,
    }  # fmt: skip
    arguments = [str(part) for pair in options.items() for part in pair]
    os.execv(given.server, [str(given.server), *arguments])


def serve_in_process(model: Path, port: int, threads: int) -> NoReturn:
    """The server of the package xllamacpp, until this process is ended."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.hostnames, params.port = str(model), ["127.0.0.1"], port
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * CONTEXT
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    os._exit(0)


if __name__ == "__main__":
    main()
