"""One reply being written: its prompt, its rules, and the text so far."""

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from nemo_local.nim.errors import NimError
from nemo_local.nim.grammars.matcher import Matcher

logger = logging.getLogger(__name__)

PROMPT_TOKENS = 4
"""How many prompt tokens are decoded together with the first reply token, as vLLM does:
SentencePiece drops the space before a text's first word."""
FinishReason = Literal[
    "stop",  # the model ended its turn, or a stop string appeared
    "length",  # max_tokens or the context is used up
]
GREEDY_BELOW = 1e-5
"""Temperatures under this choose the likeliest token; guardrails send 1e-20 to mean it."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen and when a reply ends."""

    max_tokens: int
    """Tokens to write at most; already cut to the context."""
    temperature: float = 1.0
    """0 (or nearly) chooses the likeliest token."""
    top_p: float = 1.0
    """Keep the likeliest tokens that hold this share of probability."""
    top_k: int = 0
    """Keep this many of the likeliest tokens; 0 or -1 = all."""
    min_p: float = 0.0
    """Drop tokens less likely than this share of the likeliest."""
    presence_penalty: float = 0.0
    """Taken off the logit of every token written before."""
    frequency_penalty: float = 0.0
    """Taken off the logit of a token for each time it was written before."""
    repetition_penalty: float = 1.0
    """Divides (multiplies, if negative) the logit of tokens of prompt and reply."""
    seed: int | None = None
    """Makes sampling repeatable; None = a fresh seed."""
    stop: tuple[str, ...] = ()
    """Texts that end the reply and are left out of it."""
    min_tokens: int = 0
    """Tokens before the reply may end."""
    ignore_eos: bool = False
    """Write on after the model ended its turn."""
    logprobs: int | None = None
    """Alternatives to report for each token; None = no log probabilities at all."""

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, without chance."""
        return self.temperature < GREEDY_BELOW

    @property
    def penalizes(self) -> bool:
        """Whether tokens become less likely once they were read or written."""
        return self.repetition_penalty != 1.0 or bool(
            self.presence_penalty or self.frequency_penalty
        )


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a reply is written with."""

    size: int
    """Number of tokens; their ids are below it."""
    stop_ids: frozenset[int]
    """Tokens that end a reply."""
    usual_stop: int | None
    """The ordinary end-of-turn token; `stop_reason` stays None for it."""


@dataclass(frozen=True)
class TokenLogprob:
    """The log probability of a written token and of its likeliest alternatives."""

    token_id: int
    logprob: float
    top: list[tuple[int, float]]


