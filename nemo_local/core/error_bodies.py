"""Writes the bodies of all error answers."""

from __future__ import annotations

import errno
import logging

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from nemo_local.core.errors import NO_RETRY, PlatformError, internal_error
from nemo_local.core.secrets import masked
from nemo_local.core.web import CLIENT_CLOSED, plain

logger = logging.getLogger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every error with a JSON body in the platform's shape."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, PlatformError)
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers)

    async def not_valid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = [
            {key: problem[key] for key in ("type", "loc", "msg", "input") if key in problem}
            for problem in error.errors()
        ]
        for problem in problems:
            if isinstance(problem.get("input"), bytes):  # all of it, with any secret inside
                del problem["input"]
                problem["msg"] = "send JSON with the header Content-Type: application/json"
        return JSONResponse({"detail": masked(plain(problems))}, status_code=422)

    async def left(_: Request, __: Exception) -> Response:
        return Response(status_code=CLIENT_CLOSED)

    async def crashed(request: Request, error: Exception) -> Response:
        kind = type(error).__name__  # the server logs the rest
        logger.error("%s %s crashed: %s", request.method, request.url.path, kind)
        status, detail = _explained(error) or (500, internal_error(error))
        # Hub clients show X-Error-Message. The server drops the connection after a crash.
        headers = {**NO_RETRY, "X-Error-Message": detail, "Connection": "close"}
        return JSONResponse({"detail": detail}, status_code=status, headers=headers)

    app.add_exception_handler(PlatformError, refused)
    app.add_exception_handler(RequestValidationError, not_valid)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, crashed)


def _explained(error: Exception) -> tuple[int, str] | None:
    """Status and message for a full disk or a locked database; None for any other error."""
    no_space = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # SQLite's errors differ only in their messages.
    if no_space or "database or disk is full" in str(error):
        return 507, "the disk of the platform's home is full: free some space, try again"
    if "database is locked" in str(error):
        return 503, "another program has locked the platform's database: close it, try again"
    return None
