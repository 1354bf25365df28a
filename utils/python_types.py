"""Converts type spellings of data sets, such as `List[int], optional`, to JSON Schema.

    parse_type("List[int]").schema               -> {"type": "array", "items": {"type": "integer"}}
    parse_type("str, optional, default 'x'")     -> schema string, optional, default "x"
    typed_default("10", {"type": "integer"})     -> 10

A type that JSON does not have becomes the nearest one, and a note says so.
"""

import ast
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator

Schema = dict[str, Any]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""No default; `None` would be a value."""

_NAMES = {
    "string": "str string text char character bytes url uri email path uuid regex date time "
    "datetime datetime.date datetime.datetime datetime.time timestamp",
    "integer": "int integer long",
    "number": "float number double decimal numeric real",
    "boolean": "bool boolean",
    "array": "list array sequence iterable collection iterator vector deque ndarray np.ndarray",
    "set": "set frozenset abstractset mutableset",
    "tuple": "tuple namedtuple",
    "object": "dict object mapping mutablemapping map json ordereddict defaultdict dictionary",
    "any": "any",
    "null": "none null nonetype",
    "callable": "callable function lambda",
    "union": "union",
    "optional": "optional",
    "literal": "literal",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_OPENING, _CLOSING = "[({", "])}"
_TOO_LONG = 2**63
"""Integers from this size on do not fit into a file of rows."""
_BRACKETED = ("array", "set", "tuple", "union", "optional", "literal")
"""Kinds whose own brackets `[]` may be."""
_IN_BRACKETS = r"\s*\(((?:optional|required|defaults?)\b[^()]*(?:\([^()]*\)[^()]*)*)\)\s*$"
"""`(optional, default (1, 2))` at the end of a spelling."""


@dataclass(frozen=True)
class ParsedType:
    """The meaning of one type spelling."""

    schema: Schema
    """Shared between equal spellings: copy before changing it."""
    optional: bool = False
    """True for `optional`, `Optional[...]` and `... | None`."""
    default: Any = MISSING
    """The default inside the spelling, as Python reads it."""
    notes: tuple[str, ...] = ()
    """What JSON Schema cannot express."""


@lru_cache(maxsize=4096)
def parse_type(spelling: str) -> ParsedType:
    """The schema, optionality and default that one spelling means; an unknown one is a string."""
    notes: list[str] = []
    head, optional, default = _modifiers(spelling, notes)
    options = _options(head, notes)
    values = [option for option in options if option != {"type": "null"}]
    return ParsedType(
        schema=_one_of(values or options),
        optional=optional or (bool(values) and len(values) < len(options)),
        default=default,
        notes=tuple(notes),
    )


def typed_default(value: Any, schema: Schema) -> Any:
    """The default as a value of the schema's type, MISSING where there is no such value.

    "10" and 10.0 for an integer are 10; "" or True for a number is MISSING.
    """
    if value is None:
        return MISSING
    kinds = [option.get("type") for option in schema.get("anyOf", [schema])]
    for found in (value, *(_convert(value, kind) for kind in kinds)):
        if found is not MISSING and is_valid(found, schema):
            return _whole(found) if "integer" in kinds else found
    return MISSING


def is_valid(value: Any, schema: Schema) -> bool:
    """True when the value fits the schema."""
    return bool(Draft202012Validator(schema).is_valid(value))


def _modifiers(spelling: str, notes: list[str]) -> tuple[str, bool, Any]:
    """(type, optional, default) of `type, optional, default 'x'` in its many forms."""
    text = re.sub(_IN_BRACKETS, r", \1", spelling.strip(), flags=re.I | re.S)
    text = re.sub(r"^optional\s+(?=\w)(.*)$", r"\1, optional", text, flags=re.I)
    head, *rest = _split(text, ",")
    head, *given = _split(head, "=")
    optional, default = False, _literal("=".join(given)) if given else MISSING
    for place, word in enumerate(rest):
        match = re.fullmatch(r"default(?:s\s+to)?\s*[:=]?\s*(.*)", word, flags=re.I | re.S)
        if match:
            default = _literal(", ".join([match[1], *rest[place + 1 :]]))
            break
        if word.lower() == "optional":
            optional = True
        elif word and word.lower() != "required":
            notes.append(f"{word!r} in type {spelling!r} is not understood: left out")
    return head, optional, default


def _options(text: str, notes: list[str]) -> list[Schema]:
    """The alternative schemas that a type allows, `null` among them."""
    text = text.strip().removeprefix("typing.")
    alternatives = [part for bar in _split(text, "|") for part in re.split(r"\s+or\s+", bar)]
    if len(alternatives) > 1 and all(_balanced(part) for part in alternatives):
        return [option for part in alternatives for option in _options(part, notes)]
    items = text.removesuffix("[]").rstrip()
    if items != text and _KINDS.get(items.lower()) not in _BRACKETED:
        return [_array([items], notes)]  # `int[]`, as other languages write it
    match = re.fullmatch(r"([\w.]+)\s*(?:\[(.*)\])?", text, flags=re.S)
    of = re.fullmatch(r"(list|array|set|tuple)s?\s+of\s+(.+?)", text, flags=re.I)
    if of:
        kind, arguments = _KINDS[of[1].lower()], [of[2]]
    elif match and _balanced(match[2] or ""):
        kind = _KINDS.get(match[1].lower(), "unknown")
        arguments = _split(match[2], ",") if match[2] else []
    else:
        kind, arguments = "unknown", []
    if kind == "unknown":
        notes.append(f"type {text!r} is not known: taken as a string")
        return [{"type": "string"}]
    if kind == "callable":
        notes.append(f"type {text!r} has no JSON equivalent: taken as a string, code as text")
        return [{"type": "string"}]
    return _generic(kind, arguments, notes)


def _generic(kind: str, arguments: Sequence[str], notes: list[str]) -> list[Schema]:
    """The options of `Kind[arguments]`."""
    match kind:
        case "any":
            return [{}]
        case "union":
            return [option for part in arguments for option in _options(part, notes)] or [{}]
        case "optional":
            return [*_generic("union", arguments, notes), {"type": "null"}]
        case "literal":
            return [_enumeration([_literal(part) for part in arguments])]
        case "array":
            return [_array(arguments[:1], notes)]
        case "set":
            return [{**_array(arguments[:1], notes), "uniqueItems": True}]
        case "tuple":
            return [_tuple(arguments, notes)]
        case "object":
            values = _one_of(_options(arguments[1], notes)) if len(arguments) == 2 else {}
            return [{"type": "object", **({"additionalProperties": values} if values else {})}]
        case _:
            if arguments:
                notes.append(
                    f"'[{', '.join(arguments)}]' after a {kind} is not understood: left out"
                )
            return [{"type": kind}]


def _array(arguments: Sequence[str], notes: list[str]) -> Schema:
    items = _one_of([option for part in arguments for option in _options(part, notes)])
    return {"type": "array", **({"items": items} if items else {})}


def _tuple(arguments: Sequence[str], notes: list[str]) -> Schema:
    """`Tuple[float, float]` is two numbers, `Tuple[int, ...]` any number of integers."""
    fixed = [part for part in arguments if part != "..."]
    schema = _array(fixed, notes)
    if not fixed or len(fixed) < len(arguments):
        return schema
    if "anyOf" in schema.get("items", {}):
        notes.append(f"type 'Tuple[{', '.join(fixed)}]': any of its types in any place")
    return {**schema, "minItems": len(fixed), "maxItems": len(fixed)}


def _enumeration(values: list[Any]) -> Schema:
    kinds = ("boolean", "integer", "number", "string", "null")
    single = next((k for k in kinds if all(is_valid(v, {"type": k}) for v in values)), None)
    return {**({"type": single} if single else {}), "enum": values}


def _one_of(options: Sequence[Schema]) -> Schema:
    """One schema for several: `int` inside `float` disappears, `Any` swallows all."""
    distinct: list[Schema] = []
    for option in options:
        if option not in distinct:
            distinct.append(option)
    if {"type": "number"} in distinct and {"type": "integer"} in distinct:
        distinct.remove({"type": "integer"})
    if not distinct or {} in distinct:
        return {}
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def _convert(value: Any, kind: str | None) -> Any:
    """A default of another type as one of `kind`, MISSING where that would be a guess."""
    if kind == "string" and isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return MISSING
    text = value.strip()
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), MISSING)
    if kind in ("integer", "number"):
        return _number(text)
    if kind in ("array", "object"):
        return _literal(text)
    return MISSING


def _number(text: str) -> Any:
    """`int` for whole numbers, `float` for others, MISSING for all else."""
    try:
        value = float(text)
    except ValueError:
        return MISSING
    if not math.isfinite(value):
        return MISSING
    if not re.fullmatch(r"[+-]?\d+", text):
        return value
    return int(text) if abs(int(text)) < _TOO_LONG else MISSING


def _whole(value: Any) -> Any:
    """A float without a fraction as the integer that it is."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _TOO_LONG
    return int(value) if whole else value


def _literal(text: str) -> Any:
    """The value that Python or JSON reads, as JSON holds it, else the text itself."""
    for read in (ast.literal_eval, json.loads):
        try:
            return orjson.loads(orjson.dumps(read(text.strip())))
        except (ValueError, TypeError, SyntaxError, RecursionError):
            continue  # TypeError: JSON has no sets, no bytes, no key but text, no endless integer
    return text.strip()


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators that stand outside brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(text):
        before = text[place - 1] if place else " "
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not before.isalnum():  # not the apostrophe of a word
            quote = letter
        elif letter in _OPENING:
            depth += 1
        elif letter in _CLOSING:
            depth -= 1
        elif letter == separator and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def _balanced(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += (letter in _OPENING) - (letter in _CLOSING)
        if depth < 0:
            return False
    return depth == 0
