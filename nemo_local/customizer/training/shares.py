"""How processes share batches: together they compute the batches that one alone would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from nemo_local.customizer.training.batches import LengthBuckets
from nemo_local.customizer.training.ranks import Ranks
from nemo_local.customizer.training.rendering import IGNORED


@dataclass
class Shares:
    """A batch sampler: the row numbers of each pass of one process.

    A batch of B rows is spread evenly over the passes of all processes, so that each has as many
    passes as the others; with fewer rows than passes, some passes are empty.
    """

    order: LengthBuckets
    batch_size: int
    """Rows of an optimiser step, of all processes together."""
    size: int
    """Rows of one pass, at most."""
    ranks: Ranks

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.batch_size)
        return whole * self._passes(self.batch_size) + self._passes(rest)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.order)
        for first in range(0, len(rows), self.batch_size):
            batch = rows[first : first + self.batch_size]
            count = self._passes(len(batch)) * self.ranks.count
            yield from spread(batch, count)[self.ranks.index :: self.ranks.count]

    def _passes(self, rows: int) -> int:
        """Passes of each process for a batch of this many rows."""
        return -(-rows // (self.size * self.ranks.count))


class Passes(DataLoader[Any]):
    """A data loader of the passes of one process, in the order of its shares."""

    def set_epoch(self, epoch: int) -> None:
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


@dataclass
class OrNothing:
    """A collator that turns an empty list of rows into a pass without labels."""

    collator: Callable[[list[Any]], dict[str, Any]]
    example: Any
    """Any row; processes that have none left compute with it, to no effect."""

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        batch = self.collator(rows or [self.example])
        if not rows:
            if "labels" in batch:
                batch["labels"].fill_(IGNORED)
            else:  # pairs
                batch["completion_mask"].zero_()
            batch["places"] = batch["places"][:0]
        return batch


def spread(rows: Sequence[int], count: int) -> list[list[int]]:
    """The rows in `count` parts of about one size: spread([1, 2, 3], 2) -> [[1, 2], [3]]"""
    size, larger = divmod(len(rows), count)
    ends = [number * size + min(number, larger) for number in range(count + 1)]
    return [list(rows[start:end]) for start, end in zip(ends, ends[1:], strict=False)]


def validation_shares(count: int, size: int, ranks: Ranks) -> list[list[int]]:
    """One process's batches among those of `size` that `count` rows make, [] where it has fewer."""
    batches = [list(range(first, min(first + size, count))) for first in range(0, count, size)]
    batches += [[]] * (-len(batches) % ranks.count)
    return batches[ranks.index :: ranks.count]
