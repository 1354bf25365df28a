"""List queries: what `filter[…]`, `search[…]`, `sort` and `page` select."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from nemo_local.core.clock import parse_timestamp
from nemo_local.core.errors import invalid_field
from nemo_local.core.secrets import masked

_COMPARISONS = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "start": operator.ge,
    "end": operator.le,
}


@dataclass(frozen=True)
class ListQuery:
    """One list request: its page, order, filters and searches."""

    page: int = 1
    """Page number from 1; a page past the end is empty."""
    page_size: int = 10
    """Entities on a page, 1 to 1000."""
    sort: str = "created_at"
    """A field, with `-` in front for descending."""
    filter: dict[str, Any] = field(default_factory=dict)
    """Nested: `{"namespace": "ns1", "created_at": {"gte": "2025-01-01"}}`; all must hold."""
    search: dict[str, Any] = field(default_factory=dict)
    """Substrings (a list = any of them), or `{"start": …, "end": …}` for dates; all must hold."""


@dataclass(frozen=True)
class Page:
    """One page of entities."""

    items: list[dict[str, Any]]
    total: int
    """Entities on all pages together."""

    def map(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Page:
        """The page with `change` applied to each entity."""
        return replace(self, items=[change(entity) for entity in self.items])


def matches(entity: dict[str, Any], query: ListQuery) -> bool:
    """Whether the entity, as it is shown, passes every filter and every search of the query.

    Secrets are masked first: otherwise searches could reveal them, a character at a time.
    """
    shown = masked({key: entity.get(key) for key in (*query.filter, *query.search)})
    return all(_equals(shown[key], value, key) for key, value in query.filter.items()) and all(
        _contains(shown[key], value, key) for key, value in query.search.items()
    )


def page_of(
    found: list[dict[str, Any]],
    query: ListQuery,
    values_of: Callable[[dict[str, Any]], dict[str, Any]] = lambda entity: entity,
) -> Page:
    """The query's page of the entities found, sorted by its key's value in `values_of(entity)`."""
    key = query.sort.removeprefix("-")
    ordered = sorted(
        found,
        key=lambda entity: _sort_key(values_of(entity).get(key)),
        reverse=query.sort.startswith("-"),
    )
    first = (query.page - 1) * query.page_size
    return Page(items=ordered[first : first + query.page_size], total=len(ordered))


def _sort_key(value: object) -> tuple[bool, str, Any]:
    """A key that orders any JSON value: by type, missing ones last."""
    if isinstance(value, (bool, int, float)):
        return (False, "number", value)
    return (value is None, "text", "" if value is None else str(value))


def _equals(value: object, wanted: object, key: str) -> bool:
    if isinstance(wanted, list):
        return any(_equals(value, one, key) for one in wanted)
    if isinstance(wanted, dict):
        if wanted.keys() <= _COMPARISONS.keys() and not isinstance(value, dict):
            return _compare(value, wanted, key)
        if isinstance(value, dict):
            return all(_equals(value.get(name), wanted[name], name) for name in wanted)
        # An entity reference is text or an object; `[name]` means the text then.
        return wanted.keys() == {"name"} and _equals(value, wanted["name"], "name")
    text = str(wanted)
    if text in ("true", "false") and not isinstance(value, str):
        present = value if isinstance(value, bool) else value is not None
        return present == (text == "true")
    if isinstance(value, dict):
        # The other way round: text means the name in an object, alone or behind the namespace.
        name, namespace = value.get("name"), value.get("namespace")
        full = [f"{namespace}/{name}"] if name and namespace else []
        return any(_equals(one, text, key) for one in (name, *full))
    return value is not None and (str(value) == text or str(value) in text.split(","))


def _contains(value: object, wanted: object, key: str) -> bool:
    if isinstance(wanted, dict):
        if wanted.keys() <= _COMPARISONS.keys():
            return _compare(value, wanted, key)
        return isinstance(value, dict) and all(
            _contains(value.get(name), wanted[name], name) for name in wanted
        )
    if value is None:
        return False
    words = wanted if isinstance(wanted, list) else [wanted]
    parts = [part for word in words for part in str(word).split(",")]
    return any(part.lower() in str(value).lower() for part in parts)


def _compare(value: object, bounds: dict[str, Any], key: str) -> bool:
    moment = _moment(value)
    for name, bound in bounds.items():
        limit = _moment(bound)
        if limit is None:
            raise invalid_field("query", f"{key}[{name}]", "not an ISO date", bound)
        if name == "end" and _is_whole_day(bound):
            limit += timedelta(days=1, microseconds=-1)
        if moment is None or not _COMPARISONS[name](moment, limit):
            return False
    return True


def _moment(value: object) -> datetime | None:
    """The time that an ISO text gives; None for anything else."""
    try:
        return parse_timestamp(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _is_whole_day(text: str) -> bool:
    """Whether the text is a date without a time."""
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False
