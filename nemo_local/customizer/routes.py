"""The URLs of the Customizer; requests and replies are the SDK's own types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, params
from nemo_microservices.types import CustomizationConfig, CustomizationTarget, TrainingPodSpec
from nemo_microservices.types.customization import (
    CustomizationConfigWithWarningMessage,
    CustomizationJob,
    CustomizationStatusDetails,
    CustomizationTargetOutputWithWarningMessage,
    DatasetParameters,
    JobLogs,
    config_create_params,
    config_update_params,
    job_create_params,
    target_create_params,
    target_update_params,
)
from pydantic import BeforeValidator
from starlette.requests import Request

from nemo_local.core.web import NULLS, PATCH, as_sent, list_query, page_body, plain
from nemo_local.customizer.downloads import TARGET
from nemo_local.customizer.hyperparameters import refuse_unknown
from nemo_local.customizer.registry import CONFIG
from nemo_local.customizer.service import CustomizerService

JOB_FILTERS = (
    "base_model", "batch_size", "dataset", "epochs", "finetuning_type", "log_every_n_steps",
    "namespace", "project", "status", "training_type",
)  # fmt: skip
CONFIG_FILTERS = (
    "name", "namespace", "target_base_model", "target_name", "target_enabled", "enabled",
    "training_type", "finetuning_type",
)  # fmt: skip
CONFIG_SORTS = (
    "created_at", "updated_at", "name", "target_enabled", "enabled", "num_parameters",
)  # fmt: skip
TARGET_FILTERS = ("base_model", "enabled", "name", "namespace", "status")


def _known_hyperparameters(body: Any) -> Any:
    """The body, unchanged; raises Invalid for a hyperparameter that validation would drop."""
    given = body.get("hyperparameters") if isinstance(body, Mapping) else None
    if isinstance(given, Mapping):
        refuse_unknown(given)
    return body


JobBody = Annotated[
    job_create_params.JobCreateParams,
    NULLS,
    as_sent(dataset_parameters=DatasetParameters),
    BeforeValidator(_known_hyperparameters),
]
POD_SPEC = as_sent(pod_spec=TrainingPodSpec)
STORED: dict[str, Any] = {"response_model_exclude_unset": True}
"""Route options with which an answer shows the stored fields and no others."""


def router(service: CustomizerService, dependencies: list[params.Depends]) -> APIRouter:
    """The Customizer's routes, below /v1/customization.

    POST GET         /jobs              GET DELETE        /jobs/{id}
    GET              /jobs/{id}/status  POST              /jobs/{id}/cancel
    GET              /jobs/{id}/container-logs
    POST GET         /configs           GET PATCH DELETE  /configs/{ns}/{name}
    POST GET         /targets           GET PATCH DELETE  /targets/{ns}/{name}
    """
    urls = APIRouter(prefix="/v1/customization", tags=["Customizer"], dependencies=dependencies)
    _job_urls(urls, service)
    _config_urls(urls, service)
    _target_urls(urls, service)
    return urls


def _job_urls(urls: APIRouter, service: CustomizerService) -> None:
    @urls.post("/jobs", response_model=CustomizationJob, **STORED)
    def create_job(body: JobBody, wandb_api_key: Annotated[str | None, Header()] = None) -> Any:
        return service.create_job(plain(body), wandb_api_key)

    @urls.get("/jobs")
    def list_jobs(request: Request) -> Any:
        query = list_query(request, CustomizationJob, JOB_FILTERS)
        return page_body(service.jobs(query), query)

    @urls.get("/jobs/{job_id}", response_model=CustomizationJob, **STORED)
    def get_job(job_id: str) -> Any:
        return service.job(job_id)

    @urls.delete("/jobs/{job_id}")
    def delete_job(job_id: str) -> dict[str, Any]:
        service.delete(job_id)
        return {}

    @urls.get("/jobs/{job_id}/status", response_model=CustomizationStatusDetails, **STORED)
    def get_status(job_id: str) -> Any:
        return service.status(job_id)

    @urls.post("/jobs/{job_id}/cancel", response_model=CustomizationJob, **STORED)
    def cancel_job(job_id: str) -> Any:
        return service.cancel(job_id)

    @urls.get("/jobs/{job_id}/container-logs", response_model=JobLogs)
    def get_logs(job_id: str) -> Any:
        return service.logs(job_id)


def _config_urls(urls: APIRouter, service: CustomizerService) -> None:
    registry, item = service.registry, "/configs/{namespace}/{name}"

    @urls.post("/configs", response_model=CustomizationConfig, **STORED)
    def create_config(
        body: Annotated[config_create_params.ConfigCreateParams, NULLS, POD_SPEC],
    ) -> Any:
        return registry.create_config(plain(body))

    @urls.get("/configs")
    def list_configs(request: Request) -> Any:
        query = list_query(request, CustomizationConfig, CONFIG_FILTERS, CONFIG_SORTS)
        return page_body(service.configs(query), query)

    @urls.get(item, response_model=CustomizationConfig, **STORED)
    def get_config(namespace: str, name: str) -> Any:
        return registry.shown_config(registry.get(CONFIG, namespace, name))

    @urls.patch(item, response_model=CustomizationConfigWithWarningMessage, **STORED)
    def update_config(
        namespace: str,
        name: str,
        body: Annotated[config_update_params.ConfigUpdateParams, PATCH, POD_SPEC],
    ) -> Any:
        return registry.update_config(namespace, name, plain(body))

    @urls.delete(item)
    def delete_config(namespace: str, name: str) -> Any:
        return registry.delete(CONFIG, namespace, name)


def _target_urls(urls: APIRouter, service: CustomizerService) -> None:
    registry, item = service.registry, "/targets/{namespace}/{name}"

    @urls.post("/targets", response_model=CustomizationTarget, **STORED)
    def create_target(
        body: Annotated[target_create_params.TargetCreateParams, NULLS],
    ) -> Any:
        return registry.create_target(plain(body))

    @urls.get("/targets")
    def list_targets(request: Request) -> Any:
        query = list_query(request, CustomizationTarget, TARGET_FILTERS)
        return page_body(service.targets(query), query)

    @urls.get(item, response_model=CustomizationTarget, **STORED)
    def get_target(namespace: str, name: str) -> Any:
        return registry.get(TARGET, namespace, name)

    @urls.patch(item, response_model=CustomizationTargetOutputWithWarningMessage, **STORED)
    def update_target(
        namespace: str,
        name: str,
        body: Annotated[target_update_params.TargetUpdateParams, PATCH],
    ) -> Any:
        return registry.update_target(namespace, name, plain(body))

    @urls.delete(item)
    def delete_target(namespace: str, name: str) -> Any:
        return registry.delete(TARGET, namespace, name)
