"""The grammar of a JSON Schema: what xgrammar makes of it, with what it misreads put right."""

import json
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import xgrammar

from nemo_local.core.tool_formats import json_text
from nemo_local.nim.grammars.regexes import readable
from nemo_local.nim.grammars.schema_bounds import of_integers, whole

Schema = dict[str, Any]
ANNOTATIONS = ("title", "description", "default", "examples", "$comment")
OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
"""Keywords whose keys are names, and whose values are schemas."""
_OF_LENGTH = r" ::= (([^\"\\\r\n]))"
"""How xgrammar writes a character of a string that has `minLength` or `maxLength`: with control
characters, which no JSON has, and without those that JSON escapes."""
_OF_JSON = r' ::= (([^\0-\x1f\"\\]) | ("\\" basic_escape))'


def schema_grammar(schema: Schema, eased: Callable[[Schema], Schema] = dict) -> str:
    """EBNF whose rule `root` is a value of this schema; `eased` is applied to each within it first.

    xgrammar keeps numbers in 64 bits and spells 1.1 with 17 digits, so that strings stand in for
    the values of `enum` and `const` until it is done.

    Raises:
        RuntimeError, ValueError: there is no such grammar; says why.
    """
    mark, values = uuid.uuid4().hex, list[str]()

    def stand_in(value: Any) -> Any:
        if value is None or isinstance(value, str | bool):
            return value
        values.append(json_text(value))
        return f"{mark}{len(values) - 1}"

    # Not xgrammar's strict mode: it also forbids what a schema leaves open on purpose.
    grammar = xgrammar.Grammar.from_json_schema(
        json.dumps(_respelt(schema, stand_in, eased)), any_whitespace=False, strict_mode=False
    )
    return re.sub(
        rf'"\\"{mark}(\d+)\\""',
        lambda found: literal(values[int(found[1])]),
        str(grammar).replace(_OF_LENGTH, _OF_JSON),
    )


def plain(schema: Schema) -> Schema:
    """The schema, not those within, without keywords whose values rule nothing out.

    {"type": "object", "propertyNames": {"type": "string"}} -> {"type": "object"}
    """
    idle = set()
    names = schema.get("propertyNames")
    if names is True or (
        isinstance(names, dict)
        and names.get("type", "string") == "string"
        and names.keys() <= {"type", *ANNOTATIONS}
    ):
        idle.add("propertyNames")
    if schema.get("multipleOf") == 1 and of_integers(schema):
        idle.add("multipleOf")
    return {key: value for key, value in schema.items() if key not in idle}


def literal(text: str) -> str:
    """The text as EBNF writes it, and as JSON does."""
    return json.dumps(text, ensure_ascii=False)


def _respelt(schema: Any, stand_in: Callable[[Any], Any], eased: Callable[[Schema], Schema]) -> Any:
    """The schema as xgrammar reads it, with `stand_in` for listed values."""
    if isinstance(schema, list):
        return [_respelt(item, stand_in, eased) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: Schema = {}
    schema = plain(eased(schema))
    for key, value in schema.items():
        if key in OF_SCHEMAS and isinstance(value, dict):
            result[key] = {
                _spelt(key, name): _respelt(one, stand_in, eased) for name, one in value.items()
            }
        elif key == "enum" and isinstance(value, list):
            result[key] = [stand_in(one) for one in value]
        elif key == "const":
            result[key] = stand_in(value)
        elif key == "pattern" and isinstance(value, str):
            result[key] = readable(value)
        elif key == "$ref" and isinstance(value, str):
            result[key] = unquote(value)
        elif key == "prefixItems" and isinstance(value, list):
            most = schema.get("maxItems")  # xgrammar writes all that it is given
            if isinstance(most, float):
                most = whole("maxItems", most, schema)
            kept = value[:most] if isinstance(most, int) else value
            result[key] = _respelt(kept, stand_in, eased)
        elif isinstance(value, float):
            result[key] = whole(key, value, schema)
        else:
            result[key] = value if key in ANNOTATIONS else _respelt(value, stand_in, eased)
    return result


def _spelt(keyword: str, name: str) -> str:
    if keyword == "patternProperties":
        return readable(name)
    if keyword in ("$defs", "definitions"):
        # Spelt as in a JSON pointer: xgrammar looks for the name as it stands in a reference.
        return name.replace("~", "~0").replace("/", "~1")
    return name
