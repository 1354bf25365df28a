"""Expands and checks what a job evaluates, before it starts: configs, targets and datasets."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from nemo_local.core.client import Client
from nemo_local.core.documents import Documents
from nemo_local.core.errors import BadRequest, Invalid, NotFound, PlatformError
from nemo_local.core.ids import new_id
from nemo_local.core.secrets import usable_key
from nemo_local.core.urls import inference_root, same_address
from nemo_local.evaluator.datasets import (
    DatasetError,
    Row,
    commit_of,
    data_files,
    load_rows,
    parse_url,
)
from nemo_local.evaluator.kinds import CONFIG, PREFIXES, TARGET
from nemo_local.evaluator.metrics import (
    ABSOLUTE_DIFFERENCE,
    ALIASES,
    METRICS,
    NUMBER_OPERATORS,
    STRING_OPERATORS,
    first_given,
    number_check_parts,
)
from nemo_local.evaluator.runner import EvaluationFailed, TaskPlan

Entity = dict[str, Any]
CONFIG_KEYS = ("type", "params", "tasks", "groups")
TARGET_KEYS = ("type", "model", "cached_outputs", "dataset", "rag", "retriever", "rows")
DATASET_KEYS = ("files_url", "format", "hf_endpoint", "limit", "split")
MODEL_KEYS = ("api_endpoint", "artifact", "base_model", "guardrails", "peft", "prompt", "spec")
TASK_TYPES = ("chat-completion", "completion", "data")
TARGET_TYPES = ("model", "cached_outputs", "rows", "dataset")
NUMBERS: tuple[tuple[str, float, float, bool], ...] = (
    ("parallelism", 1, math.inf, True),
    ("limit_samples", 1, math.inf, True),
    ("max_tokens", 1, math.inf, True),
    ("max_retries", 0, math.inf, True),
    ("request_timeout", 1, math.inf, False),
    ("temperature", 0, 2, False),
    ("top_p", 0, 1, False),
)
"""Numeric parameters of a config: name, lowest and highest value, whether it must be whole."""
MORE_THAN_LOWEST = ("top_p",)
"""Parameters that must be greater than their lowest value, not equal to it."""


class Expander:
    """Turns references and inline objects into full entities, nulls included."""

    def __init__(self, documents: Documents, platform: Client) -> None:
        self._documents = documents
        self._platform = platform

    def config(self, given: str | Entity, lenient: bool = False) -> Entity:
        """The config, with every task's dataset expanded.

        `lenient` leaves a dataset that cannot be expanded as it was given: its job will fail on it.
        """
        entity = self._entity(CONFIG, given, CONFIG_KEYS)
        tasks = {name: dict(task or {}) for name, task in (entity["tasks"] or {}).items()}
        for task in tasks.values():
            if task.get("dataset"):
                task["dataset"] = self.dataset(task["dataset"], lenient)
        return {**entity, "tasks": tasks or None}

    def target(self, given: str | Entity, lenient: bool = False) -> Entity:
        """The target, with its model and dataset expanded; a model given as text stays text."""
        entity = self._entity(TARGET, given, TARGET_KEYS)
        if isinstance(entity["model"], dict):
            entity["model"] = self.model(entity["model"])
        for key in ("dataset", "cached_outputs"):
            if entity[key]:
                entity[key] = self.dataset(entity[key], lenient)
        return entity

    def model(self, given: Entity) -> Entity:
        """An inline model in full. Raises Invalid for an address or a key that cannot be used."""
        entity = self._inline("model", None, given, MODEL_KEYS)
        endpoint = entity["api_endpoint"]
        if isinstance(endpoint, dict):
            _check_endpoint(endpoint)
            entity["api_endpoint"] = {"format": "nim", "api_key": None, **endpoint}
        return entity

    def dataset(self, given: str | Entity, lenient: bool = False) -> str | Entity:
        """A dataset in full, given as `hf://…`, as `ns/name` in the Entity Store, or inline."""
        try:
            return self._dataset(given)
        except PlatformError:
            if not lenient:
                raise
            return given

    def _dataset(self, given: str | Entity) -> Entity:
        if isinstance(given, str):
            given = {"files_url": given} if "://" in given else self._registered(given)
        if not given.get("files_url"):
            raise Invalid(
                "Dataset is not in the expected format; it needs to have the files_url property set"
            )
        limit = given.get("limit")
        if limit is not None and not (_is_whole(limit) and limit >= 1):
            raise Invalid(f"limit of a dataset must be at least 1 (a whole number), not {limit!r}")
        endpoint, ours = given.get("hf_endpoint"), f"{self._platform.base_url}/v1/hf"
        if endpoint and not same_address(str(endpoint), ours):
            raise Invalid(
                f"hf_endpoint {endpoint!r} is not supported by the local evaluator; it reads {ours}"
            )
        version = {"version_id": "main", "version_tags": []}
        return {**version, **self._inline("dataset", None, given, DATASET_KEYS)}

    def _entity(self, kind: str, given: str | Entity, keys: Iterable[str]) -> Entity:
        prefix = PREFIXES[kind]
        is_reference = isinstance(given, dict) and "type" not in given and "name" in given
        if isinstance(given, str):
            namespace, slash, name = given.partition("/")
            namespace, name = (namespace, name) if slash else ("default", namespace)
        elif is_reference:
            namespace, name = given.get("namespace") or "default", str(given["name"])
        else:
            return self._inline(prefix, prefix, given, keys)
        try:
            stored = self._documents.get(kind, namespace, name)
        except NotFound as error:
            raise Invalid(str(error.detail)) from None
        return self._inline(prefix, prefix, stored, keys)

    def _inline(
        self, prefix: str, type_prefix: str | None, given: Entity, keys: Iterable[str]
    ) -> Entity:
        now = self._documents.now()
        entity_id = given.get("id") or new_id(prefix)
        blank: Entity = {
            "schema_version": "1.0",
            "id": entity_id,
            "type_prefix": type_prefix,
            "namespace": "default",
            "name": entity_id,
            "created_at": now,
            "updated_at": now,
            "custom_fields": {},
            "description": None,
            "project": None,
            "ownership": None,
            **dict.fromkeys(keys),
        }
        return {**blank, **{key: value for key, value in given.items() if value is not None}}

    def _registered(self, reference: str) -> Entity:
        namespace, slash, name = reference.partition("/")
        if not slash:
            raise BadRequest(f"dataset {reference!r} is neither <namespace>/<name> nor a URL")
        found = self._platform.find(f"/v1/datasets/{quote(namespace)}/{quote(name)}")
        if found is None:
            raise Invalid(f"Dataset {reference} is not present on datastore")
        return dict(found)


def check(config: Entity, target: Entity) -> None:
    """Refuse, by name, what this evaluator cannot run.

    Raises:
        Invalid: an unsupported or malformed type, task, metric, parameter or target.
    """
    _require(config["type"] == "custom", f"evaluation type {config['type']!r}")
    _require(not config["groups"], "'groups' in a config")
    _require(target["type"] in TARGET_TYPES, f"target type {target['type']!r}")
    if not target[target["type"]]:
        raise Invalid(f"target of type {target['type']!r} has no {target['type']!r}")
    if not config["tasks"]:
        raise Invalid("a custom evaluation config needs at least one task")
    _check_params(config["params"] or {})
    for name, task in config["tasks"].items():
        _check_task(f"tasks.{name}", task, target)


def _check_endpoint(endpoint: Entity) -> None:
    field = "url"
    try:
        if endpoint.get("url") is not None:
            inference_root(str(endpoint["url"]), nim_url="")
        field = "api_key"
        usable_key(endpoint.get("api_key"))
    except ValueError as error:
        raise Invalid(f"target.model.api_endpoint.{field}: {error}") from None


def check_datasets(config: Entity, target: Entity, platform: Client) -> None:
    """Refuse a dataset whose files do not exist.

    Raises:
        Invalid: "… is not present on datastore", or no data file in it.
    """
    datasets = [task["dataset"] for task in config["tasks"].values() if task.get("dataset")]
    datasets += [target[key] for key in ("dataset", "cached_outputs") if target[key]]
    for dataset in datasets:
        try:
            data_files(platform, dataset)
        except DatasetError as error:
            raise Invalid(str(error)) from None


def task_plans(config: Entity, target: Entity, platform: Client) -> list[TaskPlan]:
    """Every task with its rows, ready to run; each revision is read at a single commit.

    Raises:
        EvaluationFailed: a dataset cannot be read, or its cached outputs do not match it.
    """
    limit = (config["params"] or {}).get("limit_samples")
    loaded: dict[tuple[Any, ...], list[Row]] = {}
    commits: dict[tuple[str, str], str] = {}

    def rows(dataset: Entity, at_most: int | None) -> list[Row]:
        first = _least(limit, dataset.get("limit"), at_most)
        url = parse_url(str(dataset["files_url"]))
        place = (url.repository, url.reference)
        if place not in commits:
            commits[place] = commit_of(platform, dataset)
        key = (dataset["files_url"], dataset.get("split"), dataset.get("format"), first)
        if key not in loaded:
            loaded[key] = load_rows(platform, dataset, first, commits[place])
        return loaded[key]

    try:
        tasks = config["tasks"].items()
        return [_task_plan(name, task, target, rows, limit) for name, task in tasks]
    except DatasetError as error:
        raise EvaluationFailed(str(error)) from None


def _task_plan(
    name: str,
    task: Entity,
    target: Entity,
    rows: Callable[[Entity, int | None], list[Row]],
    limit: int | None,
) -> TaskPlan:
    metrics = task.get("metrics") or {}
    own_limit = (task.get("dataset") or {}).get("limit")
    if target["type"] == "rows":
        return TaskPlan(name, target["rows"][: _least(limit, own_limit)], metrics, None)
    if target["type"] == "dataset":
        return TaskPlan(name, rows(target["dataset"], own_limit), metrics, None)
    if target["type"] == "cached_outputs":
        outputs = rows(target["cached_outputs"], None)
        if not task.get("dataset"):
            return TaskPlan(name, outputs, metrics, None)
        own = rows(task["dataset"], None)
        if len(own) > len(outputs):
            raise EvaluationFailed(
                f"task {name!r} has {len(own)} rows and {len(outputs)} cached outputs"
            )
        return TaskPlan(name, own, metrics, None, outputs)
    template = None if task["type"] == "data" else task["params"]["template"]
    return TaskPlan(name, rows(task["dataset"], None), metrics, template)


def _least(*limits: int | None) -> int | None:
    # `islice`, which takes the first rows, accepts no larger number.
    given = [min(int(limit), sys.maxsize) for limit in limits if limit is not None]
    return min(given) if given else None


def _check_params(params: Entity) -> None:
    for key, lowest, highest, whole in NUMBERS:
        value = params.get(key)
        if value is None:
            continue
        number = _is_whole(value) if whole else _is_number(value)
        excluded = key in MORE_THAN_LOWEST
        if not number or not lowest <= value <= highest or (excluded and value == lowest):
            kind = "a whole number" if whole else "a number"
            bounds = f"of {lowest} or more"
            if highest != math.inf:
                bounds = f"from {lowest}{' (excluded)' if excluded else ''} to {highest}"
            raise Invalid(f"config.params.{key} must be {kind} {bounds}, not {value!r}")


def _check_task(place: str, task: Any, target: Entity) -> None:
    if not isinstance(task, dict) or not task.get("type"):
        raise Invalid(f"config.{place} needs a type: {', '.join(TASK_TYPES)}")
    _require(task["type"] in TASK_TYPES, f"task type {task['type']!r} (config.{place})")
    if target["type"] == "model" and not task.get("dataset"):
        raise Invalid(f"config.{place} needs a dataset")
    asks = target["type"] == "model" and task["type"] != "data"
    if asks and (task.get("params") or {}).get("template") is None:
        raise Invalid(f"config.{place}.params needs a template: messages, or a prompt")
    if not task.get("metrics"):
        raise Invalid(f"config.{place} needs at least one metric")
    for name, metric in task["metrics"].items():
        _check_metric(f"{place}.metrics.{name}", metric)


def _check_metric(place: str, metric: Any) -> None:
    kind = metric.get("type") if isinstance(metric, dict) else None
    _require(kind in METRICS, f"metric type {kind!r} (config.{place})")
    params = metric.get("params") or {}
    for name in METRICS[str(kind)].required:
        given = first_given(params, ALIASES.get(name, (name,)))
        if given is None:
            raise Invalid(f"config.{place}.params.{name} is missing")
        if name == "ground_truth" and isinstance(given, list):
            raise Invalid(f"config.{place}: {kind} compares with one reference, not with a list")
    if kind in ("string-check", "number-check"):
        _check_operator(f"config.{place}.params.check", str(kind), params["check"])


def _check_operator(place: str, kind: str, given: Any) -> None:
    if not isinstance(given, list) or len(given) < 3 or (kind == "string-check" and len(given) > 3):
        raise Invalid(f"{place} must be [left, operator, right], not {given!r}")
    operators: tuple[str, ...] = tuple(STRING_OPERATORS)
    operator = str(given[1])
    if kind == "number-check":
        operators = (*NUMBER_OPERATORS, ABSOLUTE_DIFFERENCE)
        try:
            operator = number_check_parts(given)[1]
        except ValueError as error:
            raise Invalid(f"{place}: {error}") from None
    if operator not in operators:
        raise Invalid(f"{place}: unknown operator {operator!r}; one of {', '.join(operators)}")


def _require(supported: bool, what: str) -> None:
    if not supported:
        raise Invalid(f"{what} is not supported by the local evaluator")


def _is_number(value: Any) -> bool:
    """Whether the value is a number, no bool, that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_whole(value: Any) -> bool:
    return _is_number(value) and value == int(value)
