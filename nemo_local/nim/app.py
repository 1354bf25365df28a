"""The inference process as an ASGI application: where its parts are wired."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import torch
from fastapi import APIRouter, FastAPI

from nemo_local.catalog import Catalog, load_catalog
from nemo_local.core.client import AsyncClient, Client
from nemo_local.core.error_bodies import install_error_handlers
from nemo_local.core.middleware import StrictJson, guard
from nemo_local.core.web import add_routes
from nemo_local.nim.engine import Engine
from nemo_local.nim.hub import Hub
from nemo_local.nim.metrics import Metrics
from nemo_local.nim.models import Models, Registry
from nemo_local.nim.reconcile import POLL_S, Reconciler
from nemo_local.nim.remote import RemoteModels, remote_catalog, remote_url
from nemo_local.nim.remote_routes import RemoteHandlers
from nemo_local.nim.routes import MAX_JSON_DEPTH, Handlers, router
from nemo_local.nim.service import NimService
from nemo_local.settings import Settings

PLATFORM_TIMEOUT_S = 10.0


def create_app(settings: Settings, poll_s: float = POLL_S) -> FastAPI:
    """The application; models load and unload while it runs, between startup and shutdown.

    It looks at the platform every `poll_s` seconds, and whenever it is told to. With
    `settings.engine_url` another server computes (see `remote`), else this process does.
    """
    platform = Client(settings.platform_url, settings.token, timeout_s=PLATFORM_TIMEOUT_S)
    hub = Hub(platform, settings.token, settings.home / "nim" / "adapters")
    remote = settings.engine_url is not None

    def reconciler_of(models: Registry, catalog: Catalog) -> Reconciler:
        folder = settings.models_dir
        return Reconciler(models, catalog, platform, hub, folder, poll_s, fixed=remote)

    build = _remote_engine if remote else _own_engine
    parts = build(settings, load_catalog(settings), reconciler_of)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.start()
        parts.reconciler.start()
        yield
        # The engine first: a pass of the reconciler may wait for it.
        await parts.stop()
        parts.reconciler.stop()
        platform.close()

    app = FastAPI(title="NIM (nemo_local)", lifespan=lifespan, redirect_slashes=False)
    install_error_handlers(app)
    add_routes(app.router, parts.routes)
    app.add_middleware(StrictJson, max_depth=MAX_JSON_DEPTH)
    guard(app, settings.token)
    return app


_ReconcilerOf = Callable[[Registry, Catalog], Reconciler]


@dataclass(frozen=True)
class _Parts:
    """What differs between the engines."""

    routes: APIRouter
    reconciler: Reconciler
    start: Callable[[], None]
    stop: Callable[[], Awaitable[None]]


def _own_engine(settings: Settings, catalog: Catalog, reconciler_of: _ReconcilerOf) -> _Parts:
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    metrics = Metrics()
    engine = Engine(metrics)
    memory = None if settings.nim_memory_mb is None else settings.nim_memory_mb * 2**20
    models = Models(engine, settings.device, settings.tool_formats(), memory)
    service = NimService(models, engine, metrics, settings.request_timeout_s or math.inf)
    reconciler = reconciler_of(models, catalog)

    async def stop() -> None:
        engine.stop()

    return _Parts(router(Handlers(service, reconciler)), reconciler, engine.start, stop)


def _remote_engine(settings: Settings, catalog: Catalog, reconciler_of: _ReconcilerOf) -> _Parts:
    url = remote_url(settings.engine_url or "")
    catalog = remote_catalog(settings.engine_names(), catalog)
    limit = settings.request_timeout_s or None
    remote = Client(url, settings.engine_key, timeout_s=PLATFORM_TIMEOUT_S)
    asynchronous = AsyncClient(url, settings.engine_key, timeout_s=limit)
    models = RemoteModels(remote)
    reconciler = reconciler_of(models, catalog)

    async def stop() -> None:
        reconciler.stop()  # it talks to the remote server
        await asynchronous.close()
        remote.close()

    handlers = RemoteHandlers(models, asynchronous, reconciler, limit)
    return _Parts(router(handlers), reconciler, lambda: None, stop)
