"""Calls the main model: the one whose answers are guarded."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from nemo_local.core.client import AsyncClient, Unreachable, UpstreamError
from nemo_local.core.errors import NO_RETRY, PlatformError

# Inside a JSON string, the quotes around these names would be escaped.
_END = re.compile(r'data:(\s*\[DONE\]|.*"finish_reason"\s*:\s*"|.*"error"\s*:\s*[{"])')
"""A stream's line that ends its answer: a finish reason, an error, or `[DONE]`."""


class ModelFailed(PlatformError):
    """A model gave no answer; carries its status, and its response as the detail."""

    def __init__(self, status: int, detail: Any, headers: Mapping[str, str] = NO_RETRY) -> None:
        super().__init__(detail, headers)
        self.status = status


@dataclass(frozen=True)
class MainModel:
    """An OpenAI-compatible endpoint and its key; every call may raise ModelFailed."""

    url: str
    """The endpoint's address, up to and including `/v1`."""
    key: str | None
    timeout_s: float | None
    """Seconds it may be silent; None = no limit."""

    async def models(self, authorization: str | None) -> Any:
        """The endpoint's model list."""
        own = authorization if authorization and not self.key else ""
        headers = {"authorization": own.encode("latin-1")} if own else {}
        async with self._client() as client:
            return finite(await client.get("/models", headers=headers))

    async def complete(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        """A complete, unstreamed completion; OpenAI fields that a server left out are filled in."""
        async with self._client() as client:
            response = finite(await client.post(path, json=request))
        choices = response.get("choices") if isinstance(response, dict) else None
        if not isinstance(choices, list) or not all(map(_says_something, choices)):
            raise ModelFailed(
                502, f"the model's reply is not a completion: {str(response)[:200]!r}"
            )
        numbered = [{"index": number, **choice} for number, choice in enumerate(choices)]
        return {**blank_completion(path, request["model"]), **response, "choices": numbered}

    @asynccontextmanager
    async def stream(self, path: str, request: dict[str, Any]) -> AsyncIterator[AsyncIterator[str]]:
        """A streamed completion: server-sent events, as pieces of text."""
        body = {**request, "stream": True}
        async with self._client() as client, client.stream("POST", path, json=body) as response:
            written = response.aiter_text()
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                said = await anext(written, "")
                raise ModelFailed(502, f"the model's reply is not a stream: {said[:200]!r}")
            yield _whole(written)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[AsyncClient]:
        client = AsyncClient(self.url, self.key, self.timeout_s)
        try:
            yield client
        except Unreachable as error:
            raise ModelFailed(504, error.detail) from None
        except UpstreamError as error:
            raise ModelFailed(error.status, error.response_body, error.headers) from None
        finally:
            await client.close()


def finite(value: Any) -> Any:
    """The value with null for NaN and the infinities, which Python reads but JSON does not have."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def blank_completion(path: str, model: str) -> dict[str, Any]:
    """An OpenAI completion, chat or text, without choices."""
    is_chat = path == "/chat/completions"
    return {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{uuid.uuid4()}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": int(time.time()),
        "model": model,
    }


async def _whole(written: AsyncIterator[str]) -> AsyncIterator[str]:
    """The pieces of a stream. Raises ModelFailed when it closes before its answer ends."""
    rest, ended = "", False
    async for text in written:
        *lines, rest = (rest + text).split("\n")
        ended = ended or any(map(_END.match, lines))
        yield text
    if not (ended or _END.match(rest)):
        raise ModelFailed(502, "the model's stream broke off before its answer ended")


def _says_something(choice: Any) -> bool:
    """Whether this is a valid choice of a completion, with a message or text."""
    if not isinstance(choice, dict):
        return False
    message = choice.get("message")
    if message is None:
        return isinstance(choice.get("text"), str)
    calls = message.get("tool_calls") or [] if isinstance(message, dict) else None
    return isinstance(calls, list) and all(isinstance(call, dict) for call in calls)
