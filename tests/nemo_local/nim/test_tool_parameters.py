"""The parameters of tools: what a call is held to of them, and what is left out."""

from typing import Any

import pytest

from nemo_local.nim.errors import BadValue
from nemo_local.nim.grammars.constraints import Constraint, Grammars
from nemo_local.nim.grammars.tool_parameters import closed
from tests.nemo_local.nim.test_constraints import EOS, SIZE, TOKENIZER, accepts, call

STRING = {"type": "string"}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(TOKENIZER, SIZE, [EOS])


def calls_of(parameters: dict[str, Any]) -> Constraint:
    function = {"name": "f", "parameters": parameters}
    return Constraint("calls", [{"type": "function", "function": function}])


def test_objects_are_closed_where_they_name_their_properties() -> None:
    schema = {
        "type": "object",
        "properties": {
            "properties": {"type": "object"},
            "inner": {"type": "object", "properties": {"x": {"enum": [{"properties": {}}]}}},
            "open": {"properties": {"y": {}}, "additionalProperties": True},
        },
    }
    result = closed(schema)
    assert result["additionalProperties"] is False
    assert result["properties"]["inner"]["additionalProperties"] is False
    assert result["properties"]["properties"] == {"type": "object"}
    assert result["properties"]["open"]["additionalProperties"] is True


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer", "maximum": 2**64 - 1, "minimum": 0}, [1], [-1, "x"]),
        ({"type": "number", "minimum": 10**400}, [1.5], ["x"]),
        ({"type": "integer", "minimum": 0.5}, [1], [0]),
        ({"type": "integer", "multipleOf": 5, "minimum": 0}, [7], [-5]),
        ({"type": "int", "multipleOf": 1, "minimum": 0}, [7], [-5]),
        (
            {"type": "object", "propertyNames": True, "additionalProperties": STRING},
            [{"b": "x"}],
            [{"b": 1}],
        ),
        ({"type": "number", "minimum": 1e-7, "maximum": 2e-7}, [1.5e-7, 3], ["x"]),
        ({"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.000001}, [1], ["x"]),
        ({"type": "any", "minimum": 1}, [1, "x", None], []),
        ({"type": ["string", "any"]}, [1, "x"], []),
        ({"type": "dict", "properties": {"b": {"type": "float"}}}, [{"b": 1.5}, {}], [{"b": "x"}]),
        ({"type": "tuple", "items": {"type": "Integer"}}, [[1, 2]], [["x"], 1]),
        ({**STRING, "enum": None, "minLength": None, "pattern": None}, ["x"], [1]),
        ({"const": None}, [None], [1]),
        ({"enum": []}, [1, "x"], []),
        ({"anyOf": [], **STRING}, ["x"], [1]),
        ({"oneOf": [], **STRING}, ["x"], [1]),
        ({"$ref": "#elsewhere", **STRING}, ["x"], [1]),
        ({**STRING, "format": "json-pointer"}, ["x"], [1]),
        ({**STRING, "pattern": '^a"b$'}, ["x", 'a"b'], [1]),
        ({**STRING, "pattern": "^(?=a)b$"}, ["x"], [1]),
        (
            {"type": "object", "properties": {"b": False, "c": STRING}, "required": ["c"]},
            [{"c": "x"}],
            [{"b": 1, "c": "x"}, {}],
        ),
        ({"type": "object", "properties": None, "required": None}, [{}, {"b": 1}], [1]),
        (
            {"properties": {"b": STRING}, "additionalProperties": None},
            [{"b": "x"}],
            [{"b": "x", "c": 1}],
        ),
        (
            {"type": "object", "patternProperties": {"^b$": STRING}, "additionalProperties": True},
            [{"b": "x", "c": 1}],
            [1],
        ),
        (
            {"properties": {"b": STRING}, "patternProperties": {"^c$": STRING}},
            [{"b": "x", "c": "y"}],
            [{"c": 1}, {"d": "x"}],
        ),
        (
            {"type": "object", "propertyNames": {"enum": [1]}, "additionalProperties": STRING},
            [{"b": "x"}],
            [{"b": 1}],
        ),
    ],
    ids=str,
)
def test_what_no_grammar_keeps_of_a_tool_is_left_out_and_the_rest_is_kept(
    grammars: Grammars, schema: dict, good: list[Any], bad: list[Any]
) -> None:
    calls = calls_of({"type": "object", "properties": {"a": schema}, "required": ["a"]})
    for value in (*good, *bad):
        assert accepts(grammars, calls, call({"a": value}, "f")) is (value in good), value


@pytest.mark.parametrize(
    "parameters", [{"type": ["object", "null"]}, {"type": "any"}, {"type": "dict"}], ids=str
)
def test_the_arguments_of_a_call_are_an_object(
    grammars: Grammars, parameters: dict[str, Any]
) -> None:
    for arguments, good in (({"a": 1}, True), (None, False), (1, False)):
        text = call(arguments, "f")  # type: ignore[arg-type]
        assert accepts(grammars, calls_of(parameters), text) is good


def test_a_required_property_that_may_have_no_value_is_refused_with_its_tool(
    grammars: Grammars,
) -> None:
    with pytest.raises(BadValue, match="tool 'f': Schema 'false'"):
        grammars.matcher(calls_of({"properties": {"a": False}, "required": ["a"]}))
