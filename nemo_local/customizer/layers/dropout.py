"""SFT's dropouts: set in the config where the architecture has a field, else added by hooks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from nemo_local.customizer.plan import Plan
from nemo_local.customizer.progress import TrainingFailed

OF_ATTENTION = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
"""What configurations call the dropout of attention weights."""
OF_HIDDEN_STATES = {
    "bloom": "hidden_dropout",
    "gpt2": "resid_pdrop",
    "gpt_bigcode": "resid_pdrop",
    "opt": "dropout",
}
"""Architectures (`model_type`) with a hidden dropout of their own, as a test shows, and its config
field; their checkpoints often use it, too."""

ATTENTION = ("self_attn", "attn", "attention", "self_attention")
FEED_FORWARD = ("mlp", "feed_forward")
"""Names of a layer's attention and feed-forward blocks."""


def switches(config: Any, plan: Plan) -> dict[str, float]:
    """The plan's dropouts as fields of the checkpoint's config, where it has such fields.

    switches(of a GPT-2, attention_dropout 0.1 and hidden_dropout 0.2)
    -> {"attn_pdrop": 0.1, "resid_pdrop": 0.2}

    Raises:
        TrainingFailed: attention dropout is asked for, and the config has no field for it.
    """
    set_to = dict[str, float]()
    if plan.attention_dropout is not None:
        field = next((name for name in OF_ATTENTION if hasattr(config, name)), None)
        if field is not None:
            set_to[field] = plan.attention_dropout
        elif plan.attention_dropout:
            raise TrainingFailed(
                f"hyperparameters.sft.attention_dropout: the architecture {config.model_type} has "
                f"none of {', '.join(OF_ATTENTION)}; leave it out for this model"
            )
    if plan.hidden_dropout is not None and config.model_type in OF_HIDDEN_STATES:
        set_to[OF_HIDDEN_STATES[config.model_type]] = plan.hidden_dropout
    return set_to


def add_hidden_dropout(model: nn.Module, probability: float) -> None:
    """Drop what each attention and each feed-forward block adds to the hidden states.

    That is where NeMo applies `hidden_dropout`. The modules keep their names, so nothing changes
    in what is saved. Not for the architectures that have a switch for it.

    Raises:
        TrainingFailed: the architecture names one or both blocks differently.
    """

    def drop(module: nn.Module, _: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, Tensor):
            return functional.dropout(output, probability)
        return (functional.dropout(output[0], probability), *output[1:])

    layers = _blocks_of_layers(model)
    if not layers or not all(_is_a_pair(blocks) for blocks in layers.values()):
        raise TrainingFailed(
            f"hyperparameters.sft.hidden_dropout: {type(model).__name__} has no layers of one "
            f"block named {' or '.join(ATTENTION)} and one named {' or '.join(FEED_FORWARD)}; "
            "leave it out for this model"
        )
    for blocks in layers.values():
        for block in blocks.values():
            block.register_forward_hook(drop)


def _blocks_of_layers(model: nn.Module) -> dict[str, dict[str, nn.Module]]:
    """The blocks of each layer by their names, without those inside of others."""
    layers: dict[str, dict[str, nn.Module]] = {}
    for name, module in model.named_modules():
        *outside, own = name.split(".")
        if own in ATTENTION + FEED_FORWARD and not {*ATTENTION, *FEED_FORWARD} & {*outside}:
            layers.setdefault(".".join(outside), {})[own] = module
    return layers


def _is_a_pair(blocks: dict[str, nn.Module]) -> bool:
    return len(blocks) == 2 and len(blocks.keys() & {*ATTENTION}) == 1
