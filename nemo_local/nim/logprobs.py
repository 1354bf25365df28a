"""Log probabilities of written tokens in the shapes of the OpenAI API, whole or part by part."""

import codecs
from typing import Any

from nemo_local.nim.checkpoint import Checkpoint
from nemo_local.nim.generation import Generation, TokenLogprob

Json = dict[str, Any]

IMPOSSIBLE = -9999.0
"""What vLLM writes for an impossible token, as JSON knows no infinity."""


class Logprobs:
    """The log probabilities of one choice, each given out once."""

    def __init__(self, reply: Generation, checkpoint: Checkpoint) -> None:
        self._reply = reply
        self._checkpoint = checkpoint
        self._given = 0
        self._offset = 0
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def of_chat(self, written: int | None = None) -> Json | None:
        """The new ones of the first `written` tokens, or of all; None if there are none."""
        content = []
        for token in self._new(written):
            alternatives = [self._token(id_, logprob) for id_, logprob in token.top]
            chosen = self._token(token.token_id, token.logprob)
            content.append({**chosen, "top_logprobs": alternatives})
        return {"content": content} if content else None

    def of_text(self, written: int | None = None) -> Json | None:
        """What `of_chat` gives, in the older shape of plain completions."""
        new, tokens, offsets = self._new(written), [], []
        if not new:
            return None
        for token in new:
            text, encoded = self._checkpoint.decode_token(token.token_id)
            tokens.append(text)
            offsets.append(self._offset)
            self._offset += len(self._characters.decode(bytes(encoded)))
        top = [self._likeliest(token) for token in new]
        return {
            "tokens": tokens,
            "token_logprobs": [token.logprob for token in new],
            "top_logprobs": top if self._reply.sampling.logprobs else None,
            "text_offset": offsets,
        }

    def _likeliest(self, token: TokenLogprob) -> dict[str, float]:
        """The chosen token and its likeliest alternatives; of those that read alike, the first."""
        texts: dict[str, float] = {}
        for id_, logprob in [*token.top, (token.token_id, token.logprob)]:
            texts.setdefault(self._checkpoint.decode_token(id_)[0], max(logprob, IMPOSSIBLE))
        return texts

    def _new(self, written: int | None) -> list[TokenLogprob]:
        new = self._reply.logprobs[self._given : written]
        self._given += len(new)
        return new

    def _token(self, token_id: int, logprob: float) -> Json:
        text, encoded = self._checkpoint.decode_token(token_id)
        return {"token": text, "logprob": max(logprob, IMPOSSIBLE), "bytes": encoded}
