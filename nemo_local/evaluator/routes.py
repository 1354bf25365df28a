"""HTTP routes of the Evaluator.

/v1/evaluation/configs                       POST GET
/v1/evaluation/configs/{namespace}/{name}    GET PATCH DELETE
/v1/evaluation/targets                       POST GET
/v1/evaluation/targets/{namespace}/{name}    GET PATCH DELETE
/v1/evaluation/results                       POST GET
/v1/evaluation/results/{id}                  GET PATCH DELETE
/v1/evaluation/jobs                          POST GET
/v1/evaluation/jobs/{id}                     GET DELETE
/v1/evaluation/jobs/{id}/status              GET
/v1/evaluation/jobs/{id}/results             GET
/v1/evaluation/jobs/{id}/download-results    GET
/v1/evaluation/jobs/{id}/logs                GET
/v1/evaluation/jobs/{id}/cancel              POST
/v1/evaluation/live                          POST
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, params
from nemo_microservices.types.evaluation.config_create_params import ConfigCreateParams
from nemo_microservices.types.evaluation.job_create_params import JobCreateParams
from nemo_microservices.types.evaluation.result_create_params import ResultCreateParams
from nemo_microservices.types.evaluation.target_create_params import TargetCreateParams
from nemo_microservices.types.evaluation_live_params import EvaluationLiveParams
from pydantic import AfterValidator, BeforeValidator

from nemo_local.core.secrets import masked
from nemo_local.core.web import json_body, list_query, page_body, plain, without_nulls
from nemo_local.evaluator.job_records import wire_job
from nemo_local.evaluator.kinds import CONFIG, JOB, RESULT, SHOWN_AS, TARGET
from nemo_local.evaluator.service import EvaluatorService
from nemo_local.evaluator.shown import shown_result

_CONFIG_FILTERS = ("name", "namespace", "project", "type", "created_at", "custom_fields")
FILTERS = {
    CONFIG: _CONFIG_FILTERS,
    TARGET: (*_CONFIG_FILTERS, "model"),
    RESULT: ("job", "job_id", "namespace", "project", "created_at"),
    JOB: ("config", "target", "namespace", "project", "status", "created_at", "custom_fields"),
}

USERS_OWN = ("custom_fields", "params", "rows")
"""Fields of configs and targets in which a null is a value: data, templates, parameters."""


def _as_sdk_types(body: Any) -> Any:
    """A job's body adapted to the SDK's types where the service accepts more or explains better.

    A reference may be an object `{"namespace", "name"}`, and a dataset may lack its files_url.
    """
    if not isinstance(body, dict):
        return body
    body = without_nulls(body)
    for key in ("config", "target"):
        given = body.get(key)
        if isinstance(given, dict) and "type" not in given and "name" in given:
            body[key] = str(given["name"])
        elif isinstance(given, dict):
            tasks = given.get("tasks")
            for holder in (given, *(tasks.values() if isinstance(tasks, dict) else ())):
                for name in ("dataset", "cached_outputs"):
                    if isinstance(holder, dict) and isinstance(holder.get(name), dict):
                        holder[name].setdefault("files_url", "")
    return body


Raw = Annotated[dict[str, Any], Depends(json_body)]
# The SDK's types validate a target's rows only when they are read, which `plain` does.
ConfigBody = Annotated[ConfigCreateParams, BeforeValidator(without_nulls), AfterValidator(plain)]
TargetBody = Annotated[TargetCreateParams, BeforeValidator(without_nulls), AfterValidator(plain)]
ResultBody = Annotated[ResultCreateParams, BeforeValidator(without_nulls)]
JobBody = Annotated[JobCreateParams, BeforeValidator(_as_sdk_types), AfterValidator(plain)]
LiveBody = Annotated[EvaluationLiveParams, BeforeValidator(_as_sdk_types), AfterValidator(plain)]


def router(service: EvaluatorService, dependencies: list[params.Depends]) -> APIRouter:
    """The routes, bound to the service."""
    routes = APIRouter(prefix="/v1/evaluation", tags=["Evaluator"], dependencies=dependencies)
    _add_jobs(routes, service)
    _add_results(routes, service)

    @routes.post("/configs")
    def create_config(body: ConfigBody, raw: Raw) -> Any:
        return _shown(service.create(CONFIG, raw))

    @routes.post("/targets")
    def create_target(body: TargetBody, raw: Raw) -> Any:
        return _shown(service.create(TARGET, raw))

    for kind, path in ((CONFIG, "/configs"), (TARGET, "/targets")):
        _add_entity(routes, service, kind, path)
    return routes


def _add_entity(routes: APIRouter, service: EvaluatorService, kind: str, path: str) -> None:
    @routes.get(path)
    def find(request: Request) -> Any:
        return _page(service, kind, request)

    @routes.get(path + "/{namespace}/{name}")
    def retrieve(namespace: str, name: str) -> Any:
        return _shown(service.retrieve(kind, namespace, name))

    @routes.patch(path + "/{namespace}/{name}")
    def update(namespace: str, name: str, raw: Raw) -> Any:
        return _shown(service.update(kind, namespace, name, raw))

    @routes.delete(path + "/{namespace}/{name}")
    def delete(namespace: str, name: str) -> Any:
        return service.delete(kind, namespace, name)


def _add_results(routes: APIRouter, service: EvaluatorService) -> None:
    @routes.post("/results")
    def create(body: ResultBody, raw: Raw) -> Any:
        return shown_result(service.create(RESULT, raw))

    @routes.get("/results")
    def find(request: Request) -> Any:
        return _page(service, RESULT, request)

    @routes.get("/results/{result_id}")
    def retrieve(result_id: str) -> Any:
        return shown_result(service.result(result_id))

    @routes.patch("/results/{result_id}")
    def update(result_id: str, raw: Raw) -> Any:
        return shown_result(service.update_result(result_id, raw))

    @routes.delete("/results/{result_id}")
    def delete(result_id: str) -> Any:
        return service.delete_result(result_id)


def _add_jobs(routes: APIRouter, service: EvaluatorService) -> None:
    @routes.post("/jobs")
    def create(body: JobBody, raw: Raw, skip_validation_checks: bool = False) -> Any:
        return masked(wire_job(service.create_job(raw, skip_validation_checks)))

    @routes.get("/jobs")
    def find(request: Request) -> Any:
        query = list_query(request, SHOWN_AS[JOB], FILTERS[JOB])
        body = page_body(service.jobs(query), query)
        return masked({**body, "data": [wire_job(job) for job in body["data"]]})

    @routes.get("/jobs/{job_id}")
    def retrieve(job_id: str) -> Any:
        return masked(wire_job(service.job(job_id)))

    @routes.get("/jobs/{job_id}/status")
    def status(job_id: str) -> Any:
        return service.job(job_id)["status_details"]

    @routes.get("/jobs/{job_id}/results")
    def results(job_id: str) -> Any:
        return shown_result(service.job_result(job_id))

    @routes.get("/jobs/{job_id}/download-results")
    def download_results(job_id: str) -> Response:
        return _zip(f"{job_id}-results.zip", service.results_zip(job_id))

    @routes.get("/jobs/{job_id}/logs")
    def logs(job_id: str) -> Response:
        return _zip(f"{job_id}-logs.zip", service.logs_zip(job_id))

    @routes.post("/jobs/{job_id}/cancel")
    def cancel(job_id: str) -> Any:
        return masked(wire_job(service.cancel(job_id)))

    @routes.delete("/jobs/{job_id}", status_code=204)
    def delete(job_id: str) -> None:
        service.delete_job(job_id)

    @routes.post("/live")
    def live(body: LiveBody, raw: Raw) -> Any:
        return service.live(raw)


def _page(service: EvaluatorService, kind: str, request: Request) -> Any:
    query = list_query(request, SHOWN_AS[kind], FILTERS[kind])
    filters = dict(query.filter)
    if kind == RESULT and "job_id" in filters:
        filters["job"] = filters.pop("job_id")
    show = shown_result if kind == RESULT else _shown
    body = page_body(service.find(kind, replace(query, filter=filters)), query)
    return {**body, "data": [show(entity) for entity in body["data"]]}


def _shown(entity: dict[str, Any]) -> Any:
    return masked(without_nulls(entity, USERS_OWN))


def _zip(name: str, content: bytes) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/zip", headers=headers)
