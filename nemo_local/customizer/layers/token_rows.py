"""Adds and trains the rows of special tokens in a model's embedding and output head.

PEFT trains them beside LoRA and stores them with the adapter, whole and not as differences, so that
what the base has in their place does not matter.
Source: https://huggingface.co/docs/peft/package_reference/trainable_tokens
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig

from nemo_local.customizer.progress import TrainingFailed
from nemo_local.customizer.special_tokens import SpecialTokens


def add_rows(model: Any, tokens: SpecialTokens) -> None:
    """Add rows for new tokens, which start as the mean of the rows before them.

    Rows that a checkpoint has beyond its vocabulary are used first.
    """
    if not tokens.new:
        return
    _grow(model, tokens.new[-1] + 1)
    first = tokens.new[0]
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            module.weight[tokens.new] = module.weight[:first].float().mean(0).to(module.weight)


def rows_to_train(model: Any, tokens: SpecialTokens) -> dict[str, list[int]] | None:
    """The value of LoraConfig's `trainable_token_indices`; tied heads follow their embedding.

    Raises:
        TrainingFailed: the head adds a bias, which PEFT drops when it trains rows of tokens.
    """
    if not tokens.ids:
        return None
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise TrainingFailed(
            f"the output head of the base model ({model.config.model_type}) adds a bias, and "
            "adapters with special tokens of their own have none; train all weights "
            "(finetuning_type 'all_weights'), or name no tokens in the target's tokenizer"
        )
    modules = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        modules.append(model.get_output_embeddings())
    return {
        name.rsplit(".", 1)[-1]: tokens.ids
        for name, module in model.named_modules()
        if any(module is one for one in modules)
    }


def make_room(model: Any, adapter: Path) -> None:
    """Grow a base model's embedding to hold the token rows of a stored adapter."""
    given = LoraConfig.from_pretrained(adapter).trainable_token_indices or {}
    _grow(model, max((token + 1 for ids in given.values() for token in ids), default=0))


def _grow(model: Any, size: int) -> None:
    if size > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(size, mean_resizing=False)
