"""A job's data as tokens, and the order in which batches are drawn from them. No torch here."""

from __future__ import annotations

import random
import shutil
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from nemo_local.customizer.row_files import Rows, find_files
from nemo_local.customizer.rows import InvalidRow, PreferenceRow, RowReader
from nemo_local.customizer.special_tokens import NO_TOKENS, SpecialTokens
from nemo_local.customizer.task import Task
from nemo_local.customizer.texts import Rendered
from nemo_local.customizer.training.preferences import Pairs, make_pairs
from nemo_local.customizer.training.rendering import Renderer, Tokens
from nemo_local.customizer.training.token_files import TokenFile, write_tokens

ROWS_AT_ONCE = 256
"""Rows whose tokens and offsets are in memory together."""


def read_rows(task: Task, data: Path) -> tuple[Rows, Rows]:
    """Training and validation rows of a job's folder; each was read once, to check it.

    Raises:
        InvalidRow: a line cannot be read, or there is no training data.
    """
    training_files, validation_files = find_files(data)
    pairs = task.plan.training_type == "dpo"
    reader = RowReader(task.prompt_template, tuple(task.tools), preferences=pairs)
    training = Rows(reader, data, training_files, task.limit)
    count = sum(1 for _ in training)
    if not count:
        raise InvalidRow(
            f"no training rows: expected *.jsonl under training/ in {task.dataset}, "
            f"found {', '.join(_listed(data)[:10]) or 'no files'}"
        )
    validation = Rows(reader, data, validation_files)
    return (training, validation) if sum(1 for _ in validation) else training.split(count)


def _listed(data: Path) -> list[str]:
    """The user's files in the folder, with sizes, without those that the Hub's client keeps."""
    files = sorted(path for path in data.rglob("*") if path.is_file())
    named = [(path.relative_to(data), path.stat().st_size) for path in files]
    return [f"{path} ({size} bytes)" for path, size in named if not path.parts[0].startswith(".")]


def make_tokens(
    task: Task,
    rows: tuple[Rows, Rows],
    tokenizer: Any,
    folder: Path,
    special: SpecialTokens = NO_TOKENS,
) -> tuple[TokenFile, TokenFile]:
    """The rows as tokens with labels, or as pairs of answers, in files of this folder.

    Files that an earlier process left in the folder are made again: the data may have changed.

    Raises:
        InvalidRow: nothing fits. UntrainableData: see Renderer. OSError: the disk is full.
    """
    checkpoint = task.model_path
    unknown = unknown_ids(checkpoint, tokenizer, special)
    renderer = Renderer(tokenizer, stop_ids(checkpoint, tokenizer), unknown)

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    training, validation = (
        write_tokens(folder / f"{name}.arrow", _tokens(renderer, part, task.max_seq_length))
        for name, part in zip(("training", "validation"), rows, strict=True)
    )
    if not training.lengths:
        raise InvalidRow(
            f"no row fits into max_seq_length {task.max_seq_length}: "
            f"all {training.dropped} were dropped"
        )
    return training, validation


def _tokens(renderer: Renderer, rows: Rows, max_length: int) -> Iterator[Tokens | Pairs]:
    """Tokens chunk by chunk; the next is rendered while one is tokenized without the GIL."""
    with ThreadPoolExecutor(1) as tokenizer:
        ahead: deque[tuple[list[Rendered], Future[list[Any]]]] = deque()
        left = iter(rows)
        while chunk := list[Any](islice(left, ROWS_AT_ONCE)):
            if isinstance(chunk[0], PreferenceRow):
                yield make_pairs(renderer, chunk, max_length)
                continue
            sequences = renderer.rendered(chunk)
            ahead.append((sequences, tokenizer.submit(renderer.encoded, sequences)))
            if len(ahead) > 1:
                sequences, encoded = ahead.popleft()
                yield renderer.labelled(sequences, encoded.result(), max_length)
        for sequences, encoded in ahead:
            yield renderer.labelled(sequences, encoded.result(), max_length)


def stop_ids(checkpoint: Path, tokenizer: Any) -> list[int]:
    """The tokens at which generation with this checkpoint stops, as inference reads them."""
    from transformers import AutoConfig, GenerationConfig

    config: Any
    if (checkpoint / "generation_config.json").is_file():
        config = GenerationConfig.from_pretrained(checkpoint, local_files_only=True)
    else:
        own = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
        config = GenerationConfig.from_model_config(own)
    found = config.eos_token_id
    listed = found if isinstance(found, list) else [found]
    return sorted({token for token in [*listed, tokenizer.eos_token_id] if token is not None})


def unknown_ids(checkpoint: Path, tokenizer: Any, special: SpecialTokens) -> frozenset[int]:
    """Ids of the tokenizer for which the model's embedding will have no rows."""
    from transformers import AutoConfig

    text = AutoConfig.from_pretrained(checkpoint, local_files_only=True).get_text_config()
    size = max([text.vocab_size, *(token + 1 for token in special.new)])
    if len(tokenizer) <= size:
        return frozenset()
    return frozenset(token for token in tokenizer.get_vocab().values() if token >= size)


class LengthBuckets:
    """Row numbers in a seeded order in which each batch holds rows of similar length.

    Rows are shuffled, then sorted by length within windows of 50 batches, at most half of all, so
    that each epoch has other batches; then the batches are shuffled. A short batch comes last, with
    rows of any length. The order depends on (seed, epoch) only, so that a resumed epoch continues
    where it stopped.
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
        shuffle, size = random.Random(self._seed * 1_000_003 + self._epoch), self._batch_size
        order = array("i", range(len(self._lengths)))
        shuffle.shuffle(order)
        whole = len(order) - len(order) % size
        together = size * max(1, min(self.WINDOW, whole // size // 2))
        for first in range(0, whole, together):
            window = slice(first, min(first + together, whole))
            order[window] = array("i", sorted(order[window], key=self._lengths.__getitem__))
        batches = list(range(0, whole, size))  # each by the place of its first row
        shuffle.shuffle(batches)
        return (row for first in [*batches, whole] for row in order[first : first + size])
