"""Wires the control plane: all services behind one root."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal, Protocol

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from nemo_local import __version__
from nemo_local.catalog import load_catalog
from nemo_local.core.client import AsyncClient, Client, UpstreamError
from nemo_local.core.documents import Documents
from nemo_local.core.error_bodies import install_error_handlers
from nemo_local.core.errors import Unavailable
from nemo_local.core.middleware import StrictJson, guard
from nemo_local.core.web import add_routes, unless_client_leaves
from nemo_local.customizer import routes as customizer_routes
from nemo_local.customizer.service import CustomizerService
from nemo_local.data_store import routes as data_store_routes
from nemo_local.data_store.quoted_slash import QuotedSlashes
from nemo_local.data_store.service import DataStoreService
from nemo_local.deployment import routes as deployment_routes
from nemo_local.deployment.service import DeploymentService
from nemo_local.entity_store import routes as entity_store_routes
from nemo_local.entity_store.service import EntityStoreService
from nemo_local.evaluator import routes as evaluator_routes
from nemo_local.evaluator.service import EvaluatorService
from nemo_local.guardrails import routes as guardrails_routes
from nemo_local.guardrails.service import GuardrailsService
from nemo_local.pocket_dataset import publish
from nemo_local.settings import Settings

logger = logging.getLogger(__name__)

INFERENCE_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/classify")
LONGER_THAN_NIM_S = 10.0
"""Extra seconds the gateway waits, so that NIM itself ends a slow request and explains why."""
NIM_TIMEOUT_S = 120.0
ANSWERS_WITHIN_S = 30.0


class Service(Protocol):
    """What the control plane needs from a service besides its routes."""

    def start(self) -> None:
        """Seed rows and recover jobs; called once the HTTP server answers."""

    def stop(self) -> None:
        """Stop everything that runs in the background."""


def create_app(settings: Settings, stopping: Callable[[], bool] = lambda: False) -> FastAPI:
    """The control plane: every service except inference, whose requests it forwards.

    `stopping` tells whether the server is shutting down. It stops answering before it tells the
    application, so calls between services fail in the meantime.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    documents = Documents(settings.database_url)
    platform = Client(settings.platform_url, settings.token)
    nim = Client(settings.nim_url, settings.nim_token, NIM_TIMEOUT_S)
    limit_s = settings.request_timeout_s
    answered_within_s = limit_s + LONGER_THAN_NIM_S if limit_s else None
    inference = AsyncClient(settings.nim_url, settings.nim_token, answered_within_s)

    catalog = load_catalog(settings)
    data_store = DataStoreService(documents, settings.home / "blobs")
    entity_store = EntityStoreService(documents)
    deployment = DeploymentService(documents, nim, catalog, platform)
    evaluator = EvaluatorService(
        documents, platform, settings.nim_url, settings.home / "evaluation", settings.nim_token,
        stopping,
    )  # fmt: skip
    guardrails = GuardrailsService(
        documents, settings.nim_url, settings.nim_token, answered_within_s
    )
    customizer = CustomizerService(
        documents, platform, nim, catalog, settings.home / "customization", settings,
        stopping=stopping,
    )  # fmt: skip
    services: list[Service] = [deployment, customizer, evaluator, guardrails]

    def prepare() -> None:
        customizer.prepare()
        guardrails.prepare()

    startup = _Startup(platform, services, settings.dataset_rows, prepare)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Requests wait for other requests to this server, so there must always be a free thread.
        to_thread.current_default_thread_limiter().total_tokens = math.inf
        data_store.start()
        entity_store.start()
        startup.begin()
        yield
        startup.end()
        for service in services:
            service.stop()
        await inference.close()
        nim.close()
        platform.close()
        documents.close()

    # A redirect would add the slash that BothSlashes removes, and loop forever.
    app = FastAPI(
        title="nemo_local", version=__version__, lifespan=lifespan, redirect_slashes=False
    )
    install_error_handlers(app)
    once_started = [Depends(startup.refuse_early_job)]
    add_routes(
        app.router,
        data_store_routes.router(data_store),
        entity_store_routes.router(entity_store),
        deployment_routes.router(deployment),
        customizer_routes.router(customizer, once_started),
        evaluator_routes.router(evaluator, once_started),
        guardrails_routes.router(guardrails),
        _health_router(startup),
        _inference_router(inference),
    )
    app.add_middleware(StrictJson, but_below=("/v1/guardrail/", "/v1/hf/"))
    app.add_middleware(QuotedSlashes)
    guard(app, settings.token)
    return app


