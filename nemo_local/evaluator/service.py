"""The rules of the Evaluator: its entities, and the life of a job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nemo_local.core.client import Client, UpstreamError
from nemo_local.core.documents import Documents
from nemo_local.core.errors import Invalid, NotFound, PlatformError, internal_error
from nemo_local.core.ids import new_id
from nemo_local.core.jobs import JobRunner
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.secrets import masked, restored
from nemo_local.core.web import check_name, check_namespace, deleted, showable
from nemo_local.evaluator.evaluation import Evaluation, Outcome
from nemo_local.evaluator.job_records import QUEUED, JobRecords, settled, wire_job
from nemo_local.evaluator.kinds import CONFIG, JOB, PREFIXES, RESULT, SHOWN_AS, TARGET
from nemo_local.evaluator.plan import Entity, Expander, check, check_datasets, task_plans
from nemo_local.evaluator.results import JobFiles
from nemo_local.evaluator.runner import Cancelled, EvaluationFailed
from nemo_local.evaluator.shown import message, shown_result

logger = logging.getLogger(__name__)

STOPPED = "The platform was stopped; this job begins again with it."
LIVE_STOPPED = "The platform was stopped; start it, and send this evaluation again."
KILLED = "The platform was killed while this job ran; it began again."
BLANK: Entity = {"schema_version": "1.0", "custom_fields": {}}
DEFAULTS = {CONFIG: BLANK, TARGET: BLANK, RESULT: {**BLANK, "tasks": {}, "groups": {}}}
MAX_LIVE_ROWS = 10
WORKERS = 2


class EvaluatorService:
    """Configs, targets, jobs and results."""

    def __init__(
        self,
        documents: Documents,
        platform: Client,
        nim_url: str,
        jobs_dir: Path,
        token: str | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`stopping` tells whether the platform is shutting down, even while it still answers."""
        self._documents = documents
        self._platform = platform
        self._jobs_dir = jobs_dir
        self._runner = JobRunner(WORKERS, "evaluation")
        self._expander = Expander(documents, platform)
        self._evaluation = Evaluation(documents, nim_url.rstrip("/"), token)
        self._stopping = stopping
        self._stopped = False
        self._records = JobRecords(documents)
        self._left = {job["id"] for job in self._records.unfinished()}

    def start(self) -> None:
        """Queue the jobs that an earlier process left unfinished; running ones start over.

        A job that was running when two processes were killed fails: it may be the cause.
        """
        for job in self._records.unfinished():
            if job["id"] not in self._left:
                continue
            if job["status"] == "cancelling":
                self._records.move(job["id"], "cancelled", {"message": "Cancelled."})
            elif job["status_details"]["message"] == KILLED and job["status"] == "running":
                reason = "the platform was killed twice while this job ran; create it again"
                self._records.move(job["id"], "failed", {"message": reason})
            else:
                if job["status"] == "running":
                    self._requeue(job["id"], KILLED)
                self._submit(job["id"])

    def stop(self) -> None:
        """Stop the running jobs; they run again, from the start, when the platform does."""
        self._stopped = True
        self._runner.shutdown()

    # Configs, targets, results

    def create(self, kind: str, body: Entity) -> Entity:
        name = body.get("name")
        namespace = body.get("namespace") or "default"
        check_namespace(namespace)
        blank = {"type_prefix": PREFIXES[kind], **DEFAULTS[kind]}
        document = {**blank, **_filled(kind, body), **self._inline_model(kind, body)}
        entity_id = new_id(PREFIXES[kind])
        return self._documents.create(
            kind, namespace, check_name(str(name)) if name else None, document, entity_id
        )

    def retrieve(self, kind: str, namespace: str, name: str) -> Entity:
        return self._documents.get(kind, namespace, name)

    def update(self, kind: str, namespace: str, name: str, body: Entity) -> Entity:
        """The config or target after a shallow merge. Raises Invalid if it could not be shown."""

        def merge(entity: Entity) -> Entity:
            changes = restored(_filled(kind, body), entity)
            changes |= self._inline_model(kind, changes)
            return showable(SHOWN_AS[kind], {**entity, **changes})

        return self._documents.update(kind, self.retrieve(kind, namespace, name)["id"], merge)

    def delete(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        entity = self._documents.delete(kind, self.retrieve(kind, namespace, name)["id"])
        return deleted(entity, self._documents.now())

    def find(self, kind: str, query: ListQuery) -> Page:
        return self._documents.find(kind, query)

    def result(self, result_id: str) -> Entity:
        return self._documents.get_by_id(RESULT, result_id)

    def update_result(self, result_id: str, body: Entity) -> Entity:
        """The result after a shallow merge. Raises Invalid if it could not be shown."""

        def merge(entity: Entity) -> Entity:
            return showable(SHOWN_AS[RESULT], {**entity, **_filled(RESULT, body)})

        return self._documents.update(RESULT, result_id, merge)

    def delete_result(self, result_id: str) -> dict[str, Any]:
        return deleted(self._documents.delete(RESULT, result_id), self._documents.now())

    # Jobs

    def create_job(self, body: Entity, skip_validation_checks: bool = False) -> Entity:
        """The new job, already queued.

        Raises:
            Invalid: config, target or dataset cannot be evaluated; the sentence names what.
        """
        config, target = self._checked(body, skip_validation_checks)
        job = self._records.create(body, config, target)
        self._submit(job["id"])
        return job

    def job(self, job_id: str) -> Entity:
        return self._records.get(job_id)

    def jobs(self, query: ListQuery) -> Page:
        return self._records.find(query)

    def cancel(self, job_id: str) -> Entity:
        """The job, asked to stop; a queued one is cancelled. Raises Conflict if it has ended."""
        job = self._records.cancel(job_id)
        if not self._runner.cancel(job_id):
            job = self._records.move(job_id, "cancelled", {"message": "Cancelled."})
        return job

    def delete_job(self, job_id: str) -> None:
        """Remove a job with its result and its files; a running one is stopped first."""
        self._records.delete(job_id)
        self._runner.cancel(job_id)
        self._clear(job_id)

    def job_result(self, job_id: str) -> Entity:
        """The result of a completed job. Raises NotFound before that."""
        job = self.job(job_id)
        if not job["result"]:
            raise NotFound(f"Results not found: evaluation job {job_id} is {job['status']!r}")
        return self.result(job["result"])

    def results_zip(self, job_id: str) -> bytes:
        result, job = self.job_result(job_id), self.job(job_id)
        files = {"aggregate.json": shown_result(result), "config.json": masked(wire_job(job))}
        return self._zipped(job_id, "", files)

    def logs_zip(self, job_id: str) -> bytes:
        self.job(job_id)  # raises NotFound before its files are read
        return self._zipped(job_id, "logs", {})

    def live(self, body: Entity) -> dict[str, Any]:
        """A small evaluation, run at once; its failure is part of the answer.

        Raises:
            Invalid: it cannot be evaluated, or it has more than ten rows.
        """
        config, target = self._checked(body, False)
        details: dict[str, Any] = {"message": None, "task_status": {}, "progress": None}
        job_id, now = new_id(PREFIXES[JOB]), self._documents.now()
        lines: list[str] = []
        try:
            plans = task_plans(config, target, self._platform)
            rows = sum(len(plan.rows) for plan in plans)
            if rows > MAX_LIVE_ROWS:
                raise Invalid(f"live evaluation takes at most {MAX_LIVE_ROWS} rows, not {rows}")
            at_once = replace(self._evaluation, ready_within_s=0.0)
            outcome = asyncio.run(
                at_once.run(plans, config, target, self._stops, details.update, lines.append)
            )
            if self._stops():
                raise Cancelled
        except (Cancelled, EvaluationFailed, UpstreamError) as error:
            reason = LIVE_STOPPED if self._stops() else message(error)
            failed = settled({**details, "message": reason})
            logs = {"job": lines}
            return {"status": "failed", "status_details": failed, "result": None, "logs": logs}
        times = {"created_at": now, "updated_at": now}
        result = {**_result_document(job_id, outcome), **times, "id": new_id(PREFIXES[RESULT])}
        done = {**details, "message": outcome.message, "progress": 100.0}
        return {
            "status": "completed",
            "status_details": done,
            "result": {**result, "namespace": "default"},
            "logs": {"job": lines, **outcome.rows},
        }

    # Running

    def _checked(self, body: Entity, skip_datasets: bool) -> tuple[Entity, Entity]:
        config = self._expander.config(body["config"], skip_datasets)
        target = self._expander.target(body["target"], skip_datasets)
        check(config, target)
        if not skip_datasets:
            check_datasets(config, target, self._platform)
        return config, target

    def _inline_model(self, kind: str, body: Entity) -> Entity:
        """The body's inline model in full, as `{"model": …}`; empty where it has none."""
        model = body.get("model")
        if kind != TARGET or not isinstance(model, dict):
            return {}
        return {"model": self._expander.model(model)}

    def _submit(self, job_id: str) -> None:
        self._runner.submit(job_id, lambda cancelled: self._run(job_id, cancelled))

    def _run(self, job_id: str, cancelled: threading.Event) -> None:
        """Run one job from pending to its end, and record the outcome, whatever it is."""
        files = self._files(job_id)
        try:
            if self._stops() or self.job(job_id)["status"] not in QUEUED:
                return
            self._records.move(job_id, "pending")
            job = self._records.move(job_id, "running", {"progress": 0.0, "samples_processed": 0})
            if job["status"] == "running":
                self._run_claimed(job, cancelled, files)
        except NotFound:
            logger.info("evaluation job %s was deleted while it ran", job_id)
        except (Cancelled, EvaluationFailed, PlatformError) as error:
            # While the platform shuts down, the services a job calls stop before the job does.
            if self._stops():
                with contextlib.suppress(NotFound):  # deleted while it ran
                    self._requeue(job_id, STOPPED)
            elif isinstance(error, Cancelled):
                self._end(job_id, "cancelled", "Cancelled.", files)
            else:
                self._end(job_id, "failed", str(error), files)
        except Exception as error:
            self._end(job_id, "failed", internal_error(error), files)
            raise
        finally:
            try:
                self.job(job_id)
            except NotFound:
                self._clear(job_id)

    def _run_claimed(self, job: Entity, cancelled: threading.Event, files: JobFiles) -> None:
        files.log(f"evaluation job {job['id']} started")
        # A job whose checks were skipped may name a dataset that was not there.
        config = self._expander.config(job["config"])
        target = self._expander.target(job["target"])
        plans = task_plans(config, target, self._platform)
        report = partial(self._records.detail, job["id"])

        def ends() -> bool:
            return cancelled.is_set() or self._stops()

        outcome = asyncio.run(self._evaluation.run(plans, config, target, ends, report, files.log))
        if self._stops():
            raise Cancelled
        self._complete(job, outcome, files)

    def _stops(self) -> bool:
        return self._stopped or self._stopping()

    def _complete(self, job: Entity, outcome: Outcome, files: JobFiles) -> None:
        result = _result_document(job["id"], outcome)
        files.write("results/results.json", outcome.rows)
        files.log(outcome.message)
        done = {"message": outcome.message, "progress": 100.0}
        entity = self._documents.create(
            RESULT, job["namespace"], None, result, created_at=job["created_at"]
        )
        self._records.move(job["id"], "completed", done, result=entity["id"])

    def _end(self, job_id: str, status: str, reason: str, files: JobFiles) -> None:
        try:
            self._records.move(job_id, status, {"message": message(reason)})
        except NotFound:
            return  # deleted while it ran
        files.log(f"{status}: {reason}")

    def _requeue(self, job_id: str, reason: str) -> None:
        """Undo what a job has done so far, so that it can run from the start."""
        self._clear(job_id)
        again: Entity = {
            "message": reason,
            "task_status": {},
            "progress": None,
            "samples_processed": 0,
        }
        self._records.move(job_id, "pending", again)

    def _clear(self, job_id: str) -> None:
        """Remove a job's results and files; threads may do so at once."""
        for result in self._documents.all(RESULT, job=job_id):
            with contextlib.suppress(NotFound):
                self._documents.delete(RESULT, result["id"])
        self._files(job_id).remove()

    def _zipped(self, job_id: str, part: str, also: Entity) -> bytes:
        content = self._files(job_id).zipped(part, also)
        self.job(job_id)  # raises NotFound if it was deleted meanwhile, and lost files
        return content

    def _files(self, job_id: str) -> JobFiles:
        return JobFiles(self._jobs_dir, job_id, self._documents.clock)


def _filled(kind: str, body: Entity) -> Entity:
    """The body with the default in place of a null, where there is one."""
    return {k: DEFAULTS[kind].get(k) if value is None else value for k, value in body.items()}


def _result_document(job_id: str, outcome: Outcome) -> Entity:
    return {"job": job_id, "custom_fields": {}, "groups": {}, "tasks": outcome.tasks}
