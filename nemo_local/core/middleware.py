"""What every request passes through before a service sees it: slashes, token, bodies, the log."""

from __future__ import annotations

import hmac
import logging
import time

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nemo_local.core.strict_json import unrepeatable

logger = logging.getLogger(__name__)

HEALTH_PATHS = ("/health", "/v1/health", "/v1/health/ready", "/v1/health/live")


class BothSlashes:
    """Accepts every path with and without a trailing slash, and never redirects."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and len(scope["path"]) > 1 and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
            if "raw_path" in scope:
                scope["raw_path"] = scope["raw_path"].rstrip(b"/") or b"/"
        await self.app(scope, receive, send)


def signature(authorization: str, method: str, path: str) -> str:
    """What stands for the token in a link, as `?signature=…`: good for this call alone."""
    return hmac.new(authorization.encode(), f"{method} {path}".encode(), "sha256").hexdigest()


class TokenCheck:
    """Answers 401 to a request without the platform's bearer token or a signature made with it.

    Health checks pass.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app = app
        self.expected = f"Bearer {token}" if token else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.expected and scope["type"] == "http" and scope["path"] not in HEALTH_PATHS:
            given = dict(scope["headers"]).get(b"authorization", b"")
            signed = signature(self.expected, scope["method"], scope["path"]).encode()
            if not (
                hmac.compare_digest(given, self.expected.encode())
                or hmac.compare_digest(scope["query_string"], b"signature=" + signed)
            ):
                message = "this platform needs a token: send it as 'Authorization: Bearer <token>'"
                headers = {"WWW-Authenticate": "Bearer", "X-Error-Message": message}
                answer = JSONResponse({"detail": message}, status_code=401, headers=headers)
                return await answer(scope, receive, send)
        await self.app(scope, receive, send)


class StrictJson:
    """Answers 422 to a JSON body that no answer could repeat (see strict_json)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_json(scope):
            return await self.app(scope, receive, send)
        pieces: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client left before its request was complete
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(pieces)
        problem = unrepeatable(body)
        if problem:
            detail = [{"type": "json_invalid", "loc": ["body"], "msg": problem}]
            return await JSONResponse({"detail": detail}, status_code=422)(scope, receive, send)
        unread = True

        async def replayed() -> Message:
            nonlocal unread
            if not unread:
                return await receive()
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replayed, send)


class RequestLog:
    """One log line a request: method, path, status, milliseconds; never a query, body or header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            elapsed_ms = (time.perf_counter() - started) * 1000
            # Everything polls; a successful read is worth a line only to who looks for it.
            level = logging.DEBUG if scope["method"] == "GET" and status < 400 else logging.INFO
            logger.log(
                level, "%s %s %d %.1f ms", scope["method"], scope["path"], status, elapsed_ms
            )


def _has_json(scope: Scope) -> bool:
    kind = dict(scope["headers"]).get(b"content-type", b"").split(b";")[0].strip().lower()
    return bool(kind == b"application/json" or kind.endswith(b"+json"))
