"""NIM served from a thread, with tiny checkpoints under official ids."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from nemo_local.core.client import Client, UpstreamError
from nemo_local.nim.app import create_app
from nemo_local.nim.reconcile import POLL_S
from nemo_local.processes import wait_until
from nemo_local.settings import Settings
from tests.tiny_checkpoint import make_checkpoint
from tests.web_server import serve_until_told

MODEL = "meta/llama-3.2-1b-instruct"
OTHER = "acme/tiny-chat"
CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello"}]
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}},
            "required": ["a", "b"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


def make_models_dir(folder: Path) -> Path:
    """A folder of "real" weights: random ones, so that no pocket model is needed."""
    make_checkpoint(folder / MODEL)
    make_checkpoint(folder / OTHER, seed=1)
    return folder


@contextmanager
def running_nim(settings: Settings, poll_s: float = POLL_S) -> Iterator[Client]:
    """NIM of these settings until the block ends, ready to answer."""
    config = uvicorn.Config(
        create_app(settings, poll_s=poll_s),
        settings.host,
        settings.nim_port,
        log_config=None,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=serve_until_told, args=(server,), name="nim")
    thread.start()
    client = Client(settings.nim_url, settings.token)
    try:
        wait_until(lambda: is_ready(client), timeout_s=60, what="NIM answers")
        yield client
    finally:
        client.close()
        server.should_exit = True
        thread.join()


def is_ready(nim: Client) -> bool:
    """Whether NIM has loaded a model."""
    return answers(nim, "/v1/health/ready")


def answers(nim: Client, path: str) -> bool:
    """Whether NIM has something to say there."""
    try:
        nim.get(path)
    except UpstreamError:
        return False
    return True


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds."""
    wait_until(condition, timeout_s=60, what=what)


def metrics(nim: Client) -> str:
    """What it has counted, as Prometheus text."""
    return nim.raw("GET", "/v1/metrics").text
