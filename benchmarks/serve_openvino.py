"""OpenVINO GenAI behind a streaming endpoint, for benchmarks/serve.py.

Run by a Python that has `openvino-genai`, `fastapi` and `uvicorn`. The library has no server of
its own; this one adds requests to its continuous batching as they come, steps in one thread, and
streams token ids (`/v1/completions` with a prompt of ids). benchmarks/README.md says how to export
the model.

    PYTHON benchmarks/serve_openvino.py --model FOLDER --port 1 --precision f32
"""

import argparse
import asyncio
import json
import os
import queue
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

END = 1
"""The pocket tokenizer's <|eot_id|>."""
ROWS = 32
CACHE_BLOCKS = 1024
"""Blocks of 32 tokens in the KV cache: more than 32 prompts with their replies need."""


class Writer(threading.Thread):
    """The one thread that computes."""

    def __init__(self, pipeline: genai.ContinuousBatchingPipeline) -> None:
        super().__init__(daemon=True)
        self._pipeline = pipeline
        self._new: queue.Queue[tuple[list[int], int, asyncio.Queue[list[int] | None]]]
        self._new = queue.Queue()
        self._loop = asyncio.get_running_loop()

    def ask(self, prompt: list[int], most: int) -> "asyncio.Queue[list[int] | None]":
        """Tokens of the reply as they are written, None at its end."""
        tokens: asyncio.Queue[list[int] | None] = asyncio.Queue()
        self._new.put((prompt, most, tokens))
        return tokens

    def run(self) -> None:
        handles: dict[int, tuple[Any, asyncio.Queue[list[int] | None]]] = {}
        number = 0
        while True:
            while not handles or not self._new.empty():
                prompt, most, tokens = self._new.get()
                rules = genai.GenerationConfig()
                rules.max_new_tokens, rules.do_sample, rules.eos_token_id = most, False, END
                rules.stop_token_ids = {END}
                ids = openvino.Tensor(np.array([prompt], dtype=np.int64))
                handles[number] = (self._pipeline.add_request(number, ids, rules), tokens)
                number += 1
            self._pipeline.step()
            for key, (handle, tokens) in list(handles.items()):
                if handle.can_read():
                    for output in handle.read().values():
                        self._tell(tokens, list(output.generated_ids))
                elif handle.get_status() != genai.GenerationStatus.RUNNING:
                    self._tell(tokens, None)
                    del handles[key]

    def _tell(self, tokens: "asyncio.Queue[list[int] | None]", new: list[int] | None) -> None:
        self._loop.call_soon_threadsafe(tokens.put_nowait, new)


def pipeline_of(model: str, precision: str) -> genai.ContinuousBatchingPipeline:
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = CACHE_BLOCKS
    scheduler.max_num_seqs = ROWS
    scheduler.max_num_batched_tokens = 2048
    scheduler.enable_prefix_caching = True
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "KV_CACHE_PRECISION": precision,  # 8-bit integers by default
        "INFERENCE_NUM_THREADS": os.cpu_count(),
    }
    return genai.ContinuousBatchingPipeline(model, scheduler, "CPU", settings)


def build(model: str, precision: str) -> FastAPI:
    app = FastAPI()
    writers: list[Writer] = []

    @app.on_event("startup")
    async def start() -> None:
        writers.append(Writer(pipeline_of(model, precision)))
        writers[0].start()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "pocket"}]}

    @app.post("/v1/completions")
    async def complete(request: Request) -> StreamingResponse:
        body = await request.json()
        return StreamingResponse(stream(body), media_type="text/event-stream")

    async def stream(body: dict[str, Any]) -> AsyncIterator[str]:
        written = 0
        tokens = writers[0].ask(body["prompt"], body["max_tokens"])
        while (new := await tokens.get()) is not None:
            written += len(new)
            yield f"data: {json.dumps({'choices': [{'index': 0, 'text': str(new)}]})}\n\n"
        usage = {"completion_tokens": written, "prompt_tokens": len(body["prompt"])}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    given = parser.parse_args()
    app = build(given.model, given.precision)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
