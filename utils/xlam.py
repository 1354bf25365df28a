"""xLAM rows as OpenAI-format examples: parse, convert, check, and keep what cannot be used.

Source: https://huggingface.co/datasets/Salesforce/xlam-function-calling-60k
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import orjson
from jsonschema import Draft202012Validator

from utils import jsonl
from utils.errors import InvalidFile, InvalidRow
from utils.python_types import MISSING, Schema, is_valid, parse_type, typed_default
from utils.tool_schema import Finding, Tool, lint

COLUMNS = ("query", "tools", "answers")
"""Columns that a row must have; an `id` is optional."""


class ChatExample(TypedDict):
    """One training row: the question, the call that answers it, the tools on offer."""

    messages: list[dict[str, Any]]
    tools: list[Tool]


class EvalExample(TypedDict):
    """One evaluation row: the question, the tools, and the gold calls apart."""

    messages: list[dict[str, Any]]
    tools: list[Tool]
    tool_calls: list[dict[str, Any]]


@dataclass(frozen=True)
class XlamRow:
    """One row with its JSON columns read and its tools in OpenAI format."""

    id: int | str
    query: str
    tools: list[Tool]
    calls: list[dict[str, Any]]
    """Gold answer: [{"name": "f", "arguments": {...}}]."""
    notes: tuple[str, ...] = ()
    """What the conversion of types could not express exactly."""


@dataclass(frozen=True)
class Quarantined:
    """A row that cannot be used, and why."""

    id: int | str
    reason: str


@dataclass(frozen=True)
class Prepared:
    """The rows of one data set after every check, with an account of all the others."""

    rows: list[XlamRow] = field(default_factory=list)
    """Single-call rows whose gold call fits its schema."""
    other_calls: int = 0
    """Rows with several calls or none; sound, but not for this tutorial."""
    quarantined: list[Quarantined] = field(default_factory=list)
    findings: list[tuple[int | str, Finding]] = field(default_factory=list)
    """What the linter saw, with the id of the row."""
    notes: Counter[str] = field(default_factory=Counter)
    """What type conversion could not express exactly, and how often."""

    @property
    def total(self) -> int:
        return len(self.rows) + self.other_calls + len(self.quarantined)

    def write_quarantine(self, path: Path | str) -> int:
        """The number of rows written, one line each: {"id": 17, "reason": "..."}."""
        return jsonl.write(path, ({"id": q.id, "reason": q.reason} for q in self.quarantined))

    def require_rows(self) -> None:
        """Check that there is a row to use.

        Raises:
            InvalidFile: there is none; names what most rows have in common.
        """
        if self.rows:
            return
        why = f"{self.other_calls} of them have several calls or none, and we train on single calls"
        if self.other_calls < len(self.quarantined):
            n, reason = self._most_frequent_reason()
            why = f"{n} of them for a reason such as this: {reason}"
        raise InvalidFile(
            f"None of {self.total} rows can be used, {why}. Correct the rows, or the way they were "
            "converted; the quarantine file has the reason for each."
        )

    def _most_frequent_reason(self) -> tuple[int, str]:
        """The most frequent reason, names and numbers aside: its count, and one example of it."""
        alike: dict[str, list[str]] = {}
        for row in self.quarantined:
            alike.setdefault(re.sub(r"'.*?'|\d+", "…", row.reason), []).append(row.reason)
        reasons = max(alike.values(), key=len)
        return len(reasons), reasons[0]


def parse_row(raw: Mapping[str, Any]) -> XlamRow:
    """One row of the data set; `tools` and `answers` arrive as JSON strings.

        {"id": 0, "query": "Any beta giveaways?",
         "tools": '[{"name": "giveaways", "parameters": {"type": {"type": "str", ...}}, ...}]',
         "answers": '[{"name": "giveaways", "arguments": {"type": "beta"}}]'}
        -> XlamRow(id=0, query="Any beta giveaways?", tools=[...], calls=[...])

    Raises:
        InvalidRow: a column is missing or malformed; names the row and the column.
    """
    row_id = _known_id(raw.get("id"))
    query = raw.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InvalidRow(row_id, "query", f"expected a question, got {query!r}")
    notes: list[str] = []
    tools = [_tool(row_id, tool, notes) for tool in _json_list(row_id, "tools", raw)]
    calls = [_call(row_id, call) for call in _json_list(row_id, "answers", raw)]
    calls = [_without_nulls(call, tools, notes) for call in calls]
    return XlamRow(row_id, query, tools, calls, tuple(notes))


def type_spellings(raw: Mapping[str, Any]) -> list[str]:
    """The type spellings of one row's parameters; unreadable ones are skipped.

    type_spellings({"tools": '[{"name": "f", "parameters": {"n": {"type": "int"}}}]'}) -> ["int"]
    """
    try:
        tools = _json_list(raw.get("id"), "tools", raw)
    except InvalidRow:
        return []
    parameters = [tool.get("parameters") for tool in tools if isinstance(tool, dict)]
    return [
        str(parameter.get("type"))
        for named in parameters
        if isinstance(named, dict)
        for parameter in named.values()
        if isinstance(parameter, dict)
    ]


def to_chat_example(row: XlamRow) -> ChatExample | None:
    """One row as a training example, or None unless its answer holds exactly one call.

    The assistant message has no text; `arguments` is an object here, while the inference API
    returns the same field as a JSON string.
    """
    if len(row.calls) != 1:
        return None
    answer = {"role": "assistant", "content": "", "tool_calls": _tool_calls(row)}
    return {"messages": [{"role": "user", "content": row.query}, answer], "tools": row.tools}


def to_eval_example(row: XlamRow) -> EvalExample | None:
    """One row as an evaluation example, or None unless its answer holds exactly one call.

    The gold call stands apart from the messages, where the evaluator's template finds it:
    `{{ item.messages }}`, `{{ item.tools }}`, `{{ item.tool_calls }}`.
    """
    if len(row.calls) != 1:
        return None
    question = {"role": "user", "content": row.query}
    return {"messages": [question], "tools": row.tools, "tool_calls": _tool_calls(row)}


def prepare(raw_rows: Iterable[Mapping[str, Any]]) -> Prepared:
    """Every row parsed, linted and checked; a row is used, set aside or quarantined, never lost."""
    done = Prepared()
    other_calls = 0
    for raw in raw_rows:
        try:
            row = parse_row(raw)
        except InvalidRow as error:
            reason = f"column {error.column!r}: {error.reason}"
            done.quarantined.append(Quarantined(_known_id(error.row_id), reason))
            continue
        done.notes.update(row.notes)
        if len(row.calls) != 1:
            other_calls += 1
            continue
        linted = lint(row.tools, needed={call["name"] for call in row.calls})
        done.findings.extend((row.id, finding) for finding in linted.findings)
        calls = [{**c, "name": linted.renamed.get(c["name"], c["name"])} for c in row.calls]
        row = replace(row, tools=linted.tools, calls=calls)
        why = linted.refusal or gold_error(row)
        if why:
            done.quarantined.append(Quarantined(row.id, why))
        else:
            done.rows.append(row)
    return replace(done, other_calls=other_calls)


def gold_error(row: XlamRow) -> str | None:
    """Why the gold answer cannot be right, or None when each call fits the schema of its tool.

    gold_error(row) -> "gold call of 'power': argument 'n': 0.5 is not of type 'integer'"
    """
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row.tools}
    for call in row.calls:
        name, arguments = call["name"], call["arguments"]
        if name not in schemas:
            return f"gold call of {name!r}: no such tool is offered"
        unknown = [key for key in arguments if key not in schemas[name]["properties"]]
        if unknown:
            return f"gold call of {name!r}: argument {unknown[0]!r} is not declared"
        error = next(Draft202012Validator(schemas[name]).iter_errors(arguments), None)
        if error is not None:
            where = f"argument {error.path[0]!r}: " if error.path else ""
            return f"gold call of {name!r}: {where}{error.message[:160]}"
    return None


def to_tool(raw: Mapping[str, Any]) -> tuple[Tool, list[str]]:
    """One xLAM tool in OpenAI format, with notes on what could not be converted exactly.

        {"name": "f", "description": "...", "parameters":
          {"n": {"type": "int", "description": "...", "default": "10"}}}
        -> ({"type": "function", "function": {"name": "f", "description": "...", "parameters":
             {"type": "object", "required": [],
              "properties": {"n": {"type": "integer", "description": "...", "default": 10}}}}}, [])

    A parameter is required unless its type says optional, `required` is false or it has a default.
    """
    notes: list[str] = []
    properties: dict[str, Schema] = {}
    required = []
    for name, parameter in raw["parameters"].items():
        parsed = parse_type(parameter["type"])
        notes.extend(parsed.notes)
        values = _allowed(parameter, parsed.schema)
        unused = set(parameter) - {"type", "description", "default", "required", *values}
        notes.extend(f"key {key!r} of a parameter is not understood: left out" for key in unused)
        schema = {**parsed.schema, **values, "description": str(parameter.get("description") or "")}
        declared = parameter.get("default", parsed.default)
        default = MISSING if declared is MISSING else typed_default(declared, schema)
        if default is not MISSING:
            schema["default"] = default
        elif declared not in (MISSING, None, ""):
            notes.append(f"default {declared!r} is not of type {parameter['type']!r}: left out")
        properties[name] = schema
        optional = parsed.optional or parameter.get("required") is False
        if not optional and declared is MISSING:
            required.append(name)
    function = {
        "name": raw["name"],
        "description": str(raw.get("description") or ""),
        "parameters": {"type": "object", "properties": properties, "required": required},
    }
    return {"type": "function", "function": function}, notes


def _allowed(parameter: Mapping[str, Any], schema: Schema) -> dict[str, list[Any]]:
    """The parameter's `enum`, where it is a list of values of its type; else nothing."""
    values = parameter.get("enum")
    if not isinstance(values, list) or not values:
        return {}
    return {"enum": values} if all(is_valid(value, schema) for value in values) else {}


