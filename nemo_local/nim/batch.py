"""The replies of one base model that are written together, a token each per step.

Rows join and leave between steps. Every row ends at the right edge of the key-value cache:

    row 0   . . . p p p p t t        .  padding, masked
    row 1   p p p p p p p p t        p  prompt
    row 2   . . . . . . p p t        t  written

so a new token is always the last column. Positions count from each row's own first token, hence
a row's numbers do not depend on its neighbours.
"""

import torch
from torch import Tensor
from transformers import Cache

from nemo_local.nim.checkpoint import Checkpoint, new_cache
from nemo_local.nim.generation import Generation
from nemo_local.nim.sampling import choose

PREFILL_TOKENS = 8192
"""Prompt tokens, padding included, that go through the model in one pass."""


class Batch:
    """Rows in writing. B rows, T cached columns."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.rows: list[Generation] = []
        self._cache: Cache | None = None
        self._mask: Tensor = torch.empty(0, 0, dtype=torch.long)  # [B, T], 1 = a real token

    @torch.inference_mode()
    def join(self, newcomers: list[Generation]) -> None:
        """Read the prompts of new rows and write their first token."""
        for group in _prefill_groups(newcomers):
            width = max(len(row.prompt) for row in group)
            device = self.checkpoint.device
            padded = [[0] * (width - len(row.prompt)) + row.prompt for row in group]
            real = [[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in group]
            ids, mask = torch.tensor(padded, device=device), torch.tensor(real, device=device)
            positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
            cache = new_cache()
            names = [row.adapter for row in group]
            logits = self.checkpoint.forward(ids, mask, positions, cache, names)
            self._take(group, logits)
            self._merge(group, cache, mask)
        self._leave()

    @torch.inference_mode()
    def step(self) -> None:
        """Write one more token in every row; rows that end leave."""
        device = self.checkpoint.device
        ids = torch.tensor([[row.tokens[-1]] for row in self.rows], device=device)
        # The newest token is not cached yet: it stands at position length - 1.
        positions = torch.tensor([[row.length - 1] for row in self.rows], device=device)
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=-1)
        assert self._cache is not None
        names = [row.adapter for row in self.rows]
        logits = self.checkpoint.forward(ids, self._mask, positions, self._cache, names)
        self._take(self.rows, logits)
        self._leave()

    def drop_given_up(self) -> list[Generation]:
        """The rows nobody waits for any more or whose time is up, now gone."""
        gone = [row for row in self.rows if row.cancelled or row.overdue]
        if gone:
            self._keep([i for i, row in enumerate(self.rows) if row not in gone])
        return gone

    def fail(self, error: Exception, adapter: str | None = None) -> None:
        """End rows without a reply: all of them, or those of one adapter."""
        failed = [row for row in self.rows if adapter is None or row.adapter == adapter]
        self._keep([i for i, row in enumerate(self.rows) if row not in failed])
        for row in failed:
            row.close(error)

    def clear(self) -> None:
        """Forget every row; whoever calls this ends them."""
        self._keep([])

    def _take(self, rows: list[Generation], logits: Tensor) -> None:
        usual_stop = self.checkpoint.tokenizer.eos_token_id
        chosen = choose(logits, rows, self.checkpoint.stop_ids)
        for row, token_id in zip(rows, chosen, strict=True):
            row.add(token_id, self.checkpoint.stop_ids, usual_stop)

    def _merge(self, rows: list[Generation], cache: Cache, mask: Tensor) -> None:
        """Put freshly read rows below the present ones, both right-aligned."""
        if self._cache is None:
            self._cache, self._mask = cache, mask
        else:
            width = max(self._mask.shape[1], mask.shape[1])
            self._mask = torch.cat([_widen(self._mask, width, -1), _widen(mask, width, -1)])
            for mine, theirs in zip(self._cache.layers, cache.layers, strict=True):
                for name in ("keys", "values"):
                    both = [_widen(getattr(layer, name), width, -2) for layer in (mine, theirs)]
                    setattr(mine, name, torch.cat(both))
        self.rows = [*self.rows, *rows]

    def _leave(self) -> None:
        """Close the rows that ended."""
        ended = [row for row in self.rows if row.finish_reason is not None]
        if ended:
            self._keep([i for i, row in enumerate(self.rows) if row.finish_reason is None])
            for row in ended:
                row.close()

    def _keep(self, indices: list[int]) -> None:
        """Drop the other rows, and the columns that were only theirs."""
        self.rows = [self.rows[i] for i in indices]
        if not self.rows or self._cache is None:
            self._cache = None
            return
        chosen = torch.tensor(indices, device=self._mask.device)
        self._mask = self._mask[chosen]
        empty = int(self._mask.argmax(dim=-1).min())
        self._mask = self._mask[:, empty:]
        for layer in self._cache.layers:
            for name in ("keys", "values"):
                setattr(layer, name, getattr(layer, name)[chosen, :, empty:])


def _widen(tensor: Tensor, width: int, dim: int) -> Tensor:
    """The tensor with zeros put before it along `dim`, up to `width`."""
    missing = width - tensor.shape[dim]
    if missing == 0:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat([tensor.new_zeros(shape), tensor], dim=dim)


def _prefill_groups(rows: list[Generation]) -> list[list[Generation]]:
    """The rows in groups of similar length whose padded prompts fit into one pass."""
    groups: list[list[Generation]] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):
        size, last = len(row.prompt), groups[-1] if groups else []
        similar = bool(last) and size <= 2 * len(last[0].prompt) + 64
        if similar and (len(last) + 1) * size <= PREFILL_TOKENS:
            last.append(row)
        else:
            groups.append([row])
    return groups
