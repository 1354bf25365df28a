"""Templates of evaluation configs: sandboxed Jinja that keeps JSON types."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import nodes

from nemo_local.evaluator.sandbox import Sandbox, json_text, value_of, with_budget

_SANDBOX = Sandbox()


class RenderError(Exception):
    """A template cannot be rendered for this row; the message names the variable or the reason."""


def render(template: Any, context: Mapping[str, Any]) -> Any:
    """The template with every variable filled in; dicts and lists are rendered inside.

        render({"messages": "{{ item.messages | tojson }}", "n": 1}, {"item": {"messages": []}})
        -> {"messages": [], "n": 1}

    A string that is a single `{{ … }}` keeps its value's type; a string with `tojson` is parsed
    if it renders to JSON; every other string stays a string.

    Raises:
        RenderError: a variable is missing, or the template is wrong, unsafe or endless.
    """
    if isinstance(template, dict):
        return {key: render(value, context) for key, value in template.items()}
    if isinstance(template, list):
        return [render(value, context) for value in template]
    if not isinstance(template, str) or not any(mark in template for mark in ("{{", "{%", "{#")):
        return template
    try:
        value = _compiled(template)(with_budget(context))
    except Exception as error:  # a template can fail in any way that Python can
        raise RenderError(f"template {_short(template)!r}: {error}") from error
    if "tojson" in template and isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def item_context(row: Mapping[str, Any]) -> dict[str, Any]:
    """A data row as the `item` of a template: normalised names besides the original ones.

        item_context({"Query Text": "hi"}) -> {"query_text": "hi", "Query Text": "hi"}

    Normalised names are in lower case, with `_` for anything but letters and digits; a name that
    is taken gets `_1`, `_2`. An original name always means its own column.
    """
    names: dict[str, Any] = {}
    for key, value in row.items():
        base = name = re.sub(r"[^a-z0-9]", "_", key.lower())
        number = 0
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names[name] = value
    return {**names, **row}


# A config has few templates, and renders them for thousands of rows.
@lru_cache(maxsize=256)
def _compiled(template: str) -> Callable[[Mapping[str, Any]], Any]:
    source = template.strip()
    if not _is_expression(source):
        return _SANDBOX.from_string(template).render
    expression = _SANDBOX.compile_expression(source[2:-2].strip("-+"), undefined_to_none=False)

    def evaluate(context: Mapping[str, Any]) -> Any:
        value = value_of(expression(context))
        if not isinstance(value, (str, int, float, bool, list, dict, type(None))):
            raise TypeError(f"its value is a {type(value).__name__}, not JSON; end it in '| list'?")
        if isinstance(value, (list, dict)):
            json_text(value)  # raises for a part that is not JSON
        return value

    return evaluate


def _is_expression(source: str) -> bool:
    if not (source.startswith("{{") and source.endswith("}}")):
        return False
    body = _SANDBOX.parse(source).body
    return (
        len(body) == 1
        and isinstance(body[0], nodes.Output)
        and len(body[0].nodes) == 1
        and not isinstance(body[0].nodes[0], nodes.TemplateData)
    )


def _short(template: str) -> str:
    return template if len(template) <= 120 else template[:117] + "..."
