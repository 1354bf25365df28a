"""Fixtures: clock -> settings -> documents / control plane -> platform."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from nemo_local.core.client import Client
from nemo_local.core.documents import Documents
from nemo_local.settings import Settings

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from nemo_microservices import NeMoMicroservices
    from openai import OpenAI

# Before any library reads it: no telemetry, no Xet, no token of the person who runs the tests.
os.environ.update(
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_IMPLICIT_TOKEN="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    DO_NOT_TRACK="1",
    WANDB_MODE="offline",
    OMP_WAIT_POLICY="passive",
    TOKENIZERS_PARALLELISM="false",
)
# anyio loads this at its first use, and pytest rewrites it then: on the thread of a server, beside
# a module that the main thread rewrites, Python 3.11 fails ("recursion depth mismatch").
assert callable(anyio.open_file)
# Settings of the platform that have no name of ours.
os.environ.pop("MLFLOW_TRACKING_URI", None)


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2025, 6, 20, 3, 58, 16, 182000)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Running:
    """A platform that answers, and the vendors' clients for it; they are closed when it ends."""

    settings: Settings
    closing: ExitStack

    @property
    def url(self) -> str:
        return self.settings.platform_url

    @property
    def nim_url(self) -> str:
        return self.settings.nim_url

    @property
    def hub_url(self) -> str:
        return f"{self.url}/v1/hf"

    def client(self) -> Client:
        client = Client(self.url, self.settings.token)
        self.closing.callback(client.close)
        return client

    def sdk(self, max_retries: int = 2) -> NeMoMicroservices:
        from nemo_microservices import NeMoMicroservices

        client = NeMoMicroservices(
            base_url=self.url, inference_base_url=self.nim_url, max_retries=max_retries
        )
        return self.closing.enter_context(client)

    def hf(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.hub_url, token=self.settings.token or False)

    def openai(self) -> OpenAI:
        from openai import OpenAI

        key = self.settings.token or "none"
        return self.closing.enter_context(OpenAI(base_url=f"{self.nim_url}/v1", api_key=key))


def free_port() -> int:
    """A port that was free a moment ago, of those that the system gives to no connection."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def running_control_plane(settings: Settings) -> Iterator[Running]:
    """The control plane of these settings, served from a thread until the block ends."""
    import uvicorn

    from nemo_local.app import create_app
    from nemo_local.core.web import UVICORN
    from tests.web_server import serve_until_told

    app = create_app(settings, stopping=lambda: server.should_exit)
    config = uvicorn.Config(app, settings.host, settings.port, **UVICORN)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=serve_until_told, args=(server,), name="control plane")
    thread.start()
    try:
        _wait_until_ready(settings)
        with ExitStack() as closing:
            yield Running(settings, closing)
    finally:
        server.should_exit = True
        thread.join()


def _wait_until_ready(settings: Settings) -> None:
    from nemo_local.processes import is_answering, wait_until

    wait_until(
        lambda: is_answering(settings.platform_url), timeout_s=30, what="the control plane answers"
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A fresh home, free ports, no data set, no spare training process."""
    return Settings.from_environment(
        {},
        home=tmp_path / "home",
        port=free_port(),
        nim_port=free_port(),
        dataset_rows=0,
        spare_training=0,
    )


@pytest.fixture
def documents(settings: Settings, clock: ManualClock) -> Iterator[Documents]:
    store = Documents(settings.database_url, clock)
    yield store
    store.close()


@pytest.fixture
def control_plane(settings: Settings) -> Iterator[Running]:
    """The control plane alone, with a fresh home; inference does not answer."""
    with running_control_plane(settings) as running:
        yield running


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The whole platform: control plane and inference as `up` starts them, pocket models."""
    from nemo_local.processes import start_platform, stop_platform

    settings = Settings.from_environment(
        {"NEMO_LOCAL_THREADS": os.environ.get("NEMO_LOCAL_THREADS", "")},
        home=tmp_path_factory.mktemp("platform"),
        port=free_port(),
        nim_port=free_port(),
        dataset_rows=400,
    )
    start_platform(settings)
    try:
        with ExitStack() as closing:
            yield Running(settings, closing)
    finally:
        stop_platform(settings.home)
