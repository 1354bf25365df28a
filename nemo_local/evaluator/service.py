"""The rules of the Evaluator: its entities, and the life of a job."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nemo_microservices.types import EvaluationConfig, EvaluationTarget
from pydantic import BaseModel

from nemo_local.core.client import Client
from nemo_local.core.clock import timestamp
from nemo_local.core.documents import Documents
from nemo_local.core.errors import Conflict, Invalid, NotFound, PlatformError, invalid_field
from nemo_local.core.ids import new_id
from nemo_local.core.jobs import FINISHED, JobRunner, can_move
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.secrets import masked, restored
from nemo_local.core.web import check_name, deleted, showable
from nemo_local.evaluator.evaluation import Evaluation, Log, Outcome, Report
from nemo_local.evaluator.plan import Entity, Expander, check, check_datasets, task_plans
from nemo_local.evaluator.results import JobFiles
from nemo_local.evaluator.runner import Cancelled, EvaluationFailed, TaskPlan

logger = logging.getLogger(__name__)

JOB = "evaluation_job"
RESULT = "evaluation_result"
SHOWN_AS: dict[str, type[BaseModel]] = {
    "evaluation_config": EvaluationConfig,
    "evaluation_target": EvaluationTarget,
}
MAX_LIVE_ROWS = 10
WORKERS = 2
PREFIXES = {
    "evaluation_config": "eval-config",
    "evaluation_target": "eval-target",
    RESULT: "evaluation_result",
}


class EvaluatorService:
    """Configs, targets, jobs and results."""

    def __init__(
        self,
        documents: Documents,
        platform: Client,
        nim_url: str,
        jobs_dir: Path,
        token: str | None = None,
        runner: JobRunner | None = None,
    ) -> None:
        self._documents = documents
        self._platform = platform
        self._jobs_dir = jobs_dir
        self._runner = runner or JobRunner(WORKERS, "evaluation")
        self._expander = Expander(documents, platform)
        self._evaluation = Evaluation(platform, nim_url.rstrip("/"), token)
        self._stopping = False

    def start(self) -> None:
        """Queue the jobs that never ran; fail those that a killed platform left running."""
        for job in self._documents.all(JOB):
            if job["status"] in ("created", "pending"):
                self._submit(job["id"])
            elif job["status"] not in FINISHED:
                reason = (
                    f"the platform stopped while this job was {job['status']} "
                    f"(progress {job['status_details']['progress'] or 0.0:.0f} %); create it again"
                )
                self._move(job["id"], "failed", {"message": reason})

    def stop(self) -> None:
        """Stop the running jobs; they end as failed and say why."""
        self._stopping = True
        self._runner.shutdown()

    # Configs, targets, results

    def create(self, kind: str, body: Entity) -> Entity:
        name = body.get("name")
        namespace = body.get("namespace") or "default"
        check_name(namespace, "namespace")
        filled = {"schema_version": "1.0", "type_prefix": PREFIXES[kind], "custom_fields": {}}
        document = {**filled, **body}
        if kind == RESULT:
            document = {"tasks": {}, "groups": {}, **document}
        entity_id = new_id(PREFIXES[kind])
        return self._documents.create(
            kind, namespace, check_name(str(name)) if name else None, document, entity_id
        )

    def retrieve(self, kind: str, namespace: str, name: str) -> Entity:
        return self._documents.get(kind, namespace, name)

    def update(self, kind: str, namespace: str, name: str, body: Entity) -> Entity:
        """The config or target after a shallow merge. Raises Invalid when it could not be shown."""

        def merge(entity: Entity) -> Entity:
            return showable(SHOWN_AS[kind], {**entity, **restored(body, entity)})

        return self._documents.update(kind, self.retrieve(kind, namespace, name)["id"], merge)

    def delete(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        entity = self._documents.delete(kind, self.retrieve(kind, namespace, name)["id"])
        return deleted(entity, self._now())

    def find(self, kind: str, query: ListQuery) -> Page:
        return self._documents.find(kind, query)

    def result(self, result_id: str) -> Entity:
        return self._documents.get_by_id(RESULT, result_id)

    def update_result(self, result_id: str, body: Entity) -> Entity:
        """The result after a shallow merge. Raises Invalid for tasks or groups that are none."""
        for key in ("tasks", "groups"):
            if not isinstance(body.get(key, {}), dict):
                raise invalid_field("body", key, "must be an object", body[key])
        return self._documents.update(RESULT, result_id, body)

    def delete_result(self, result_id: str) -> dict[str, Any]:
        return deleted(self._documents.delete(RESULT, result_id), self._now())

    # Jobs

    def create_job(self, body: Entity, skip_validation_checks: bool = False) -> Entity:
        """The new job, already queued.

        Raises:
            Invalid: config, target or dataset cannot be evaluated; the sentence names what.
        """
        config, target = self._checked(body, skip_validation_checks)
        kept = {key: body.get(key) for key in ("project", "description", "ownership")}
        job = self._documents.create(
            JOB,
            body.get("namespace") or "default",
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
            new_id("eval"),
        )
        logger.info("evaluation job %s created", job["id"])
        self._submit(job["id"])
        return job

    def job(self, job_id: str) -> Entity:
        return self._documents.get_by_id(JOB, job_id)

    def jobs(self, query: ListQuery) -> Page:
        """A page of jobs; `config` and `target` may be filtered by `namespace/name`."""
        for key in ("config", "target"):
            reference = query.filter.get(key)
            if isinstance(reference, str) and "/" in reference:
                namespace, _, name = reference.partition("/")
                query.filter[key] = {"namespace": namespace, "name": name}
        return self._documents.find(JOB, query)

    def cancel(self, job_id: str) -> Entity:
        """The job, stopping. Raises Conflict when it has already ended."""
        job = self.job(job_id)
        if job["status"] in FINISHED:
            raise Conflict(f"evaluation job {job_id} has already ended as {job['status']!r}")
        job = self._move(job_id, "cancelling", {"message": "Cancellation requested."})
        if not self._runner.cancel(job_id):
            job = self._move(job_id, "cancelled", {"message": "Cancelled before it ran."})
        return job

    def delete_job(self, job_id: str) -> None:
        """Remove a job and its files; a running one is stopped first."""
        self._documents.delete(JOB, job_id)
        self._runner.cancel(job_id)
        self._files(job_id).remove()

    def job_result(self, job_id: str) -> Entity:
        """The result of a completed job. Raises NotFound before that."""
        job = self.job(job_id)
        if not job["result"]:
            raise NotFound(f"Results not found: evaluation job {job_id} is {job['status']!r}")
        return self.result(job["result"])

    def results_zip(self, job_id: str) -> bytes:
        self.job_result(job_id)
        return self._files(job_id).zipped()

    def logs_zip(self, job_id: str) -> bytes:
        self.job(job_id)
        return self._files(job_id).zipped("logs")

    def live(self, body: Entity) -> dict[str, Any]:
        """A small evaluation, run at once; its failure is part of the answer.

        Raises:
            Invalid: it cannot be evaluated, or has more than ten rows.
        """
        config, target = self._checked(body, False)
        plans = task_plans(config, target, self._platform)
        rows = sum(len(plan.rows) for plan in plans)
        if rows > MAX_LIVE_ROWS:
            raise Invalid(f"live evaluation takes at most {MAX_LIVE_ROWS} rows, not {rows}")
        details: dict[str, Any] = {"message": None, "task_status": {}, "progress": None}
        job_id, now = new_id("eval"), self._now()
        lines: list[str] = []
        try:
            outcome = self._evaluate(
                plans, config, target, threading.Event(), details.update, lines.append
            )
        except EvaluationFailed as error:
            failed = {**details, "message": str(error)}
            logs = {"job": lines}
            return {"status": "failed", "status_details": failed, "result": None, "logs": logs}
        times = {"created_at": now, "updated_at": now}
        result = {**_result_document(job_id, outcome), **times, "id": new_id(RESULT)}
        done = {**details, "message": "Job completed successfully.", "progress": 100.0}
        return {
            "status": "completed",
            "status_details": done,
            "result": {**result, "namespace": "default"},
            "logs": {"job": lines, **outcome.rows},
        }

    # Running

    def _checked(self, body: Entity, skip_datasets: bool) -> tuple[Entity, Entity]:
        config = self._expander.config(body["config"])
        target = self._expander.target(body["target"])
        check(config, target)
        if not skip_datasets:
            check_datasets(config, target, self._platform)
        return config, target

    def _submit(self, job_id: str) -> None:
        self._runner.submit(job_id, lambda cancelled: self._run(job_id, cancelled))

    def _run(self, job_id: str, cancelled: threading.Event) -> None:
        """Run one job from pending to its end; whatever happens, the job says so."""
        files = self._files(job_id)
        try:
            if self.job(job_id)["status"] in ("cancelling", *FINISHED):
                raise Cancelled
            self._move(job_id, "pending")
            job = self._move(job_id, "running", {"progress": 0.0, "samples_processed": 0})
            files.log(f"evaluation job {job_id} started")
            config, target = job["config"], job["target"]
            plans = task_plans(config, target, self._platform)

            def report(details: dict[str, Any]) -> None:
                self._documents.update(JOB, job_id, _details(details))

            outcome = self._evaluate(plans, config, target, cancelled, report, files.log)
            self._complete(job, outcome, files)
        except Cancelled:
            if self._stopping:
                self._end(job_id, "failed", "the platform was stopped; create it again", files)
            else:
                self._end(job_id, "cancelled", "Cancelled.", files)
        except NotFound:
            files.remove()  # deleted while it ran
        except (EvaluationFailed, PlatformError) as error:
            self._end(job_id, "failed", str(error), files)
        except Exception as error:
            self._end(job_id, "failed", f"internal error: {error!r}", files)
            raise

    def _evaluate(
        self,
        plans: list[TaskPlan],
        config: Entity,
        target: Entity,
        cancelled: threading.Event,
        report: Report,
        log: Log,
    ) -> Outcome:
        run = self._evaluation.run(plans, config, target, cancelled, report, log)
        return asyncio.run(run)

    def _complete(self, job: Entity, outcome: Outcome, files: JobFiles) -> None:
        result = _result_document(job["id"], outcome)
        files.write("results/results.json", outcome.rows)
        files.write("config.json", masked(wire_job(job)))
        files.write("aggregate.json", result)
        files.log("Job completed successfully.")
        entity = self._documents.create(RESULT, job["namespace"], None, result, new_id(RESULT))
        done = {"message": "Job completed successfully.", "progress": 100.0}
        self._move(job["id"], "completed", done, result=entity["id"])

    def _end(self, job_id: str, status: str, message: str, files: JobFiles) -> None:
        try:
            self._move(job_id, status, {"message": message})
        except NotFound:
            return files.remove()  # deleted while it ran
        files.log(f"{status}: {message}")

    def _move(
        self,
        job_id: str,
        status: str,
        details: dict[str, Any] | None = None,
        result: str | None = None,
    ) -> Entity:
        """The job after entering a state, when the table of transitions allows it."""

        def change(job: Entity) -> Entity:
            if not can_move(job["status"], status):
                return {}
            fields = {"status": status, **({"result": result} if result else {})}
            return {**fields, **_details(details or {})(job)}

        job = self._documents.update(JOB, job_id, change)
        logger.info("evaluation job %s is %s", job_id, job["status"])
        return job

    def _files(self, job_id: str) -> JobFiles:
        return JobFiles(self._jobs_dir, job_id, self._documents.clock)

    def _now(self) -> str:
        return timestamp(self._documents.clock())


def _details(details: dict[str, Any]) -> Callable[[Entity], Entity]:
    """A change that merges into a job's status details."""
    return lambda job: {"status_details": {**job["status_details"], **details}}


def _result_document(job_id: str, outcome: Outcome) -> Entity:
    return {"job": job_id, "custom_fields": {}, "groups": {}, "tasks": outcome.tasks}


def wire_job(job: Entity) -> Entity:
    """A job as the API shows it: jobs have ids, not names."""
    return {key: value for key, value in job.items() if key != "name"}