class TextStream:
    """Text of growing token ids, given out only where it is final.

    A character may need several tokens, and a stop string may begin in one token and end in
    another; both are held back until they are decided.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        stop: tuple[str, ...],
        min_tokens: int = 0,
        prompt: Sequence[int] = (),
    ) -> None:
        """No stop string is looked for in the first `min_tokens`, as in vLLM.

        The text of the `prompt`'s tokens is known already.
        """
        self._decode = decode
        self._stop = stop
        self._ids = list(prompt[-PROMPT_TOKENS:])
        self._begin = len(self._ids)
        self._min_tokens = self._begin + min_tokens
        self._start = 0  # decoding begins here: a token's text can depend on the one before
        self._read = self._begin  # tokens whose text is in `_text`, or in the prompt
        self._text = ""
        self._given = 0  # characters given out
        self.stopped_by: str | None = None

    @property
    def text(self) -> str:
        """Everything decoded so far, up to the stop string."""
        return self._text

    def push(self, token_id: int) -> str:
        """The text that became final with this token; sets `stopped_by` at a stop string."""
        self._take(token_id)
        return self._give(self._held())

    def keep(self, token_id: int) -> None:
        """Take a token without decoding; `finish` will."""
        self._ids.append(token_id)

    def finish(self) -> str:
        """The text held back so far, also of an unfinished character."""
        if self.stopped_by is None:
            rest = self._unread()
            if "�" in rest and self._read == self._begin:  # kept: read again as in a stream
                ids, self._ids = self._ids[self._begin :], self._ids[: self._begin]
                for token_id in ids:
                    self._take(token_id)
                rest = self._unread()
            self._append(rest)
        return self._give(0)

    def _take(self, token_id: int) -> None:
        """Add a token to the text, or keep it until its character is whole."""
        self._ids.append(token_id)
        new = self._unread()
        if new and not new.endswith("�"):
            self._append(new)
            self._start, self._read = self._read, len(self._ids)

    def _unread(self) -> str:
        """The text of the tokens that is not in `_text`."""
        known = self._decode(self._ids[self._start : self._read])
        text = self._decode(self._ids[self._start :])
        if text.startswith(known):
            return text[len(known) :]
        # A byte that is no text spoils the characters before it, whose text stands already.
        return self._decode(self._ids[self._read :])

    def _append(self, new: str) -> None:
        before = len(self._text)
        self._text += new
        if len(self._ids) <= self._min_tokens:
            return
        hits = [
            (at, stop)
            for stop in self._stop
            if (at := self._text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if hits:
            at, self.stopped_by = min(hits)
            self._text = self._text[:at]

    def _held(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        if self.stopped_by is not None:
            return 0
        longest = 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(self._text)), longest, -1):
                if self._text.endswith(stop[:size]):
                    longest = size
                    break
        return longest

    def _give(self, held: int) -> str:
        end = max(self._given, len(self._text) - held)
        piece = self._text[self._given : end]
        self._given = end
        return piece


@dataclass(eq=False)
class Generation:
    """One reply. The engine writes it; whoever asked reads it after `emit(None)`."""

    prompt: list[int]
    sampling: Sampling
    vocabulary: Vocabulary
    adapter: str | None
    """Adapter in the checkpoint's set; None = the base model."""
    stream: TextStream
    emit: Callable[[str | None], None]
    """Called on the engine's thread with each new piece of text, and with None at the end."""
    matcher: Matcher | None = None
    """Grammar of the reply; None when it is free."""
    pieces: bool = False
    """Whether text is wanted piece by piece; else only the end is told."""
    again: bool = False
    """Whether another choice of the same request has the same prompt, and counts its tokens."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    """The stop string or unusual stop token that ended the reply; None for an ordinary end."""
    error: Exception | None = None
    """Why there is no reply, or no more of it; None when there is one."""
    arrived: float = field(default_factory=time.monotonic)
    """When it was asked for (time.monotonic() seconds)."""
    deadline: float = math.inf
    """When it is given up (time.monotonic() seconds)."""
    closed: bool = False
    """Whether the reader was told that nothing follows."""
    cancelled: bool = False
    """Whether nobody reads on, so that the engine may stop writing."""
    _random: torch.Generator | None = None

    @property
    def text(self) -> str:
        """The reply as far as it is decoded, up to the stop string."""
        return self.stream.text

    @property
    def ended(self) -> bool:
        """Whether no further token is wanted."""
        return self.finish_reason is not None or self.error is not None

    @property
    def overdue(self) -> bool:
        """Whether its deadline is past."""
        return time.monotonic() > self.deadline

    def random(self, device: torch.device) -> torch.Generator:
        """This reply's own random numbers, so that its neighbours cannot change them."""
        if self._random is None:
            seed = self.sampling.seed
            self._random = torch.Generator(device=device)
            self._random.manual_seed(random.getrandbits(63) if seed is None else seed % 2**63)
        return self._random

    def add(self, token_id: int) -> None:
        """Take the next token: extend the text, and see whether the reply ends here.

        Raises what its text, its grammar or its reader raises.
        """
        if self.error is not None:
            return
        self.tokens.append(token_id)
        if self.matcher is not None and not self.matcher.is_terminated():
            self.matcher.accept_token(token_id)
        if token_id in self.vocabulary.stop_ids and not self.sampling.ignore_eos:
            self.finish_reason = "stop"
            self.stop_reason = None if token_id == self.vocabulary.usual_stop else token_id
        elif self.pieces or self.sampling.stop:
            piece = self.stream.push(token_id)
            if self.stream.stopped_by is not None:
                self.finish_reason, self.stop_reason = "stop", self.stream.stopped_by
            if piece and self.pieces:
                self.emit(piece)
        else:
            self.stream.keep(token_id)
        if self.finish_reason is None and self.matcher is not None and self.matcher.is_terminated():
            self.finish_reason = "stop"
        if self.finish_reason is None and len(self.tokens) >= self.sampling.max_tokens:
            self.finish_reason = "length"

    def fail(self, error: Exception) -> None:
        """End this reply, and no other, with an error nobody foresaw; call it while handling it."""
        logger.exception("a reply failed")
        self.error = NimError(f"the reply failed: {type(error).__name__}: {error}")

    def close(self, error: Exception | None = None) -> None:
        """Tell the reader, once and whatever else fails, that nothing follows."""
        if self.closed:
            return
        self.closed = True
        try:
            piece = self.stream.finish()
            if piece and self.pieces:
                self.emit(piece)
        except Exception as failure:
            self.fail(failure)
        self.error = error or self.error
        try:
            self.emit(None)
        except Exception:
            logger.exception("a caller could not be told that its reply has ended")
