"""Runs a task's rows in parallel: each is rendered, sent to the model, and scored."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nemo_local.core.client import MAX_CONNECTIONS
from nemo_local.evaluator.datasets import Row
from nemo_local.evaluator.metrics import METRICS, RowError, Scores, bleu_texts, score_row
from nemo_local.evaluator.models import ModelClient, ModelError, RequestFailed, output_text
from nemo_local.evaluator.shown import message
from nemo_local.evaluator.templates import RenderError, item_context, render

logger = logging.getLogger(__name__)

T = TypeVar("T")
DEFAULT_PARALLELISM = 8
PROGRESS_INTERVAL_S = 0.25
SAMPLING = ("temperature", "top_p", "max_tokens", "stop")


class EvaluationFailed(Exception):
    """The evaluation has no result; its job shows the message as the reason."""


class Cancelled(Exception):
    """The job was asked to stop."""


@dataclass
class RowResult:
    """The result of one row."""

    item: Row
    sample: dict[str, Any] = field(default_factory=dict)
    """`output_text` and `response`; empty when no answer came."""
    scores: dict[str, Scores] = field(default_factory=dict)
    """Per metric, every score by name; NaN where it is undefined."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Every model call: `{"request": …, "response": …}`."""
    error: str | None = None
    """Why the row, or a metric of it, failed; None when nothing did."""
    scored: bool = False
    """Whether any metric could score the row."""
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Per bleu metric, candidate and first reference, for the corpus score."""

    @property
    def answered(self) -> bool:
        """Whether a model replied."""
        return any(call["response"] is not None for call in self.requests)


@dataclass(frozen=True)
class TaskPlan:
    """One task, ready to run."""

    name: str
    rows: list[Row]
    metrics: Mapping[str, Mapping[str, Any]]
    template: Any
    """Request template; None = no model call, the rows carry the responses."""
    outputs: list[Row] | None = None
    """Pre-generated responses, one per row; None = in the rows themselves."""


@dataclass(frozen=True)
class Sampling:
    """The `params` of a config."""

    parallelism: int
    request_timeout_s: float
    max_retries: int
    defaults: Mapping[str, Any]
    """Request fields that a template may override."""

    @classmethod
    def of(cls, params: Mapping[str, Any] | None) -> Sampling:
        given = {key: value for key, value in (params or {}).items() if value is not None}
        defaults = {key: given[key] for key in SAMPLING if key in given}
        if "max_tokens" in defaults:
            defaults["max_tokens"] = int(defaults["max_tokens"])
        return cls(
            parallelism=min(int(given.get("parallelism", DEFAULT_PARALLELISM)), MAX_CONNECTIONS),
            request_timeout_s=float(given.get("request_timeout", 300)),
            max_retries=int(given.get("max_retries", 3)),
            defaults={**dict(given.get("extra") or {}), **defaults},
        )


Cancellation = Callable[[], bool]
"""Tells whether the job should stop."""
Progress = Callable[[str, int], None]
"""Called with the task's name and how many of its rows are done."""


