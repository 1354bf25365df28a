"""Where something is learnt, found on the CPU while a batch is put together.

A place is that of the token before a learnt one, where it is predicted, counted through the tokens
[B, T] of a batch. Asked of a batch that is on a GPU already, each pass would wait for the one
before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from nemo_local.customizer.rendering import IGNORED


@dataclass(frozen=True)
class WithPlaces:
    """A collator that adds the `places` [N] of its batches."""

    collator: Callable[[list[Any]], dict[str, Any]]

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        batch = self.collator(rows)
        learnt = batch["labels"] != IGNORED if "labels" in batch else batch["completion_mask"] > 0
        return {**batch, "places": places_before(learnt)}


def places_before(learnt: Tensor) -> Tensor:
    """The places [N] before the tokens that are `learnt` [B, T].

    Nothing stands before the first token of a row, which is never learnt.
    """
    before = functional.pad(learnt[:, 1:], (0, 1))
    return before.flatten().nonzero().squeeze(1)
