"""Errors in the shape vLLM gives them, which NIM inherits.

{"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError",
 "param": null, "code": 404}
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from nemo_local.core.errors import NO_RETRY, PlatformError


class NimError(PlatformError):
    """An error whose body is an OpenAI-style object; `param` names the field at fault."""

    status = 500
    type = "InternalServerError"
    advice: ClassVar[Mapping[str, str]] = {}
    """Headers that say whether to try again."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, self.advice)
        self.param = param

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {
            "object": "error",
            "message": self.detail,
            "type": self.type,
            "param": self.param,
            "code": self.status,
        }


class BadValue(NimError):
    """400: the request is well formed but cannot be served as it stands."""

    status = 400
    type = "BadRequestError"


class UnknownModel(NimError):
    """404: nothing is served under this id."""

    status = 404
    type = "NotFoundError"


class BadReply(NimError):
    """502: the server that computes answered something unusable; it would do so again."""

    status = 502
    type = "BadGatewayError"
    advice = NO_RETRY


class TimeUp(NimError):
    """504: the reply took longer than a request may; trying again would take as long."""

    status = 504
    type = "TimeoutError"
    advice = NO_RETRY


class Busy(NimError):
    """503: loading, or more requests waiting than the queue holds; try again."""

    status = 503
    type = "ServiceUnavailableError"
    advice: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}
