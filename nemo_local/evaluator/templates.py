"""Templates of evaluation configs: sandboxed Jinja that keeps JSON types."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined, Undefined, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_REPEATED = 1_000_000
"""Characters or elements that `*` may produce: a template must not fill the memory."""


class RenderError(Exception):
    """A template cannot be rendered for this row; the message names the variable or the reason."""


def render(template: Any, context: Mapping[str, Any]) -> Any:
    """The template with every variable filled in; dicts and lists are rendered inside.

        render({"messages": "{{ item.messages | tojson }}", "n": 1}, {"item": {"messages": []}})
        -> {"messages": [], "n": 1}

    A string that is one `{{ … }}` keeps its value's type; a string with `tojson` is parsed as
    JSON where it is JSON; every other string stays one.

    Raises:
        RenderError: a variable is missing, or the template is wrong or unsafe.
    """
    if isinstance(template, dict):
        return {key: render(value, context) for key, value in template.items()}
    if isinstance(template, list):
        return [render(value, context) for value in template]
    if not isinstance(template, str) or not ("{{" in template or "{%" in template):
        return template
    try:
        value = _compiled(template)(context)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise RenderError(f"template {_short(template)!r}: {error}") from error
    if "tojson" in template and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def item_context(row: Mapping[str, Any]) -> dict[str, Any]:
    """A data row as the `item` of a template: normalised names beside the original ones.

        item_context({"Query Text": "hi"}) -> {"query_text": "hi", "Query Text": "hi"}

    Lower case, anything but letters and digits becomes `_`; a name that is taken gets `_1`, `_2`.
    """
    names: dict[str, Any] = {}
    for key, value in row.items():
        base = name = re.sub(r"[^a-z0-9]", "_", key.lower())
        number = 0
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names[name] = value
    return {**row, **names}


def json_text(value: Any, indent: int | None = None) -> str:
    """Plain JSON: no HTML escapes, non-ASCII kept."""
    if isinstance(value, Undefined):
        str(value)  # raises UndefinedError with the variable's name
    return json.dumps(value, ensure_ascii=False, indent=indent)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja without attributes that lead out, and where `item.items` means the row's own key."""

    intercepted_binops = frozenset(["*", "**"])

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise SecurityError("the operator ** is not allowed in templates")
        for text, times in ((left, right), (right, left)):
            too_long = isinstance(text, (str, list, tuple)) and isinstance(times, int)
            if too_long and len(text) * times > MAX_REPEATED:
                raise SecurityError(f"a template may not repeat beyond {MAX_REPEATED} elements")
        return super().call_binop(context, operator, left, right)


def _sandbox() -> _Sandbox:
    sandbox = _Sandbox(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    sandbox.globals = {"range": sandbox.globals["range"]}
    sandbox.filters["tojson"] = json_text
    return sandbox


_SANDBOX = _sandbox()
_COMPILED: dict[str, Callable[[Mapping[str, Any]], Any]] = {}


def _compiled(template: str) -> Callable[[Mapping[str, Any]], Any]:
    """The template as a function; a config's few templates meet thousands of rows."""
    if template not in _COMPILED:
        if len(_COMPILED) >= 256:
            _COMPILED.clear()
        _COMPILED[template] = _compile(template)
    return _COMPILED[template]


def _compile(template: str) -> Callable[[Mapping[str, Any]], Any]:
    source = template.strip()
    if not _is_expression(source):
        text = _SANDBOX.from_string(template)
        return lambda context: text.render(context)
    expression = _SANDBOX.compile_expression(source[2:-2].strip("-+"), undefined_to_none=False)

    def evaluate(context: Mapping[str, Any]) -> Any:
        value = expression(context)
        if isinstance(value, Undefined):
            str(value)  # raises UndefinedError with the variable's name
        if not isinstance(value, (str, int, float, bool, list, dict, type(None))):
            raise TypeError(f"its value is a {type(value).__name__}, not JSON; end it in '| list'?")
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