def _tool(row_id: object, raw: Any, notes: list[str]) -> Tool:
    """A raw tool converted by `to_tool`, after checks of everything that function assumes."""
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not raw["name"]:
        raise InvalidRow(row_id, "tools", f"a tool has no name: {_short(raw)}")
    parameters = raw.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise InvalidRow(row_id, "tools", f"{raw['name']!r}: parameters are not an object")
    if parameters.get("type") == "object":
        form = "JSON Schema, where xLAM has only the properties, with the types of Python"
        raise InvalidRow(row_id, "tools", f"{raw['name']!r}: parameters are {form}")
    for name, parameter in parameters.items():
        if not isinstance(parameter, dict) or not isinstance(parameter.get("type"), str):
            raise InvalidRow(row_id, "tools", f"{raw['name']!r}: {name!r} has no type")
    try:
        tool, found = to_tool({**raw, "parameters": parameters})
    except RecursionError:
        reason = f"{raw['name']!r}: a type is nested too deeply"
        raise InvalidRow(row_id, "tools", reason) from None
    notes.extend(found)
    return tool


def _call(row_id: object, raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise InvalidRow(row_id, "answers", f"a call has no name: {_short(raw)}")
    if not isinstance(raw.get("arguments"), dict):
        raise InvalidRow(row_id, "answers", f"{raw['name']!r}: arguments are not an object")
    return {"name": raw["name"], "arguments": raw["arguments"]}


def _without_nulls(call: dict[str, Any], tools: list[Tool], notes: list[str]) -> dict[str, Any]:
    """The call without nulls that mean the same as leaving the parameter out.

    The schema of `Optional[int]` is that of `int`: the parameter may be absent, but not null.
    """
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    parameters = offered.get(call["name"], {"properties": {}, "required": []})
    absent = {
        key
        for key, schema in parameters["properties"].items()
        if key in call["arguments"]
        and call["arguments"][key] is None
        and key not in parameters["required"]
        and "default" not in schema
        and not is_valid(None, schema)
    }
    notes.extend("null for a parameter that may be left out: left out of the call" for _ in absent)
    kept = {key: value for key, value in call["arguments"].items() if key not in absent}
    return call | {"arguments": kept}


def _json_list(row_id: object, column: str, raw: Mapping[str, Any]) -> list[Any]:
    text = raw.get(column)
    if not isinstance(text, str):
        raise InvalidRow(row_id, column, f"expected a JSON string, got {type(text).__name__}")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRow(row_id, column, f"not JSON ({error}): {_short(text)}") from error
    if re.search(r"\d{19}", text) and json.loads(text) != value:  # orjson rounds what is longer
        raise InvalidRow(row_id, column, f"an integer needs more than 64 bits: {_short(text)}")
    if not isinstance(value, list):
        raise InvalidRow(row_id, column, f"expected a JSON list, got {_short(value)}")
    return value


def _tool_calls(row: XlamRow) -> list[dict[str, Any]]:
    return [{"type": "function", "function": dict(call)} for call in row.calls]


def _known_id(row_id: object) -> int | str:
    if row_id is None:
        return "?"
    return row_id if isinstance(row_id, int) else str(row_id)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
