"""Grammars: what a constrained reply may and may not be."""

import json
import re
import sys
from typing import Any

import pytest
import xgrammar
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from nemo_local.nim.errors import BadValue
from nemo_local.nim.grammars.constraints import MAX_NESTING, Constraint, Grammars
from tests.tiny_checkpoint import make_tokenizer

EOS = 4
TOKENIZER = make_tokenizer()
SIZE = len(TOKENIZER) + 6
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "more": {"type": "object"},
            },
            "required": ["a"],
        },
    },
}
NO_NUMBER = {"properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}}}
ODD = {"type": "function", "function": {"name": 'say "é"'}}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(TOKENIZER, SIZE, [EOS])


def accepts(grammars: Grammars, constraint: Constraint, text: str) -> bool:
    matcher = grammars.matcher(constraint)
    return matcher.accept_string(text) and matcher.accept_token(EOS)


def call(arguments: dict, name: str = "add") -> str:
    return json.dumps({"name": name, "parameters": arguments}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("text", "one", "several"),
    [
        pytest.param(call({"a": 1}), True, True, id="a call"),
        pytest.param(call({"a": 1, "tags": ["x", "y"]}), True, True, id="optional argument"),
        pytest.param(call({"a": 1, "more": {"z": [1, None]}}), True, True, id="open object"),
        pytest.param(call({}, 'say "é"'), True, True, id="name that needs escaping"),
        pytest.param(call({"a": 1}) + "; " + call({"a": 2}), False, True, id="two calls"),
        pytest.param(call({}), False, False, id="required argument missing"),
        pytest.param(call({"a": 1, "invented": 2}), False, False, id="invented argument"),
        pytest.param(call({"a": "one"}), False, False, id="wrong type"),
        pytest.param(call({"a": 1}, "sub"), False, False, id="unknown tool"),
        pytest.param("four", False, False, id="prose"),
        pytest.param("", False, False, id="nothing"),
    ],
)
def test_calls_of_the_listed_tools_only(
    grammars: Grammars, text: str, one: bool, several: bool
) -> None:
    assert accepts(grammars, Constraint("call", [ADD, ODD]), text) is one
    assert accepts(grammars, Constraint("calls", [ADD, ODD]), text) is several


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        pytest.param(Constraint("json", None), '{"a": [1, {"b": null}]}', "[1]", id="json"),
        pytest.param(Constraint("schema", {"type": "integer"}), "12", '"12"', id="schema"),
        pytest.param(Constraint("schema", '{"enum": ["a"]}'), '"a"', '"b"', id="schema as text"),
        pytest.param(Constraint("choice", ["yes", "no (é)"]), "no (é)", "maybe", id="choice"),
        pytest.param(Constraint("choice", ["😀", 'a"\\\n']), "😀", "a", id="emoji"),
        pytest.param(Constraint("choice", ["😀", 'a"\\\n']), 'a"\\\n', "", id="escapes"),
        pytest.param(Constraint("regex", "[0-9]{3}"), "123", "12", id="regex"),
        pytest.param(Constraint("grammar", 'root ::= "a" | "b"'), "b", "c", id="grammar"),
    ],
)
def test_each_form_accepts_what_fits_it_and_nothing_else(
    grammars: Grammars, constraint: Constraint, good: str, bad: str
) -> None:
    assert accepts(grammars, constraint, good)
    assert not accepts(grammars, constraint, bad)


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        pytest.param(Constraint("grammar", "root ::= ("), "grammar", id="grammar"),
        pytest.param(Constraint("schema", "{"), "schema", id="not JSON"),
        pytest.param(Constraint("schema", {"type": "strange"}), "strange", id="unknown type"),
        pytest.param(
            Constraint("schema", {"type": "strange", "enum": [1]}), "strange", id="and values"
        ),
        pytest.param(Constraint("choice", []), "list of strings", id="no choice"),
        pytest.param(
            Constraint(
                "calls",
                [{"function": {"name": "f", "parameters": NO_NUMBER}}],
            ),
            "'f'.*minimum greater",
            id="tool",
        ),
    ],
)
def test_a_form_that_cannot_be_compiled_is_refused_with_the_reason(
    grammars: Grammars, constraint: Constraint, reason: str
) -> None:
    with pytest.raises(BadValue, match=reason) as caught:
        grammars.matcher(constraint)
    assert "/project" not in str(caught.value)