async def unless_cancelled(work: Coroutine[Any, Any, T], cancelled: Cancellation) -> T:
    """The result of `work`. Soon after a cancellation it raises Cancelled and ends the work."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            if cancelled():
                raise Cancelled
            await asyncio.wait({task}, timeout=PROGRESS_INTERVAL_S)
        return task.result()
    finally:
        task.cancel()


async def run_task(
    task: TaskPlan,
    model: ModelClient | None,
    sampling: Sampling,
    cancelled: Cancellation,
    on_progress: Progress,
) -> list[RowResult]:
    """Every row's result, in dataset order; at most `parallelism` rows run at once.

    Raises:
        Cancelled: `cancelled` returned true.
        EvaluationFailed: the model does not exist.
    """
    results: list[RowResult | None] = [None] * len(task.rows)
    numbers = iter(range(len(task.rows)))

    async def work(todo: Iterator[int]) -> None:
        for number in todo:
            if cancelled():
                return
            results[number] = await _run_row(task, number, model, sampling)
            await asyncio.sleep(0)  # rows without a model never wait, and would starve the others

    workers = [
        asyncio.create_task(work(numbers)) for _ in range(min(sampling.parallelism, len(task.rows)))
    ]
    try:
        pending = set(workers)
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=PROGRESS_INTERVAL_S, return_when=asyncio.FIRST_EXCEPTION
            )
            if cancelled():
                raise Cancelled
            for worker in done:
                worker.result()
            on_progress(task.name, sum(result is not None for result in results))
    except ModelError as error:
        raise EvaluationFailed(str(error)) from error
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [result for result in results if result is not None]


def request_body(template: Any, context: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    """The request that a template renders to, without the model's name.

        request_body("{{ item.q }}", {"item": {"q": "hi"}}, {"max_tokens": 8})
        -> {"max_tokens": 8, "prompt": "hi"}

    Raises:
        RenderError: a variable is missing, or the template has neither messages nor prompt.
    """
    rendered = render(template, context)
    body = {"prompt": rendered} if isinstance(rendered, str) else rendered
    if not isinstance(body, dict) or not ({"messages", "prompt"} & body.keys()):
        raise RenderError(
            f"the template renders to a value of type {type(body).__name__}, not to a string, and "
            "not to an object with 'messages' or 'prompt'"
        )
    body = {**defaults, **body}
    if not body.get("tools"):
        # A NIM refuses an empty list of tools, and a choice among none.
        body = {key: body[key] for key in body if key not in ("tools", "tool_choice")}
    return body


def offline_sample(row: Row) -> dict[str, Any]:
    """The sample of a row that already carries its response; empty when it carries none.

    {"response": "Paris"} -> {"output_text": "Paris", "response": "Paris"}
    """
    if not {"output_text", "response"} & row.keys():
        return {}
    response = row.get("response")
    text = output_text(response) if response is None or isinstance(response, dict) else response
    own = row.get("output_text")
    return {"output_text": text if own is None else own, "response": response}


async def _run_row(
    task: TaskPlan, number: int, model: ModelClient | None, sampling: Sampling
) -> RowResult:
    result = RowResult(item=task.rows[number])
    item = item_context(result.item)
    context: dict[str, Any] = {**item, "item": item}
    try:
        if model is None or task.template is None:
            result.sample = offline_sample(task.outputs[number] if task.outputs else result.item)
        else:
            result.sample = await _ask(task, model, sampling, context, result)
        _score(task, {**context, **result.sample, "sample": result.sample}, result)
    except ModelError:
        raise
    except (RenderError, RequestFailed) as error:
        _fail(task, result, str(error))
    except Exception as error:  # whatever a row or a reply holds, the other rows go on
        logger.debug("a row of task %s failed", task.name, exc_info=True)
        _fail(task, result, f"{type(error).__name__}: {error}")
    return result


async def _ask(
    task: TaskPlan,
    model: ModelClient,
    sampling: Sampling,
    context: Mapping[str, Any],
    result: RowResult,
) -> dict[str, Any]:
    body = request_body(task.template, context, sampling.defaults)
    body["model"] = model.endpoint.model_id
    call: dict[str, Any] = {"request": body, "response": None}
    result.requests.append(call)
    call["response"] = await model.ask(body)
    return {"output_text": output_text(call["response"]), "response": call["response"]}


def _score(task: TaskPlan, context: Mapping[str, Any], result: RowResult) -> None:
    errors = []
    for name, metric in task.metrics.items():
        params = metric.get("params") or {}
        try:
            result.scores[name] = score_row(metric["type"], params, context)
            if metric["type"] == "bleu":
                candidate, references = bleu_texts(params, context)
                result.texts[name] = (candidate, references[0])
            result.scored = True
        except RowError as error:
            errors.append(f"metric {name!r}: {error}")
            result.scores[name] = _nothing(metric["type"])
    result.error = message("; ".join(errors)) if errors else None


def _fail(task: TaskPlan, result: RowResult, reason: str) -> None:
    result.error = message(reason)
    result.scores = {name: _nothing(task.metrics[name]["type"]) for name in task.metrics}


def _nothing(kind: str) -> Scores:
    return dict.fromkeys(METRICS[kind].scores, math.nan)
