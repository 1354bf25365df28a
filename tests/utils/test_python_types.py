"""Type spellings of data sets become the JSON Schema that they mean."""

import pytest
from jsonschema import Draft202012Validator

from utils.python_types import MISSING, is_valid, parse_type, typed_default

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
BOOLEAN, NULL = {"type": "boolean"}, {"type": "null"}


def array(items, **more):
    return {"type": "array", "items": items, **more}


def mapping(values):
    return {"type": "object", "additionalProperties": values}


SPELLINGS = {
    "str": STRING,
    "int": INTEGER,
    "float": NUMBER,
    "bool": BOOLEAN,
    "list": {"type": "array"},
    "List": {"type": "array"},
    "dict": {"type": "object"},
    "Dict": {"type": "object"},
    "set": {"type": "array", "uniqueItems": True},
    "List[int]": array(INTEGER),
    "list[str]": array(STRING),
    "typing.List[float]": array(NUMBER),
    "Sequence[int]": array(INTEGER),
    "list of str": array(STRING),
    "int[]": array(INTEGER),
    "string[]": array(STRING),
    "float[][]": array(array(NUMBER)),
    "Dict[str, int][]": array(mapping(INTEGER)),
    "List[]": {"type": "array"},
    "List[List[float]]": array(array(NUMBER)),
    "Set[str]": array(STRING, uniqueItems=True),
    "Dict[str, float]": mapping(NUMBER),
    "Dict[str, Any]": {"type": "object"},
    "Dict[str, List[Dict[str, int]]]": mapping(array(mapping(INTEGER))),
    "Union[int, float]": NUMBER,
    "Union[int, str]": {"anyOf": [INTEGER, STRING]},
    "Union[int, Union[str, int]]": {"anyOf": [INTEGER, STRING]},
    "List[Union[int, float]]": array(NUMBER),
    "int | str": {"anyOf": [INTEGER, STRING]},
    "int or str": {"anyOf": [INTEGER, STRING]},
    "List[Optional[int]]": array({"anyOf": [INTEGER, NULL]}),
    "Tuple[float, float]": array(NUMBER, minItems=2, maxItems=2),
    "Tuple[int, ...]": array(INTEGER),
    "List[Tuple[int, int]]": array(array(INTEGER, minItems=2, maxItems=2)),
    "Tuple[int, str]": array({"anyOf": [INTEGER, STRING]}, minItems=2, maxItems=2),
    "Literal['a', 'b']": {"type": "string", "enum": ["a", "b"]},
    "Literal[1, 2]": {"type": "integer", "enum": [1, 2]},
    "Literal[1, 2.5]": {"type": "number", "enum": [1, 2.5]},
    "Literal[1, 'a']": {"enum": [1, "a"]},
    "Literal['a=b']": {"type": "string", "enum": ["a=b"]},
    "Any": {},
    "None": NULL,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_becomes_the_schema_it_means(spelling):
    assert parse_type(spelling).schema == SPELLINGS[spelling]
    assert not parse_type(spelling).optional


def schemas(form, spellings=tuple(SPELLINGS)):
    """What each spelling becomes when it is written in this form, as in "List[{}]"."""
    return {spelling: parse_type(form.format(spelling)).schema for spelling in spellings}


def test_nesting_keeps_the_meaning_of_the_inner_type():
    lists = {spelling: array(inner) for spelling, inner in SPELLINGS.items()}
    assert schemas("List[{}]") == lists | {"Any": {"type": "array"}}
    mappings = {spelling: mapping(inner) for spelling, inner in SPELLINGS.items()}
    assert schemas("Dict[str, {}]") == mappings | {"Any": {"type": "object"}}


@pytest.mark.parametrize(
    "form", ["{}, optional", "Optional[{}]", "{} | None", "{} (optional)", "Union[None, {}]"]
)
def test_every_way_to_say_optional_leaves_the_schema_as_it_is(form):
    kinds = [spelling for spelling in SPELLINGS if spelling != "None"]
    assert schemas(form, kinds) == {spelling: SPELLINGS[spelling] for spelling in kinds}
    required = {spelling for spelling in kinds if not parse_type(form.format(spelling)).optional}
    assert required <= (set() if "optional" in form else {"Any"})  # which None is one of


def test_spaces_do_not_matter():
    spaced = {one: parse_type(f"  {one.replace(',', ' ,  ')} ").schema for one in SPELLINGS}
    assert spaced == SPELLINGS


def test_every_schema_is_valid_json_schema():
    for schema in schemas("{}").values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("spelling", "optional", "default"),
    [
        ("str, optional", True, MISSING),
        ("Optional[]", True, MISSING),
        ("str, default='x'", False, "x"),
        ("str, default 'x, y'", False, "x, y"),
        ("str, optional, default 'London'", True, "London"),
        ("int, optional, default 5", True, 5),
        ("int, default: 5", False, 5),
        ("float, optional, defaults to 0.5", True, 0.5),
        ("List[int], optional, default [1, 2]", True, [1, 2]),
        ("bool, default=True", False, True),
        ("str, default=None", False, None),
        ("str, default it's fine", False, "it's fine"),
        ("str, required", False, MISSING),
        ("str (default: 'x')", False, "x"),
        ("int (optional, default 5)", True, 5),
        ("int, optional (default 5)", True, 5),
        ("Tuple[int, int] (default (1, 2))", False, [1, 2]),
        ("int = 5", False, 5),
        ("List[int] = [1, 2]", False, [1, 2]),
        ("str = 'a = b', optional", True, "a = b"),
    ],
)
def test_words_after_the_type_say_optional_and_default(spelling, optional, default):
    parsed = parse_type(spelling)
    assert (parsed.optional, parsed.default, parsed.notes) == (optional, default, ())


