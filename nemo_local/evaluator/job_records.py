"""Evaluation jobs as documents: how they change state, and the status details that go with it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from nemo_local.core.documents import Documents
from nemo_local.core.errors import Conflict, invalid_field
from nemo_local.core.ids import new_id
from nemo_local.core.jobs import FINISHED, can_move
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.web import check_namespace
from nemo_local.evaluator.kinds import JOB, PREFIXES
from nemo_local.evaluator.plan import Entity

logger = logging.getLogger(__name__)

QUEUED = ("created", "pending")


class JobRecords:
    """The stored evaluation jobs; methods raise NotFound for a job that does not exist."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def create(self, body: Entity, config: Entity, target: Entity) -> Entity:
        kept = {key: body.get(key) for key in ("project", "description", "ownership")}
        job = self._documents.create(
            JOB,
            check_namespace(body.get("namespace") or "default"),
            None,
            {
                **kept,
                "custom_fields": body.get("custom_fields") or {},
                "config": config,
                "target": target,
                "result": None,
                "output_files_url": body.get("output_files_url"),
                "status": "created",
                "status_details": {"message": None, "task_status": {}, "progress": None},
            },
            new_id(PREFIXES[JOB]),
        )
        logger.info("evaluation job %s created", job["id"])
        return job

    def get(self, job_id: str) -> Entity:
        return self._documents.get_by_id(JOB, job_id)

    def find(self, query: ListQuery) -> Page:
        """A page of jobs; `config` and `target` may be filtered by one or more `namespace/name`.

        Raises:
            Invalid: such a filter is neither text nor an object.
        """
        filters = dict(query.filter)
        for key in ("config", "target"):
            if key in filters:
                filters[key] = _references(key, filters[key])
        return self._documents.find(JOB, replace(query, filter=filters))

    def unfinished(self) -> list[Entity]:
        return [job for job in self._documents.all(JOB) if job["status"] not in FINISHED]

    def delete(self, job_id: str) -> None:
        self._documents.delete(JOB, job_id)

    def detail(self, job_id: str, details: Entity) -> None:
        """Merge `details` into a job's status details."""
        self._documents.update(JOB, job_id, lambda job: _detailed(job, details))

    def move(
        self, job_id: str, status: str, details: Entity | None = None, result: str | None = None
    ) -> Entity:
        """The job after entering a state, or unchanged if the transition is not allowed."""

        def change(job: Entity) -> Entity:
            if not can_move(job["status"], status):
                return {}
            return {**({"result": result} if result else {}), **_entering(job, status, details)}

        job = self._documents.update(JOB, job_id, change)
        logger.info("evaluation job %s is %s", job_id, job["status"])
        return job

    def cancel(self, job_id: str) -> Entity:
        """The job, now `cancelling`, or `cancelled` if it was queued. Raises Conflict if ended."""

        def change(job: Entity) -> Entity:
            if job["status"] in FINISHED:
                raise Conflict(f"evaluation job {job_id} has already ended as {job['status']!r}")
            if job["status"] in QUEUED:
                return _entering(job, "cancelled", {"message": "Cancelled before it ran."})
            return _entering(job, "cancelling", {"message": "Cancellation requested."})

        return self._documents.update(JOB, job_id, change)


def settled(details: Entity) -> Entity:
    """Status details of a job that ended: a task that was still running has failed."""
    tasks = {
        name: "failed" if status == "running" else status
        for name, status in details["task_status"].items()
    }
    return {**details, "task_status": tasks}


def wire_job(job: Entity) -> Entity:
    """A job as the API shows it: jobs have ids, not names."""
    return {key: value for key, value in job.items() if key != "name"}


def _entering(job: Entity, status: str, details: Entity | None) -> Entity:
    changed = _detailed(job, details or {})["status_details"]
    ended = status in FINISHED
    return {"status": status, "status_details": settled(changed) if ended else changed}


def _detailed(job: Entity, details: dict[str, Any]) -> Entity:
    return {"status_details": {**job["status_details"], **details}}


def _references(key: str, given: Any) -> list[Entity]:
    """The entities a filter names, each as `namespace/name` or as an object. Raises Invalid."""
    found: list[Entity] = []
    for one in given if isinstance(given, list) else [given]:
        if not isinstance(one, (str, dict)):
            problem = "write namespace/name, or an object with a name"
            raise invalid_field("query", f"filter[{key}]", problem, one)
        found += [one] if isinstance(one, dict) else map(_named, one.split(","))
    return found


def _named(reference: str) -> Entity:
    namespace, slash, name = reference.partition("/")
    return {"namespace": namespace, "name": name} if slash else {"name": reference}
