"""Guarded completions as server-sent events: finished ones, or judged as they are generated."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

from nemo_local.core.completions import LAST_EVENT, event
from nemo_local.core.errors import PlatformError
from nemo_local.guardrails.answers import judged_text
from nemo_local.guardrails.main_model import ModelFailed, finite
from nemo_local.guardrails.verdicts import Verdict

logger = logging.getLogger(__name__)

_NO_NUMBER = re.compile("NaN|Infinity")
Judge = Callable[[str], Awaitable[Verdict | None]]
"""The verdict that blocks a text; None when it may pass."""


def finished(response: dict[str, Any], with_usage: bool) -> Iterator[str]:
    """A finished completion: what was said, why it ended, `[DONE]`."""
    shared = {key: response[key] for key in ("id", "created", "model", "object")}
    for choice in response["choices"]:
        is_chat = choice.get("message") is not None
        shared["object"] = "chat.completion.chunk" if is_chat else "text_completion"
        words: dict[str, Any] = (
            {"delta": _delta(choice["message"])} if is_chat else {"text": choice["text"]}
        )
        said = {
            "index": choice["index"],
            **words,
            "logprobs": choice.get("logprobs"),
            "finish_reason": None,
        }
        rest = {key: choice[key] for key in choice if key not in ("message", "text", "logprobs")}
        nothing: dict[str, Any] = {"delta": {}} if is_chat else {"text": ""}
        ended = {"finish_reason": None, **rest, **nothing}
        for part in (said, ended):
            yield event({**shared, "choices": [part]})
    if with_usage:
        yield event({**shared, "choices": [], "usage": response.get("usage")})
    yield LAST_EVENT


async def passed_on(written: AsyncIterator[str]) -> AsyncIterator[str]:
    """A model's stream as it comes, with null for numbers that JSON does not have."""
    rest = ""
    async for text in written:
        lines, end, rest = (rest + text).rpartition("\n")
        if end:
            yield "\n".join(map(_as_json, lines.split("\n"))) + end
    yield rest


async def judged(
    written: AsyncIterator[str],
    judge: Judge,
    chunk_size: int,
    context_size: int,
    stream_first: bool,
) -> AsyncIterator[str]:
    """The events of a model's stream, up to the first block.

    Every `chunk_size` pieces of text are judged together with the `context_size` before them, and
    sent before (`stream_first`) or after the verdict. A block ends the stream with an error event
    in the library's words.
    """
    held: list[str] = []
    texts: list[str] = []
    fresh = 0
    async for chunk in _chunks(written):
        if chunk is not None:
            held.append(event(chunk))
            if stream_first:
                yield held.pop()
            if text := _said(chunk):
                texts.append(text)
                fresh += 1
            if fresh < chunk_size:
                continue
        verdict = await judge("".join(texts)) if fresh else None
        if verdict:
            yield _violation(verdict)
            break
        for passed in held:
            yield passed
        held, texts, fresh = [], texts[-context_size:] if context_size else [], 0
    yield LAST_EVENT


async def begun(events: AsyncGenerator[str]) -> AsyncIterator[str]:
    """The events of a stream, after its first one has arrived or it has ended.

    Errors before that are raised here; a later one ends the stream with an error event.
    """
    first = await anext(events, None)

    async def all_of_them() -> AsyncIterator[str]:
        async with aclosing(events):
            try:
                if first is not None:
                    yield first
                async for later in events:
                    yield later
            except PlatformError as error:
                logger.warning("a guarded stream ended early: %s", type(error).__name__)
                yield event({"error": {"message": str(error), "type": "upstream_error"}})
                yield LAST_EVENT

    return all_of_them()


async def _chunks(written: AsyncIterator[str]) -> AsyncIterator[dict[str, Any] | None]:
    """The chunks of a model's stream, and None at its end. Raises ModelFailed."""
    async for line in _lines(written):
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            break
        try:
            chunk = finite(json.loads(data))
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict) or not _is_readable(chunk):
            raise ModelFailed(502, f"the model's stream is not a completion: {line[:200]!r}")
        yield chunk
    yield None


async def _lines(written: AsyncIterator[str]) -> AsyncIterator[str]:
    """The lines of a text that arrives in pieces, split at \\n only: JSON may contain U+2028."""
    rest = ""
    async for text in written:
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line
    yield rest


def _as_json(line: str) -> str:
    if not line.startswith("data:") or not _NO_NUMBER.search(line):
        return line
    try:
        return event(finite(json.loads(line.removeprefix("data:")))).rstrip("\n")
    except ValueError:
        return line


def _violation(verdict: Verdict) -> str:
    error = {
        "message": f"Blocked by {verdict.flow} rails.",
        "type": "guardrails_violation",
        "param": verdict.flow,
        "code": "content_blocked",
    }
    return event({"error": error})


def _said(chunk: dict[str, Any]) -> str:
    """The text of a chunk's choices."""
    choices = chunk.get("choices") or []
    contents = [c.get("text") or (c.get("delta") or {}).get("content") for c in choices]
    return "".join(judged_text(content) or "" for content in contents)


def _is_readable(chunk: dict[str, Any]) -> bool:
    """Whether a chunk's choices, if any, have the form that rails read."""
    choices = chunk.get("choices") or []
    return isinstance(choices, list) and all(
        isinstance(choice, dict) and isinstance(choice.get("delta"), (dict, type(None)))
        for choice in choices
    )


def _delta(message: dict[str, Any]) -> dict[str, Any]:
    """A message as one delta; its tool calls get the index that streams need."""
    delta = {key: value for key, value in message.items() if value is not None}
    if delta.get("tool_calls"):
        calls = enumerate(delta["tool_calls"])
        delta["tool_calls"] = [{"index": number, **call} for number, call in calls]
    return delta