@pytest.mark.parametrize(
    ("spelling", "note"),
    [
        ("Callable[[float], float]", "has no JSON equivalent"),
        ("Widget", "is not known"),
        ("List[int", "is not known"),
        ("", "is not known"),
        ("str, secret", "'secret'"),
    ],
)
def test_what_json_cannot_say_becomes_a_string_with_a_note(spelling, note):
    parsed = parse_type(spelling)
    assert parsed.schema == STRING
    assert note in parsed.notes[0]


def test_what_stands_in_brackets_after_a_single_value_is_noted():
    parsed = parse_type("str[10]")
    assert parsed.schema == STRING
    assert parsed.notes == ("'[10]' after a string is not understood: left out",)


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ("10", INTEGER, 10),
        ("-3", NUMBER, -3),
        ("0.5", NUMBER, 0.5),
        ("false", BOOLEAN, False),
        ("True", BOOLEAN, True),
        (5.0, INTEGER, 5),
        ("5.0", INTEGER, 5),
        (5.0, NUMBER, 5.0),
        (5.0, {"anyOf": [INTEGER, STRING]}, 5),
        (1e30, INTEGER, 1e30),
        (5, STRING, "5"),
        ("", STRING, ""),
        ("[1, 2]", array(INTEGER), [1, 2]),
        ("(1, 2)", array(INTEGER), [1, 2]),
        ("{'a': 1}", mapping(INTEGER), {"a": 1}),
        ("7", {"anyOf": [INTEGER, STRING]}, "7"),
        ("7", {"anyOf": [INTEGER, BOOLEAN]}, 7),
    ],
    ids=str,
)
def test_a_default_takes_the_type_of_its_parameter(value, schema, expected):
    found = typed_default(value, schema)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("", INTEGER),
        ("", array(INTEGER)),
        (None, STRING),
        (True, NUMBER),
        ("checked", BOOLEAN),
        ("0.5", INTEGER),
        ("nan", NUMBER),
        ("copper", NUMBER),
        (10, {"type": "array"}),
        ("['a']", array(INTEGER)),
        ("c", {"type": "string", "enum": ["a", "b"]}),
        ("c", {"anyOf": [INTEGER, STRING], "enum": ["a", 1]}),
        ("2", {"anyOf": [INTEGER, BOOLEAN], "enum": [True, 1]}),
    ],
    ids=str,
)
def test_a_default_that_cannot_be_of_the_type_is_left_out(value, schema):
    assert typed_default(value, schema) is MISSING


@pytest.mark.parametrize(
    ("spelling", "fits", "does_not"),
    [
        ("Dict[str, int]", {"a": 1}, {"a": "x"}),
        ("Tuple[float, float]", [1, 2.5], [1]),
        ("List[Union[int, str]]", [1, "a"], [None]),
        ("Set[int]", [1, 2], [1, 1]),
        ("Any", [{"a": None}], None),
    ],
)
def test_the_schema_accepts_what_the_python_type_accepts(spelling, fits, does_not):
    schema = parse_type(spelling).schema
    assert is_valid(fits, schema)
    assert schema == {} or not is_valid(does_not, schema)