def test_references_of_a_tool_stay_within_its_own_schema(grammars: Grammars) -> None:
    """Two tools define `calls`, each its own; one of them contains itself."""
    number = {
        "$defs": {"calls": {"type": "integer"}},
        "properties": {"a": {"$ref": "#/$defs/calls"}},
    }
    tree = {
        "definitions": {"calls": {"enum": ["leaf"]}},
        "properties": {"a": {"$ref": "#/definitions/calls"}, "next": {"$ref": "#"}},
    }
    tools = [{"function": {"name": "n", "parameters": number}}]
    tools.append({"function": {"name": "t", "parameters": tree}})
    deep = {"a": "leaf", "next": {"a": "leaf", "next": {"a": "leaf"}}}
    for arguments, name, good in (
        ({"a": 1}, "n", True),
        ({"a": "leaf"}, "n", False),
        (deep, "t", True),
        ({"a": 1}, "t", False),
        ({"a": "leaf", "next": {"a": 1}}, "t", False),
    ):
        assert accepts(grammars, Constraint("calls", tools), call(arguments, name)) is good


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "array", "uniqueItems": True}, "'uniqueItems' of the schema is not supported"),
        ({"properties": {"a": {"not": {}}}}, "'not' of properties.a"),
        ({"allOf": [{"type": "object"}, {"type": "null"}]}, "'allOf' with several members"),
        ({"allOf": [{"type": "object"}], "required": ["a"]}, "'required' beside 'allOf'"),
        ({"items": {"$defs": {"x": {"$ref": "http://a/b"}}}}, "has no path, of items.$defs.x"),
        ({"$ref": "#a"}, "'$ref' to '#a', which is elsewhere"),
        ({"anyOf": [{"if": {}, "then": {"type": "null"}}]}, "'if' of anyOf[0]"),
        ({"type": "string", "pattern": "^(?=.*a)b$"}, "a 'pattern' that looks around"),
        ({"type": "string", "pattern": "a*", "minLength": 2}, "'pattern' beside 'minLength'"),
        ({"properties": {"a": {}}, "oneOf": [{"type": "null"}]}, "'properties' beside 'oneOf'"),
        ({"anyOf": [{"required": ["a"]}]}, "'required' without 'type' of anyOf[0]"),
        ({"minimum": 5}, "'minimum' without 'type'"),
        (
            {"type": "object", "properties": {"a": {}}, "required": ["a", "b"]},
            "'required' with a name outside 'properties'",
        ),
        ({"type": "object", "minProperties": 2}, "'minProperties' above 1, where a key may be"),
        (
            {"type": "object", "patternProperties": {"^[ab]$": {}}, "minProperties": 2},
            "'minProperties' above 1, where a key may be written twice, of the schema",
        ),
        ({"type": "string", "pattern": r"^[a-z]\t$"}, "a pattern with quotes, backslashes or"),
        ({"type": "string", "pattern": r"^C:\\[a-z]$"}, "a pattern with quotes, backslashes or"),
        ({"type": "object", "patternProperties": {'^"$': {}}}, "a pattern with quotes"),
        ({"type": "number", "minimum": 1e-7, "maximum": 2e-7}, "a bound of more than 6 decimals"),
        ({"type": "number", "multipleOf": 0.01}, "'multipleOf' without 'type' integer"),
        ({"type": "integer", "multipleOf": 5, "minimum": 0}, "'multipleOf' with a bound on one"),
        ({"type": "integer", "multipleOf": 5, "exclusiveMaximum": 9}, "a bound on one side"),
        (
            {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 10_000},
            "'multipleOf' with more than 10000 numbers between its bounds",
        ),
        ({"type": "integer", "multipleOf": 1025}, "other than a whole number from 1 to 1024"),
        ({"type": "integer", "multipleOf": 2.5}, "other than a whole number from 1 to 1024"),
        (
            {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.000001},
            "a range without a number of 6 decimals",
        ),
        ({"type": "integer", "maximum": 2**64 - 1}, "'maximum' beyond 64 bits of the schema"),
        ({"type": "integer", "maximum": 2**63}, "'maximum' beyond 64 bits of the schema"),
        ({"type": "integer", "minimum": -(2**63) - 1}, "'minimum' beyond 64 bits of the schema"),
        ({"type": "number", "minimum": -(10**309)}, "'minimum' beyond 64 bits of the schema"),
        ({"items": {"anyOf": []}}, "an empty 'anyOf' of items"),
        ({"oneOf": []}, "an empty 'oneOf'"),
        (
            {"properties": {"a": {}}, "patternProperties": {"^b$": {"type": "null"}}},
            "'patternProperties' without 'additionalProperties' false",
        ),
        (
            {"type": "object", "patternProperties": {"^b$": {}}, "additionalProperties": {}},
            "'patternProperties' without 'additionalProperties' false",
        ),
        (
            {"properties": {"a": {}}, "propertyNames": {"enum": ["a"]}},
            "'propertyNames' beside 'properties'",
        ),
        (
            {
                "type": "object",
                "propertyNames": {"enum": ["a"]},
                "additionalProperties": {"type": "null"},
            },
            "'propertyNames' beside 'additionalProperties'",
        ),
        (
            {
                "patternProperties": {"^b$": {}},
                "propertyNames": {"minLength": 1},
                "type": "object",
            },
            "'propertyNames' beside 'patternProperties'",
        ),
        ({"type": "object", "propertyNames": {"enum": [1]}}, "'propertyNames' other than strings"),
        ({"type": "object", "propertyNames": False}, "'propertyNames' other than a schema of"),
        ({"type": "object", "propertyNames": {"$ref": "#/a"}}, "without references or choices"),
        ({"type": "string", "pattern": r"^\u{22}$"}, "a pattern with quotes, backslashes or"),
        ({"type": "string", "format": "date", "maxLength": 4}, "'format' beside 'minLength'"),
        ({"type": "string", "format": "json-pointer"}, "'format' json-pointer"),
        ({"type": "integer", "minimum": 3, "enum": [1, 5]}, "1 among the values, which the rest"),
        ({"const": "a", "type": "integer"}, "'a' among the values, which the rest of it rules"),
        ({"type": "string", "pattern": r"^\x22$"}, "a pattern with quotes, backslashes or"),
        (
            {"type": "string", "pattern": r"^\u005c|\u000a$"},
            "a pattern with quotes, backslashes or",
        ),
        (
            {"properties": {f"p{i}": {"type": "null"} for i in range(401)}},
            "more than 400 'properties' that are not 'required'",
        ),
    ],
)
def test_a_keyword_that_no_grammar_keeps_is_refused_by_name(
    grammars: Grammars, schema: dict, reason: str
) -> None:
    for given in (schema, json.dumps(schema)):
        with pytest.raises(BadValue, match=re.escape(reason)):
            grammars.matcher(Constraint("schema", given))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"not": {"enum": ["if"]}}, "required": ["not"]},
        {"type": "object", "properties": {}, "required": [], "anyOf": [{"type": "object"}]},
        {"properties": {"a": {"allOf": [{"type": "integer"}], "title": "A", "default": 1}}},
        {"type": "array", "prefixItems": [{"type": "null"}], "unevaluatedItems": False},
        {"type": "object", "minProperties": 1},
        {"properties": {"a": {"type": "string", "required": True}}},
        {"properties": {"a": {}}, "required": ["a"], "minProperties": 2},
        {"properties": {"a": {}, "b": {}}, "minProperties": 2, "additionalProperties": False},
        {"type": "string", "pattern": "^[a-z]+$", "minLength": 1},
        {"type": "string", "pattern": r"f\(?=b"},
        {"type": "string", "pattern": r'^[^"\\]+\d\.$'},
        {"type": "number", "minimum": 0.5, "maximum": 1.25},
        {"type": "number", "exclusiveMinimum": -1e308, "exclusiveMaximum": 1e308},
        {"type": "integer", "multipleOf": 5, "minimum": 0, "enum": [5, 10]},
        {"type": "string", "enum": ["a", "b"], "minLength": 1},
        {"type": ["string", "null"], "enum": ["a", None]},
        {"type": "string", "pattern": r"^\x41\u00e9$"},
        {"type": "array", "items": {"type": "integer"}, "uniqueItems": False},
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "title": "N"},
        {"$defs": {"a": {"type": "object"}}, "$ref": "#/$defs/a"},
    ],
    ids=str,
)
def test_schemas_that_grammars_keep_are_not_refused(grammars: Grammars, schema: dict) -> None:
    grammars.matcher(Constraint("schema", schema))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer", "multipleOf": 5}, [0, -5, 12345], [1, -7]),
        (
            {"type": "integer", "multipleOf": 5, "exclusiveMinimum": 0, "maximum": 10_000},
            [5, 9995],
            [0, 7],
        ),
        ({"type": "integer", "multipleOf": 1024.0}, [2048], [2049]),
        ({"type": "integer", "multipleOf": 1, "minimum": 0}, [0, 7], [-1, 0.5]),
        ({"type": ["integer", "null"], "multipleOf": 1.0, "maximum": 2}, [2, None], [3]),
        (
            {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
            [-(2**63), 2**63 - 1],
            [-(2**63) - 1, 2**63],
        ),
        (
            {"type": "number", "minimum": -sys.float_info.max, "maximum": sys.float_info.max},
            [-3.25, 0, 10**18],
            ["x", 10**309],
        ),
        ({"type": "number", "maximum": 1.797e308}, [0.5], [10**309]),
        ({"type": "integer", "minimum": 0.5, "maximum": 2.5}, [1, 2], [0, 3]),
        (
            {"type": ["integer", "null"], "exclusiveMinimum": 0.5, "exclusiveMaximum": 2.5},
            [1, 2, None],
            [0, 3],
        ),
        (
            {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.000002},
            [1.000001],
            [1, 1.000002],
        ),
        ({"type": "string", "minLength": 2.0, "maxLength": 3.0}, ["ab"], ["a", "abcd"]),
        (
            {
                "prefixItems": [{"type": "integer"}, {"type": "null"}, {"type": "null"}],
                "maxItems": 2,
            },
            [[1, None]],
            [[1, None, None], [None, None]],
        ),
        (
            {"prefixItems": [{"type": "integer"}, {"type": "null"}], "maxItems": 1.0},
            [[1]],
            [[1, None]],
        ),
        (
            {
                "properties": {"a": {"type": "integer"}},
                "patternProperties": {"^b[0-9]$": {"type": "string"}},
                "additionalProperties": False,
            },
            [{"a": 1, "b1": "x"}],
            [{"b1": 2}, {"c": 1}],
        ),
        (
            {"type": "object", "propertyNames": {"pattern": "^[a-z]$"}},
            [{}, {"a": 1, "b": "x"}],
            [{"ab": 1}],
        ),
        *(
            (
                {
                    "type": "object",
                    "propertyNames": names,
                    "additionalProperties": {"type": "number"},
                },
                [{}, {"a b": 1}],
                [{"a": "x"}],
            )
            for names in ({}, True, {"type": "string"}, {"title": "Name", "type": "string"})
        ),
        (
            {
                "properties": {"a": {"type": "null"}},
                "propertyNames": {"type": "string"},
                "additionalProperties": False,
            },
            [{}, {"a": None}],
            [{"b": None}],
        ),
        ({"type": "string", "pattern": "abc"}, ["abc"], ["ab", "abcd"]),
    ],
    ids=str,
)
def test_a_grammar_keeps_what_its_schema_says(
    grammars: Grammars, schema: dict, good: list[Any], bad: list[Any]
) -> None:
    """A `pattern` without anchors, too, is a whole string."""
    for value in (*good, *bad):
        wanted = value in good
        assert accepts(grammars, Constraint("schema", schema), json.dumps(value)) is wanted, value


