"""The dropouts of SFT that a checkpoint's own architecture has no switch for."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from nemo_local.customizer.progress import TrainingFailed

BLOCKS = ("self_attn", "mlp")


def add_hidden_dropout(model: nn.Module, probability: float) -> None:
    """Drop what each attention and each feed-forward block adds to the hidden states.

    That is where NeMo applies `hidden_dropout`. The modules keep their names, so nothing changes
    in what is saved.

    Raises:
        TrainingFailed: the architecture names its blocks differently.
    """

    def drop(module: nn.Module, _: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, Tensor):
            return functional.dropout(output, probability)
        return (functional.dropout(output[0], probability), *output[1:])

    blocks = [module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in BLOCKS]
    if not blocks:
        raise TrainingFailed(
            f"hyperparameters.sft.hidden_dropout: {type(model).__name__} has no blocks named "
            f"{' or '.join(BLOCKS)}; leave it out for this model"
        )
    for block in blocks:
        block.register_forward_hook(drop)
