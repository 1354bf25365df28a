"""Rows as token ids with labels, which say which tokens count in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nemo_local.customizer.rows import ChatRow, TextRow
from nemo_local.customizer.texts import Rendered, Span, Texts, UntrainableData

IGNORED = -100
"""Label of a token that the model sees and the loss ignores."""


@dataclass
class Tokens:
    """Sequences of at most `max_length` tokens with labels, as the trainer takes them."""

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    """The token itself where it counts in the loss, IGNORED elsewhere."""
    numbers: list[int] = field(default_factory=list)
    """The number of each sequence, counted before any was dropped."""
    dropped: int = 0
    """Sequences left out because no token to learn, or no whole tool call, fitted."""
    cut: set[int] = field(default_factory=set)
    """Numbers of the sequences that lost their end."""

    @property
    def truncated(self) -> int:
        """How many sequences lost their end."""
        return len(self.cut)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [len(ids) for ids in self.input_ids]

    @property
    def learnt(self) -> list[int]:
        """Tokens of each sequence that count in the loss."""
        return [len(labels) - labels.count(IGNORED) for labels in self.labels]

    def columns(self) -> dict[str, list[list[int]]]:
        """The sequences by column."""
        return {"input_ids": self.input_ids, "labels": self.labels}


class Renderer:
    """Renders rows with one tokenizer."""

    def __init__(
        self, tokenizer: Any, stop_ids: Sequence[int], unknown: frozenset[int] = frozenset()
    ) -> None:
        """`stop_ids` are the tokens that end an answer at inference.

        `unknown` are tokens that the tokenizer has and the model lacks.

        Raises:
            UntrainableData: no pad token differs from the stop tokens, so stopping could not be
                learnt; or the tokenizer cannot tell where in a text its tokens stand.
        """
        if not tokenizer.is_fast:
            raise UntrainableData(
                f"{type(tokenizer).__name__} is a tokenizer without a tokenizer.json, and cannot "
                "tell which tokens are the answer's; use a checkpoint with a fast tokenizer"
            )
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()  # some checkpoints come with a limit of their own
        self._backend.no_padding()
        self._stop_ids = set(stop_ids)
        self._unknown = unknown
        added = tokenizer.added_tokens_decoder.items()
        self._wide_stops = self._stop_ids & {number for number, token in added if token.rstrip}
        self._texts = Texts(tokenizer, self._stop_ids)
        if tokenizer.pad_token_id in (None, *self._stop_ids, *unknown):
            self._set_pad()

    def tokens(
        self, rows: Sequence[ChatRow | TextRow], max_length: int, rejected: bool = False
    ) -> Tokens:
        """The rows as sequences of tokens with labels.

        A sequence that is too long loses turns from its end; when not even its first answer
        fits, a text answer is cut and a tool call is dropped and counted. So is a sequence with no
        token left to learn. The `rejected` answers of preference pairs may call what is no tool.

        Raises:
            UntrainableData: the template refuses a row, hides a tool, or ends an answer with a
                token at which inference does not stop; no token is known that ends a text; or a
                row has a token that the model lacks.
        """
        sequences = self.rendered(rows, rejected)
        return self.labelled(sequences, self.encoded(sequences), max_length)

    def rendered(self, rows: Sequence[ChatRow | TextRow], rejected: bool = False) -> list[Rendered]:
        """The texts of these rows, in order. Raises as `tokens` does."""
        return [sequence for row in rows for sequence in self._texts.of(row, rejected)]

    def encoded(self, sequences: Sequence[Rendered]) -> list[Any]:
        """`tokenizers.Encoding`s of the texts; the GIL is released meanwhile."""
        texts = [sequence.text for sequence in sequences]
        try:
            # Not through transformers, which takes as long again to copy every field.
            encodings: list[Any] = self._backend.encode_batch(texts, add_special_tokens=False)
        except TypeError:  # what the tokenizer says to a text that UTF-8 cannot carry
            _refuse_unwritable(sequences)
            raise
        return encodings

    def labelled(
        self, sequences: Sequence[Rendered], encodings: Sequence[Any], max_length: int
    ) -> Tokens:
        """The texts as tokens with labels. Raises as `tokens` does."""
        tokens = Tokens()
        for number, (sequence, encoding) in enumerate(zip(sequences, encodings, strict=True)):
            self._add(tokens, number, sequence, encoding, max_length)
        return tokens

    def _add(
        self,
        tokens: Tokens,
        number: int,
        sequence: Rendered,
        encoding: Any,
        max_length: int,
    ) -> None:
        ids, offsets = encoding.ids, encoding.offsets  # each makes a new list
        if not self._unknown.isdisjoint(ids):
            self._refuse_unknown(sequence, ids)
        if self._wide_stops:  # such a token includes the white space after it
            offsets = [
                (start, start + len(sequence.text[start:stop].rstrip()))
                if token in self._wide_stops
                else (start, stop)
                for token, (start, stop) in zip(ids, offsets, strict=True)
            ]
        if sequence.after_bos:
            ids, offsets = [self._tokenizer.bos_token_id, *ids], [(0, 0), *offsets]
        last = self._last_span(sequence, offsets, max_length)
        if last is None:
            tokens.dropped += 1
            return
        length, cut = len(ids), last < len(sequence.spans) - 1 or len(ids) > max_length
        if cut:
            end = sequence.spans[last].end
            length = min(max_length, sum(1 for _, stop in offsets if stop <= end))
        kept = sequence.spans[: last + 1]
        labels = _labels(ids, offsets, kept)
        self._check(sequence, kept, ids, offsets, labels)
        labels[0] = IGNORED  # nothing precedes it from which it could be predicted
        # The last token that fits may be both the prompt's end and the answer's start.
        if labels[:length].count(IGNORED) == length:
            tokens.dropped += 1
            return
        if cut:
            tokens.cut.add(number)
        tokens.input_ids.append(ids[:length])
        tokens.labels.append(labels[:length])
        tokens.numbers.append(number)

    def _last_span(
        self, sequence: Rendered, offsets: list[tuple[int, int]], max_length: int
    ) -> int | None:
        """Index of the last span to keep, None when nothing is left to learn."""
        if len(offsets) <= max_length:
            return len(sequence.spans) - 1
        reach = offsets[max_length - 1][1]
        fitting = [i for i, span in enumerate(sequence.spans) if span.end <= reach]
        if fitting:
            return fitting[-1]
        first = sequence.spans[0]
        return None if first.whole or first.start >= reach else 0

    def _check(
        self,
        sequence: Rendered,
        spans: list[Span],
        ids: list[int],
        offsets: list[tuple[int, int]],
        labels: list[int],
    ) -> None:
        learnt = len(labels) - labels.count(IGNORED)
        if not learnt or (sequence.answers and learnt == len(labels)):
            raise UntrainableData(
                f"{sequence.where}: {learnt} of {len(labels)} tokens would be learnt; expected "
                "the answers and nothing else"
            )
        stopped = {
            stop
            for token, (_, stop), label in zip(ids, offsets, labels, strict=True)
            if label != IGNORED and token in self._stop_ids
        }
        for span in spans:
            if span.end in stopped:
                continue
            tail = sequence.text[max(span.start, span.end - 24) : span.end]
            stops = self._tokenizer.convert_ids_to_tokens(sorted(self._stop_ids))
            raise UntrainableData(
                f"{sequence.where}: an answer ends with {tail!r}, but generation stops at {stops} "
                "only, so the model would never learn to stop"
            )

    def _refuse_unknown(self, sequence: Rendered, ids: list[int]) -> None:
        token = next(token for token in ids if token in self._unknown)
        raise UntrainableData(
            f"{sequence.where}: the tokenizer has a token {token} "
            f"({self._tokenizer.convert_ids_to_tokens(token)!r}), for which the base model has no "
            "row in its embedding. Add rows to the checkpoint (resize_token_embeddings), or take "
            "the token out of its tokenizer"
        )

    def _set_pad(self) -> None:
        """Choose a pad token that is no stop token, which the loss would ignore as padding."""
        candidates = [
            token
            for token in self._tokenizer.all_special_tokens
            + list(self._tokenizer.get_added_vocab())
            if self._tokenizer.convert_tokens_to_ids(token) not in self._stop_ids | self._unknown
            and token != self._tokenizer.bos_token
        ]
        preferred = [token for token in candidates if "pad" in token.lower()] or candidates
        if not preferred:
            raise UntrainableData(
                "the tokenizer has no pad token other than its end-of-turn token; "
                "add one to the checkpoint's tokenizer"
            )
        self._tokenizer.pad_token = preferred[0]


def _refuse_unwritable(sequences: Sequence[Rendered]) -> None:
    for sequence in sequences:
        try:
            sequence.text.encode("utf-8")
        except UnicodeEncodeError as error:
            half = sequence.text[error.start : error.end]
            raise UntrainableData(
                f"{sequence.where}: {half!r} is half of a surrogate pair and no character"
            ) from None


def _labels(ids: list[int], offsets: list[tuple[int, int]], spans: list[Span]) -> list[int]:
    labels = [IGNORED] * len(ids)
    remaining = iter(spans)
    span = next(remaining, None)
    for position, (start, stop) in enumerate(offsets):
        while span is not None and start >= span.end:
            span = next(remaining, None)
        if span is None:
            break
        if start >= span.start and span.start < stop <= span.end:
            labels[position] = ids[position]
    return labels
