"""Prepares what the evaluator shows: strict JSON, and messages short enough to read."""

from __future__ import annotations

import json
from typing import Any

from nemo_local.core.web import without_nulls

MAX_MESSAGE = 500


def strict_json(value: Any) -> Any:
    """The JSON value without anything that JSON cannot carry.

    NaN and infinity become null, half of a surrogate pair becomes U+FFFD.

        strict_json({"x": nan, "y": "\\ud83d"}) -> {"x": None, "y": "\\ufffd"}
    """
    text = _whole_characters(json.dumps(value, ensure_ascii=False))
    return json.loads(text, parse_constant=lambda _: None)


def shown_result(result: dict[str, Any]) -> Any:
    """A result without nulls, except in metrics: a score that no row has is null."""
    tasks = {
        name: {**without_nulls(task), "metrics": task.get("metrics") or {}}
        for name, task in (result.get("tasks") or {}).items()
        if isinstance(task, dict)
    }
    return {**without_nulls({key: result[key] for key in result if key != "name"}), "tasks": tasks}


def message(reason: object) -> str:
    """The reason as one message of at most 500 characters."""
    text = _whole_characters(str(reason))
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 4]} ..."


def _whole_characters(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
