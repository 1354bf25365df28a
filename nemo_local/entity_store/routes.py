"""The URLs of the Entity Store; requests and replies are the SDK's own types."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter
from nemo_microservices.types import (
    Dataset,
    Namespace,
    Project,
    dataset_create_params,
    dataset_update_params,
    model_create_params,
    model_update_params,
    namespace_create_params,
    namespace_update_params,
    project_create_params,
    project_update_params,
)
from nemo_microservices.types.shared import DeleteResponse
from starlette.requests import Request
from starlette.responses import JSONResponse

from nemo_local.core.web import (
    NULLS,
    PATCH,
    as_sent,
    list_query,
    page_body,
    plain,
    without_nulls,
)
from nemo_local.entity_store.schemas import Guardrails, Model, Peft
from nemo_local.entity_store.service import LISTINGS, SHOWN_AS, EntityStoreService, Kind

INSIDE = as_sent(peft=Peft, guardrails=Guardrails)


def router(service: EntityStoreService) -> APIRouter:
    """The Entity Store's routes.

    POST GET             /v1/namespaces             GET PATCH DELETE  /v1/namespaces/{id}
    POST GET             /v1/projects               GET PATCH DELETE  /v1/projects/{ns}/{name}
    POST GET             /v1/datasets               GET PATCH DELETE  /v1/datasets/{ns}/{name}
    POST GET             /v1/models                 GET PATCH DELETE  /v1/models/{ns}/{name}
    """
    urls = APIRouter(tags=["Entity Store"])
    _namespace_urls(urls, service)
    _entity_urls(
        urls, service, "project", Project,
        Annotated[project_create_params.ProjectCreateParams, NULLS],
        Annotated[project_update_params.ProjectUpdateParams, PATCH],
    )  # fmt: skip
    _entity_urls(
        urls, service, "dataset", Dataset,
        Annotated[dataset_create_params.DatasetCreateParams, NULLS],
        Annotated[dataset_update_params.DatasetUpdateParams, PATCH],
    )  # fmt: skip
    _entity_urls(
        urls, service, "model", Model,
        Annotated[model_create_params.ModelCreateParams, NULLS, INSIDE],
        Annotated[model_update_params.ModelUpdateParams, PATCH, INSIDE],
    )  # fmt: skip
    return urls


def _namespace_urls(urls: APIRouter, service: EntityStoreService) -> None:
    @urls.post("/v1/namespaces", response_model=Namespace)
    def create_namespace(
        body: Annotated[namespace_create_params.NamespaceCreateParams, NULLS],
    ) -> Any:
        return service.create_namespace(plain(body))

    @urls.get("/v1/namespaces")
    def list_namespaces(request: Request) -> JSONResponse:
        return _list(request, "namespace", service.namespaces)

    @urls.get("/v1/namespaces/{namespace_id}", response_model=Namespace)
    def get_namespace(namespace_id: str) -> Any:
        return service.namespace(namespace_id)

    @urls.patch("/v1/namespaces/{namespace_id}", response_model=Namespace)
    def update_namespace(
        namespace_id: str, body: Annotated[namespace_update_params.NamespaceUpdateParams, PATCH]
    ) -> Any:
        return service.update_namespace(namespace_id, plain(body))

    @urls.delete("/v1/namespaces/{namespace_id}", response_model=DeleteResponse)
    def delete_namespace(namespace_id: str) -> Any:
        return service.delete_namespace(namespace_id)


def _entity_urls(
    urls: APIRouter, service: EntityStoreService, kind: Kind, shown: Any, created: Any, updated: Any
) -> None:
    """The routes of one kind, which the SDK's types `shown`, `created` and `updated` describe."""
    path = f"/v1/{kind}s"
    one = path + "/{namespace}/{name}"

    @urls.post(path, name=f"create_{kind}", response_model=shown)
    def create(body: created) -> Any:
        return service.create(kind, plain(body))

    @urls.get(path, name=f"list_{kind}s")
    def list_all(request: Request) -> JSONResponse:
        return _list(request, kind, lambda query: service.find(kind, query))

    @urls.get(one, name=f"get_{kind}", response_model=shown)
    def get(namespace: str, name: str) -> Any:
        return service.get(kind, namespace, name)

    @urls.patch(one, name=f"update_{kind}", response_model=shown)
    def update(namespace: str, name: str, body: updated) -> Any:
        return service.update(kind, namespace, name, plain(body))

    @urls.delete(one, name=f"delete_{kind}", response_model=DeleteResponse)
    def delete(namespace: str, name: str) -> Any:
        return service.delete(kind, namespace, name)


def _list(request: Request, kind: str, find: Callable[..., Any]) -> JSONResponse:
    """A page of entities; lists leave nulls out."""
    query = list_query(request, SHOWN_AS[kind], LISTINGS[kind].filters, LISTINGS[kind].sorts)
    page = find(query)
    return JSONResponse(page_body(page, query) | {"data": without_nulls(page.items)})
