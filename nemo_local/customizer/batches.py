"""A job's data as tokens, and the order in which batches are drawn from them. No torch here."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nemo_local.customizer.preferences import Pairs, make_pairs
from nemo_local.customizer.rendering import Renderer, Tokens
from nemo_local.customizer.rows import (
    InvalidRow,
    PreferenceRow,
    Row,
    RowReader,
    find_files,
    split_validation,
)


def read_rows(job: dict[str, Any], data: Path) -> tuple[list[Row], list[Row]]:
    """Training and validation rows of a job's folder.

    Raises:
        InvalidRow: a line cannot be read, or there is no training data.
    """
    training_files, validation_files = find_files(data)
    pairs = job["plan"].get("training_type") == "dpo"
    reader = RowReader(job["prompt_template"], tuple(job["tools"]), preferences=pairs)
    rows = reader.read(data, training_files, job["limit"])
    if not rows:
        found = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
        raise InvalidRow(
            f"no training rows: expected *.jsonl under training/ in {job['dataset']}, "
            f"found {', '.join(found[:10]) or 'no files'}"
        )
    validation_rows = reader.read(data, validation_files)
    return (rows, validation_rows) if validation_rows else split_validation(rows)


def make_tokens(
    job: dict[str, Any], rows: tuple[list[Row], list[Row]], tokenizer: Any
) -> tuple[Tokens | Pairs, Tokens | Pairs]:
    """The rows as tokens with labels, or as pairs of answers.

    Raises:
        InvalidRow: nothing fits. UntrainableData: see Renderer.
    """
    renderer = Renderer(tokenizer, stop_ids(Path(job["model_path"]), tokenizer))

    def tokens(part: list[Row]) -> Tokens | Pairs:
        pairs = [row for row in part if isinstance(row, PreferenceRow)]
        if pairs:
            return make_pairs(renderer, pairs, job["max_seq_length"])
        plain = [row for row in part if not isinstance(row, PreferenceRow)]
        return renderer.tokens(plain, job["max_seq_length"])

    training, validation = map(tokens, rows)
    if not training.lengths:
        raise InvalidRow(
            f"no row fits into max_seq_length {job['max_seq_length']}: "
            f"all {training.dropped} were dropped"
        )
    return training, validation


def stop_ids(checkpoint: Path, tokenizer: Any) -> list[int]:
    """The tokens at which generation with this checkpoint stops."""
    path = checkpoint / "generation_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = config.get("eos_token_id")
    listed = found if isinstance(found, list) else [found]
    return sorted({token for token in [*listed, tokenizer.eos_token_id] if token is not None})


class LengthBuckets:
    """Row numbers in a seeded order in which a batch holds rows of about one length.

    Rows are shuffled, sorted by length within windows of 50 batches, and the batches shuffled.
    The order depends on (seed, epoch) only, so that a resumed epoch goes on where it stopped.
    """

    WINDOW = 50

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        shuffle = random.Random(self._seed * 1_000_003 + self._epoch)
        order = list(range(len(self._lengths)))
        shuffle.shuffle(order)
        window = self.WINDOW * self._batch_size
        batches = []
        for first in range(0, len(order), window):
            rows = sorted(order[first : first + window], key=lambda row: self._lengths[row])
            batches += [
                rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)
            ]
        shuffle.shuffle(batches)
        batches.sort(key=lambda batch: len(batch) < self._batch_size)  # the short one goes last
        return (row for batch in batches for row in batch)
