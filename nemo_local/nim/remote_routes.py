"""The URLs of NIM when another server computes."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from nemo_local.core.client import AsyncClient, UpstreamError
from nemo_local.nim.errors import BadValue, Busy
from nemo_local.nim.reconcile import Reconciler
from nemo_local.nim.remote import RemoteModels
from nemo_local.nim.service import API, RELEASE, metadata_of

Json = dict[str, Any]


class RemoteHandlers:
    """One method for each route; what has to be computed is forwarded."""

    def __init__(self, models: RemoteModels, remote: AsyncClient, reconciler: Reconciler) -> None:
        self._models = models
        self._remote = remote
        self._reconciler = reconciler

    def live(self) -> Json:
        return {"object": "health.response", "message": "Service is live."}

    async def ready(self) -> Json:
        if not self._reconciler.settled.is_set():
            raise Busy("Service is loading its models.")
        await self._remote.get("/v1/models")
        return {"object": "health.response", "message": "Service is ready."}

    def list_models(self) -> Json:
        return {"object": "list", "data": [served.listing() for served in self._models.all()]}

    def get_model(self, model_id: str) -> Json:
        return self._models.get(model_id).listing()

    async def forward(self, request: Request) -> Response:
        body = await _body_of(request)
        served = self._models.get(str(body.get("model")))
        sent = {**body, "model": self._models.name_of(served)}
        path = "/v1/" + request.url.path.rstrip("/").rpartition("/v1/")[2]
        if sent.get("stream"):
            return await self._stream(path, sent)
        reply = await self._remote.post(path, json=sent)
        return JSONResponse({**reply, "model": served.id} if isinstance(reply, dict) else reply)

    chat = complete = embed = classify = forward

    async def _stream(self, path: str, sent: Json) -> Response:
        """The remote server's bytes as they come; its refusals are ordinary errors."""
        stack = AsyncExitStack()
        stream = self._remote.stream("POST", path, json=sent)
        response = await stack.enter_async_context(stream)

        async def pieces() -> AsyncIterator[bytes]:
            # Closing the response, also when our client leaves, ends the writing over there.
            try:
                async with stack:
                    async for piece in response.aiter_bytes():
                        yield piece
            except UpstreamError as error:
                yield f"data: {json.dumps({'error': error.body()})}\n\ndata: [DONE]\n\n".encode()

        kind = response.headers.get("content-type", "text/event-stream")
        return StreamingResponse(pieces(), media_type=kind)

    def metadata(self) -> Json:
        return metadata_of(self._models)

    def version(self) -> Json:
        return {"release": RELEASE, "api": API}

    async def metrics(self) -> PlainTextResponse:
        reply = await self._remote.raw("GET", "/metrics")
        return PlainTextResponse(reply.text, media_type="text/plain; version=0.0.4")

    def refresh(self) -> Json:
        return self._reconciler.refresh()


async def _body_of(request: Request) -> Json:
    try:
        body = await request.json()
    except ValueError as error:
        raise BadValue(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadValue("the body must be a JSON object")
    return body
