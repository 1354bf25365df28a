"""Errors that know their HTTP status, and the one place that writes their bodies.

PlatformError
  BadRequest 400 · NotFound 404 · Conflict 409 · Invalid 422 · Unavailable 503
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

logger = logging.getLogger(__name__)

NO_RETRY = {"x-should-retry": "false"}
"""The SDKs repeat a 409 and every 5xx twice unless the answer says that it is pointless."""


class PlatformError(Exception):
    """A refusal or failure with the status and body its caller will see."""

    status = 500

    def __init__(self, detail: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail if isinstance(detail, str) else str(detail))
        self.detail = detail
        self.headers: dict[str, str] = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON body; a service with another error shape overrides this."""
        return {"detail": self.detail}


class BadRequest(PlatformError):
    """The request is well formed and makes no sense."""

    status = 400


class NotFound(PlatformError):
    """The thing that was named does not exist."""

    status = 404


class Conflict(PlatformError):
    """The name is taken, or the state forbids it."""

    status = 409

    def __init__(self, detail: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail, {**NO_RETRY, **(headers or {})})


class Invalid(PlatformError):
    """A field is missing, mistyped or out of range."""

    status = 422


class Unavailable(PlatformError):
    """Something this answer depends on is down."""

    status = 503


def invalid_field(place: str, field: str, message: str, value: object) -> Invalid:
    """An Invalid in FastAPI's own shape.

    invalid_field("query", "page", "must be at least 1", "0")
    """
    return Invalid([{"type": "value_error", "loc": [place, field], "msg": message, "input": value}])


def install_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every error with a JSON body in the platform's shape."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, PlatformError)
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers)

    async def not_valid(_: Request, error: Exception) -> Response:
        from nemo_local.core.secrets import masked
        from nemo_local.core.web import plain

        assert isinstance(error, RequestValidationError)
        problems = [
            {key: problem[key] for key in ("type", "loc", "msg", "input") if key in problem}
            for problem in error.errors()
        ]
        return JSONResponse({"detail": masked(plain(problems))}, status_code=422)

    async def crashed(request: Request, error: Exception) -> Response:
        logger.error("%s %s crashed: %r", request.method, request.url.path, error)
        detail = f"internal error ({type(error).__name__}); the platform's log has the details"
        return JSONResponse({"detail": detail}, status_code=500, headers=NO_RETRY)

    app.add_exception_handler(PlatformError, refused)
    app.add_exception_handler(RequestValidationError, not_valid)
    app.add_exception_handler(Exception, crashed)
