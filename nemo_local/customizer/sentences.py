"""Sentences for a job's log: what its training will do, how it ended, how to serve it."""

from __future__ import annotations

import signal
from typing import Any

from nemo_local.customizer.progress import DISK_FULL, LIKELY_CAUSES, STOPPED, Progress
from nemo_local.customizer.references import OutputModel


def how_it_ended(returncode: int, progress: Progress) -> str:
    """Why a training process ended early without reporting a failure."""
    if returncode == DISK_FULL:
        return "the disk is full, so that not even the reason could be written; make room"
    at = f"after step {progress.steps} of {progress.prepared.get('total_steps', '?')}"
    if returncode == STOPPED:
        return f"the training process was told to end (SIGTERM) {at}"
    if returncode < 0:
        name = signal.Signals(-returncode).name
        hint = LIKELY_CAUSES.get(name, "")
        return f"the training process was ended by {name} {at}{hint}; see container-logs"
    return f"the training process ended with status {returncode} {at}; see container-logs"


def summary(prepared: dict[str, Any]) -> str:
    """What a run will do: its sequences, steps, computation and trackers."""
    parts = [
        f"{prepared['rows']} training and {prepared['validation_rows']} validation sequences",
        f"{prepared['total_steps']} steps",
        prepared["note"],
        *prepared["trackers"],
    ]
    for key in ("dropped", "truncated"):
        if prepared[key]:
            parts.append(f"{prepared[key]} {key} at max_seq_length")
    if not prepared["validation_rows"] and prepared["validation_dropped"]:
        parts.append("no validation, as none of its rows fits into max_seq_length")
    if prepared["resumed_from"]:
        parts.append(f"resumed from step {prepared['resumed_from']}")
    return ", ".join(parts)


def result(progress: Progress) -> str:
    """What a run achieved: its steps, best epoch and share of right tool calls."""
    parts = [f"{progress.steps} steps, best epoch {progress.best_epoch}"]
    found = progress.best_tool_calls
    if found:
        parts.append(
            f"tool calls there: {found['names']:.2f} right tool, "
            f"{found['calls']:.2f} right tool and arguments"
        )
    return ", ".join(parts)


def how_to_serve(output: OutputModel) -> str:
    """How to serve an output that is a whole model, not an adapter."""
    return (
        f"{output} is a whole model, which is served once it is deployed: POST "
        f"/v1/deployment/model-deployments with config.model {str(output)!r}"
    )


def not_registered(output: OutputModel) -> str:
    """Why an output is not served: its entity was deleted during training."""
    return (
        f"{output} is stored, but not served: its model entity was deleted; "
        "POST /v1/models registers it again"
    )
