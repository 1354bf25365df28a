"""Several sequences of a batch in one row, so that nothing is computed for padding.

    position_ids  0 1 2 3 4 0 1 2 0 1 2 3      three sequences in a row of twelve tokens

Attention starts anew where the positions do (transformers builds the mask from them), so the loss
is that of the same sequences in rows of their own; a test holds each architecture to that.
Source: https://arxiv.org/abs/2107.02027
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nemo_local.customizer.rendering import IGNORED


@dataclass(frozen=True)
class PackingCollator:
    """Turns sequences into rows of at most `capacity` tokens."""

    pad_id: int
    capacity: int

    def __call__(self, sequences: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids, labels and position_ids, each [rows, tokens of the fullest row]."""
        rows = first_fit([len(sequence["input_ids"]) for sequence in sequences], self.capacity)
        packed: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for row in rows:
            ids, labels, positions = list[int](), list[int](), list[int]()
            for number in row:
                sequence = sequences[number]
                ids += sequence["input_ids"]
                # Nothing stands before a first token that it could be told from.
                labels += [IGNORED, *sequence["labels"][1:]]
                positions += range(len(sequence["input_ids"]))
            packed["input_ids"].append(ids)
            packed["labels"].append(labels)
            packed["position_ids"].append(positions)
        width = max(map(len, packed["input_ids"]))
        for ids, labels, positions in zip(*packed.values(), strict=True):
            missing = width - len(ids)
            ids += [self.pad_id] * missing
            labels += [IGNORED] * missing
            positions += range(missing)
        return {name: torch.tensor(values) for name, values in packed.items()}


def first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Numbers of the sequences of each row: the longest first, each into the first row with room.

    first_fit([3, 5, 2, 4], 7) -> [[1, 2], [3, 0]]
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[number]
        place = next((i for i, left in enumerate(room) if left >= length), None)
        if place is None:
            rows.append([])
            room.append(max(capacity, length))
            place = len(rows) - 1
        rows[place].append(number)
        room[place] -= length
    return rows
