"""What the Hub API's routes share: paths, bodies, downloads, and the shape of a refusal."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Annotated, Any, Literal

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from nemo_local.core.errors import Invalid
from nemo_local.core.middleware import with_content_type
from nemo_local.core.strict_json import unrepeatable
from nemo_local.core.web import json_body
from nemo_local.data_store.errors import HubError, bad_payload
from nemo_local.data_store.service import RepoType

TypeSegment = Literal["datasets", "models"]
TAGS: list[str | Enum] = ["Data Store"]
HUB = "/v1/hf"
API = HUB + "/api/{kind}/{namespace}/{name}"
MAX_FIELDS = 100_000
"""Fields of a form; a client asks for that many paths at once."""

_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})?|-[0-9]{1,18}")
_ENTITY_TAG = re.compile(r'"[^"]*"')


class HubRoute(APIRoute):
    """Answers a malformed body with the Hub's 400 instead of the platform's 422.

    Bodies that FastAPI parses are checked as in `StrictJson`; streamed uploads are not.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                if self.body_field:
                    request = Request(with_content_type(request.scope), request.receive)
                    problem = unrepeatable(await request.body())
                    if problem:
                        raise bad_payload(f"body: {problem}")
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                if first["loc"][0] == "path":
                    raise HubError(404, f"no such collection: {first['input']!r}") from None
                place = ".".join(str(part) for part in first["loc"])
                raise bad_payload(f"{place}: {first['msg']}") from None
            except Invalid as error:
                raise bad_payload(str(error)) from None
            except HTTPException as error:  # raised by the web framework for a broken form
                raise HubError(error.status_code, str(error.detail)) from None

        return handled


def repo_type_of(kind: TypeSegment) -> RepoType:
    return "dataset" if kind == "datasets" else "model"


async def _repo_key(kind: TypeSegment, namespace: str, name: str) -> tuple[RepoType, str]:
    return repo_type_of(kind), f"{namespace}/{name}"


RepoKey = Annotated[tuple[RepoType, str], Depends(_repo_key)]
"""Type and id of the repository that the path names; see `API`."""


def repo_url(request: Request, repo_type: RepoType, repo_id: str) -> str:
    infix = "datasets/" if repo_type == "dataset" else ""
    return f"{request.base_url}{HUB[1:]}/{infix}{repo_id}"


async def form_or_json(request: Request) -> dict[str, Any]:
    """The fields of a form (a repeated one as a list, files left out) or of a JSON object.

    A body without a type is JSON.
    """
    if "json" in request.headers.get("content-type", "json"):
        return await json_body(request) if await request.body() else {}
    fields: dict[str, Any] = {}
    async with request.form(max_fields=MAX_FIELDS) as form:
        for key in form:
            texts = [value for value in form.getlist(key) if isinstance(value, str)]
            if texts:
                fields[key] = texts if len(texts) > 1 else texts[0]
    return fields


class Download(FileResponse):
    """A file response; a Range not in bytes or not on a GET is ignored (RFC 9110, 14.2)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = Headers(scope=scope).get("range")
        if wanted is not None and not (scope["method"] == "GET" and _is_range(wanted)):
            headers = [header for header in scope["headers"] if header[0] != b"range"]
            scope = {**scope, "headers": headers}
        await super().__call__(scope, receive, send)


def has_it(if_none_match: str, etag: str) -> bool:
    """Whether `If-None-Match` names this content (RFC 9110, 13.1.2: weak tags count).

    has_it('W/"1", "2"', '"1"') -> True
    """
    return if_none_match.strip() == "*" or etag in _ENTITY_TAG.findall(if_none_match)


def _is_range(header: str) -> bool:
    unit, _, ranges = header.partition("=")
    if unit.strip().lower() != "bytes":
        return False
    for part in ranges.split(","):
        found = _RANGE.fullmatch(part.strip())
        if not found or (found[2] and int(found[2]) < int(found[1])):
            return False
    return True
