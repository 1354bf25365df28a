"""Tokens in Arrow files, which a trainer maps instead of holding them in memory. No torch here.

A file has a column for each list of a row (`input_ids` and `labels`, or the three of a pair), with
4 bytes a number. Only the length of each row stays in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from nemo_local.customizer.training.preferences import Pairs
from nemo_local.customizer.training.rendering import Tokens

INTEGERS = pa.list_(pa.int32())


@dataclass
class TokenFile:
    """The sequences, or pairs, of one part of a job's data."""

    path: Path
    """The Arrow file; absent when there are no sequences."""
    lengths: array[int] = field(default_factory=lambda: array("i"))
    """Tokens of each sequence or pair, in the order of the file."""
    most_learnt: int = 0
    """The most tokens that count in the loss of one sequence."""
    dropped: int = 0
    """Sequences or pairs left out because they did not fit."""
    truncated: int = 0
    """Sequences or pairs that lost their end."""

    def dataset(self) -> Any:
        """A `datasets.Dataset` sorted by length, so that validation batches hold little padding."""
        from datasets import Dataset

        order = sorted(range(len(self.lengths)), key=self.lengths.__getitem__)
        return Dataset.from_file(str(self.path)).select(order)


def write_tokens(path: Path, chunks: Iterable[Tokens | Pairs]) -> TokenFile:
    """Write all chunks to a file; only one of them at a time is in memory.

    Raises:
        OSError: the disk is full.
    """
    made = TokenFile(path)
    with ExitStack() as opened:
        writer: Any = None
        for chunk in chunks:
            rows = pa.record_batch(
                {name: pa.array(lists, INTEGERS) for name, lists in chunk.columns().items()}
            )
            if writer is None:
                file = opened.enter_context(pa.OSFile(str(path), "wb"))
                writer = opened.enter_context(pa.ipc.new_stream(file, rows.schema))
            writer.write_batch(rows)
            made.lengths.extend(chunk.lengths)
            made.most_learnt = max([made.most_learnt, *chunk.learnt])
            made.dropped += chunk.dropped
            made.truncated += chunk.truncated
    return made
