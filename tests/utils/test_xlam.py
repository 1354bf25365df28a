"""xLAM rows become examples, and what cannot be used is kept with its reason."""

import json
from collections import Counter
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from utils import jsonl
from utils.errors import InvalidFile, InvalidRow
from utils.xlam import (
    gold_error,
    parse_row,
    prepare,
    to_chat_example,
    to_eval_example,
    to_tool,
    type_spellings,
)

REAL_ROWS = Path(__file__).parents[3] / "shared" / "data" / "xlam" / "xlam_ids_0_499.json"


def tool(name="giveaways", **parameters):
    return {"name": name, "description": "Live giveaways.", "parameters": parameters}


def row(tools=None, answers=None, query="Any beta giveaways?", row_id=7):
    kind = {"type": "str", "description": "Which kind.", "default": "game"}
    tools = [tool(type=kind)] if tools is None else tools
    answers = [{"name": "giveaways", "arguments": {"type": "beta"}}] if answers is None else answers
    text = [part if isinstance(part, str) else json.dumps(part) for part in (tools, answers)]
    return {"id": row_id, "query": query, "tools": text[0], "answers": text[1]}


def test_a_row_becomes_a_training_example_whose_answer_is_the_call():
    example = to_chat_example(parse_row(row()))
    assert example is not None
    question, answer = example["messages"]
    assert question == {"role": "user", "content": "Any beta giveaways?"}
    assert answer["content"] == ""
    (call,) = answer["tool_calls"]
    assert call == {
        "type": "function",
        "function": {"name": "giveaways", "arguments": {"type": "beta"}},
    }
    assert example["tools"][0] == {
        "type": "function",
        "function": {
            "name": "giveaways",
            "description": "Live giveaways.",
            "parameters": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "description": "Which kind.", "default": "game"}
                },
                "required": [],
            },
        },
    }


def test_an_evaluation_example_keeps_the_gold_call_out_of_the_messages():
    example = to_eval_example(parse_row(row()))
    assert example is not None
    assert [message["role"] for message in example["messages"]] == ["user"]
    assert example["tool_calls"][0]["function"]["name"] == "giveaways"


@pytest.mark.parametrize("count", [0, 2])
def test_an_answer_of_none_or_several_calls_gives_no_example(count):
    parsed = parse_row(row(answers=[{"name": "giveaways", "arguments": {}}] * count))
    assert to_chat_example(parsed) is None
    assert to_eval_example(parsed) is None


def test_a_parameter_is_required_unless_optional_or_with_a_default():
    converted, _ = to_tool(
        tool(
            plain={"type": "int"},
            optional={"type": "int, optional"},
            union={"type": "Optional[int]"},
            default={"type": "int", "default": "3"},
            empty_default={"type": "int", "default": ""},
            inner_default={"type": "int, default=3"},
        )
    )
    parameters = converted["function"]["parameters"]
    assert parameters["required"] == ["plain"]
    assert parameters["properties"]["default"]["default"] == 3
    assert parameters["properties"]["inner_default"]["default"] == 3
    assert "default" not in parameters["properties"]["empty_default"]


def test_what_a_parameter_says_beyond_its_type_is_kept_or_noted():
    converted, notes = to_tool(
        tool(
            unit={"type": "str", "enum": ["C", "F"], "default": "K"},
            days={"type": "int", "required": False, "enum": ["three"]},
            level={"type": "Union[int, str]", "enum": ["a", 1], "default": "zzz"},
            place={"type": "object", "properties": {"city": {"type": "string"}}},
        )
    )
    parameters = converted["function"]["parameters"]
    assert parameters["properties"]["unit"] == {
        "type": "string", "enum": ["C", "F"], "description": ""
    }  # fmt: skip
    assert parameters["required"] == ["place"]
    assert "default" not in parameters["properties"]["level"]
    assert notes == [
        "default 'K' is not of type 'str': left out",
        "key 'enum' of a parameter is not understood: left out",
        "default 'zzz' is not of type 'Union[int, str]': left out",
        "key 'properties' of a parameter is not understood: left out",
    ]


def test_a_default_of_another_type_is_left_out_with_a_note():
    converted, notes = to_tool(tool(n={"type": "float", "default": "copper"}))
    assert "default" not in converted["function"]["parameters"]["properties"]["n"]
    assert notes == ["default 'copper' is not of type 'float': left out"]


