"""Keeps `refs%2Fpr%2F1` one path segment: servers decode a path before they split it."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/v1/hf/"
QUOTED_SLASH = "\x1f"
"""Stands for a slash that was quoted; no path may contain this character."""


class QuotedSlashes:
    """Decodes Hub paths segment by segment, with QUOTED_SLASH for each slash inside one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes = scope.get("raw_path") or b""
        if scope["type"] == "http" and scope["path"].startswith(PREFIX) and b"%" in raw:
            segments = raw.split(b"?")[0].decode("ascii").split("/")
            decoded = [unquote(segment).replace("/", QUOTED_SLASH) for segment in segments]
            scope = {**scope, "path": "/".join(decoded)}
        await self.app(scope, receive, send)


def slashes(segment: str) -> str:
    """The text of a path segment, with the slashes that were quoted in it."""
    return segment.replace(QUOTED_SLASH, "/")
