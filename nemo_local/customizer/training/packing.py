"""Packs several sequences of a batch into one row, so that less is computed for padding.

    position_ids  0 1 2 3 4 0 1 2 0 1 2 3      three sequences in a row of twelve tokens

Attention restarts where the positions do (transformers builds the mask from them), so the loss is
that of the same sequences in rows of their own, as a test checks for each architecture.
Source: https://arxiv.org/abs/2107.02027
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from nemo_local.customizer.plan import Plan
from nemo_local.customizer.training.batches import LengthBuckets
from nemo_local.customizer.training.rendering import IGNORED

COUNTED_ROWS = 2048
"""Rows over which padding is counted, for the log."""


@dataclass(frozen=True)
class PackingCollator:
    """Turns sequences into rows of at most `capacity` tokens."""

    pad_id: int
    capacity: int

    def __call__(self, sequences: list[dict[str, Any]]) -> dict[str, Any]:
        """input_ids, labels and position_ids, each [rows, tokens of the fullest row]."""
        rows = first_fit([len(sequence["input_ids"]) for sequence in sequences], self.capacity)
        packed: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for row in rows:
            ids, labels, positions = list[int](), list[int](), list[int]()
            for number in row:
                sequence = sequences[number]
                ids += sequence["input_ids"]
                # Nothing precedes a first token from which it could be predicted.
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


def padding_shares(lengths: Sequence[int], plan: Plan, size: int) -> tuple[float, float]:
    """Shares of padding in the tokens of passes of `size` sequences: unpacked, and packed.

    Counted over the first batches of the first epoch, in the order in which each would draw them.
    """
    by_length, capacity, shares = array("i", sorted(lengths)), max(lengths), []
    for packed in (False, True):
        seen = array("i", [0] * len(lengths)) if packed else by_length
        order = list(islice(LengthBuckets(seen, plan.batch_size, plan.seed), COUNTED_ROWS))
        real = computed = 0
        for first in range(0, len(order), size):
            drawn = [by_length[row] for row in order[first : first + size]]
            rows = first_fit(drawn, capacity) if packed else [[i] for i in range(len(drawn))]
            real += sum(drawn)
            computed += len(rows) * max(sum(drawn[i] for i in row) for row in rows)
        shares.append(1 - real / computed)
    return shares[0], shares[1]


def first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """The numbers of each row's sequences: the longest first, each into the first row with room.

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