class _Startup:
    """Starts the services once the HTTP server answers, since they call each other through it."""

    def __init__(
        self,
        platform: Client,
        services: list[Service],
        dataset_rows: int,
        when_ready: Callable[[], None],
    ) -> None:
        self.state: Literal["starting", "ready", "failed"] = "starting"
        self.reason = ""
        self._platform = platform
        self._services = services
        self._dataset_rows = dataset_rows
        self._when_ready = when_ready
        self._started, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="startup", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._stopping.set()
        self._thread.join()

    async def refuse_early_job(self, request: Request) -> None:
        """Answer new jobs with 503 until the services have started: until then, they take every
        stored job for one that an earlier process left."""
        early = not self._started.is_set() and request.url.path.endswith("/jobs")
        if early and request.method == "POST":
            reason = f" ({self.reason})" if self.reason else ""
            raise Unavailable(
                f"no jobs are taken yet, the platform is {self.state}{reason}; "
                "/v1/health/ready says when it is ready",
                {"retry-after": "1"},
            )

    def _run(self) -> None:
        try:
            if not self._wait_for_server():
                return
            for service in self._services:
                service.start()
            self._started.set()
            publish(self._platform, self._dataset_rows, self._stopping.is_set)
            self.state = "ready"
            self._when_ready()
        except Exception as error:
            logger.exception("the platform could not start")
            self.state, self.reason = "failed", f"{type(error).__name__}: {error}"

    def _wait_for_server(self) -> bool:
        """Whether the server answers; False when the application is told to stop first."""
        for _ in range(int(ANSWERS_WITHIN_S / 0.05)):
            try:
                self._platform.get("/health", timeout=1.0)
                return True
            except UpstreamError:
                if self._stopping.wait(0.05):
                    return False
        raise TimeoutError(f"the server did not answer itself within {ANSWERS_WITHIN_S:g} s")


def _health_router(startup: _Startup) -> APIRouter:
    """`live` as soon as the server answers; `ready` when every service has started."""
    urls = APIRouter(tags=["Health"])

    def live() -> dict[str, str]:
        return {"status": "healthy", "state": startup.state}

    def ready() -> JSONResponse:
        body = {"status": startup.state, "reason": startup.reason}
        return JSONResponse(body, 200 if startup.state == "ready" else 503)

    for path in ("/health", "/v1/health", "/v1/health/live"):
        urls.get(path)(live)
    urls.get("/v1/health/ready")(ready)
    return urls


def _inference_router(inference: AsyncClient) -> APIRouter:
    """Forwards inference calls to NIM, for clients that use one base URL."""
    urls = APIRouter(tags=["Inference"])

    def passing_on(path: str) -> Callable[[Request], Any]:
        async def pass_on(request: Request) -> Response:
            body = await request.body()
            headers = {"content-type": request.headers.get("content-type", "application/json")}
            stack = AsyncExitStack()
            response = await unless_client_leaves(
                request,
                stack.enter_async_context(
                    inference.stream("POST", path, content=body, headers=headers)
                ),
            )

            async def chunks() -> AsyncIterator[bytes]:
                async with stack:
                    async for chunk in response.aiter_bytes():
                        yield chunk

            media_type = response.headers.get("content-type")
            return StreamingResponse(chunks(), response.status_code, media_type=media_type)

        return pass_on

    for path in INFERENCE_PATHS:
        urls.post(path, name=path.rsplit("/", 1)[-1])(passing_on(path))
    return urls
