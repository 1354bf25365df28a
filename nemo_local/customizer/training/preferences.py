"""Preference rows as tokens: a prompt with its chosen and its rejected answer.

No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nemo_local.customizer.rows import PreferenceRow
from nemo_local.customizer.training.rendering import IGNORED, Renderer, Tokens


@dataclass
class Pairs:
    """Prompts with a chosen and a rejected answer each, cut to the maximum length."""

    prompt_ids: list[list[int]] = field(default_factory=list)
    chosen_ids: list[list[int]] = field(default_factory=list)
    rejected_ids: list[list[int]] = field(default_factory=list)
    dropped: int = 0
    """Pairs left out because an answer did not fit, or both are the same once cut."""
    truncated: int = 0
    """Pairs of which a text answer lost its end."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each pair's longer sequence."""
        return [
            len(prompt) + max(len(chosen), len(rejected))
            for prompt, chosen, rejected in zip(
                self.prompt_ids, self.chosen_ids, self.rejected_ids, strict=True
            )
        ]

    @property
    def learnt(self) -> list[int]:
        """Tokens of each pair's longer answer."""
        return [
            max(map(len, answers))
            for answers in zip(self.chosen_ids, self.rejected_ids, strict=True)
        ]

    def columns(self) -> dict[str, list[list[int]]]:
        """The pairs by column."""
        return {
            "prompt_ids": self.prompt_ids,
            "chosen_ids": self.chosen_ids,
            "rejected_ids": self.rejected_ids,
        }


def make_pairs(renderer: Renderer, rows: Sequence[PreferenceRow], max_length: int) -> Pairs:
    """The rows as pairs of token sequences that share their prompt.

    Raises:
        UntrainableData: see Renderer.tokens.
    """
    chosen = renderer.tokens([row.chosen for row in rows], max_length)
    rejected = renderer.tokens([row.rejected for row in rows], max_length, rejected=True)
    pairs = Pairs()
    of_rejected = {number: place for place, number in enumerate(rejected.numbers)}
    cut = chosen.cut | rejected.cut
    for place, number in enumerate(chosen.numbers):
        other = of_rejected.get(number)
        if other is None or (
            number in cut and chosen.input_ids[place] == rejected.input_ids[other]
        ):
            continue  # what is left of both answers is the same
        pairs.truncated += number in cut
        _add(pairs, chosen, place, rejected, other)
    pairs.dropped = len(rows) - len(pairs.prompt_ids)
    return pairs


def _add(pairs: Pairs, chosen: Tokens, place: int, rejected: Tokens, other: int) -> None:
    good, bad = chosen.input_ids[place], rejected.input_ids[other]
    # A token that spans the end of the prompt may differ between the two; it is part of the answer.
    shared = min(_learnt_from(chosen.labels[place]), _learnt_from(rejected.labels[other]))
    start = next((i for i in range(shared) if good[i] != bad[i]), shared)
    pairs.prompt_ids.append(good[:start])
    pairs.chosen_ids.append(good[start:])
    pairs.rejected_ids.append(bad[start:])


def _learnt_from(labels: list[int]) -> int:
    return next(i for i, label in enumerate(labels) if label != IGNORED)
