"""The inference process as an ASGI application: where its parts are wired."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch
from fastapi import FastAPI

from nemo_local.catalog import Catalog, load_catalog
from nemo_local.core.client import Client
from nemo_local.core.errors import install_error_handlers
from nemo_local.core.web import BothSlashes, RequestLog, TokenCheck
from nemo_local.nim.engine import Engine
from nemo_local.nim.metrics import Metrics
from nemo_local.nim.models import Models
from nemo_local.nim.reconcile import Reconciler
from nemo_local.nim.routes import router
from nemo_local.nim.service import NimService
from nemo_local.nim.tool_formats import ToolFormat, formats_by_model
from nemo_local.settings import Settings, SettingsError

PLATFORM_TIMEOUT_S = 10.0


def create_app(settings: Settings, catalog: Catalog | None = None) -> FastAPI:
    """The application; models load and unload while it runs, between startup and shutdown."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    metrics = Metrics()
    engine = Engine(metrics)
    memory = None if settings.nim_memory_mb is None else settings.nim_memory_mb * 2**20
    models = Models(engine, settings.device, _tool_formats(settings), memory)
    platform = Client(settings.platform_url, settings.token, timeout_s=PLATFORM_TIMEOUT_S)
    service = NimService(models, engine, metrics, settings.request_timeout_s or math.inf)
    reconciler = Reconciler(
        models,
        catalog or load_catalog(settings),
        platform,
        hub_url=f"{settings.platform_url}/v1/hf",
        token=settings.token,
        folder=settings.home / "nim" / "adapters",
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        reconciler.start()
        yield
        # The engine first: a pass of the reconciler may wait for it.
        engine.stop()
        reconciler.stop()
        platform.close()

    app = FastAPI(title="NIM (nemo_local)", lifespan=lifespan)
    install_error_handlers(app)
    app.include_router(router(service, reconciler))
    app.add_middleware(BothSlashes)
    app.add_middleware(TokenCheck, token=settings.token)
    app.add_middleware(RequestLog)
    return app


def _tool_formats(settings: Settings) -> dict[str, ToolFormat]:
    try:
        return formats_by_model(settings.tool_parsers)
    except ValueError as error:
        raise SettingsError(f"NEMO_LOCAL_TOOL_PARSERS: {error}") from error
