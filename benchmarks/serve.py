"""Inference servers compared: the same pocket weights, the same tool prompts.

    python -m benchmarks.serve                    every server, in turns, then a table
    python -m benchmarks.serve --only ours --requests 64
    python -m benchmarks.serve --only grammar     what holding replies to a grammar costs

Measured from outside over HTTP, with streaming: requests per second, time to the first token and
the 95th percentile of whole requests, at 1, 8 and 32 requests at a time. Each round has prompts of
its own, so that no server answers from a cache. Run it on a machine that does nothing else;
benchmarks/README.md says how to install the peers and holds the results we quote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from transformers import AutoTokenizer

from benchmarks.serve_grammar import first_uses, in_engine
from benchmarks.serve_servers import BASE, Peers, Running, Server, running, servers
from nemo_local.nim.chat_template import render_chat
from nemo_local.pocket.world import rows
from utils.xlam import parse_row, to_chat_example

MAX_TOKENS = 48
GRAMMAR_TOKENS = range(6, 13)
"""Tokens of replies, shorter than any call, so that free and constrained replies are equally long.
They differ, so that replies do not all begin and end together."""
GRAMMAR_ROUNDS = 9

Json = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """One request as its client saw it (seconds)."""

    first: float
    whole: float
    tokens: int
    """Tokens of the reply, as the server counts them; 0 when it does not say."""


def prompts(count: int, seed: int = 11) -> list[Json]:
    """Conversations of one user turn with one to five tools, without their answers."""
    asked: list[Json] = []
    for row in rows(3 * count, seed=seed):
        example = to_chat_example(parse_row(row))
        if example is not None and len(asked) < count:
            user = [m for m in example["messages"] if m["role"] == "user"]
            asked.append({"messages": user, "tools": example["tools"]})
    return asked


def as_ids(asked: list[Json]) -> list[Json]:
    """The same prompts, rendered and split into token ids."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    texts = [render_chat(tokenizer, body["messages"], body["tools"]) for body in asked]
    return [{"prompt": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts]


async def ask(client: ClientSession, body: Json) -> Timing:
    """One streamed completion."""
    begun = time.perf_counter()
    first, tokens = 0.0, 0
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    async with client.post(path, json=body) as response:
        if response.status != 200:
            text = await response.text()
            raise SystemExit(f"{body['model']} answered {response.status}: {text[:500]}")
        async for line in response.content:
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                if _says_something(chunk):
                    first = first or time.perf_counter() - begun
                tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    whole = time.perf_counter() - begun
    return Timing(first or whole, whole, tokens)


def _says_something(chunk: Json) -> bool:
    if "error" in chunk:
        raise SystemExit(f"the server failed: {chunk['error']}")
    choices = chunk.get("choices", [])
    deltas = [choice.get("delta") or {"content": choice.get("text")} for choice in choices]
    return any(delta.get("content") or delta.get("tool_calls") for delta in deltas)


async def load(url: str, models: list[str], asked: list[Json], at_once: int) -> list[Timing]:
    """Every request's timing, with `at_once` requests under way."""
    waiting = list(enumerate(asked))[::-1]
    timings: list[Timing] = []
    rules: Json = {"temperature": 0, "max_tokens": MAX_TOKENS, "stream": True}
    rules["stream_options"] = {"include_usage": True}
    # A kept connection may be closed by the server just as it is used again. aiohttp reads HTTP in
    # compiled code: the client, on the same processors, takes 3 ms a request instead of 8.
    connections = TCPConnector(limit=at_once, force_close=True)
    timeout = ClientTimeout(total=120)
    async with ClientSession(url, connector=connections, timeout=timeout) as client:

        async def one_client() -> None:
            while waiting:
                number, body = waiting.pop()
                model = models[number % len(models)]
                timings.append(await ask(client, {"model": model, **rules, **body}))

        await asyncio.gather(*(one_client() for _ in range(at_once)))
    return timings


def measure(
    servers: list[Server], count: int, concurrency: list[int], rounds: int, port: int
) -> list[Json]:
    """One row of figures for each server and concurrency: medians of rounds.

    All servers run at once and are asked in turns, so that a slow minute of the machine affects
    every server.
    """
    found: list[Json] = []
    with ExitStack() as stack:
        started = [
            (server, stack.enter_context(running(server, port + i)))
            for i, server in enumerate(servers)
        ]
        for server, process in started:  # threads, templates, allocator
            _round(server, process, prompts(32, seed=10), 32)
        for at_once in concurrency:
            several: dict[str, list[Json]] = {server.name: [] for server in servers}
            for number in range(rounds):
                asked = prompts(count, seed=11 + at_once + 1000 * number)
                # Back and forth, so that no server always has its turn after the same other.
                for server, process in started if number % 2 == 0 else started[::-1]:
                    several[server.name].append(_round(server, process, asked, at_once))
                    print(server.name, at_once, several[server.name][-1], flush=True)
            found += [
                {"server": name, "at_once": at_once, **_medians(figures)}
                for name, figures in several.items()
            ]
    order = [server.name for server in servers]
    return sorted(found, key=lambda row: order.index(row["server"]))


def _round(server: Server, process: Running, asked: list[Json], at_once: int) -> Json:
    bodies = as_ids(asked) if server.ids else asked
    begun, cpu = time.perf_counter(), process.cpu_s()
    timings = asyncio.run(load(process.url, server.models, bodies, at_once))
    seconds, cpu = time.perf_counter() - begun, process.cpu_s() - cpu
    wholes = sorted(timing.whole for timing in timings)
    return {
        "requests_per_s": len(asked) / seconds,
        "first_token_ms": statistics.median(timing.first for timing in timings) * 1e3,
        "p95_ms": wholes[int(0.95 * (len(asked) - 1))] * 1e3,
        "cpu_ms": cpu / len(asked) * 1e3,
        "tokens": sum(timing.tokens for timing in timings) / len(asked),
    }


def _medians(figures: list[Json]) -> Json:
    rates = [one["requests_per_s"] for one in figures]
    medians = {key: statistics.median(one[key] for one in figures) for key in figures[0]}
    return {"spread": f"{min(rates):.1f} to {max(rates):.1f}", **medians}


def table(found: list[Json]) -> str:
    """The figures in Markdown."""
    lines = [
        "| server | at once | requests/s | from, to | first token, median ms "
        "| whole request, p95 ms | server's CPU time a request, ms | tokens a reply |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        milliseconds = " | ".join(f"{row[k]:.1f}" for k in ("first_token_ms", "p95_ms", "cpu_ms"))
        lines.append(
            f"| {row['server']} | {row['at_once']} | {row['requests_per_s']:.1f} "
            f"| {row['spread']} | {milliseconds} | {row['tokens']:.1f} |"
        )
    return "\n".join(lines)


def grammar_cost(server: Server, count: int, port: int) -> str:
    """What a known grammar costs (requests/s), and what a grammar's first use costs (ms)."""
    asked = prompts(count, seed=11)
    lengths = [GRAMMAR_TOKENS[i % len(GRAMMAR_TOKENS)] for i in range(count)]
    seconds: dict[str, list[float]] = {"free": [], "held": [], "free again": []}
    with running(server, port) as started:
        for _ in range(GRAMMAR_ROUNDS + 1):
            for way, several in seconds.items():
                rules = {"tool_choice": "required" if way == "held" else "auto", "stream": False}
                bodies = [
                    {**body, **rules, "stream_options": None, "max_tokens": n, "min_tokens": n}
                    for body, n in zip(asked, lengths, strict=True)
                ]
                begun = time.perf_counter()
                asyncio.run(load(started.url, server.models, bodies, 32))
                several.append(time.perf_counter() - begun)
    # The first round, in which grammars and prompts are new, does not count.
    known = {way: statistics.median(several[1:]) for way, several in seconds.items()}
    ids = [body["prompt"] for body in as_ids(asked)]
    alone = in_engine(asked, ids, max(GRAMMAR_TOKENS))
    first = sorted(first_uses(asked, AutoTokenizer.from_pretrained(BASE)))
    return (
        f"{count} replies of {min(GRAMMAR_TOKENS)} to {max(GRAMMAR_TOKENS)} tokens, 32 at once: "
        f"free {count / known['free']:.1f} requests/s, held to calls {count / known['held']:.1f} "
        f"({known['held'] / known['free'] - 1:+.1%} time), free again "
        f"({known['free again'] / known['free'] - 1:+.1%}); in the engine alone {alone:+.1%}; "
        "a grammar's first use "
        f"{statistics.median(first):.2f} ms (median), {first[int(0.95 * (count - 1))]:.2f} (p95)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="servers of these names")
    parser.add_argument("--port", type=int, default=18400)
    for name in ("--gguf-python", "--llama-server", "--openvino-python", "--openvino-model"):
        parser.add_argument(name, type=Path, help="see benchmarks/README.md")
    given = parser.parse_args()
    peers = Peers(
        given.gguf_python, given.llama_server, given.openvino_python, given.openvino_model
    )
    all_servers = servers(peers)
    chosen = [one for one in all_servers if given.only is None or one.name in given.only]
    if chosen:
        found = measure(chosen, given.requests, given.concurrency, given.rounds, given.port)
        print("\n" + table(found))
    if given.only is None or "grammar" in given.only:
        print("\n" + grammar_cost(all_servers[0], given.requests, given.port + len(all_servers)))
    if not peers.gguf_python:
        print("\nllama.cpp is not measured: --gguf-python was not given.")
    if not peers.openvino_python:
        print("\nOpenVINO GenAI is not measured: --openvino-python was not given.")


if __name__ == "__main__":
    main()