@pytest.mark.parametrize(
    ("name", "pointer"),
    [("a/b", "a~1b"), ("a~b", "a~0b"), ("a b", "a%20b"), ("~1", "~01"), ("é/%20", "%C3%A9~1%2520")],
)
def test_a_reference_finds_a_name_that_a_pointer_must_escape(
    grammars: Grammars, name: str, pointer: str
) -> None:
    for keyword in ("$defs", "definitions"):
        schema = {
            keyword: {name: {"type": "integer"}},
            "properties": {"a": {"$ref": f"#/{keyword}/{pointer}"}},
        }
        tool = {"function": {"name": "f", "parameters": schema}}
        for value in (1, "x"):
            good = value == 1
            text = json.dumps({"a": value})
            assert accepts(grammars, Constraint("schema", schema), text) is good
            assert accepts(grammars, Constraint("call", [tool]), call({"a": value}, "f")) is good


@pytest.mark.parametrize(
    ("text", "good"),
    [('say "hi"', True), ("a\nb\\", True), ("é😀", True), ("", False), ("123456789", False)],
    ids=["quotes", "escapes", "other scripts", "too short", "too long"],
)
def test_a_string_of_bounded_length_may_hold_what_json_escapes(
    grammars: Grammars, text: str, good: bool
) -> None:
    word = {"type": "string", "minLength": 1, "maxLength": 8}
    assert (
        accepts(grammars, Constraint("schema", word), json.dumps(text, ensure_ascii=False)) is good
    )
    for raw in ("\x00", "\t", "\n", '"', "\\"):
        assert not accepts(grammars, Constraint("schema", word), f'"{raw}"')


