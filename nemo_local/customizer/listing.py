"""Filters and sorts jobs and configs by values that lie deeper than their own fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nemo_local.core.documents import Document
from nemo_local.core.query import ListQuery, Page, matches, page_of

Facets = Callable[[Document], Document]
"""Returns further values of an entity to filter and sort by, keyed by the filter's name."""


def select(entities: list[Document], query: ListQuery, facets: Facets) -> Page:
    """The page of entities that a query asks for.

    `facets(entity)` adds values to filter and sort by; a list matches if any of its items does.
    """

    def values_of(entity: Document) -> Document:
        return {**entity, **facets(entity)}

    def wanted(entity: Document) -> bool:
        values = values_of(entity)
        return matches(values, ListQuery(search=query.search)) and all(
            any(matches({key: one}, ListQuery(filter={key: value})) for one in _each(values, key))
            for key, value in query.filter.items()
        )

    return page_of([entity for entity in entities if wanted(entity)], query, values_of)


def _each(values: Document, key: str) -> list[Any]:
    value = values.get(key)
    return value if isinstance(value, list) else [value]


def job_facets(job: Document) -> Document:
    source = job["run"]["source"]["url"]
    repository = f"hf://datasets/{source['repository']}"
    revision, path = source["revision"], source["path"].strip("/")
    files = repository + (f"@{revision}" if revision else "") + (f"/{path}" if path else "")
    given = job["hyperparameters"]
    names = ("batch_size", "epochs", "finetuning_type", "log_every_n_steps", "training_type")
    return {
        **{name: given.get(name) for name in names},
        "base_model": job["config_snapshot"]["base_model"],
        "dataset": [job["dataset"], repository, files, f"{files}/"],
    }


def config_facets(config: Document) -> Document:
    target = config.get("target") or {}
    options = config["training_options"]
    enabled = bool(target.get("enabled"))
    return {
        "target_base_model": target.get("base_model"),
        "target_name": target.get("name"),
        "target_enabled": enabled,
        "enabled": enabled,
        "num_parameters": target.get("num_parameters"),
        "training_type": [option["training_type"] for option in options],
        "finetuning_type": [option["finetuning_type"] for option in options],
    }
