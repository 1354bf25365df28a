"""Evaluator verbs: start one evaluation, read its scores, and look at the rows behind them."""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from nemo_microservices import NeMoMicroservices
from nemo_microservices.types.evaluation import EvaluationJob

from utils.errors import InvalidFile
from utils.http import translates
from utils.intervals import Proportion
from utils.jobs import RECIPE, UNDER_WAY, OnUpdate, fingerprint, wait_for_job

NAME_SCORE = "function_name_accuracy"
ARGS_SCORE = "function_name_and_args_accuracy"
COUNTED_SCORES = (NAME_SCORE, ARGS_SCORE, "string-check", "number-check", "em")
"""Scores that are 1 or 0 for each row."""
_CALL_IN_TEXT = re.compile(
    r"""\{[^{}]*\b(?:name|function|parameters|arguments)\b["']?\s*:""", re.DOTALL
)
"""The beginning of an object that has a key of tool calls."""

Kind = Literal[
    "right",  # the right tool with the right arguments
    "no call",  # an answer in words
    "call written as text",  # something like a call, but not in a form that the server accepts
    "invented tool",  # a tool that was not offered
    "wrong tool",  # an offered tool, not the right one
    "broken arguments",  # the arguments are not a JSON object
    "missing argument",  # an expected argument is absent
    "extra argument",  # an argument nobody asked for
    "wrong value",  # the right arguments with another value
    "no answer",  # no verdict: the request failed, or the row's gold answer is malformed
]


@dataclass(frozen=True)
class RowResult:
    """What one model did with one evaluation row."""

    task: str
    index: int
    """Place of the row in the task's data file, from 0."""
    question: str
    """Text of the last user message."""
    offered: tuple[str, ...]
    """Names of the tools in the request."""
    expected: list[dict[str, Any]]
    """Calls of the gold answer: [{"name": ..., "arguments": {...}}]."""
    predicted: list[dict[str, Any]]
    """Calls of the reply; `arguments` stays a string where it is not JSON."""
    text: str
    """Text of the reply, "" when it only called."""
    name_right: bool | None
    args_right: bool | None
    """Both None where the evaluator has no verdict, as the reply never came or the gold answer is
    malformed: such a row says nothing about the model."""

    @property
    def kind(self) -> Kind:
        """What is wrong with the row, or `right`."""
        if self.name_right is None:
            return "no answer"
        if self.name_right and self.args_right:
            return "right"
        if not self.predicted:
            looks_like_call = _CALL_IN_TEXT.search(self.text) or any(
                re.search(rf"\b{re.escape(name)}\s*\(", self.text) for name in self.offered
            )
            return "call written as text" if looks_like_call else "no call"
        if any(call["name"] not in self.offered for call in self.predicted):
            return "invented tool"
        if not self.name_right:
            return "wrong tool"
        if not all(isinstance(call["arguments"], dict) for call in self.predicted):
            return "broken arguments"
        expected = {call["name"]: call["arguments"] for call in self.expected}
        predicted = {call["name"]: call["arguments"] for call in self.predicted}
        if any(set(expected[name]) - set(predicted[name]) for name in expected):
            return "missing argument"
        if any(set(predicted[name]) - set(expected[name]) for name in expected):
            return "extra argument"
        return "wrong value"


@translates("EVALUATOR_URL")
def start_evaluation(
    client: NeMoMicroservices,
    *,
    config: Mapping[str, Any],
    model: str,
    namespace: str,
    dataset_contents: str,
) -> EvaluationJob:
    """The job that evaluates `model` (its NIM id) on the tasks of `config`, in the background.

    A job that is still under way with the same model, config and data, such as an interrupted
    notebook leaves behind, is returned instead of a new one. One that has ended is not reused.
    """
    recipe = fingerprint(config, model, dataset_contents)
    for job in client.evaluation.jobs.list(filter={"namespace": namespace}, sort="-created_at"):
        if (job.custom_fields or {}).get(RECIPE) == recipe and job.status in UNDER_WAY:
            return job
    return client.evaluation.jobs.create(
        namespace=namespace,
        config=cast(Any, config),
        target={"type": "model", "model": model},
        custom_fields={RECIPE: recipe},
    )


def wait_for_evaluation(
    client: NeMoMicroservices, job_id: str, *, timeout_s: float, on_update: OnUpdate | None = None
) -> EvaluationJob:
    """The finished job.

    Raises:
        JobFailed: it ended as anything but `completed`; the message carries the server's reason.
        TimedOut: it is still running after `timeout_s` seconds.
    """
    return wait_for_job(
        lambda: _job(client, job_id),
        what=f"evaluation job {job_id}",
        timeout_s=timeout_s,
        on_update=on_update,
    )


@translates("EVALUATOR_URL")
def scores(client: NeMoMicroservices, job_id: str) -> dict[str, dict[str, Proportion]]:
    """Scores of a finished job by task: {"seen": {"function_name_accuracy": Proportion}}.

    Only scores that are 1 or 0 for each row are shares of rows; the others (`sentence`, `f1_score`,
    `rouge_1_score`, ...) are left out. A score that two metrics of a task give is named after its
    metric too: "calls.function_name_accuracy".

    Rows whose arguments were not JSON have no argument score on the server (NaN). They are wrong
    all the same, so both scores are counted over the rows that have a name score.
    """
    result = client.evaluation.jobs.results(job_id)
    found: dict[str, dict[str, Proportion]] = {}
    for task, outcome in (result.tasks or {}).items():
        shares = {
            (metric, name): share
            for metric, given in (outcome.metrics or {}).items()
            for name, share in _shares(given.scores or {}).items()
        }
        times = Counter(name for _, name in shares)
        found[task] = {
            name if times[name] == 1 else f"{metric}.{name}": share
            for (metric, name), share in shares.items()
        }
    return found


