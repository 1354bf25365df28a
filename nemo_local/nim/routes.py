"""The URLs of NIM."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from nemo_local.core.completions import LAST_EVENT, event
from nemo_local.core.web import unless_client_leaves
from nemo_local.nim.answers import (
    Answer,
    Json,
    chat_body,
    chat_chunks,
    completion_body,
    completion_chunks,
)
from nemo_local.nim.errors import Busy, NimError, UnknownModel
from nemo_local.nim.models import Registry
from nemo_local.nim.reconcile import Reconciler
from nemo_local.nim.schemas import ChatRequest, CompletionRequest, InputRequest
from nemo_local.nim.service import NimService

logger = logging.getLogger(__name__)

API = "1.0"
RELEASE = "1.8.3"
"""The NIM release whose API is followed."""
MAX_JSON_DEPTH = 500
"""Levels of a body: many, as nothing is stored here, and schemas have a limit of their own."""


def router(nim: "BaseHandlers") -> APIRouter:
    """Every route of the inference process."""
    routes = APIRouter()
    for method, path, handler in (
        ("GET", "/v1/health/live", nim.live),
        ("GET", "/v1/health/ready", nim.ready),
        ("GET", "/v1/models", nim.list_models),
        ("GET", "/v1/models/{model_id:path}", nim.get_model),
        ("POST", "/v1/chat/completions", nim.chat),
        ("POST", "/v1/completions", nim.complete),
        ("POST", "/v1/embeddings", nim.embed),
        ("POST", "/v1/classify", nim.classify),
        ("GET", "/v1/metadata", nim.metadata),
        ("GET", "/v1/version", nim.version),
        ("GET", "/v1/metrics", nim.metrics),
        ("GET", "/metrics", nim.metrics),
        ("POST", "/internal/refresh", nim.refresh),
    ):
        routes.add_api_route(path, handler, methods=[method], response_model=None)
    return routes


class BaseHandlers:
    """One method for each route; here those that are the same whoever computes."""

    ready: Callable[[], Json | Awaitable[Json | Response]]
    chat: Callable[..., Awaitable[Response]]
    complete: Callable[..., Awaitable[Response]]
    embed: Callable[..., Response | Awaitable[Response]]
    classify: Callable[..., Response | Awaitable[Response]]
    metrics: Callable[[], Response | Awaitable[Response]]

    def __init__(self, models: Registry, reconciler: Reconciler) -> None:
        self._models = models
        self._reconciler = reconciler

    def live(self) -> Json:
        return {"object": "health.response", "message": "Service is live."}

    def list_models(self) -> Json:
        return {"object": "list", "data": [served.listing() for served in self._models.all()]}

    def get_model(self, model_id: str) -> Json:
        return self._models.get(model_id).listing()

    def metadata(self) -> Json:
        served = self._models.all()
        return {
            "version": RELEASE,
            "assetInfo": [one.id for one in served],
            "licenseInfo": {"name": "Apache-2.0", "path": "LICENSE"},
            "modelInfo": [{"modelUrl": one.root, "shortName": one.id} for one in served],
        }

    def version(self) -> Json:
        return {"release": RELEASE, "api": API}

    def refresh(self, hurry: bool = True) -> Json:
        return self._reconciler.refresh(hurry)

    def _ready(self) -> Json:
        """What a ready service answers. Raises Busy until models were looked for once."""
        if not self._reconciler.settled.is_set():
            raise Busy("Service is loading its models.")
        return {"object": "health.response", "message": "Service is ready."}

    @contextmanager
    def _busy_while_loading(self, model_id: str) -> Iterator[None]:
        """Within, a model that is not there yet is Busy and not UnknownModel.

        UnknownModel says why, where a model could not be loaded.
        """
        loading = self._reconciler.is_loading(model_id)
        try:
            yield
        except UnknownModel:
            if loading or self._reconciler.is_loading(model_id):
                raise Busy(
                    f"Service is loading its models; `{model_id}` may be one. Try again."
                ) from None
            why = self._reconciler.why_not_served(model_id)
            if not why:
                raise
            raise UnknownModel(f"The model `{model_id}` cannot be served: {why}", "model") from None


class Handlers(BaseHandlers):
    """The routes of models that this process computes."""

    def __init__(self, service: NimService, reconciler: Reconciler) -> None:
        super().__init__(service.models, reconciler)
        self._service = service

    def ready(self) -> Json:
        answer = self._ready()
        if not self._models.ids() and not self._reconciler.nothing_to_come:
            raise Busy("No model is loaded.")
        return answer

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        with self._busy_while_loading(body.model):
            answer = await self._service.begin_chat(body)
            if body.stream:
                return _event_stream(answer, chat_chunks(answer))
            return await _unless_client_leaves(request, answer, chat_body)

    async def complete(self, body: CompletionRequest, request: Request) -> Response:
        with self._busy_while_loading(body.model):
            answer = await self._service.begin_completion(body)
            if body.stream:
                return _event_stream(answer, completion_chunks(answer))
            return await _unless_client_leaves(request, answer, completion_body)

    def embed(self, body: InputRequest) -> NoReturn:
        self._service.refuse(body.model, "embeddings")

    def classify(self, body: InputRequest) -> NoReturn:
        self._service.refuse(body.model, "classification")

    def metrics(self) -> PlainTextResponse:
        return PlainTextResponse(self._service.metrics(), media_type="text/plain; version=0.0.4")


async def _unless_client_leaves(
    request: Request, answer: Answer, body: Callable[[Answer], Coroutine[Any, Any, Json]]
) -> Response:
    """The answer as JSON; writing stops when the client hangs up first."""
    try:
        return JSONResponse(await unless_client_leaves(request, body(answer)))
    finally:
        answer.cancel()


def _event_stream(answer: Answer, chunks: AsyncIterator[Json]) -> StreamingResponse:
    return StreamingResponse(_events(answer, chunks), media_type="text/event-stream")


async def _events(answer: Answer, chunks: AsyncIterator[Json]) -> AsyncIterator[str]:
    """Server-sent events, as many at a time as are known; an error after the first event is one."""
    known = ""
    try:
        async for chunk in chunks:
            known += event(chunk)
            if answer.waits:
                yield known
                known = ""
    except Exception as failure:
        if not isinstance(failure, NimError):
            logger.exception("a stream failed")
            failure = NimError(f"the reply failed: {type(failure).__name__}")
        known += event({"error": failure.body()})
    finally:
        # Also reached when the client hangs up: then the server closes this generator.
        answer.cancel()
    yield known + LAST_EVENT
