"""A scripted OpenAI-compatible server: the fake for tests that need a model's exact words."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp

from nemo_local.processes import wait_until
from tests.web_server import serve_until_told

Reply = str | dict[str, Any] | int
"""Text, a whole assistant message, or the status of a failure."""


class ScriptedModel:
    """Answers from `replies` in order, or from `respond(body)` when that is set."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.respond: Callable[[dict[str, Any]], Reply] | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models = [{"id": "scripted/model", "object": "model", "answered_by": "a script"}]
        self.listing: Any = ...
        """What `/v1/models` answers in place of the models, when set."""
        self.url = ""
        self._lock = threading.Lock()

    def reset(self, respond: Callable[[dict[str, Any]], Reply] | None = None) -> None:
        """Forget everything that was asked and scripted; then answer by `respond`."""
        self.replies.clear()
        self.requests.clear()
        self.headers.clear()
        self.respond = respond

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        def models() -> Any:
            listing = {"object": "list", "data": self.models}
            return listing if self.listing is ... else self.listing

        @app.post("/v1/chat/completions")
        @app.post("/v1/completions")
        def answer(body: dict[str, Any], request: Request) -> Any:
            with self._lock:
                self.requests.append(body)
                self.headers.append(dict(request.headers))
                scripted = None if self.respond else self.replies.popleft()
            reply = self.respond(body) if self.respond else scripted
            assert reply is not None
            if isinstance(reply, int):
                detail = {"detail": f"scripted failure {reply}"}
                return JSONResponse(detail, status_code=reply)
            if body.get("stream"):
                events = written(body, completion(body, reply))
                return StreamingResponse(events, media_type="text/event-stream")
            return completion(body, reply)

        return app


def completion(body: dict[str, Any], reply: str | dict[str, Any]) -> dict[str, Any]:
    """A chat or text completion that says `reply`."""
    message = {"role": "assistant", "content": reply} if isinstance(reply, str) else reply
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    if "messages" in body:
        choice["message"] = message
    else:
        choice["text"] = reply
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion" if "messages" in body else "text_completion",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }


def written(body: dict[str, Any], whole: dict[str, Any]) -> Iterator[str]:
    """A completion as server-sent events, a word each, and its usage where the body asks for it."""
    choice = whole["choices"][0]
    text = choice["text"] if "text" in choice else choice["message"].get("content")
    for word in re.findall(r"\S+\s*", text or ""):
        said = {"text": word} if "text" in choice else {"delta": {"content": word}}
        yield f"data: {json.dumps({**whole, 'usage': None, 'choices': [{'index': 0, **said}]})}\n\n"
    if (body.get("stream_options") or {}).get("include_usage"):
        yield f"data: {json.dumps({**whole, 'choices': []})}\n\n"
    yield "data: [DONE]\n\n"


def tool_call(name: str, arguments: dict[str, Any] | str) -> dict[str, Any]:
    """An assistant message with one call; text arguments are sent as they are."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": name, "arguments": text}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call-1", "type": "function", "function": function}],
    }


@contextlib.contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """The URL of `app`, served by a thread until the block ends."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # asyncio sends at once only then
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=serve_until_told, args=(server, [listener]), daemon=True)
    thread.start()
    wait_until(lambda: server.started, 20, "the test server listens")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextlib.contextmanager
def scripted_model() -> Iterator[ScriptedModel]:
    """A running scripted model; its `url` has no `/v1`."""
    model = ScriptedModel()
    with serving(model.app()) as url:
        model.url = url
        yield model
