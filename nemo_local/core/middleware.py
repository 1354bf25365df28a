"""Middleware in front of every service: caller checks, trailing slashes, JSON bodies, the log."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import time
from urllib.parse import quote, urlsplit

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nemo_local.core.strict_json import MAX_DEPTH, unrepeatable
from nemo_local.core.web import CLIENT_CLOSED

logger = logging.getLogger(__name__)

HEALTH_PATHS = ("/health", "/v1/health", "/v1/health/ready", "/v1/health/live")
LOCAL_ENDINGS = (".localhost", ".test", ".local", ".internal", ".cluster.local")
"""Endings of host names that nobody can register."""


def guard(app: FastAPI, token: str | None) -> None:
    """Add the request log, slash handling and caller check to an application.

    Middleware added last sees a request first: an application adds its own before this call.
    """
    if token:
        app.add_middleware(TokenCheck, token=token)
    else:
        app.add_middleware(LocalOnly)
    app.add_middleware(BothSlashes)
    app.add_middleware(RequestLog)


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
    """The signature that replaces the token in a link (`?signature=…`), valid for one call."""
    token = _bearer_token(authorization.encode())
    return hmac.new(token, f"{method} {path}".encode(), "sha256").hexdigest()


class TokenCheck:
    """Answers 401 to a request without the platform's bearer token or a signature made with it.

    Health checks pass.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.expected = f"Bearer {token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in HEALTH_PATHS:
            given = dict(scope["headers"]).get(b"authorization", b"")
            signed = signature(self.expected, scope["method"], scope["path"]).encode()
            if not (
                hmac.compare_digest(_bearer_token(given), _bearer_token(self.expected.encode()))
                or hmac.compare_digest(scope["query_string"], b"signature=" + signed)
            ):
                message = "this platform needs a token: send it as 'Authorization: Bearer <token>'"
                headers = {"WWW-Authenticate": "Bearer", "X-Error-Message": message}
                answer = JSONResponse({"detail": message}, status_code=401, headers=headers)
                return await answer(scope, receive, send)
        await self.app(scope, receive, send)


class LocalOnly:
    """Answers 403 to requests that a foreign web page makes a browser send; used without a token.

    Origin gives away the page's scripts, Host a DNS name rebound to 127.0.0.1, Sec-Fetch-Site an
    embedded image or frame. A link that a person follows is let through.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = _stranger(dict(scope["headers"])) if scope["type"] == "http" else ""
        if problem:
            message = (
                f"{problem}, and without a token this platform answers this machine only: use "
                "http://127.0.0.1 in the URL, or set NEMO_LOCAL_TOKEN and send it"
            )
            answer = JSONResponse({"detail": message}, 403, {"X-Error-Message": message})
            return await answer(scope, receive, send)
        await self.app(scope, receive, send)


class StrictJson:
    """Answers 422 to a JSON body that no answer could repeat (see strict_json).

    A body without a content type is passed on as JSON; FastAPI would not parse it otherwise.
    Paths below `but_below` are left to services that do all this in their own error shape.
    """

    def __init__(
        self, app: ASGIApp, max_depth: int = MAX_DEPTH, but_below: tuple[str, ...] = ()
    ) -> None:
        self.app = app
        self.max_depth = max_depth
        self.but_below = but_below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self.but_below):
            return await self.app(scope, receive, send)
        scope = with_content_type(scope)
        if not _has_json(scope):
            return await self.app(scope, receive, send)
        pieces: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return await Response(status_code=CLIENT_CLOSED)(scope, receive, send)
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(pieces)
        problem = unrepeatable(body, self.max_depth)
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
    """Logs a line per request: method, path, status, milliseconds; no query, body or header."""

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
            # Clients poll: successful reads and health checks, even failed ones, are logged at
            # DEBUG only.
            is_poll = scope["method"] == "GET" and (status < 400 or scope["path"] in HEALTH_PATHS)
            level = logging.DEBUG if is_poll else logging.INFO
            path = quote(scope["path"], safe="/@:+")  # a line break in it would forge a line
            logger.log(level, "%s %s %d %.1f ms", scope["method"], path, status, elapsed_ms)


def with_content_type(scope: Scope) -> Scope:
    """The scope with JSON as its content type, if it has none and is not a GET."""
    headers = [header for header in scope["headers"] if header != (b"content-type", b"")]
    if b"content-type" in dict(headers) or scope["method"] == "GET":
        return scope
    return {**scope, "headers": [*headers, (b"content-type", b"application/json")]}


def _bearer_token(authorization: bytes) -> bytes:
    """The token after `Bearer`, in any case; empty for another scheme."""
    scheme, _, token = authorization.partition(b" ")
    return token if scheme.lower() == b"bearer" else b""


def _stranger(headers: dict[bytes, bytes]) -> str:
    """What shows that a foreign web page sent the request; empty when nothing does."""
    host, origin = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
    if host and not _is_local(f"//{host}"):
        return f"Host {host!a} is public"
    if origin:
        return "" if _is_local(origin) else f"Origin {origin!a} is not of this machine"
    cross_site = headers.get(b"sec-fetch-site") == b"cross-site"
    if cross_site and headers.get(b"sec-fetch-dest") != b"document":
        return "a page of another site asks (Sec-Fetch-Site)"
    return ""


def _is_local(url: str) -> bool:
    """Whether the URL's host is a name or address that does not exist on the public Internet."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    if not host:
        return False
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(LOCAL_ENDINGS)


def _has_json(scope: Scope) -> bool:
    kind = dict(scope["headers"]).get(b"content-type", b"").split(b";")[0].strip().lower()
    return bool(kind == b"application/json" or kind.endswith(b"+json"))
