"""What a job's container-logs show: the training process's output and the job's events."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

from nemo_local.core.clock import parse_timestamp
from nemo_local.core.documents import Document

CONTAINER = "customizer-training-job"
LOG_BYTES = 1_000_000
"""Bytes of a log that are shown: those at its end."""


def container_logs(job: Document, folder: Path) -> Document:
    """The body of the reply to a job's `container-logs`."""
    path = folder / "train.log"
    text = ""
    if path.is_file():
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    entry = {
        "object": "Pod",
        "status": {"phase": job["status"], "answered_by": job["run"]["answered_by"]},
        "logs": {"main": text},
        "events": [_event(line) for line in job["status_details"]["status_logs"]],
    }
    return {"entries": {CONTAINER: entry}, "error": _error(job)}


def _event(line: dict[str, Any]) -> dict[str, Any]:
    # Kubernetes counts seconds since the epoch.
    moment = int(parse_timestamp(line["updated_at"]).replace(tzinfo=UTC).timestamp())
    failed = line["message"].endswith("_Failed")
    return {
        "type": "Warning" if failed else "Normal",
        "reason": line["message"],
        "message": line.get("detail", ""),
        "count": "1",
        "first_seen": moment,
        "last_seen": moment,
    }


def _error(job: Document) -> dict[str, Any] | None:
    error = job.get("error")
    if not error:
        return None
    return {
        "message": error["message"],
        "explanation": None,
        "exception_type": error.get("exception_type"),
        "stack_trace": error.get("trace"),
        "timestamp": error.get("at"),
    }
