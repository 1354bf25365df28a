"""HTTP routes of Guardrails.

    /v1/guardrail/configs                       POST GET
    /v1/guardrail/configs/{namespace}/{name}    GET PATCH DELETE
    /v1/guardrail/checks                        POST
    /v1/guardrail/chat/completions              POST
    /v1/guardrail/completions                   POST
    /v1/guardrail/models                        GET

Its 422 bodies carry a string as detail, and an unknown path under the prefix answers with its
path and method, as the real service does.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import StreamingResponse

from nemo_local.core.errors import Invalid, NotFound
from nemo_local.core.secrets import masked
from nemo_local.core.web import list_query, page_body
from nemo_local.guardrails.answers import chunks
from nemo_local.guardrails.service import GuardrailsService

FILTERS = ("name", "namespace", "project", "description", "created_at", "custom_fields")


class _Unknown(NotFound):
    """A path under the prefix that nothing serves."""

    def __init__(self, request: Request) -> None:
        super().__init__("Not Found")
        self._request = request

    def body(self) -> dict[str, Any]:
        request = self._request
        return {"detail": "Not Found", "path": request.url.path, "method": request.method}


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except json.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object")
    return body


Body = Annotated[dict[str, Any], Depends(_body)]


def router(service: GuardrailsService) -> APIRouter:
    """The routes, bound to the service."""
    routes = APIRouter(prefix="/v1/guardrail", tags=["Guardrails"])
    _add_configs(routes, service)

    @routes.post("/checks")
    async def check(body: Body) -> Any:
        return await service.check(body)

    @routes.post("/chat/completions")
    async def chat(body: Body) -> Response:
        return _completion(body, await service.chat(body))

    @routes.post("/completions")
    async def complete(body: Body) -> Response:
        return _completion(body, await service.text(body))

    @routes.get("/models")
    async def models(x_model_authorization: Annotated[str | None, Header()] = None) -> Any:
        return await service.models(x_model_authorization)

    @routes.api_route(
        "/{rest:path}",
        methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        include_in_schema=False,
    )
    def unknown(request: Request, rest: str) -> None:
        raise _Unknown(request)

    return routes


def _add_configs(routes: APIRouter, service: GuardrailsService) -> None:
    @routes.post("/configs")
    def create(body: Body) -> Any:
        return masked(service.create(body))

    @routes.get("/configs")
    def find(request: Request) -> Any:
        query = list_query(request, filter_keys=FILTERS)
        return masked(page_body(service.find(query), query))

    @routes.get("/configs/{namespace}/{name}")
    def retrieve(namespace: str, name: str) -> Any:
        return masked(service.retrieve(namespace, name))

    @routes.patch("/configs/{namespace}/{name}")
    def update(namespace: str, name: str, body: Body) -> Any:
        return masked(service.update(namespace, name, body))

    @routes.delete("/configs/{namespace}/{name}")
    def delete(namespace: str, name: str) -> Any:
        return service.delete(namespace, name)


def _completion(body: dict[str, Any], response: dict[str, Any]) -> Response:
    """The response, or its server-sent events where the request asked for a stream."""
    if body.get("stream") or (body.get("guardrails") or {}).get("stream"):
        return StreamingResponse(chunks(response), media_type="text/event-stream")
    return Response(json.dumps(response), media_type="application/json")