@pytest.mark.parametrize(
    ("bad", "column"),
    [
        (row(query=""), "query"),
        (row(query=None), "query"),
        (row(tools="[{"), "tools"),
        (row(tools="{}"), "tools"),
        (row(tools=[{"description": "no name"}]), "tools"),
        (row(tools=[{"name": "f", "parameters": []}]), "tools"),
        (row(tools=[tool(n={"description": "no type"})]), "tools"),
        (row(answers="nothing"), "answers"),
        (row(answers=[{"arguments": {}}]), "answers"),
        (row(answers=[{"name": "f", "arguments": "{}"}]), "answers"),
        ({"id": 7, "query": "q", "tools": "[]"}, "answers"),
    ],
    ids=[
        "empty query",
        "null query",
        "broken tools",
        "tools no list",
        "tool without name",
        "parameters a list",
        "parameter without type",
        "broken answers",
        "call without name",
        "arguments a string",
        "answers absent",
    ],
)
def test_a_malformed_row_is_refused_with_its_id_and_column(bad, column):
    with pytest.raises(InvalidRow, match="row 7") as refused:
        parse_row(bad)
    assert refused.value.column == column


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"name": "other", "arguments": {}}, "no such tool"),
        ({"name": "giveaways", "arguments": {"kind": "x"}}, "'kind' is not declared"),
        ({"name": "giveaways", "arguments": {"type": 5}}, "5 is not of type 'string'"),
    ],
    ids=["unknown tool", "unknown argument", "wrong type"],
)
def test_a_gold_call_that_does_not_fit_its_tool_is_named(call, reason):
    assert reason in (gold_error(parse_row(row(answers=[call]))) or "")


def test_a_missing_required_argument_is_named():
    parsed = parse_row(
        row(tools=[tool(n={"type": "int"})], answers=[{"name": "giveaways", "arguments": {}}])
    )
    assert "'n' is a required property" in (gold_error(parsed) or "")


@pytest.mark.parametrize("kind", ["Optional[int]", "int, optional", "int | None"])
def test_a_null_for_a_parameter_that_may_be_left_out_is_left_out_of_the_call(kind):
    tools = [tool(type={"type": "str"}, n={"type": kind}, any={"type": "Any, optional"})]
    call = {"name": "giveaways", "arguments": {"type": "beta", "n": None, "any": None}}
    prepared = prepare([row(tools=tools, answers=[call])])
    (sound,) = prepared.rows
    assert sound.calls[0]["arguments"] == {"type": "beta", "any": None}
    assert prepared.notes["null for a parameter that may be left out: left out of the call"] == 1


@pytest.mark.parametrize("parameter", [{"type": "int"}, {"type": "Optional[int]", "default": 5}])
def test_a_null_that_says_something_else_than_leaving_out_is_quarantined(parameter):
    call = {"name": "giveaways", "arguments": {"n": None}}
    prepared = prepare([row(tools=[tool(n=parameter)], answers=[call])])
    assert "argument 'n': None is not of type 'integer'" in prepared.quarantined[0].reason


def test_a_type_nested_beyond_measure_costs_its_row_and_no_other():
    deep = {"type": "List[" * 600 + "int" + "]" * 600}
    prepared = prepare([row(tools=[tool(type={"type": "str"}, n=deep)], row_id=1), row(row_id=2)])
    assert [used.id for used in prepared.rows] == [2]
    assert "'giveaways': a type is nested too deeply" in prepared.quarantined[0].reason


@pytest.mark.parametrize("bad", [row(row_id=None, tools="[{"), row(row_id=None, query="")])
def test_rows_without_an_id_have_one_spelling_in_the_quarantine(bad):
    nobody = row(row_id=None, answers=[{"name": "nobody", "arguments": {}}])
    assert [one.id for one in prepare([bad, nobody]).quarantined] == ["?", "?"]


def test_every_row_is_used_set_aside_or_quarantined(tmp_path):
    call = {"name": "giveaways", "arguments": {"type": "beta"}}
    prepared = prepare(
        [
            row(row_id=1),
            row(row_id=2, answers=[call, call]),
            row(row_id=3, tools="[{"),
            row(row_id=4, answers=[{"name": "nobody", "arguments": {}}]),
        ]
    )
    assert [used.id for used in prepared.rows] == [1]
    assert (prepared.other_calls, prepared.total) == (1, 4)
    assert prepared.write_quarantine(tmp_path / "quarantine.jsonl") == 2
    kept = {entry["id"]: entry["reason"] for entry in jsonl.read(tmp_path / "quarantine.jsonl")}
    assert "column 'tools': not JSON" in kept[3]
    assert "no such tool" in kept[4]


def test_a_tool_that_the_linter_renames_is_renamed_in_the_gold_call():
    prepared = prepare(
        [row(tools=[tool("math.power")], answers=[{"name": "math.power", "arguments": {}}])]
    )
    (used,) = prepared.rows
    assert used.calls[0]["name"] == used.tools[0]["function"]["name"] == "math_power"


