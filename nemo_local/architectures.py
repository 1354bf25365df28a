"""What a checkpoint's config.json tells about its network, read without torch."""

from typing import Any

Config = dict[str, Any]

STATEFUL = frozenset(
    (
        *("axk2", "bailing_hybrid", "bamba", "deepseek_v32", "deepseek_v4", "dots3_note"),
        *("dots3_note_text", "falcon_h1", "falcon_mamba", "glm_moe_dsa", "granitemoehybrid"),
        *("hy_v4", "inkling2_text", "inkling_text", "jamba", "kimi_linear", "lfm2", "lfm2_moe"),
        *("lfm3", "mamba", "mamba2", "minimax", "nemotron_h", "olmo_hybrid", "qwen3_5"),
        *("qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next", "qwen4_exp"),
        *("qwen4_exp_text", "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2", "zaya"),
    )
)
"""Architectures (`model_type`) that carry a state besides keys and values, in some layers or all:
padding and packed rows would leak into it. A test compares the list with transformers."""
ATTENTION = frozenset(("attention", "full_attention", "sliding_attention", "chunked_attention"))
"""Kinds of layers (`layer_types`) whose only state is keys and values."""
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""Fields that may hold the context length; GPT-2 has the second one, MPT the third."""
DEFAULT_POSITIONS = 2048


def text_config(config: Config) -> Config:
    """The text network's part of a multimodal model's config; of any other, the whole config."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def positions(config: Config) -> int:
    """The context length that a network was made for, in tokens.

    Raises:
        ValueError: it is below 1.
    """
    text = text_config(config)
    name = next((name for name in POSITIONS if name in text), POSITIONS[0])
    tokens = int(text.get(name, DEFAULT_POSITIONS))
    if tokens < 1:
        raise ValueError(f"{name} of config.json is {tokens}")
    return tokens


def why_stateful(config: Config) -> str:
    """Why a network's state keeps it from being trained or served here; empty when nothing does.

    {"model_type": "mamba"} -> "mamba keeps a state besides keys and values, ..."
    """
    text = text_config(config)
    kind, layers = text.get("model_type") or config.get("model_type"), text.get("layer_types")
    other = sorted(set(map(str, layers or [])) - ATTENTION)
    if not other and (layers or kind not in STATEFUL):
        return ""
    which = f" in its layers of {', '.join(other)}" if other else ""
    return (
        f"{kind} keeps a state besides keys and values{which}, which neither training nor "
        "inference here can do; choose a model with attention in all layers"
    )
