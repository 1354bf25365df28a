"""What in a JSON Schema no grammar can hold a reply to: xgrammar ignores it, or spoils the reply.

A schema for a reply is refused for it. From the parameters of a tool it is left out, as if nothing
held calls to them.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

from nemo_local.core.imports import imported_without
from nemo_local.nim.grammars.schema_bounds import unkept_bounds
from nemo_local.nim.grammars.schema_grammar import OF_SCHEMAS, plain

with imported_without("rfc3987_syntax"):  # 1.5 s, for a format that nobody checks here
    from jsonschema import Draft202012Validator, SchemaError

_LEFT_OUT = (
    *("not", "if", "contains", "dependentRequired", "dependentSchemas", "dependencies"),
    *("uniqueItems", "unevaluatedProperties", "unevaluatedItems"),
)
_CHOOSERS = ("$ref", "anyOf", "oneOf", "allOf")
"""The first of them in a schema is all that counts of it."""
_CONSTRAINTS = (
    *("properties", "required", "patternProperties", "propertyNames", "minProperties"),
    *("maxProperties", "items", "prefixItems", "minItems", "maxItems", "pattern", "minLength"),
    *("maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("enum", "const"),
)
_BOUNDS = (
    *("minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("multipleOf", "type"),
)
_TELL_A_TYPE = ("properties", "patternProperties", "items", "prefixItems", "enum", "const")
_LOOKS_AROUND = re.compile(r"(?<!\\)\(\?<?[=!]")
_NOT_IN_JSON = frozenset(
    ['"', '\\"', "\\\\", "\\n", "\\r", "\\t", "\\f", "\\v", "\\a", "\\e", "\\c"]
)
"""Parts of a pattern that JSON spells otherwise, in a way that no grammar asks for."""
_ESCAPED_CODES = frozenset([*range(ord(" ")), ord('"'), ord("\\")])
"""The codes of such characters, for patterns that write them by number."""
_SIGNS = re.compile(r"\\(?:x[\da-fA-F]{2}|u[\da-fA-F]{4}|u\{[\da-fA-F]+\}|.)|.", re.DOTALL)
_POINTERS = ("json-pointer", "relative-json-pointer")
"""Formats whose grammar allows quotes."""
_ALL_BUT = re.compile(r"\[\^\]?(?:\\.|[^\]\\])*\]")
MAX_OPTIONAL = 400
"""Properties of an object that may be left out; twice as many compile four times as long."""
_NEED_MEMBERS = ("anyOf", "oneOf", "allOf", "enum")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")


def check_schema(schema: Any) -> None:
    """Raise ValueError, which names keyword and place, for a schema that would be kept in part.

    check_schema({"properties": {"a": {"uniqueItems": True}}})
    -> ValueError: 'uniqueItems' of properties.a is not supported
    """
    for place, what in _problems(schema, ""):
        raise ValueError(f"{what} of {place or 'the schema'} is not supported")


def _problems(schema: Any, place: str) -> Iterator[tuple[str, str]]:
    if not isinstance(schema, dict):
        return
    schema = plain(schema)
    for keyword in _LEFT_OUT:
        if keyword in schema and not _says_nothing(keyword, schema):
            yield place, repr(keyword)
    if isinstance(schema.get("allOf"), list) and len(schema["allOf"]) > 1:
        yield place, "'allOf' with several members"
    choosers = [keyword for keyword in _CHOOSERS if keyword in schema]
    constraints = [keyword for keyword in _CONSTRAINTS if schema.get(keyword)]
    if choosers and (beside := choosers[1:] + constraints):
        yield place, f"{beside[0]!r} beside {choosers[0]!r}"
    if constraints and not {"type", *choosers, *_TELL_A_TYPE} & schema.keys():
        yield place, f"{constraints[0]!r} without 'type'"
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if isinstance(properties, dict) and isinstance(required, list):
        if any(isinstance(name, str) and name not in properties for name in required):
            yield place, "'required' with a name outside 'properties'"
        if len(properties) - len(required) > MAX_OPTIONAL:
            yield place, f"more than {MAX_OPTIONAL} 'properties' that are not 'required'"
    least, different = schema.get("minProperties"), _different_keys(schema)
    if isinstance(least, int | float) and least > different:
        yield place, f"'minProperties' above {different}, where a key may be written twice,"
    yield from ((place, what) for what, _ in unkept(schema))
    if "format" in schema and {"minLength", "maxLength"} & schema.keys():
        yield place, "'format' beside 'minLength' or 'maxLength'"
    if ruled_out := _ruled_out(schema):
        yield place, f"{ruled_out[0]!r} among the values, which the rest of it rules out,"
    if isinstance(schema.get("pattern"), str):
        if "maxLength" in schema or (schema.get("minLength") or 0) > 1:
            yield place, "'pattern' beside 'minLength' or 'maxLength'"
        if schema.get("enum"):
            yield place, "'pattern' beside 'enum'"
    for inner, name in _inside(schema):
        yield from _problems(inner, f"{place}.{name}" if place else name)


def unkept(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What in this schema, not in those within, spoils a grammar, and the keyword to leave out.

    {"anyOf": []} -> "an empty 'anyOf'", "anyOf"
    """
    for keyword in _NEED_MEMBERS:
        if schema.get(keyword) == []:
            yield f"an empty {keyword!r}", keyword
    if "$ref" in schema and not local(schema["$ref"]):
        yield f"'$ref' to {schema['$ref']!r}, which is elsewhere or has no path,", "$ref"
    if schema.get("format") in _POINTERS:
        yield f"'format' {schema['format']}", "format"
    for keyword, pattern in patterns(schema):
        if not _stands_in_json(pattern):
            yield "a pattern with quotes, backslashes or control characters", keyword
        if _LOOKS_AROUND.search(pattern):
            yield f"a {keyword!r} that looks around", keyword
    others = schema.get("additionalProperties", bool(schema.get("properties")))
    if schema.get("patternProperties") and others is not False:
        yield "'patternProperties' without 'additionalProperties' false", "patternProperties"
    if "propertyNames" in schema and (what := _unkept_names(schema)):
        yield what, "propertyNames"
    yield from unkept_bounds(schema)


