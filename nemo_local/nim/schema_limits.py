"""What of JSON Schema no grammar can hold a reply to; xgrammar leaves it out without a word."""

import re
from collections.abc import Iterator
from typing import Any

LEFT_OUT = (
    *("not", "if", "contains", "dependentRequired", "dependentSchemas", "dependencies"),
    *("unevaluatedProperties", "unevaluatedItems"),
)
_LOOKS_AROUND = re.compile(r"\(\?<?[=!]")
_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "propertyNames")


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
    for keyword in LEFT_OUT:
        if keyword in schema and schema[keyword] not in (True, {}):
            yield place, repr(keyword)
    if schema.get("uniqueItems"):
        yield place, "'uniqueItems'"
    if isinstance(schema.get("allOf"), list) and len(schema["allOf"]) > 1:
        yield place, "'allOf' with several members"
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema and {"properties", "required"} & schema.keys():
            yield place, f"{keyword!r} beside 'properties' or 'required'"
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and _LOOKS_AROUND.search(pattern):
        yield place, "a 'pattern' that looks around"
    if pattern is not None and {"minLength", "maxLength"} & schema.keys():
        yield place, "'pattern' beside 'minLength' or 'maxLength'"
    reference = schema.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        yield place, f"'$ref' to {reference!r}, which is elsewhere,"
    for inner, name in _inside(schema):
        yield from _problems(inner, f"{place}.{name}" if place else name)


def _inside(schema: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """The schemas in a schema, and where."""
    for keyword in _OF_SCHEMAS:
        found = schema.get(keyword)
        if isinstance(found, dict):
            yield from ((inner, f"{keyword}.{name}") for name, inner in found.items())
    for keyword in _LISTS:
        found = schema.get(keyword)
        if isinstance(found, list):
            yield from ((inner, f"{keyword}[{i}]") for i, inner in enumerate(found))
    yield from ((schema[keyword], keyword) for keyword in _SINGLE if keyword in schema)