def test_what_tools_are_said_to_do_is_no_part_of_their_form(grammars: Grammars) -> None:
    def tools(words: str) -> list[dict[str, Any]]:
        value = {"type": "string", "description": words, "examples": [words]}
        parameters = {"type": "object", "properties": {"title": value}, "description": words}
        return [
            {"function": {"name": f"f{i}", "description": words, "parameters": parameters}}
            for i in range(64)
        ]

    grammars.matcher(Constraint("calls", tools("short")))
    assert grammars.known(Constraint("calls", tools("long " * 1000))) is not None
    assert accepts(
        grammars, Constraint("calls", tools("")), '{"name": "f1", "parameters": {"title": "a"}}'
    )


def test_a_tool_with_a_keyword_that_no_grammar_keeps_can_be_called(grammars: Grammars) -> None:
    numbers = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    parameters = {"type": "object", "properties": {"a": numbers}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    assert accepts(grammars, Constraint("calls", [tool]), '{"name": "f", "parameters": {"a": [1]}}')


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": r"^\bx\b$"},
        {"type": "object", "patternProperties": {r"^\p{L}$": {"type": "boolean"}}},
    ],
    ids=["a pattern", "a pattern of keys"],
)
def test_a_tool_with_a_pattern_that_cannot_be_read_is_called_without_it(
    grammars: Grammars, schema: dict
) -> None:
    function = {"name": "f", "parameters": {"properties": {"a": schema}, "required": ["a"]}}
    calls = Constraint("calls", [{"type": "function", "function": function}])
    value = "x y" if schema["type"] == "string" else {"k": 1}
    assert accepts(grammars, calls, call({"a": value}, "f"))


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def test_a_schema_of_the_largest_depth_is_compiled(grammars: Grammars) -> None:
    grammars.matcher(Constraint("schema", nested(MAX_NESTING - 1)))
    with pytest.raises(BadValue, match="nested deeper than 100 levels"):
        grammars.matcher(Constraint("schema", nested(MAX_NESTING + 1)))


