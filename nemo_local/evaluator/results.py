"""Results: the mean of every score, and the files of a finished job."""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from nemo_local.core.clock import Clock, timestamp
from nemo_local.evaluator.metrics import corpus_bleu
from nemo_local.evaluator.runner import RowResult
from nemo_local.evaluator.shown import message, strict_json


def aggregate(rows: list[RowResult], metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The `metrics` of a task's result.

    {"m": {"scores": {"em": {"value": 0.5, "stats": {"count": 2, "sum": 1.0, "mean": 0.5}}}}}
    """
    results = {}
    for name in metrics:
        scores = {key: [row.scores[name][key] for row in rows] for key in rows[0].scores[name]}
        values = {key: _statistics(column) for key, column in scores.items()}
        pairs = [row.texts[name] for row in rows if name in row.texts]
        if pairs:
            values["corpus"] = {"value": corpus_bleu(pairs)}
        results[name] = {"scores": values}
    return results


def row_detail(row: RowResult) -> dict[str, Any]:
    """One row as `results.json` shows it, in strict JSON; NaN becomes null."""
    metrics = {
        name: {"scores": {key: {"value": value, "stats": None} for key, value in scores.items()}}
        for name, scores in row.scores.items()
    }
    detail = {"item": row.item, "sample": row.sample, "metrics": metrics, "requests": row.requests}
    try:
        found: dict[str, Any] = strict_json({**detail, "error": row.error} if row.error else detail)
    except RecursionError:
        error = "the row is nested too deeply to be shown"
        nothing: dict[str, Any] = {"item": {}, "sample": {}, "requests": [], "error": error}
        return {**nothing, "metrics": strict_json(metrics)}
    return found


class JobFiles:
    """The folder of one job: `results/results.json` and `logs/`."""

    def __init__(self, jobs_dir: Path, job_id: str, clock: Clock) -> None:
        self.folder = jobs_dir / job_id
        self._clock = clock

    def log(self, line: str) -> None:
        """Append one line to the job's log, prefixed with the time."""
        now: datetime = self._clock()
        path = self.folder / "logs" / "job.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{timestamp(now)} {message(line)}\n")

    def write(self, name: str, value: Any) -> None:
        """Write one JSON file, whole or not at all."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_bytes(_json(value))
        draft.replace(path)

    def zipped(self, part: str, also: Mapping[str, Any]) -> bytes:
        """One part of the folder as a zip under `<job id>/`, with `also` as JSON files.

        The part "" is the whole folder. Another thread may be removing it; files that are already
        gone are left out.
        """
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, value in also.items():
                archive.writestr(f"{self.folder.name}/{name}", _json(value))
            with suppress(FileNotFoundError):
                for path in sorted((self.folder / part).rglob("*")):
                    name = path.relative_to(self.folder).as_posix()
                    if path.is_file() and path.suffix != ".part":
                        archive.write(path, f"{self.folder.name}/{name}")
        return buffer.getvalue()

    def remove(self) -> None:
        """Remove the folder; another thread may be removing it too."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode()


def _statistics(column: list[float]) -> dict[str, Any]:
    """Mean, sum and count of the values that are not NaN; `value` is null when all are."""
    numbers = [value for value in column if not math.isnan(value)]
    stats: dict[str, Any] = {"count": len(numbers), "sum": float(sum(numbers))}
    if numbers:
        stats["mean"] = stats["sum"] / len(numbers)
    if len(numbers) < len(column):
        stats["nan_count"] = len(column) - len(numbers)
    return {"value": stats.get("mean"), "stats": stats}
