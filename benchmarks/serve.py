"""Inference servers beside each other: the same pocket weights, the same 200 tool prompts.

    python benchmarks/serve.py                    every server, one after the other, then a table
    python benchmarks/serve.py --only ours --requests 64

Measured from outside over HTTP, with streaming: requests per second, time to the first token and
the 95th percentile of whole requests, at 1, 8 and 32 requests at a time. Run it on a machine that
does nothing else; benchmarks/README.md holds the results we quote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from nemo_local.catalog import DEFAULT_MODEL, POCKET_WEIGHTS
from nemo_local.pocket.world import rows
from utils.xlam import parse_row, to_chat_example

BASE = POCKET_WEIGHTS / "base"
MAX_TOKENS = 48
ADAPTERS = 8
START_TIMEOUT_S = 120
LLAMA_CPP = (
    "llama.cpp is not measured: `pip install llama-cpp-python[server] gguf` builds it from source, "
    "and the pocket tokenizer's own word rules need a pre-tokenizer that llama.cpp does not know."
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """One server to measure."""

    name: str
    command: list[str]
    """With {port} and {work}, a folder for what it needs."""
    models: list[str]
    """Asked in turn."""


@dataclass(frozen=True)
class Timing:
    """One request as its client saw it (seconds)."""

    first: float
    whole: float
    chunks: int


def serve_ours(*models: str) -> list[str]:
    here = str(Path(__file__).with_name("serve_ours.py"))
    return [sys.executable, here, "--port", "{port}", "--work", "{work}", *models]


def serve_transformers(*options: str) -> list[str]:
    program = str(Path(sys.executable).with_name("transformers"))
    return [program, "serve", str(BASE), "--port", "{port}", "--host", "127.0.0.1", *options]


ADAPTER_IDS = [f"bench/adapter-{i}@v1" for i in range(ADAPTERS)]
SERVERS = [
    Server("ours", serve_ours(), [DEFAULT_MODEL]),
    Server("ours, one merged model", serve_ours("--merged"), ["bench/merged"]),
    Server("ours, 8 adapters mixed", serve_ours("--adapters"), ADAPTER_IDS),
    Server("transformers serve", serve_transformers(), [str(BASE)]),
    Server("transformers serve, float32", serve_transformers("--dtype", "float32"), [str(BASE)]),
    Server(
        "transformers serve, continuous batching",
        serve_transformers("--continuous-batching"),
        [str(BASE)],
    ),
]


def prompts(count: int) -> list[Json]:
    """Conversations of one user turn with one to five tools, without their answers."""
    asked: list[Json] = []
    for row in rows(3 * count, seed=11):
        example = to_chat_example(parse_row(row))
        if example is not None and len(asked) < count:
            user = [m for m in example["messages"] if m["role"] == "user"]
            asked.append({"messages": user, "tools": example["tools"]})
    return asked


@contextmanager
def running(server: Server, port: int) -> Iterator[str]:
    """The server's base URL, from its first answer until the block ends."""
    with tempfile.TemporaryDirectory() as work:
        command = [part.format(port=port, work=work) for part in server.command]
        log = Path(work, "log").open("w+")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{server.name} did not start:\n{log.read()[-2000:]}")
                time.sleep(0.2)
            yield url
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


async def ask(client: httpx.AsyncClient, body: Json) -> Timing:
    """One streamed chat completion."""
    begun = time.perf_counter()
    first, chunks = 0.0, 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            text = (await response.aread()).decode()
            raise SystemExit(f"{body['model']} answered {response.status_code}: {text[:500]}")
        async for line in response.aiter_lines():
            if line.startswith("data: {") and _says_something(json.loads(line[6:])):
                first = first or time.perf_counter() - begun
                chunks += 1
    whole = time.perf_counter() - begun
    return Timing(first or whole, whole, chunks)


def _says_something(chunk: Json) -> bool:
    if "error" in chunk:
        raise SystemExit(f"the server failed: {chunk['error']}")
    deltas = [choice["delta"] for choice in chunk.get("choices", [])]
    return any(delta.get("content") or delta.get("tool_calls") for delta in deltas)


async def load(
    url: str, server: Server, asked: list[Json], at_once: int
) -> tuple[float, list[Timing]]:
    """Seconds for all of the prompts with so many at a time, and each request's timing."""
    waiting = list(enumerate(asked))[::-1]
    timings: list[Timing] = []
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def one_client() -> None:
            while waiting:
                number, body = waiting.pop()
                model = server.models[number % len(server.models)]
                rules = {"temperature": 0, "max_tokens": MAX_TOKENS, "stream": True}
                timings.append(await ask(client, {"model": model, **body, **rules}))

        begun = time.perf_counter()
        await asyncio.gather(*(one_client() for _ in range(at_once)))
        return time.perf_counter() - begun, timings


def measure(server: Server, asked: list[Json], concurrency: list[int], port: int) -> list[Json]:
    """One row of figures for each concurrency."""
    found = []
    with running(server, port) as url:
        asyncio.run(load(url, server, asked[:16], 8))  # warm: threads, templates, allocator
        for at_once in concurrency:
            seconds, timings = asyncio.run(load(url, server, asked, at_once))
            wholes = sorted(timing.whole for timing in timings)
            found.append(
                {
                    "server": server.name,
                    "concurrency": at_once,
                    "requests_per_s": round(len(timings) / seconds, 2),
                    "first_token_ms": round(
                        statistics.median(timing.first for timing in timings) * 1e3, 1
                    ),
                    "p95_ms": round(wholes[int(0.95 * (len(wholes) - 1))] * 1e3, 1),
                    "chunks": sum(timing.chunks for timing in timings),
                }
            )
            print(json.dumps(found[-1]), flush=True)
    return found


def table(found: list[Json]) -> str:
    """The figures in Markdown."""
    lines = [
        "| server | at once | requests/s | first token, median ms | whole request, p95 ms |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['server']} | {row['concurrency']} | {row['requests_per_s']} "
        f"| {row['first_token_ms']} | {row['p95_ms']} |"
        for row in found
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="servers of these names")
    parser.add_argument("--port", type=int, default=18400)
    given = parser.parse_args()
    asked = prompts(given.requests)
    found: list[Json] = []
    for number, server in enumerate(SERVERS):
        if given.only is None or server.name in given.only:
            found += measure(server, asked, given.concurrency, given.port + number)
    print("\n" + table(found))
    print("\n" + LLAMA_CPP)


if __name__ == "__main__":
    main()
