"""A linter for tool lists: finds and repairs what would freeze, slow or confuse a NIM.

    lint([{"type": "function", "function": {"name": "get.rows", ...}}]).findings
    -> [Finding(rule="name", tool="get.rows", action="fixed", reason="... renamed to 'get_rows'")]

Source: https://docs.nvidia.com/nim/large-language-models/latest/function-calling.html
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from utils.python_types import Schema

Tool = dict[str, Any]

MAX_PARAMETERS = 8
"""A NIM has been seen to hang on tools with more."""
MAX_NAME = 64
"""Longest function name of the OpenAI API (characters)."""
MAX_DEPTH = 5
"""Deepest nesting of one parameter; grammars grow with every level."""

Rule = Literal[
    "no tools",  # a NIM refuses an empty list
    "parameters",  # more than MAX_PARAMETERS
    "depth",  # nested deeper than MAX_DEPTH
    "array",  # an array that does not say what it holds
    "object",  # an object without properties
    "required",  # a required parameter that is not declared
    "name",  # characters or length that the API refuses
    "duplicate",  # two tools of one name
]


@dataclass(frozen=True)
class Finding:
    """One thing the linter saw."""

    rule: Rule
    tool: str
    """Name of the tool, "" for the list as a whole."""
    action: Literal[
        "fixed",  # the tool means the same and is safe now
        "dropped",  # the tool is gone; nobody needed it
        "refused",  # the row cannot be used
    ]
    reason: str


@dataclass(frozen=True)
class LintResult:
    """A tool list that is safe to serve, or the reason why there is none."""

    tools: list[Tool]
    renamed: dict[str, str] = field(default_factory=dict)
    """Old name to new, for the calls that use it."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def refusal(self) -> str | None:
        """Why the list cannot be used; None when it can."""
        return next((f.reason for f in self.findings if f.action == "refused"), None)


def lint(tools: Sequence[Tool], *, needed: Collection[str] = ()) -> LintResult:
    """The list repaired; a bad tool is dropped unless it is `needed`, then the list is refused.

    `needed` holds the names of the tools that the gold answer calls.
    """
    result = LintResult([])
    for tool in tools:
        _add(tool, needed, result)
    if not result.tools and result.refusal is None:
        result.findings.append(Finding("no tools", "", "refused", "no tool is offered"))
    return result


def _add(tool: Tool, needed: Collection[str], result: LintResult) -> None:
    """Repair one tool and add it to the result, or say there why not."""
    function = tool["function"]
    name: str = function["name"]
    action: Literal["dropped", "refused"] = "refused" if name in needed else "dropped"

    def note(rule: Rule, action: Literal["fixed", "dropped", "refused"], reason: str) -> None:
        result.findings.append(Finding(rule, name, action, f"tool {name!r}: {reason}"))

    parameters: Schema = function.get("parameters") or {}
    properties: Mapping[str, Schema] = parameters.get("properties") or {}
    if len(properties) > MAX_PARAMETERS:
        note("parameters", action, f"{len(properties)} parameters, more than {MAX_PARAMETERS}")
        return
    deepest = max((_depth(schema) for schema in properties.values()), default=0)
    if deepest > MAX_DEPTH:
        note("depth", action, f"nested {deepest} levels deep, more than {MAX_DEPTH}")
        return

    fixed: dict[str, Schema] = {}
    for key, schema in properties.items():
        if any(_lacks(s, "array", "items") for s in _walk(schema)):
            note("array", "fixed", f"array {key!r} does not describe its items: now anything")
        if any(_lacks(s, "object", "properties") for s in _walk(schema)):
            note("object", "fixed", f"object {key!r} has no properties: now an empty object")
        fixed[key] = _complete(schema)
    required = [key for key in parameters.get("required") or [] if key in fixed]
    for key in set(parameters.get("required") or []) - set(fixed):
        note("required", "fixed", f"required parameter {key!r} is not declared: left out")

    new_name = _accepted(name)
    if new_name != name:
        note("name", "fixed", f"renamed to {new_name!r}, letters a NIM accepts")
    whole = {"type": "object", "properties": fixed, "required": required}
    repaired = {
        "type": "function",
        "function": {**function, "name": new_name, "parameters": {**parameters, **whole}},
    }
    twin = next((t for t in result.tools if t["function"]["name"] == new_name), None)
    if twin is None:
        result.tools.append(repaired)
    elif twin == repaired and name == new_name:
        note("duplicate", "dropped", "offered twice, word for word")
        return
    else:
        clash = name in needed or any(
            result.renamed.get(other, other) == new_name for other in needed
        )
        note("duplicate", "refused" if clash else "dropped", f"another tool is named {new_name!r}")
        return
    if new_name != name:
        result.renamed[name] = new_name


def _accepted(name: str) -> str:
    """The name in characters that a NIM accepts, always the same for the same name.

    _accepted("get.rows") -> "get_rows", _accepted("查询天气") -> "tool_22cf3c76"

    A name with letters of other alphabets gets a hash, which keeps it distinct.
    """
    spelt = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if name.isascii() and spelt.strip("_-"):
        return spelt[:MAX_NAME]
    readable = spelt.strip("_")[: MAX_NAME - 9] or "tool"
    return f"{readable}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _lacks(schema: Schema, kind: str, key: str) -> bool:
    return schema.get("type") == kind and key not in schema


def _children(schema: Schema) -> Iterator[Schema]:
    """The schemas directly inside one."""
    yield from schema.get("anyOf", [])
    yield from (schema.get("properties") or {}).values()
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield schema[key]


def _walk(schema: Schema) -> Iterator[Schema]:
    yield schema
    for child in _children(schema):
        yield from _walk(child)


def _depth(schema: Schema) -> int:
    return 1 + max(map(_depth, _children(schema)), default=0)


def _complete(schema: Schema) -> Schema:
    """The schema in which every array has items and every object properties."""
    result = dict(schema)
    if "anyOf" in result:
        result["anyOf"] = [_complete(option) for option in result["anyOf"]]
    if result.get("type") == "array":
        result["items"] = _complete(result["items"]) if result.get("items") else {}
    if result.get("type") == "object":
        properties = result.get("properties") or {}
        result["properties"] = {key: _complete(value) for key, value in properties.items()}
        if isinstance(result.get("additionalProperties"), dict):
            result["additionalProperties"] = _complete(result["additionalProperties"])
    return result