def patterns(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The patterns of this schema, not of those within, each after its keyword."""
    if isinstance(pattern := schema.get("pattern"), str):
        yield "pattern", pattern
    if isinstance(keys := schema.get("patternProperties"), dict):
        yield from (("patternProperties", key) for key in keys)


def local(reference: Any) -> bool:
    """Whether a reference leads to a place in the same schema."""
    return isinstance(reference, str) and (reference == "#" or reference.startswith("#/"))


def _unkept_names(schema: dict[str, Any]) -> str | None:
    """What xgrammar ignores beside `propertyNames`, or does not write as a string."""
    for keyword in ("properties", "patternProperties", "additionalProperties"):
        if schema.get(keyword, {}) not in (True, {}):
            return f"'propertyNames' beside {keyword!r}"
    names = schema["propertyNames"]
    if not isinstance(names, dict) or {*_CHOOSERS, "const"} & names.keys():
        return "'propertyNames' other than a schema of strings without references or choices"
    listed = names.get("enum") or ()
    if names.get("type", "string") != "string" or not all(isinstance(one, str) for one in listed):
        return "'propertyNames' other than strings"
    return None


def _different_keys(schema: dict[str, Any]) -> float:
    """How many properties a grammar, which counts a repeated key anew, knows to differ."""
    names = schema.get("required")
    required = len(names) if isinstance(names, list) else 0
    if schema.get("patternProperties") or schema.get("propertyNames"):
        return max(required, 1)
    return math.inf if schema.get("additionalProperties") is False else required + 1


def _ruled_out(schema: dict[str, Any]) -> list[Any]:
    """Values of `enum` or `const` outside the bounds beside them, which a grammar ignores.

    Raises ValueError for bounds that are no JSON Schema.
    """
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    bounds = {keyword: schema[keyword] for keyword in _BOUNDS if keyword in schema}
    if not isinstance(values, list) or not values or not bounds:
        return []
    try:
        Draft202012Validator.check_schema(bounds)
    except SchemaError as error:
        raise ValueError(f"it is not a valid JSON Schema: {error.message}") from None
    holds = Draft202012Validator(bounds).is_valid
    return [value for value in values if not holds(value)]


def _stands_in_json(pattern: str) -> bool:
    """Whether what a pattern spells stands in JSON as it is; `[^...]` never lets out the rest."""
    for part in _SIGNS.findall(_ALL_BUT.sub("", pattern)):
        if part[:2] in ("\\x", "\\u") and part[2:]:
            if int(part[2:].strip("{}"), 16) in _ESCAPED_CODES:
                return False
        elif part in _NOT_IN_JSON or part == "\\" or part < " ":
            return False
    return True


def _says_nothing(keyword: str, schema: dict[str, Any]) -> bool:
    """Whether the keyword, as it stands, rules nothing out, or xgrammar does keep it."""
    value = schema[keyword]
    if keyword in ("uniqueItems", "dependentRequired", "dependentSchemas", "dependencies"):
        return not value
    if keyword == "if":
        return not {"then", "else"} & schema.keys()
    if keyword == "unevaluatedItems" and "prefixItems" in schema:
        return True
    return bool(keyword.startswith("unevaluated") and value in (True, {}))


def _inside(schema: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """The schemas in a schema, and where."""
    for keyword in OF_SCHEMAS:
        found = schema.get(keyword)
        if isinstance(found, dict):
            yield from ((inner, f"{keyword}.{name}") for name, inner in found.items())
    for keyword in _LISTS:
        found = schema.get(keyword)
        if isinstance(found, list):
            yield from ((inner, f"{keyword}[{i}]") for i, inner in enumerate(found))
    yield from ((schema[keyword], keyword) for keyword in _SINGLE if keyword in schema)
    if isinstance(names := schema.get("propertyNames"), dict):
        yield {"type": "string", **names}, "propertyNames"
