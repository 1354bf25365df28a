"""Errors that know their HTTP status; error_bodies.py answers with them.

PlatformError
  BadRequest 400 · NotFound 404 · Conflict 409 · Invalid 422 · Unavailable 503
DatabaseError, which only the command line meets
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_RETRY = {"x-should-retry": "false"}
"""Header for errors that a retry cannot cure: the SDKs retry a 409 and every 5xx twice."""


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
    """The request is well formed but makes no sense."""

    status = 400


class NotFound(PlatformError):
    """The thing that was named does not exist."""

    status = 404


class Conflict(PlatformError):
    """The name is taken, or the state forbids it."""

    status = 409

    def __init__(self, detail: Any) -> None:
        super().__init__(detail, NO_RETRY)


class Invalid(PlatformError):
    """A field is missing, mistyped or out of range."""

    status = 422


class Unavailable(PlatformError):
    """Something this answer depends on is down."""

    status = 503


class DatabaseError(Exception):
    """A database cannot be emptied; the message says why."""


def internal_error(error: Exception) -> str:
    """The message that a client gets for an unexpected error."""
    return f"internal error ({type(error).__name__}); the platform's log has the details"


def invalid_field(place: str, field: str, message: str, value: object) -> Invalid:
    """An Invalid in FastAPI's own shape.

    invalid_field("query", "page", "must be at least 1", "0")
    """
    return Invalid([{"type": "value_error", "loc": [place, field], "msg": message, "input": value}])