def test_a_form_that_somebody_means_is_never_too_slow(grammars: Grammars) -> None:
    matcher = grammars.matcher(Constraint("schema", {"type": "string", "maxLength": 5000}))
    mask = xgrammar.allocate_token_bitmask(1, SIZE)
    quote, letter = TOKENIZER.convert_tokens_to_ids(['"', "a"])
    for token in (quote, *[letter] * 200):
        matcher.fill_next_token_bitmask(mask)
        assert matcher.accept_token(token)
    assert not matcher.too_slow


@pytest.mark.parametrize(
    "value",
    [1.1, 0.1, 1.0, 1e22, 2**63, 2**63 - 1, -(2**70), [1.5, {"a b": 2**64, "c": "1.1"}], "1.1"],
    ids=str,
)
def test_the_numbers_of_a_schema_are_spelt_as_they_were_given(
    grammars: Grammars, value: Any
) -> None:
    listed = {"enum": [None, value]}
    tool = {
        "function": {
            "name": "f",
            "parameters": {"type": "object", "properties": {"a": listed}, "required": ["a"]},
        }
    }
    assert accepts(grammars, Constraint("schema", listed), json.dumps(value))
    assert accepts(grammars, Constraint("schema", {"const": value}), json.dumps(value))
    assert accepts(grammars, Constraint("call", [tool]), call({"a": value}, "f"))


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (r"\Aab", "ab"),
        (r"ab\Z", "ab"),
        (r"^\Aab\z$", "ab"),
        (r"\x41b", "Ab"),
        (r"[\x41-\x43]", "B"),
        ("(?:^a|b$)", "b"),
        ("[^a][$^]", "b$"),
        (r"a\^b\$", "a^b$"),
        (r"\d\w\.", "1a."),
        ("[^]a]", "b"),
        ("[]a]+", "a]"),
        ("a.[.]", "aé."),
        (r"[\^-]+", "^-"),
        (r"[\x5e\x2d]*", "-^"),
        (r"[\u005e-]{2}", "^-"),
        (r"a[\^]b", "a^b"),
        (r"[\^-b-]+", "^_b-"),
        (r"[\^^a]+", "^a"),
        (r"\u00e9\u{1F600}", "é😀"),
    ],
)
def test_an_expression_is_read_as_its_writer_means_it(
    grammars: Grammars, expression: str, text: str
) -> None:
    keys = {"type": "object", "patternProperties": {expression: {}}, "additionalProperties": False}
    assert accepts(grammars, Constraint("regex", expression), text)
    pattern = {"type": "string", "pattern": expression}
    assert accepts(grammars, Constraint("schema", pattern), f'"{text}"')
    assert accepts(grammars, Constraint("schema", keys), f'{{"{text}": 1}}')


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        ("[^]a]", ["]", "a"]),
        ("[]a]", ["b", "[]a]"]),
        (".", ["\n", "\r"]),
        ("[.]", ["a"]),
        (r"[\^-]", ["a", "]", "["]),
        (r"[\x5e\x2d]", ["a", "\\"]),
        (r"[\^]", ["a", ""]),
        (r"[\^-b]", ["]", "c", "-"]),
        (r"[\^^a]", ["b"]),
        (r"[^\^]", ["^"]),
    ],
)
def test_an_expression_leaves_out_what_its_writer_means_to(
    grammars: Grammars, expression: str, texts: list[str]
) -> None:
    for text in texts:
        assert not accepts(grammars, Constraint("regex", expression), text)


