"""The next token of every row of a batch, each by its own rules."""

from collections import Counter

import torch
import xgrammar
from torch import Tensor

from nemo_local.nim.generation import Generation, TokenLogprob

_NEVER = float("-inf")


def choose(logits: Tensor, rows: list[Generation]) -> list[int]:
    """One token id for each row of `logits` [B, V] (float32, changed in place).

    Log probabilities are recorded before any rule changes the logits, as vLLM does.
    """
    raw = [
        (i, torch.log_softmax(logits[i], dim=-1))
        for i, row in enumerate(rows)
        if row.sampling.logprobs is not None
    ]
    _apply_grammars(logits, rows)
    for i, row in enumerate(rows):
        _apply_penalties(logits[i], row)
        if row.matcher is None and len(row.tokens) < row.sampling.min_tokens:
            logits[i, list(row.vocabulary.stop_ids)] = _NEVER
    best: list[int] = logits.argmax(dim=-1).tolist()
    chosen = [
        best[i] if row.sampling.greedy else _sample(logits[i], row) for i, row in enumerate(rows)
    ]
    for i, logprobs in raw:
        rows[i].logprobs.append(_logprob(logprobs, chosen[i], rows[i].sampling.logprobs or 0))
    return chosen


def _apply_grammars(logits: Tensor, rows: list[Generation]) -> None:
    held = [(i, row.matcher) for i, row in enumerate(rows) if row.matcher is not None]
    held = [(i, matcher) for i, matcher in held if not matcher.is_terminated()]
    if not held:
        return
    bitmask = xgrammar.allocate_token_bitmask(len(rows), logits.shape[-1])
    for i, matcher in held:
        words = -(-rows[i].vocabulary.size // 32)
        matcher.fill_next_token_bitmask(bitmask[i : i + 1, :words])
        bitmask[i, words:] = 0  # tokens of other adapters
    xgrammar.apply_token_bitmask_inplace(
        logits, bitmask.to(logits.device), indices=[i for i, _ in held]
    )


def _apply_penalties(logits: Tensor, row: Generation) -> None:
    rules = row.sampling
    if rules.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*row.prompt, *row.tokens}), device=logits.device)
        values = logits[seen]
        logits[seen] = torch.where(
            values > 0, values / rules.repetition_penalty, values * rules.repetition_penalty
        )
    if row.tokens and (rules.presence_penalty or rules.frequency_penalty):
        counts = Counter(row.tokens)
        written = torch.tensor(list(counts), device=logits.device)
        times = torch.tensor(list(counts.values()), device=logits.device)
        logits[written] -= rules.presence_penalty + rules.frequency_penalty * times


def _sample(logits: Tensor, row: Generation) -> int:
    rules = row.sampling
    logits = logits / rules.temperature
    if 0 < rules.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(rules.top_k).values[-1], _NEVER)
    probabilities = logits.softmax(dim=-1)
    if rules.min_p > 0:
        floor = rules.min_p * probabilities.max()
        probabilities = probabilities.masked_fill(probabilities < floor, 0.0)
    if rules.top_p < 1.0:
        ordered, order = probabilities.sort(descending=True)
        # Keep a token while the ones before it hold less than top_p; the first always stays.
        surplus = ordered.cumsum(dim=-1) - ordered > rules.top_p * ordered.sum()
        probabilities = probabilities.index_fill(0, order[surplus], 0.0)
    token = torch.multinomial(probabilities, 1, generator=row.random(logits.device))
    return int(token.item())


def _logprob(logprobs: Tensor, token_id: int, alternatives: int) -> TokenLogprob:
    top = logprobs.topk(alternatives) if alternatives else None
    pairs = list(zip(top.indices.tolist(), top.values.tolist(), strict=True)) if top else []
    return TokenLogprob(token_id, float(logprobs[token_id]), pairs)
