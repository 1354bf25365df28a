"""The URLs of the Entity Store; requests and replies are the SDK's own types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter
from nemo_microservices.types import (
    Dataset,
    Model,
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

from nemo_local.core.web import NULLS, PATCH, list_query, page_body, plain, without_nulls
from nemo_local.entity_store.service import LISTINGS, EntityStoreService, Kind


def router(service: EntityStoreService) -> APIRouter:
    """The Entity Store's routes.

    POST GET             /v1/namespaces             GET PATCH DELETE  /v1/namespaces/{id}
    POST GET             /v1/projects               GET PATCH DELETE  /v1/projects/{ns}/{name}
    POST GET             /v1/datasets               GET PATCH DELETE  /v1/datasets/{ns}/{name}
    POST GET             /v1/models                 GET PATCH DELETE  /v1/models/{ns}/{name}
    """
    urls = APIRouter(tags=["Entity Store"])
    _namespace_urls(urls, service)
    _project_urls(urls, service)
    _dataset_urls(urls, service)
    _model_urls(urls, service)
    for kind, path in (("project", "projects"), ("dataset", "datasets"), ("model", "models")):
        _common_urls(urls, service, kind, f"/v1/{path}")  # type: ignore[arg-type]
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


def _project_urls(urls: APIRouter, service: EntityStoreService) -> None:
    @urls.post("/v1/projects", response_model=Project)
    def create_project(
        body: Annotated[project_create_params.ProjectCreateParams, NULLS],
    ) -> Any:
        return service.create("project", plain(body))

    @urls.get("/v1/projects/{namespace}/{name}", response_model=Project)
    def get_project(namespace: str, name: str) -> Any:
        return service.get("project", namespace, name)

    @urls.patch("/v1/projects/{namespace}/{name}", response_model=Project)
    def update_project(
        namespace: str,
        name: str,
        body: Annotated[project_update_params.ProjectUpdateParams, PATCH],
    ) -> Any:
        return service.update("project", namespace, name, plain(body))


def _dataset_urls(urls: APIRouter, service: EntityStoreService) -> None:
    @urls.post("/v1/datasets", response_model=Dataset)
    def create_dataset(
        body: Annotated[dataset_create_params.DatasetCreateParams, NULLS],
    ) -> Any:
        return service.create("dataset", plain(body))

    @urls.get("/v1/datasets/{namespace}/{name}", response_model=Dataset)
    def get_dataset(namespace: str, name: str) -> Any:
        return service.get("dataset", namespace, name)

    @urls.patch("/v1/datasets/{namespace}/{name}", response_model=Dataset)
    def update_dataset(
        namespace: str,
        name: str,
        body: Annotated[dataset_update_params.DatasetUpdateParams, PATCH],
    ) -> Any:
        return service.update("dataset", namespace, name, plain(body))


def _model_urls(urls: APIRouter, service: EntityStoreService) -> None:
    @urls.post("/v1/models", response_model=Model)
    def create_model(body: Annotated[model_create_params.ModelCreateParams, NULLS]) -> Any:
        return service.create("model", plain(body))

    @urls.get("/v1/models/{namespace}/{name}", response_model=Model)
    def get_model(namespace: str, name: str) -> Any:
        return service.get("model", namespace, name)

    @urls.patch("/v1/models/{namespace}/{name}", response_model=Model)
    def update_model(
        namespace: str, name: str, body: Annotated[model_update_params.ModelUpdateParams, PATCH]
    ) -> Any:
        return service.update("model", namespace, name, plain(body))


def _common_urls(urls: APIRouter, service: EntityStoreService, kind: Kind, path: str) -> None:
    def list_entities(request: Request) -> JSONResponse:
        return _list(request, kind, lambda query: service.find(kind, query))

    def delete_entity(namespace: str, name: str) -> Any:
        return service.delete(kind, namespace, name)

    urls.get(path, name=f"list_{kind}s")(list_entities)
    urls.delete(path + "/{namespace}/{name}", name=f"delete_{kind}", response_model=DeleteResponse)(
        delete_entity
    )


def _list(request: Request, kind: str, find: Callable[..., Any]) -> JSONResponse:
    """A page of entities; lists leave nulls out."""
    query = list_query(request, LISTINGS[kind].sorts, LISTINGS[kind].filters)
    page = find(query)
    return JSONResponse(page_body(page, query) | {"data": without_nulls(page.items)})
