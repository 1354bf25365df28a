"""Stored customization jobs: their fields, their changes of state, and what the API shows."""

from __future__ import annotations

import logging
from typing import Any

from nemo_local.core.clock import parse_timestamp
from nemo_local.core.documents import Document, Documents
from nemo_local.core.jobs import can_move
from nemo_local.customizer import hyperparameters
from nemo_local.customizer.progress import metrics
from nemo_local.customizer.task import Task

logger = logging.getLogger(__name__)

KIND = "customization_job"
PRIVATE = ("name", "run", "error")
"""Fields of a stored job that the API does not show."""


class Records:
    """Jobs in the document store. Every change is one transaction on the latest state."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def create(self, job_id: str, namespace: str, job: Document) -> Document:
        """Store a new job in state `created`."""
        now = self._documents.now()
        details = {
            "status": "created",
            "created_at": now,
            "updated_at": now,
            "elapsed_time": 0.0,
            "percentage_done": 0.0,
            "steps_completed": 0,
            "steps_per_epoch": None,
            "epochs_completed": 0,
            "best_epoch": None,
            "train_loss": None,
            "val_loss": None,
            "metrics": metrics(),
            "status_logs": [{"updated_at": now, "message": "created"}],
        }
        document = {**job, "status": "created", "status_details": details, "error": None}
        return self._documents.create(KIND, namespace, job_id, document, id=job_id)

    def get(self, job_id: str) -> Document:
        """The whole job. Raises NotFound."""
        return self._documents.get_by_id(KIND, job_id)

    def all(self) -> list[Document]:
        return self._documents.all(KIND)

    def delete(self, job_id: str) -> None:
        self._documents.delete(KIND, job_id)

    def move(
        self, job_id: str, status: str, message: str = "", detail: str | None = None
    ) -> str | None:
        """Move the job to a status; returns the one it left, or None when the move is not allowed.

        A message becomes a line of the job's log.
        """
        left: str | None = None

        def change(job: Document) -> Document:
            nonlocal left
            left = job["status"] if can_move(job["status"], status) else None
            if left is None:
                return {}
            changed = self._logged(job, message, detail) if message else self._touched(job)
            changed["status"] = status
            run = job["run"]
            if status == "running":
                run = {"started_at": self._documents.now(), **run}
            return {"status": status, "status_details": changed, "run": run}

        self._documents.update(KIND, job_id, change)
        if left is not None:
            logger.info("customization job %s is %s", job_id, status)
        return left

    def log(self, job_id: str, message: str, detail: str | None = None) -> None:
        """Add a line to the job's log."""
        self._documents.update(
            KIND, job_id, lambda job: {"status_details": self._logged(job, message, detail)}
        )

    def progress(self, job_id: str, details: dict[str, Any]) -> None:
        """Merge what training reported into the job's details."""
        self._documents.update(
            KIND, job_id, lambda job: {"status_details": {**self._touched(job), **details}}
        )

    def keep(self, job_id: str, **fields: Any) -> Document:
        """Store fields of the job's run, which the API does not show."""
        return self._documents.update(KIND, job_id, lambda job: {"run": {**job["run"], **fields}})

    def keep_error(self, job_id: str, error: dict[str, Any]) -> None:
        """Store what container-logs says about the failure."""
        self._documents.update(KIND, job_id, {"error": error})

    def _touched(self, job: Document) -> dict[str, Any]:
        now = self._documents.now()
        details = {**job["status_details"], "updated_at": now}
        started = job["run"].get("started_at")
        if started:
            elapsed = parse_timestamp(now) - parse_timestamp(started)
            details["elapsed_time"] = round(elapsed.total_seconds(), 3)
        return details

    def _logged(self, job: Document, message: str, detail: str | None) -> dict[str, Any]:
        details = self._touched(job)
        line = {"updated_at": details["updated_at"], "message": message}
        if detail:
            line["detail"] = detail
        details["status_logs"] = [*details["status_logs"], line]
        return details


def fields_of(body: Document, task: Task, option: Document) -> Document:
    """A new job's fields: what the request asked for, and the settings it resolved to."""
    snapshot = {
        "base_model": task.base_model,
        "max_seq_length": task.max_seq_length,
        "precision": task.precision,
        "prompt_template": task.prompt_template,
        "chat_prompt_template": task.chat_prompt_template,
        "tokenizer": task.tokenizer,
        "training_option": option,
        "name": None,
        "namespace": None,
    }
    return {
        "description": body.get("description"),
        "project": body.get("project"),
        "ownership": body.get("ownership"),
        "custom_fields": body.get("custom_fields") or {},
        "config_snapshot": snapshot,
        "dataset": task.dataset,
        "dataset_parameters": body.get("dataset_parameters"),
        "hyperparameters": hyperparameters.shown(body["hyperparameters"], task.plan),
        "integrations": body.get("integrations"),
    }


def shown(job: Document) -> Document:
    """The job as the API shows it."""
    return {key: value for key, value in job.items() if key not in PRIVATE}
