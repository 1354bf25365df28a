"""HTTP routes of Guardrails.

    /v1/guardrail/configs                       POST GET
    /v1/guardrail/configs/{namespace}/{name}    GET PATCH DELETE
    /v1/guardrail/checks                        POST
    /v1/guardrail/chat/completions              POST
    /v1/guardrail/completions                   POST
    /v1/guardrail/models                        GET

As in the real service, 422 bodies have a string as their detail, and an unknown path below the
prefix is answered with its path and method.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from nemo_microservices.types.shared import GuardrailConfig

from nemo_local.core.errors import Invalid
from nemo_local.core.secrets import masked
from nemo_local.core.web import json_body, list_query, page_body, unless_client_leaves
from nemo_local.guardrails.service import Events, GuardrailsService
from nemo_local.guardrails.store import ConfigStore

FILTERS = ("name", "namespace", "project", "description", "created_at", "custom_fields")


class _SaysWhy(APIRoute):
    """A route whose 422 bodies have a sentence as their detail, not FastAPI's list."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Invalid as error:
                raise Invalid(_sentence(error.detail)) from None

        return handled


Body = Annotated[dict[str, Any], Depends(json_body)]


def router(service: GuardrailsService) -> APIRouter:
    """The routes, bound to the service."""
    routes = APIRouter(prefix="/v1/guardrail", tags=["Guardrails"], route_class=_SaysWhy)
    _add_configs(routes, service.configs)

    @routes.post("/checks")
    async def check(request: Request, body: Body) -> Any:
        return await unless_client_leaves(request, service.check(body))

    @routes.post("/chat/completions")
    async def chat(request: Request, body: Body) -> Response:
        return _completion(await unless_client_leaves(request, service.chat(body)))

    @routes.post("/completions")
    async def complete(request: Request, body: Body) -> Response:
        return _completion(await unless_client_leaves(request, service.text(body)))

    @routes.get("/models")
    async def models(x_model_authorization: Annotated[str | None, Header()] = None) -> Any:
        return await service.models(x_model_authorization)

    @routes.api_route(
        "/{rest:path}",
        methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        include_in_schema=False,
    )
    def unknown(request: Request, rest: str) -> Response:
        body = {"detail": "Not Found", "path": request.url.path, "method": request.method}
        return JSONResponse(body, status_code=404)

    return routes


def _add_configs(routes: APIRouter, configs: ConfigStore) -> None:
    @routes.post("/configs")
    def create(body: Body) -> Any:
        return masked(configs.create(body))

    @routes.get("/configs")
    def find(request: Request) -> Any:
        query = list_query(request, GuardrailConfig, FILTERS)
        return masked(page_body(configs.find(query), query))

    @routes.get("/configs/{namespace}/{name}")
    def retrieve(namespace: str, name: str) -> Any:
        return masked(configs.retrieve(namespace, name))

    @routes.patch("/configs/{namespace}/{name}")
    def update(namespace: str, name: str, body: Body) -> Any:
        return masked(configs.update(namespace, name, body))

    @routes.delete("/configs/{namespace}/{name}")
    def delete(namespace: str, name: str) -> Any:
        return configs.delete(namespace, name)


def _completion(answer: dict[str, Any] | Events) -> Response:
    if isinstance(answer, dict):
        return Response(json.dumps(answer), media_type="application/json")
    return StreamingResponse(answer, media_type="text/event-stream")


def _sentence(detail: Any) -> Any:
    """`[{"loc": ["body", "name"], "msg": "too long"}]` as "name: too long"."""
    if not isinstance(detail, list):
        return detail
    return "; ".join(
        ".".join(str(part) for part in one["loc"][1:]) + f": {one['msg']}" for one in detail
    )
