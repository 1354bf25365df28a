"""Positions of models with `longrope` (Phi-3.5, Phi-4-mini): each row has the factors it would have
alone.

Such models have two sets of factors, one for texts up to their original context and one for longer
ones. transformers chooses by the longest row of a pass, so a row would depend on its neighbours.
Source: https://arxiv.org/abs/2402.13753
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class RowByRow(nn.Module):
    """Rotary positions of rows, some of which may be longer than `original`, the first context."""

    def __init__(self, base: nn.Module, original: int) -> None:
        super().__init__()
        # One for each set, as each pass writes its own into the module: threads may pass at once.
        self.short, self.long = base, deepcopy(base)
        self._original = original

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, T, d] of positions [B, T], the highest of each its row's last."""
        is_long = (position_ids.amax(dim=-1) >= self._original)[:, None, None]
        short = self.short(x, position_ids.clamp(max=self._original - 1))
        # One long row more, so that all are taken for long.
        beyond = torch.full_like(position_ids[:1], self._original)
        long = self.long(x, torch.cat([position_ids, beyond]))
        cos, sin = (torch.where(is_long, b[:-1], a) for a, b in zip(short, long, strict=True))
        return cos, sin


def choose_row_by_row(model: nn.Module) -> int | None:
    """Let each row have factors of its own. Returns the first context in tokens; None = no such
    model."""
    original = None
    for name, module in list(model.named_modules()):
        if getattr(module, "rope_type", None) == "longrope":
            rotary: Any = module
            original = int(rotary.config.rope_parameters["original_max_position_embeddings"])
            model.set_submodule(name, RowByRow(rotary, original))
    return original
