"""The routes of NIM when another server computes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from nemo_local.core.client import AsyncClient, Unreachable, UpstreamError
from nemo_local.core.completions import LAST_EVENT, event
from nemo_local.core.errors import Invalid, PlatformError, invalid_field
from nemo_local.core.web import json_object, unless_client_leaves
from nemo_local.nim.errors import BadReply, BadValue, Busy, NimError, TimeUp, UnknownModel
from nemo_local.nim.models import Served
from nemo_local.nim.reconcile import Reconciler
from nemo_local.nim.remote import ANSWERS_WITHIN_S, RemoteModels
from nemo_local.nim.routes import MAX_JSON_DEPTH, BaseHandlers

Json = dict[str, Any]
EVENTS = "text/event-stream"
READY_WITHIN_S = 1.5
"""Time to tell whether the remote server is ready (seconds): `up` listens for 2 s each time."""
LONGEST_TEXT = 200
"""Characters of an error's text that are passed on."""
_TYPES = {one.status: one.type for one in (BadValue, UnknownModel, BadReply, Busy, TimeUp)}


class RemoteHandlers(BaseHandlers):
    """The routes of models that another server computes: their requests are forwarded."""

    def __init__(
        self,
        models: RemoteModels,
        remote: AsyncClient,
        reconciler: Reconciler,
        time_limit_s: float | None,
    ) -> None:
        """`time_limit_s` is what a reply may take, however steadily it comes; None = no limit."""
        super().__init__(models, reconciler)
        self._name_of = models.name_of
        self._remote = remote
        self._time_limit_s = time_limit_s

    async def ready(self) -> Json | JSONResponse:
        answer = self._ready()
        try:
            await self._remote.get("/v1/models", timeout=READY_WITHIN_S)
        except UpstreamError as error:
            passes = error.status >= 500 or error.status in (408, 429)
            body = {"status": "starting" if passes else "failed", "reason": _why_not_ready(error)}
            return JSONResponse(body, 503)
        return answer

    async def forward(self, request: Request) -> Response:
        body = json_object(await request.body(), MAX_JSON_DEPTH)
        model_id = body.get("model")
        if not isinstance(model_id, str):
            raise invalid_field("body", "model", "must be a string", model_id)
        with self._busy_while_loading(model_id):
            served = self._models.get(model_id)
        sent = {**body, "model": self._name_of(served)}
        path = request.scope["path"]  # `BothSlashes` has taken a last slash away
        answer = self._stream if sent.get("stream") else self._whole
        try:
            return await unless_client_leaves(request, answer(path, sent, served))
        except UpstreamError as error:
            raise _in_our_form(error) from error

    chat = complete = embed = classify = forward

    async def _whole(self, path: str, sent: Json, served: Served) -> Response:
        try:
            async with asyncio.timeout(self._time_limit_s):
                reply = await self._remote.raw("POST", path, json=sent)
        except TimeoutError:
            raise self._time_up() from None
        return _renamed(reply.content, served.id)

    async def _stream(self, path: str, sent: Json, served: Served) -> Response:
        """The remote server's lines as they come; its refusals are ordinary errors.

        An answer that is no stream of events is passed on whole.
        """
        stack = AsyncExitStack()
        stream = self._remote.stream("POST", path, json=sent)
        limit = self._time_limit_s
        deadline = None if limit is None else asyncio.get_running_loop().time() + limit
        try:
            async with asyncio.timeout_at(deadline):
                response = await stack.enter_async_context(stream)
                kind = response.headers.get("content-type", "")
                if not kind.lower().startswith(EVENTS):
                    async with stack:
                        return _renamed(await response.aread(), served.id)
        except TimeoutError:
            raise self._time_up() from None

        async def pieces() -> AsyncIterator[bytes]:
            # Closing the response, also when our client leaves, ends the writing over there.
            try:
                async with stack:
                    whole, begun = response.aiter_bytes(), b""
                    while piece := await _next_before(deadline, whole):
                        *lines, begun = (begun + piece).split(b"\n")
                        if lines:
                            yield b"".join(_named(line, served.id) + b"\n" for line in lines)
                    if begun:
                        yield _named(begun, served.id)
            except (UpstreamError, TimeoutError) as failure:
                error: PlatformError
                if isinstance(failure, UpstreamError):
                    error = _in_our_form(failure)
                else:
                    error = self._time_up()
                last = event({"error": error.body()}) + LAST_EVENT
                yield f"\n{last}".encode()  # the event before may lack its end

        return StreamingResponse(pieces(), media_type=kind)

    def _time_up(self) -> TimeUp:
        return TimeUp(
            f"the remote server did not finish the reply within {self._time_limit_s:.3g} s; ask "
            "for fewer tokens with max_tokens, or raise NEMO_LOCAL_REQUEST_TIMEOUT"
        )

    async def metrics(self) -> PlainTextResponse:
        try:
            reply = await self._remote.raw("GET", "/metrics", timeout=ANSWERS_WITHIN_S)
        except UpstreamError as error:
            raise _in_our_form(error) from error
        return PlainTextResponse(reply.text, media_type="text/plain; version=0.0.4")


def _in_our_form(error: UpstreamError) -> PlatformError:
    """A refusal as our caller gets it: the remote server's JSON object, anything else as NIM's."""
    if isinstance(error.response_body, dict):
        return error
    text = str(error.detail)[:LONGEST_TEXT]
    if not isinstance(error, Unreachable):
        said = "" if not text or text.lstrip().startswith("<") else f": {text}"  # no HTML
        text = f"{_answered(error)}{said}"
    refusal = NimError(text)
    refusal.status, refusal.headers = error.status, error.headers
    refusal.type = _TYPES.get(error.status, NimError.type)
    return refusal


def _why_not_ready(error: UpstreamError) -> str:
    if isinstance(error, Unreachable):
        return str(error)
    what = "NEMO_LOCAL_ENGINE_KEY" if error.status in (401, 403) else f"{error.url}, its models"
    return f"{_answered(error)}: check {what}"


def _answered(error: UpstreamError) -> str:
    return f"the server at NEMO_LOCAL_ENGINE_URL answered {error.status}"


def _renamed(reply: bytes, model_id: str) -> JSONResponse:
    """A whole reply, with our id of the model. Raises BadReply where it is no JSON object."""
    try:
        return JSONResponse({**json_object(reply, MAX_JSON_DEPTH), "model": model_id})
    except Invalid as error:
        raise BadReply(f"the remote server's reply cannot be passed on: {error.detail}") from error


def _named(line: bytes, model_id: str) -> bytes:
    """A line of a stream, with our id of the model where it is data that names one.

    b'data: {"model": "llama3.1:8b"}' -> b'data: {"model": "meta/llama-3.1-8b-instruct"}'
    """
    field, _, data = line.partition(b":")
    if field != b"data" or b'"model"' not in data:
        return line
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        return line
    if not isinstance(chunk, dict) or "model" not in chunk:
        return line
    return b"data: " + json.dumps({**chunk, "model": model_id}).encode()


async def _next_before(deadline: float | None, pieces: AsyncIterator[bytes]) -> bytes:
    """The next piece, empty at the end. Raises TimeoutError."""
    async with asyncio.timeout_at(deadline):
        return await anext(pieces, b"")
