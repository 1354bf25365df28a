"""The files of a dataset folder, and the rows in them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nemo_local.customizer.rows import Row, RowReader

TRAINING_FOLDERS = ("training", "train")
VALIDATION_FOLDERS = ("validation", "valid", "val", "dev")
SUFFIXES = (".jsonl", ".json")

SPLIT_SEED = 1111
"""Seed of the validation split, the same as the real service's."""


@dataclass(frozen=True)
class Rows:
    """The rows of some files, read anew at each iteration; none stays in memory.

    Raises (during iteration):
        InvalidRow: see RowReader.read.
    """

    reader: RowReader
    root: Path
    files: list[Path]
    limit: int | None = None
    """The most rows to read; None = all."""
    chosen: Callable[[int], bool] | None = None
    """Tells whether the row of this number, counted from 0, is included; None = all are."""

    def __iter__(self) -> Iterator[Row]:
        rows = self.reader.read(self.root, self.files, self.limit)
        if self.chosen is None:
            return rows
        return (row for number, row in enumerate(rows) if self.chosen(number))

    def split(self, count: int) -> tuple[Rows, Rows]:
        """Training and validation rows of these `count` rows."""
        validation = validation_numbers(count)
        return (
            replace(self, chosen=lambda number: number not in validation),
            replace(self, chosen=lambda number: number in validation),
        )


def find_files(root: Path) -> tuple[list[Path], list[Path]]:
    """The training and the validation files of a dataset folder, each in name order.

    Folders `training/`, `validation/` and their synonyms come first; else files at the top named
    so, as a whole word (`dev-1.jsonl`, not `devices.jsonl`) or as the real service has it
    (`train*`, and beside those `val*`); else every file at the top is training data. Hidden files,
    and those in hidden folders, are left out.
    """
    training = _in_folders(root, TRAINING_FOLDERS) or _called(root, "train")
    words = rf"({'|'.join(VALIDATION_FOLDERS)})(?![a-zA-Z])"
    called = _called(root, f"{words}|val" if training else words)
    validation = _in_folders(root, VALIDATION_FOLDERS) or called
    if not training and not validation:
        training = _files(root, "*")
    return training, validation


def is_data(path: Path) -> bool:
    """Whether the file at this path in a dataset's folder holds rows, judged by its name."""
    # Jupyter and the Hub's client keep copies and notes in hidden folders; macOS has hidden files.
    return path.suffix in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def validation_numbers(count: int) -> frozenset[int]:
    """Numbers of the rows that are split off for validation: a random tenth, at least one.

    A single row stays training data, and there is no validation then.
    """
    if count < 2:
        return frozenset()
    return frozenset(random.Random(SPLIT_SEED).sample(range(count), max(1, count // 10)))


def _in_folders(root: Path, names: tuple[str, ...]) -> list[Path]:
    return _files(root, *(f"{name}/**/*" for name in names))


def _called(root: Path, beginning: str) -> list[Path]:
    return [path for path in _files(root, "*") if re.match(beginning, path.name)]


def _files(root: Path, *patterns: str) -> list[Path]:
    found = (path for pattern in patterns for path in root.glob(pattern))
    return sorted(path for path in found if is_data(path.relative_to(root)) and path.is_file())
