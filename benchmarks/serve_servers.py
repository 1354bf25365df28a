"""The inference servers that benchmarks/serve.py compares, and how each is started."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from nemo_local.catalog import DEFAULT_MODEL, POCKET_WEIGHTS
from nemo_local.environment import LOCAL_PROFILE
from nemo_local.nim.llama.weights import multiplies_bfloat16

HERE = Path(__file__).parent
BASE = POCKET_WEIGHTS / "base"
ADAPTERS = 8
START_TIMEOUT_S = 120


@dataclass(frozen=True)
class Server:
    """One server to measure."""

    name: str
    command: list[str]
    """Command line with the placeholders {port} and {work}, a temporary folder."""
    models: list[str]
    """Names of the models that requests use in turn."""
    ids: bool = False
    """Whether it gets prompts as token ids, because it cannot split words as our tokenizer does."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Processor time of the server and its threads so far (seconds)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Peers:
    """Where other engines are installed; None leaves one out."""

    gguf_python: Path | None = None
    """A Python with `gguf`."""
    llama_server: Path | None = None
    """llama.cpp's `llama-server`; None with `gguf_python` starts the one in `xllamacpp`."""
    openvino_python: Path | None = None
    """A Python with `openvino-genai`, `fastapi` and `uvicorn`."""
    openvino_model: Path | None = None
    """The pocket base as optimum-intel exports it."""


def servers(peers: Peers) -> list[Server]:
    """Our servers, those of transformers, and the peers that are installed."""
    ids = [f"bench/adapter-{i}@v1" for i in range(ADAPTERS)]
    found = [
        _ours("ours", [DEFAULT_MODEL]),
        _ours("ours, one merged model", ["bench/merged"], "--merged"),
        _ours("ours, 8 adapters mixed", ids, "--adapters"),
        Server("transformers serve", _transformers(), [str(BASE)]),
        Server("transformers serve, float32", _transformers("--dtype", "float32"), [str(BASE)]),
        Server(
            "transformers serve, continuous batching",
            # By default its cache takes nine tenths of the memory that is left.
            _transformers("--continuous-batching", "--cb-max-memory-percent", "0.05"),
            [str(BASE)],
        ),
    ]
    if peers.gguf_python:
        for dtype in ("F32", "BF16"):
            command = _program(peers.gguf_python, "serve_llama_cpp.py", "--work", "{work}")
            command += ["--weights", str(BASE), "--dtype", dtype]
            command += ["--server", str(peers.llama_server)] if peers.llama_server else []
            found.append(Server(f"llama.cpp, {dtype}", command, ["pocket"], ids=True))
    if peers.openvino_python and peers.openvino_model:
        program = _program(peers.openvino_python, "serve_openvino.py")
        program += ["--model", str(peers.openvino_model), "--precision"]
        found.append(Server("OpenVINO GenAI, float32", [*program, "f32"], ["pocket"], ids=True))
        if multiplies_bfloat16():  # else it crashes at the first request
            found.append(
                Server("OpenVINO GenAI, bfloat16", [*program, "bf16"], ["pocket"], ids=True)
            )
    return found


def _program(python: str | Path, name: str, *options: str) -> list[str]:
    return [str(python), str(HERE / name), "--port", "{port}", *options]


def _ours(name: str, models: list[str], *options: str) -> Server:
    command = _program(sys.executable, "serve_ours.py", "--work", "{work}", *options)
    return Server(name, command, models, environment=LOCAL_PROFILE)


def _transformers(*options: str) -> list[str]:
    program = str(Path(sys.executable).with_name("transformers"))
    return [program, "serve", str(BASE), "--port", "{port}", "--host", "127.0.0.1", *options]


@contextmanager
def running(server: Server, port: int) -> Iterator[Running]:
    """The server, from its first answer until the block ends."""
    if _answers(f"http://127.0.0.1:{port}"):
        raise SystemExit(f"port {port} is taken, perhaps by a server of a run that was killed")
    with tempfile.TemporaryDirectory() as work:
        command = [part.format(port=port, work=work) for part in server.command]
        log = Path(work, "log").open("w+")
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent), **server.environment}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{server.name} did not start:\n{log.read()[-2000:]}")
                time.sleep(0.2)
            yield Running(url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/models", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
