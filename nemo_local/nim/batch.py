"""The replies of one base model that are written together, a token each per step.

Rows join and leave between steps; a row's numbers do not depend on its neighbours.
"""

import logging

import torch
from torch import Tensor

from nemo_local.nim.checkpoint import Checkpoint
from nemo_local.nim.generation import Generation
from nemo_local.nim.llama.layouts import Layouts
from nemo_local.nim.llama.merged_weights import ROOM, MergedWeights
from nemo_local.nim.llama.network import Llama, computes
from nemo_local.nim.llama.sequences import LlamaSequences
from nemo_local.nim.llama.weights import multiplies_bfloat16
from nemo_local.nim.sampling import choose
from nemo_local.nim.sequences import PaddedSequences, Sequences

logger = logging.getLogger(__name__)

PREFILL_TOKENS = 8192
"""Prompt tokens that go through the model in one pass."""


class Batch:
    """The rows of one base model that are being written."""

    def __init__(self, checkpoint: Checkpoint, sequences: Sequences) -> None:
        self.checkpoint = checkpoint
        self.rows: list[Generation] = []
        self._sequences = sequences

    @torch.inference_mode()
    def join(self, newcomers: list[Generation]) -> None:
        """Read new rows, or rows anew, and write their next token."""
        for group in _prefill_groups(newcomers):
            prompts = [row.prompt + row.tokens for row in group]
            logits = self._sequences.join(prompts, [row.adapter for row in group])
            self.rows = [*self.rows, *group]
            self._take(group, logits)
        self._leave()

    @torch.inference_mode()
    def step(self) -> None:
        """Write one more token in every row; rows that end leave."""
        at = self.checkpoint.reread_at
        again = [row for row in self.rows if _length(row) == at + 1] if at else []
        if again:
            self._keep([i for i, row in enumerate(self.rows) if row not in again])
        if self.rows:
            self._extend()
        if again:
            self.join(again)

    def _extend(self) -> None:
        logits = self._sequences.step([row.tokens[-1] for row in self.rows])
        self._take(self.rows, logits)
        self._leave()

    @property
    def tokens(self) -> int:
        """Tokens of all rows, prompts included."""
        return sum(map(_length, self.rows))

    def cache_bytes(self, newcomers: list[Generation]) -> int:
        """Bytes of keys and values once every row, new ones too, is as long as it may become.

        Counted too: memory that is reserved already, and what is kept of past prompts.
        """
        lengths = [len(r.prompt) + r.sampling.max_tokens for r in (*self.rows, *newcomers)]
        rows, columns = self._sequences.room_for(len(lengths), max(lengths, default=0))
        return self.checkpoint.token_bytes * rows * columns + self._sequences.kept_bytes

    def forget(self) -> None:
        """Give back the memory that no row needs."""
        self._sequences.forget(cache=not self.rows)

    def drop_given_up(self) -> list[Generation]:
        """The rows nobody waits for any more or whose time is up, now gone."""
        gone = [row for row in self.rows if row.cancelled or row.overdue]
        if gone:
            self._keep([i for i, row in enumerate(self.rows) if row not in gone])
        return gone

    def fail(self, error: Exception, adapter: str | None = None) -> list[Generation]:
        """End rows without a reply: all of them, or those of one adapter. Returns them."""
        failed = [row for row in self.rows if adapter is None or row.adapter == adapter]
        self._keep([i for i, row in enumerate(self.rows) if row not in failed])
        for row in failed:
            row.close(error)
        return failed

    def _take(self, rows: list[Generation], logits: Tensor) -> None:
        for row, token_id in zip(rows, choose(logits, rows), strict=True):
            try:
                row.add(token_id)
            except Exception as error:
                row.fail(error)

    def _leave(self) -> None:
        """Close the rows that ended or cannot go on."""
        ended = [row for row in self.rows if row.ended]
        if ended:
            self._keep([i for i, row in enumerate(self.rows) if not row.ended])
            for row in ended:
                row.close()

    @torch.inference_mode()
    def _keep(self, indices: list[int]) -> None:
        self.rows = [self.rows[i] for i in self._sequences.keep(indices)]


def batches_of(checkpoint: Checkpoint, most: int, limited: bool) -> list[Batch]:
    """One batch for a model, or for a small one as many as write side by side on a thread each.

    Where memory is `limited`, there is one batch, and it keeps no weights but the model's.
    """
    if not computes(checkpoint.model):
        return [Batch(checkpoint, PaddedSequences(checkpoint))]
    llama = Llama(checkpoint.model)
    if not limited:
        llama.keep_copies(prompts_in_bfloat16=multiplies_bfloat16())
        if llama.reads_compiled:
            logger.info(
                "%s: multiplied on this processor's tiles, in nearly float32", checkpoint.id
            )
        elif llama.reads_in_bfloat16:
            logger.info(
                "%s: prompts are multiplied in bfloat16, in which its weights were stored and "
                "which this processor has; replies in float32", checkpoint.id,
            )  # fmt: skip
    count = most if llama.small and not limited else 1
    layouts = Layouts(checkpoint.adapters, llama.sizes, llama.halves)
    merged = MergedWeights(layouts, llama.weights, 0 if limited else ROOM)
    return [Batch(checkpoint, LlamaSequences(llama, layouts, merged)) for _ in range(count)]


def _prefill_groups(rows: list[Generation]) -> list[list[Generation]]:
    """The rows in groups of similar length whose padded prompts fit into one pass."""
    groups: list[list[Generation]] = []
    for row in sorted(rows, key=_length):
        size, last = _length(row), groups[-1] if groups else []
        similar = bool(last) and size <= 2 * _length(last[0]) + 64
        if similar and (len(last) + 1) * size <= PREFILL_TOKENS:
            last.append(row)
        else:
            groups.append([row])
    return groups


def _length(row: Generation) -> int:
    return len(row.prompt) + len(row.tokens)
