"""What a model is given of a batch."""

from __future__ import annotations

from typing import Any

from nemo_local.customizer.layers import attention

NAMES = (
    *("input_ids", "attention_mask", "position_ids"),
    *("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"),
)


def model_inputs(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs that a model takes: no mask where it needs none, and positions where it has
    longrope, which by default would be those of the longest row for all."""
    given = {name: inputs[name] for name in NAMES if name in inputs}
    if getattr(model, "has_longrope", False) and "attention_mask" in given:
        given["position_ids"] = (given["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    if attention.takes_no_mask(model.config._attn_implementation, given["input_ids"].device):
        given.pop("attention_mask", None)
    return given
