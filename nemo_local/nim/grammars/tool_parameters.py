"""The parameters of tools as a grammar takes them: closed, and without what it cannot keep."""

from typing import Any

from nemo_local.nim.chat_template import Tool
from nemo_local.nim.grammars.regexes import readable
from nemo_local.nim.grammars.schema_grammar import ANNOTATIONS, OF_SCHEMAS, Schema, plain
from nemo_local.nim.grammars.schema_limits import local, patterns, unkept

_TYPES = {
    **{name: name for name in ("array", "boolean", "integer", "null", "number", "object")},
    **{"string": "string", "str": "string", "int": "integer", "float": "number"},
    **{"bool": "boolean", "list": "array", "tuple": "array", "dict": "object"},
}
"""Types of JSON Schema; and of Python, as in lists of tools that were drawn from its functions."""


def arguments_schema(tools: list[Tool]) -> Schema:
    """One schema for the arguments of any of the tools, with a case for each in their order."""
    taken: Schema = {}
    for i, tool in enumerate(tools):
        given = tool["function"].get("parameters") or {"properties": {}}
        taken[str(i)] = {**closed(given, f"#/$defs/{i}"), "type": "object"}
    return {"$defs": taken, "anyOf": [{"$ref": f"#/$defs/{i}"} for i in taken]}


def closed(schema: Any, place: str = "#") -> Any:
    """The schema with every object that names its properties limited to them, and no annotations.

        {"type": "object", "properties": {"a": {}}} -> {..., "additionalProperties": False}

    JSON Schema would let a model invent further arguments; an object that names none, or says
    itself what else it takes, stays open. References within the schema begin at `place`, where it
    will stand in another. A keyword that is null says nothing.
    """
    if isinstance(schema, list):
        return [closed(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: _closed_value(key, value, place)
        for key, value in schema.items()
        if key not in ANNOTATIONS and (value is not None or key == "const")
    }
    if isinstance(result.get("properties"), dict) and result["properties"]:
        result.setdefault("additionalProperties", False)
    return result


def _closed_value(key: str, value: Any, place: str) -> Any:
    if key in OF_SCHEMAS and isinstance(value, dict):
        return {name: closed(inner, place) for name, inner in value.items()}
    if key == "$ref" and local(value):
        return place + value[1:]
    return value if key in ("enum", "const") else closed(value, place)


def eased(schema: Schema) -> Schema:
    """One schema of a tool, not those within, without what a grammar cannot keep or read.

    {"type": "dict", "properties": {"a": False, "b": {}}}
    -> {"type": "object", "properties": {"b": {}}}
    """
    result = dict(schema)
    if "type" in result and (known := _known(result.pop("type"))):
        result["type"] = known
    properties, required = result.get("properties"), result.get("required") or ()
    if isinstance(properties, dict):
        result["properties"] = {
            name: inner
            for name, inner in properties.items()
            if inner is not False or name in required
        }
    for keyword in [
        *(keyword for _, keyword in unkept(plain(result))),
        *(keyword for keyword, pattern in patterns(result) if not _readable(pattern)),
    ]:
        result.pop(keyword, None)
        if keyword == "patternProperties":
            result["additionalProperties"] = True
    return result


def _known(types: Any) -> Any:
    """The types under the names of JSON Schema, or None when one of them is unknown."""
    if isinstance(types, list):
        known = [_known(one) for one in types]
        return None if None in known else known
    return _TYPES.get(types.lower()) if isinstance(types, str) else None


def _readable(pattern: str) -> bool:
    try:
        readable(pattern)
    except ValueError:
        return False
    return True
