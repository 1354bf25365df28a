"""The URLs of Deployment Management; requests and replies are the SDK's own types."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from nemo_microservices.types import DeploymentConfig
from nemo_microservices.types.deployment import (
    ModelDeployment,
    config_create_params,
    config_update_params,
    model_deployment_create_params,
    model_deployment_update_params,
)
from nemo_microservices.types.shared import DeleteResponse
from starlette.requests import Request

from nemo_local.core.web import NULLS, PATCH, list_query, page_body, plain
from nemo_local.deployment.service import DeploymentService

DEPLOYMENTS = "/v1/deployment/model-deployments"
CONFIGS = "/v1/deployment/configs"


def router(service: DeploymentService) -> APIRouter:
    """The routes of Deployment Management.

    POST GET  /v1/deployment/model-deployments   GET PATCH DELETE  .../{namespace}/{name}
    POST GET  /v1/deployment/configs             GET PATCH DELETE  .../{namespace}/{name}
    """
    urls = APIRouter(tags=["Deployment Management"])
    _deployment_urls(urls, service)
    _config_urls(urls, service)
    return urls


def _deployment_urls(urls: APIRouter, service: DeploymentService) -> None:
    @urls.post(DEPLOYMENTS, response_model=ModelDeployment)
    def create_deployment(
        body: Annotated[model_deployment_create_params.ModelDeploymentCreateParams, NULLS],
    ) -> Any:
        return service.create(plain(body))

    @urls.get(DEPLOYMENTS)
    def list_deployments(request: Request) -> dict[str, Any]:
        keys = ("namespace", "name", "project", "status")
        query = list_query(request, ModelDeployment, keys)
        expand_config = request.query_params.get("expand") == "config"
        return page_body(service.find(query, expand_config), query)

    @urls.get(DEPLOYMENTS + "/{namespace}/{name}", response_model=ModelDeployment)
    def get_deployment(namespace: str, name: str) -> Any:
        return service.get(namespace, name)

    @urls.patch(DEPLOYMENTS + "/{namespace}/{name}", response_model=ModelDeployment)
    def update_deployment(
        namespace: str,
        name: str,
        body: Annotated[model_deployment_update_params.ModelDeploymentUpdateParams, PATCH],
    ) -> Any:
        return service.update(namespace, name, plain(body))

    @urls.delete(DEPLOYMENTS + "/{namespace}/{name}", response_model=DeleteResponse)
    def delete_deployment(namespace: str, name: str) -> Any:
        return service.delete(namespace, name)


def _config_urls(urls: APIRouter, service: DeploymentService) -> None:
    @urls.post(CONFIGS, response_model=DeploymentConfig)
    def create_config(
        body: Annotated[config_create_params.ConfigCreateParams, NULLS],
    ) -> Any:
        return service.create_config(plain(body))

    @urls.get(CONFIGS)
    def list_configs(request: Request) -> dict[str, Any]:
        keys = ("namespace", "name", "project")
        query = list_query(request, DeploymentConfig, keys)
        return page_body(service.find_configs(query), query)

    @urls.get(CONFIGS + "/{namespace}/{name}", response_model=DeploymentConfig)
    def get_config(namespace: str, name: str) -> Any:
        return service.get_config(namespace, name)

    @urls.patch(CONFIGS + "/{namespace}/{name}", response_model=DeploymentConfig)
    def update_config(
        namespace: str,
        name: str,
        body: Annotated[config_update_params.ConfigUpdateParams, PATCH],
    ) -> Any:
        return service.update_config(namespace, name, plain(body))

    @urls.delete(CONFIGS + "/{namespace}/{name}", response_model=DeleteResponse)
    def delete_config(namespace: str, name: str) -> Any:
        return service.delete_config(namespace, name)