@pytest.fixture(scope="module")
def real_rows():
    if not REAL_ROWS.exists():
        pytest.skip("the 500 real rows are not beside this checkout")
    return json.loads(REAL_ROWS.read_text())


def test_the_converter_takes_every_real_row(real_rows, capsys):
    parsed = [parse_row(raw) for raw in real_rows]
    schemas = [t["function"]["parameters"] for r in parsed for t in r.tools]
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
    prepared = prepare(real_rows)
    misfits = [q for q in prepared.quarantined if "gold call" in q.reason]
    actions = Counter(f"{f.rule} {f.action}" for _, f in prepared.findings)
    with capsys.disabled():
        print(
            f"\n{len(parsed)} real rows, {len(schemas)} tools: {len(prepared.rows)} usable, "
            f"{prepared.other_calls} with several calls, {len(prepared.quarantined)} quarantined "
            f"({len(misfits)} whose gold call does not fit); linter: {dict(actions)}"
        )
    assert len(parsed) == prepared.total == 500
    assert all(q.reason for q in prepared.quarantined)
    assert all(gold_error(used) is None for used in prepared.rows)
    assert len(prepared.rows) > 200


def test_real_multi_call_rows_fit_their_schemas_or_say_why(real_rows):
    several = [r for r in map(parse_row, real_rows) if len(r.calls) > 1]
    reasons = [reason for r in several if (reason := gold_error(r))]
    assert len(several) == 262
    assert len(reasons) < len(several) / 10
    assert all(reason.startswith("gold call of") for reason in reasons)


@pytest.mark.parametrize(
    ("spelling", "default"),
    [
        ("int", "99999999999999999999"),
        ("List[int], default=[99999999999999999999]", None),
        ("dict", "{1: 2}"),
        ("list", "[1, {2}]"),
        ("list", "[...]"),
        ("Any, default={1}", None),
        ("Literal['a', b'b']", "a"),
    ],
)
def test_a_default_that_json_cannot_hold_does_not_stop_the_file_from_being_written(
    spelling, default, tmp_path
):
    odd = {"type": spelling, "description": "Odd.", "default": default}
    prepared = prepare([row(tools=[tool(type={"type": "str", "description": ""}, odd=odd)])])
    (sound,) = prepared.rows
    example = to_eval_example(sound)
    assert example is not None
    assert jsonl.write(tmp_path / "rows.jsonl", [example]) == 1


def test_an_integer_too_long_for_the_files_is_quarantined_and_not_rounded():
    answer = '[{"name": "giveaways", "arguments": {"n": 123456789012345678901}}]'
    prepared = prepare([row(tools=[tool(n={"type": "int"})], answers=answer)])
    assert "more than 64 bits" in prepared.quarantined[0].reason
    answer = answer.replace("123456789012345678901", "1234567890123456789")
    (sound,) = prepare([row(tools=[tool(n={"type": "int"})], answers=answer)]).rows
    assert sound.calls[0]["arguments"] == {"n": 1234567890123456789}


@pytest.mark.parametrize(
    "tools",
    [
        "not JSON",
        None,
        ["f"],
        [{"name": "f"}],
        [{"parameters": []}],
        [{"parameters": {"n": "int"}}],
    ],
)
def test_the_spellings_of_a_broken_row_are_passed_over(tools):
    raw = {"tools": tools if tools is None or isinstance(tools, str) else json.dumps(tools)}
    assert type_spellings(raw) == []
    assert type_spellings(row()) == ["str"]


def test_tools_that_are_json_schema_already_are_named_as_the_reason():
    properties = {"type": {"type": "string"}}
    tools = [{"name": "giveaways", "parameters": {"type": "object", "properties": properties}}]
    prepared = prepare([row(tools=tools)])
    assert "'giveaways': parameters are JSON Schema" in prepared.quarantined[0].reason


def test_a_data_set_without_a_usable_row_names_the_most_frequent_reason():
    unknown = {"name": "other", "arguments": {}}
    several = row(answers=[unknown, unknown])
    wrong = [row(answers=[unknown | {"name": f"other_{n}"}]) for n in range(3)]
    broken = row(answers="not JSON")
    with pytest.raises(InvalidFile, match="None of 5 .* 3 of .*'other_0': no such tool is offered"):
        prepare([broken, several, *wrong]).require_rows()
    with pytest.raises(InvalidFile, match="None of 3 .* 2 of them have several calls or none"):
        prepare([broken, several, several]).require_rows()
    prepare([broken, row()]).require_rows()
