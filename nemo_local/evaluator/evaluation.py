"""Runs one evaluation: every task of a config against one target, reporting progress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nemo_local.core.documents import Documents
from nemo_local.core.urls import same_address
from nemo_local.evaluator.models import ModelClient, ModelError, resolve
from nemo_local.evaluator.plan import Entity
from nemo_local.evaluator.results import aggregate, row_detail
from nemo_local.evaluator.runner import (
    Cancellation,
    EvaluationFailed,
    RowResult,
    Sampling,
    TaskPlan,
    run_task,
    unless_cancelled,
)
from nemo_local.evaluator.shown import message, strict_json

Report = Callable[[dict[str, Any]], None]
"""Called with the status details that changed."""
Log = Callable[[str], None]


@dataclass
class Outcome:
    """The outcome of an evaluation, task by task."""

    tasks: dict[str, Any] = field(default_factory=dict)
    """Per task `metrics` and `data`, as a result shows them."""
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Per task every row's detail."""
    failures: list[str] = field(default_factory=list)
    """What went wrong, for each task in which every row has an error."""

    @property
    def message(self) -> str:
        """The status message of a completed job."""
        if self.failures:
            return message(f"Job completed, but {'; '.join(self.failures)}")
        return "Job completed successfully."


@dataclass(frozen=True)
class Evaluation:
    """Runs configs against targets."""

    documents: Documents
    nim_url: str
    token: str | None = None
    ready_within_s: float = 60.0
    """Seconds that our inference server may take to start and load its models."""

    async def run(
        self,
        plans: list[TaskPlan],
        config: Entity,
        target: Entity,
        cancelled: Cancellation,
        report: Report,
        log: Log,
    ) -> Outcome:
        """The outcome of every task, one task after the other.

        A task fails when none of its rows could be scored; the others keep their scores.

        Raises:
            Cancelled: `cancelled` returned true.
            EvaluationFailed: the model does not exist, or no row of any task gave a result.
        """
        sampling = Sampling.of(config["params"])
        asks = any(plan.template is not None for plan in plans)
        progress, outcome = _Progress(plans, report), Outcome()
        worth_keeping = False
        async with self._model(target if asks else None, sampling, cancelled) as (model, data):
            if model:
                log(f"asking {model.endpoint.root}: {data}")
            for plan in plans:
                log(f"task {plan.name}: {len(plan.rows)} rows, {sampling.parallelism} at a time")
                progress.enter(plan.name, "running")
                rows = await run_task(plan, model, sampling, cancelled, progress.rows)
                scored = any(row.scored for row in rows)
                progress.enter(plan.name, "completed" if scored else "failed")
                _log_failures(plan, rows, log)
                if all(row.error for row in rows):
                    what = "every row" if not scored else "a metric of every row"
                    outcome.failures.append(
                        f"{what} of task {plan.name!r} failed ({len(rows)} rows); "
                        f"the first one: {rows[0].error}"
                    )
                worth_keeping |= scored or any(row.answered for row in rows)
                outcome.tasks[plan.name] = {"metrics": aggregate(rows, plan.metrics)}
                if plan.template is not None:
                    outcome.tasks[plan.name]["data"] = data
                outcome.rows[plan.name] = [row_detail(row) for row in rows]
        if not worth_keeping:
            raise EvaluationFailed(outcome.failures[0])
        return outcome

    @asynccontextmanager
    async def _model(
        self, target: Entity | None, sampling: Sampling, cancelled: Cancellation
    ) -> AsyncIterator[tuple[ModelClient | None, dict[str, Any]]]:
        """The target's model, and the names of the model asked for and of the one that answers."""
        if target is None:
            yield None, {}
            return
        try:
            endpoint = resolve(target["model"], self.documents, self.nim_url, self.token)
        except ModelError as error:
            raise EvaluationFailed(str(error)) from error
        model = ModelClient(endpoint, sampling.request_timeout_s, sampling.max_retries)
        try:
            if same_address(endpoint.root, f"{self.nim_url}/v1"):
                await unless_cancelled(model.wait_until_ready(self.ready_within_s), cancelled)
            listing = await unless_cancelled(model.identify(), cancelled)
            names: dict[str, Any] = {"model": endpoint.model_id}
            names |= {key: listing[key] for key in ("answered_by", "stand_in") if key in listing}
            yield model, strict_json(names)
        except ModelError as error:
            raise EvaluationFailed(str(error)) from error
        finally:
            await model.close()


class _Progress:
    """Finished rows and task states, reported as a job's status details."""

    def __init__(self, plans: list[TaskPlan], report: Report) -> None:
        self._status = {plan.name: "pending" for plan in plans}
        self._total = sum(len(plan.rows) for plan in plans)
        self._finished = dict.fromkeys(self._status, 0)
        self._report = report

    def enter(self, task: str, status: str) -> None:
        self._status[task] = status
        self._send()

    def rows(self, task: str, finished: int) -> None:
        if finished != self._finished[task]:
            self._finished[task] = finished
            self._send()

    def _send(self) -> None:
        done = sum(self._finished.values())
        self._report(
            {
                "progress": 100.0 * done / self._total,
                "samples_processed": done,
                "task_status": dict(self._status),
            }
        )


def _log_failures(plan: TaskPlan, rows: list[RowResult], log: Log) -> None:
    failed = [(number, row.error) for number, row in enumerate(rows) if row.error]
    log(f"task {plan.name}: {len(rows) - len(failed)} rows scored, {len(failed)} failed")
    for number, error in failed:
        log(f"task {plan.name} row {number}: {error}")