@translates("EVALUATOR_URL")
def row_results(client: NeMoMicroservices, job_id: str) -> list[RowResult]:
    """Every row of a finished job with the model's reply, in the order of the data files.

    Raises:
        InvalidFile: the download is not a zip archive, or one without `results.json`.
    """
    archive = client.evaluation.jobs.download_results(job_id).read()
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            names = sorted(files.namelist())
            name = next((n for n in names if n.endswith("results.json")), None)
            tasks = json.loads(files.read(name)) if name else None
    except zipfile.BadZipFile:
        raise InvalidFile(
            f"The results of {job_id} are not a zip archive but begin with {archive[:60]!r}: see "
            "that EVALUATOR_URL is the service's own URL, then run this cell again."
        ) from None
    if tasks is None:
        raise InvalidFile(
            f"The results of {job_id} hold {', '.join(names) or 'no files'}, but no results.json: "
            "run the evaluation again."
        )
    return [
        _row_result(task, index, row)
        for task, rows in tasks.items()
        for index, row in enumerate(rows)
    ]


def errors_by_kind(rows: Iterable[RowResult]) -> dict[Kind, list[RowResult]]:
    """The wrong rows, grouped by what went wrong, most frequent kind first."""
    groups: dict[Kind, list[RowResult]] = {}
    for row in rows:
        if row.kind != "right":
            groups.setdefault(row.kind, []).append(row)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def errors_by_tool(rows: Iterable[RowResult]) -> dict[str, tuple[int, int, Kind]]:
    """Tools by the number of wrong rows: {"get_weather": (wrong, all, most frequent kind)}.

    A row belongs to the tool it should have called. Rows without a verdict and tools without an
    error are left out.
    """
    kinds: dict[str, Counter[Kind]] = {}
    for row in rows:
        if row.kind == "no answer":
            continue
        for name in {call["name"] for call in row.expected}:
            kinds.setdefault(name, Counter())[row.kind] += 1
    found: dict[str, tuple[int, int, Kind]] = {}
    for name, counts in kinds.items():
        total = counts.total()
        del counts["right"]
        if counts:
            found[name] = (counts.total(), total, counts.most_common(1)[0][0])
    return dict(sorted(found.items(), key=lambda tool: -tool[1][0]))


@translates("EVALUATOR_URL")
def _job(client: NeMoMicroservices, job_id: str) -> EvaluationJob:
    return client.evaluation.jobs.retrieve(job_id)


def _shares(scores: Mapping[str, Any]) -> dict[str, Proportion]:
    """The scores of one metric that are shares of rows."""
    counts = {
        name: (_right(score.stats), score.stats.count or 0)
        for name, score in scores.items()
        if name in COUNTED_SCORES and score.stats is not None
    }
    n = max((count for _, count in counts.values()), default=0)
    return {name: Proportion(right, n) for name, (right, _) in counts.items()}


def _right(stats: Any) -> int:
    """How many rows scored 1; a service may leave out the sum."""
    total = stats.sum if stats.sum is not None else (stats.mean or 0) * (stats.count or 0)
    return round(total)


def _row_result(task: str, index: int, row: Mapping[str, Any]) -> RowResult:
    item, sample = row["item"], row.get("sample") or {}
    message = _message(sample.get("response"))
    scores = [metric.get("scores") or {} for metric in (row.get("metrics") or {}).values()]
    users = [m["content"] for m in item.get("messages", []) if m.get("role") == "user"]
    name_right = _verdict(scores, NAME_SCORE) if message else None
    return RowResult(
        task=task,
        index=index,
        question=users[-1] if users else "",
        offered=tuple(tool["function"]["name"] for tool in item.get("tools") or []),
        expected=_calls(item.get("tool_calls")),
        predicted=_calls(message.get("tool_calls")),
        text=message.get("content") or "",
        name_right=name_right,
        args_right=None if name_right is None else bool(_verdict(scores, ARGS_SCORE)),
    )


def _verdict(scores: Iterable[Mapping[str, Any]], name: str) -> bool | None:
    """Whether every metric that gives this score gives 1; None when none gives a number."""
    values = [found[name].get("value") for found in scores if name in found]
    given = [value for value in values if value is not None]
    return all(value == 1 for value in given) if given else None


def _message(response: Any) -> dict[str, Any]:
    choices = response.get("choices") if isinstance(response, dict) else None
    return dict(choices[0].get("message") or {}) if choices else {}


def _calls(tool_calls: Any) -> list[dict[str, Any]]:
    """OpenAI tool calls as [{"name", "arguments"}], arguments decoded where they are JSON."""
    calls = []
    for call in tool_calls if isinstance(tool_calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else ""
        if not (isinstance(function, dict) and isinstance(name, str) and name):
            continue  # no call without a name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                pass  # kept as text: `kind` reports it as broken
        arguments = {} if arguments is None else arguments
        calls.append({"name": name, "arguments": arguments})
    return calls
