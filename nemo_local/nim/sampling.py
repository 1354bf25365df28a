"""The next token of every row of a batch, each by its own rules."""

import math
from collections import Counter

import numpy as np
import torch
import xgrammar
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nemo_local.nim.errors import BadValue
from nemo_local.nim.generation import Generation, TokenLogprob
from nemo_local.nim.llama import kernels

_NEVER = float("-inf")
_TERMS = torch.tensor(
    [[0.0 if byte >> bit & 1 else _NEVER for bit in range(8)] for byte in range(256)]
)
"""What to add to the logits of eight tokens, by the byte of a mask whose bits let them pass."""
_LARGEST = 1e30
"""A logit that a penalty near 0 may reach: divided by any temperature it stays finite."""


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
        if row.sampling.penalizes:
            _apply_penalties(logits[i], row)
        if row.matcher is None and _too_short(row):
            logits[i, list(row.vocabulary.stop_ids)] = _NEVER
    best, highest = _highest(logits)
    for row, value in zip(rows, highest, strict=True):
        if row.error is None and not math.isfinite(value):
            row.error = _why_no_token(row, value)
    drawing = [i for i, row in enumerate(rows) if not row.sampling.greedy and not row.error]
    drawn = [_draw(logits[i], rows[i]) for i in drawing]
    # One look at what a GPU has drawn, not one for each row.
    tokens = dict(zip(drawing, torch.cat(drawn).tolist(), strict=True)) if drawn else {}
    chosen = [tokens.get(i, best[i]) for i in range(len(rows))]
    for i, logprobs in raw:
        if rows[i].error is not None:
            continue
        rows[i].logprobs.append(_logprob(logprobs, chosen[i], rows[i].sampling.logprobs or 0))
    return chosen


def _highest(logits: Tensor) -> tuple[list[int], list[float]]:
    """Where in each row the highest logit is, or the first NaN, and what it is."""
    if logits.device.type != "cpu":
        values, where = logits.max(dim=-1)
        return where.tolist(), values.tolist()
    # On a CPU PyTorch compares one by one, twenty times as long as NumPy.
    rows = logits.numpy()
    best = rows.argmax(axis=-1)
    return best.tolist(), rows[np.arange(len(rows)), best].tolist()


def _why_no_token(row: Generation, highest: float) -> BadValue:
    """Why no token can be chosen, when `highest`, the best logit, is not finite."""
    if highest == _NEVER:
        return BadValue(
            f"the reply cannot go on after {len(row.tokens)} tokens: its grammar or schema allows "
            "no further token and no end there"
        )
    model = f"adapter {row.adapter}" if row.adapter else "the model"
    return BadValue(f"{model} produced NaN or infinity; its weights are broken", "model")


def _too_ambiguous(row: Generation) -> BadValue:
    return BadValue(
        f"the reply cannot go on after {len(row.tokens)} tokens: its grammar, expression or schema "
        "can be read in so many ways that others would wait for it; repeat nothing that repeats "
        "itself, as in (a*)*"
    )


def _apply_grammars(logits: Tensor, rows: list[Generation]) -> None:
    held = [(i, row.matcher) for i, row in enumerate(rows) if row.matcher is not None]
    held = [(i, matcher) for i, matcher in held if not matcher.is_terminated()]
    if not held:
        return
    shape = xgrammar.get_bitmask_shape(*logits.shape)
    bitmask = torch.from_numpy(np.full(shape, -1, dtype=np.int32))
    for i, matcher in held:
        words = -(-rows[i].vocabulary.size // 32)
        if words == bitmask.shape[1]:
            matcher.fill_next_token_bitmask(bitmask, i)
        else:  # beside adapters with tokens of their own
            matcher.fill_next_token_bitmask(bitmask[i : i + 1, :words])
            bitmask[i, words:] = 0
        if matcher.too_slow:
            rows[i].error = _too_ambiguous(rows[i])
        if _too_short(rows[i]):
            _forbid_end(bitmask[i].numpy(), rows[i])
    # xgrammar's own function writes once for each token that is forbidden.
    if logits.device.type == "cpu":
        kernels.forbid(logits.numpy(), bitmask.numpy(), np.array([i for i, _ in held]))
        return
    eights = bitmask.to(logits.device).view(torch.uint8).int()
    terms = F.embedding(eights, _TERMS.to(logits.device)).flatten(1)
    logits += terms[:, : logits.shape[1]]


def _too_short(row: Generation) -> bool:
    """Whether the reply may not end yet."""
    return len(row.tokens) < row.sampling.min_tokens


def _forbid_end(allowed: NDArray[np.int32], row: Generation) -> None:
    """Take the tokens that end the reply out of a mask [V / 32], unless it allows no other."""
    words = allowed.view(np.uint32).copy()
    for stop in row.vocabulary.stop_ids:
        words[stop // 32] &= np.uint32(0xFFFFFFFF ^ (1 << stop % 32))
    if words.any():
        allowed[:] = words.view(np.int32)


def _apply_penalties(logits: Tensor, row: Generation) -> None:
    rules = row.sampling
    if rules.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*row.prompt, *row.tokens}), device=logits.device)
        values = logits[seen]
        penalty = max(rules.repetition_penalty, 1 / _LARGEST)  # less may count as 0
        raised = (values / penalty).clamp(max=_LARGEST)
        logits[seen] = torch.where(values > 0, raised, values * penalty)
    if row.tokens and (rules.presence_penalty or rules.frequency_penalty):
        counts = Counter(row.tokens)
        written = torch.tensor(list(counts), device=logits.device)
        times = torch.tensor(list(counts.values()), device=logits.device)
        logits[written] -= rules.presence_penalty + rules.frequency_penalty * times


def _draw(logits: Tensor, row: Generation) -> Tensor:
    """A token id [1] by chance, on the device of the logits [V]."""
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
    return torch.multinomial(probabilities, 1, generator=row.random(logits.device))


def _logprob(logprobs: Tensor, token_id: int, alternatives: int) -> TokenLogprob:
    top = logprobs.topk(alternatives) if alternatives else None
    pairs = list(zip(top.indices.tolist(), top.values.tolist(), strict=True)) if top else []
    return TokenLogprob(token_id, float(logprobs[token_id]), pairs)
