"""What a checkpoint's config.json says of its network. No torch here."""

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
"""Architectures (`model_type`) that keep more of the past than keys and values, in all layers or in
some: padding and packed rows would be part of it. A test compares with transformers."""
ATTENTION = frozenset(("attention", "full_attention", "sliding_attention", "chunked_attention"))
"""Kinds of layers (`layer_types`) that keep keys and values only."""
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""Fields for the context, by architecture; GPT-2 and MPT have one of the latter."""
DEFAULT_POSITIONS = 2048


def text_config(config: Config) -> Config:
    """The part about the network that reads and writes text, of a model that also sees or hears."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def positions(config: Config) -> int:
    """Tokens that a network was made for.

    Raises:
        ValueError: there are none.
    """
    text = text_config(config)
    name = next((name for name in POSITIONS if name in text), POSITIONS[0])
    tokens = int(text.get(name, DEFAULT_POSITIONS))
    if tokens < 1:
        raise ValueError(f"{name} of config.json is {tokens}")
    return tokens


def why_stateful(config: Config) -> str:
    """Why a network can be neither trained nor served here; empty when it can.

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