def test_an_escaped_backslash_begins_no_escape(grammars: Grammars) -> None:
    for expression, text in ((r"\\Ab", r"\Ab"), (r"\\x41", r"\x41")):
        assert accepts(grammars, Constraint("regex", expression), text)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("a$b", r"\$ inside a\$b is not supported"),
        ("a^b", r"\^ inside a\^b is not supported"),
        ("(a$)*b", r"\$ inside"),
        (r"a\Ab", r"\^ inside"),
        ("a(^b)", r"\^ inside"),
        (r"\Gab", r"the escape \\G of \\Gab is not supported"),
        (r"\Qa.\E", r"the escape \\Q"),
        (r"\N", r"the escape \\N"),
        (r"\R", r"the escape \\R"),
        (r"[\A]", r"the escape \\A"),
        (r"\x4", r"the escape \\x"),
        (r"\ud83d\ude00", r"the escape \\ud83d of .* is not a whole character; write the one"),
        (r"[\ud800-\udfff]+", r"the escape \\ud800 of .* is not a whole character"),
        (r"\u{110000}", r"the escape \\u\{110000\} of .* is not a whole character"),
        (r"\u{DBFF}", r"the escape \\u{DBFF} of .* is not a whole character"),
    ],
)
def test_what_xgrammar_would_misread_in_an_expression_is_refused_by_name(
    grammars: Grammars, expression: str, reason: str
) -> None:
    pattern = {"type": "string", "pattern": expression}
    for form in (
        Constraint("regex", expression),
        Constraint("schema", pattern),
        Constraint("schema", {"type": "object", "patternProperties": {expression: {}}}),
    ):
        with pytest.raises(BadValue, match=reason):
            grammars.matcher(form)


def test_bytes_of_tokens_that_hold_parts_of_characters_add_up_to_the_text() -> None:
    """Of Llama 3's kind, whose tokens are bytes, and of Llama 2's, which falls back on them."""
    text = "a é😀"
    pieces = {"<unk>": 0, "</s>": 1, "a": 2, "\u2581": 3}
    pieces |= {f"<0x{byte:02X}>": 4 + byte for byte in range(256)}
    falling_back = Tokenizer(models.BPE(pieces, [], unk_token="<unk>", byte_fallback=True))
    falling_back.normalizer = normalizers.Replace(" ", "\u2581")
    falling_back.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    for tokenizer in (
        TOKENIZER,
        PreTrainedTokenizerFast(tokenizer_object=falling_back, eos_token="</s>"),
    ):
        known = Grammars(tokenizer, len(tokenizer), [1]).token_bytes
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert len(ids) > len(text)
        assert b"".join(known[i] for i in ids).decode() == text
