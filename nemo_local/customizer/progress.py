"""A training's progress: the events its process reports, and the job status made from them.

The training process appends one JSON object a line to `progress.jsonl` in the job's folder. A file
outlives both processes and needs no token; a restarted platform reads it from the start.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nemo_local.core.clock import Clock, timestamp, utc_now

FILE = "progress.jsonl"

STOPPED, DISK_FULL = 143, 28
"""Exit statuses of a training process: asked to stop; disk too full to report the failure."""

LIKELY_CAUSES = {"SIGKILL": " (most often the machine ran out of memory)"}
"""What a message adds, by the signal that ended a training process."""

Kind = Literal[
    "prepared",  # rows, validation_rows, dropped, truncated (of both), validation_dropped,
    #              steps_per_epoch, total_steps, resumed_from (steps kept from an earlier process,
    #              0 = none), note, trackers
    "step",  # steps (completed)
    "train_loss",  # step (0-based), value
    "val_loss",  # step (0-based), value
    "tool_calls",  # step (0-based), names, calls (shares of validation rows, 0 to 1)
    "finished",  # steps, best_epoch
    "failed",  # message, exception_type, trace
]

Event = dict[str, Any]


class TrainingFailed(Exception):
    """Training cannot start or go on; the message says why."""


class OutOfMemory(TrainingFailed):
    """Memory ran out in one of several processes; all may begin again with less."""

    def __init__(self, reason: str, rows: int) -> None:
        """`rows` is the number of rows a pass had when memory ran out."""
        super().__init__(reason)
        self.rows = rows


class Stopped(Exception):
    """The run was asked to stop before its end; its newest checkpoint is kept."""


class ProgressWriter:
    """Appends events to `progress.jsonl`; each line is with the system when `write` returns."""

    def __init__(self, job_dir: Path, clock: Clock = utc_now) -> None:
        self._clock = clock
        path = job_dir / FILE
        written = path.read_bytes() if path.exists() else b""
        self._file = path.open("a", encoding="utf-8")
        if written and not written.endswith(b"\n"):  # a killed process may have left half a line
            self._file.write("\n")

    def write(self, kind: Kind, **values: Any) -> None:
        """Append an event, stamped with the current time."""
        event = {"event": kind, "at": timestamp(self._clock()), **values}
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Unheard(ProgressWriter):
    """A writer that discards events, for a process whose training another one reports."""

    def __init__(self) -> None:
        """Open no file."""

    def write(self, kind: Kind, **values: Any) -> None:
        """Discard the event."""


class ProgressReader:
    """Reads the events that were appended to `progress.jsonl` since the last call."""

    def __init__(self, job_dir: Path) -> None:
        self._path = job_dir / FILE
        self._offset = 0

    def read(self) -> list[Event]:
        """The events of new, whole lines; a half-written line waits, a broken one is left out."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [event for event in map(_event, whole.splitlines()) if event is not None]


@dataclass
class Progress:
    """The state of a training run, built from its events."""

    prepared: Event = field(default_factory=dict)
    steps: int = 0
    train_loss: list[dict[str, Any]] = field(default_factory=list)
    """Points {"step", "timestamp", "value"}; steps are 0-based and global."""
    val_loss: list[dict[str, Any]] = field(default_factory=list)
    tool_calls: list[Event] = field(default_factory=list)
    finished: bool = False
    failure: Event | None = None

    def apply(self, events: Iterable[Event]) -> None:
        """Update the state with events, in the order in which they were written."""
        for event in events:
            kind = event["event"]
            if kind == "prepared":
                # A process that resumes repeats the steps after its checkpoint.
                self.prepared, self.steps = event, event["resumed_from"]
                self.failure, self.finished = None, False
                for series in (self.train_loss, self.val_loss, self.tool_calls):
                    series[:] = [point for point in series if point["step"] < self.steps]
            elif kind in ("train_loss", "val_loss"):
                point = {"step": event["step"], "timestamp": event["at"], "value": event["value"]}
                (self.train_loss if kind == "train_loss" else self.val_loss).append(point)
            elif kind == "tool_calls":
                self.tool_calls.append(event)
            elif kind == "failed":
                self.failure = event
            else:
                self.steps = event["steps"]
                self.finished = self.finished or kind == "finished"

    @property
    def best_epoch(self) -> int | None:
        """Epoch (from 1) of the lowest validation loss; None before the first validation."""
        step = self._best_step
        return None if step is None else step // int(self.prepared["steps_per_epoch"]) + 1

    @property
    def best_tool_calls(self) -> Event | None:
        """The `tool_calls` event at the lowest validation loss; None when none were measured."""
        step = self._best_step
        return next((event for event in self.tool_calls if event["step"] == step), None)

    @property
    def _best_step(self) -> int | None:
        best = min(self.val_loss, key=lambda point: point["value"], default=None)
        return None if best is None else int(best["step"])

    def details(self) -> dict[str, Any]:
        """The fields of `status_details` that training changes."""
        total = self.prepared.get("total_steps")
        per_epoch = self.prepared.get("steps_per_epoch")
        return {
            "steps_completed": self.steps,
            "steps_per_epoch": per_epoch,
            "epochs_completed": self.steps // per_epoch if per_epoch else 0,
            "percentage_done": round(100 * self.steps / total, 2) if total else 0.0,
            "best_epoch": self.best_epoch,
            "train_loss": _lowest(self.train_loss),
            "val_loss": _lowest(self.val_loss),
            "metrics": metrics(self.train_loss, self.val_loss),
        }


def metrics(
    train_loss: list[dict[str, Any]] | None = None, val_loss: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Both loss series in the shape of the API."""
    series = {"train_loss": list(train_loss or []), "val_loss": list(val_loss or [])}
    return {"keys": list(series), "metrics": series}


def read_all(job_dir: Path) -> Progress:
    """A job's progress from everything reported so far."""
    progress = Progress()
    progress.apply(ProgressReader(job_dir).read())
    return progress


def _event(line: bytes) -> Event | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "event" in value else None


def _lowest(series: list[dict[str, Any]]) -> float | None:
    return min((point["value"] for point in series), default=None)
