"""The linter repairs, drops or refuses tools that a NIM cannot take, and says why."""

import pytest

from utils.tool_schema import lint


def tool(name="f", properties=None, **more):
    parameters = {"type": "object", "properties": properties or {}, "required": [], **more}
    return {
        "type": "function",
        "function": {"name": name, "description": "", "parameters": parameters},
    }


def nested(levels):
    schema: dict[str, object] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"type": "array", "items": schema}
    return schema


MANY = {f"p{i}": {"type": "string"} for i in range(9)}


def rules(result):
    return [(finding.rule, finding.action) for finding in result.findings]


def test_a_sound_list_comes_back_as_it_was():
    tools = [tool("f", {"a": {"type": "string"}}, required=["a"]), tool("g")]
    result = lint(tools)
    assert result.tools == tools
    assert (result.findings, result.refusal, result.renamed) == ([], None, {})


def test_linting_twice_changes_nothing_more():
    once = lint([tool("a.b", {"x": {"type": "array"}, "y": {"type": "object"}}, required=["z"])])
    twice = lint(once.tools)
    assert (twice.tools, twice.findings) == (once.tools, [])


def test_the_list_that_goes_in_is_not_changed():
    tools = [tool("a.b", {"x": {"type": "array"}})]
    lint(tools)
    assert tools == [tool("a.b", {"x": {"type": "array"}})]


@pytest.mark.parametrize(
    ("schema", "fixed"),
    [
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        (
            {"type": "array", "items": {"type": "array"}},
            {"type": "array", "items": {"type": "array", "items": {}}},
        ),
        (
            {"type": "object", "additionalProperties": {"type": "object"}},
            {
                "type": "object",
                "properties": {},
                "additionalProperties": {"type": "object", "properties": {}},
            },
        ),
        (
            {"anyOf": [{"type": "array"}, {"type": "null"}]},
            {"anyOf": [{"type": "array", "items": {}}, {"type": "null"}]},
        ),
        (
            {"type": "object", "properties": {"x": {"type": "array"}}},
            {"type": "object", "properties": {"x": {"type": "array", "items": {}}}},
        ),
    ],
    ids=["array", "object", "array in array", "object in mapping", "in a union", "in an object"],
)
def test_open_arrays_and_objects_are_completed_at_any_depth(schema, fixed):
    result = lint([tool("f", {"p": schema})])
    assert result.tools[0]["function"]["parameters"]["properties"]["p"] == fixed
    assert {action for _, action in rules(result)} == {"fixed"}


@pytest.mark.parametrize(
    ("bad", "rule"),
    [(tool("f", MANY), "parameters"), (tool("f", {"p": nested(6)}), "depth")],
    ids=["nine parameters", "six levels"],
)
def test_a_tool_too_large_is_dropped_unless_it_is_needed(bad, rule):
    dropped = lint([bad, tool("g")])
    assert [t["function"]["name"] for t in dropped.tools] == ["g"]
    assert (rules(dropped), dropped.refusal) == ([(rule, "dropped")], None)
    refused = lint([bad, tool("g")], needed={"f"})
    assert rules(refused) == [(rule, "refused")]
    assert refused.refusal is not None and "'f'" in refused.refusal


def test_eight_parameters_and_five_levels_pass():
    eight = dict(list(MANY.items())[:8])
    assert lint([tool("f", eight), tool("g", {"p": nested(5)})]).findings == []


@pytest.mark.parametrize(
    ("name", "new"),
    [("math.power", "math_power"), ("füge zu", "f_ge_zu_6932cb95"), ("x" * 70, "x" * 64)],
    ids=["dot", "letters", "length"],
)
def test_a_name_the_api_refuses_is_rewritten_and_reported(name, new):
    result = lint([tool(name)])
    assert result.tools[0]["function"]["name"] == new
    assert result.renamed == {name: new}
    assert rules(result) == [("name", "fixed")]


def test_tools_with_names_of_another_alphabet_stay_different_tools():
    names = ("查询天气", "搜索新闻", "café", "cafè", "天气_v2", "新闻_v2")
    result = lint([tool(name) for name in names], needed=names)
    assert result.refusal is None
    accepted = [result.renamed[name] for name in names]
    assert len(set(accepted)) == len(names)
    assert [new[:-8] for new in accepted] == ["tool_", "tool_", "caf_", "caf_", "v2_", "v2_"]
    assert lint([tool("查询天气")]).tools[0]["function"]["name"] == accepted[0]
    assert lint(result.tools).findings == []


def test_the_same_tool_twice_is_offered_once():
    result = lint([tool("f"), tool("f")], needed={"f"})
    assert result.tools == [tool("f")]
    assert (rules(result), result.refusal) == ([("duplicate", "dropped")], None)


def test_two_tools_of_one_name_are_refused_only_where_the_name_is_called():
    pair = [tool("f"), tool("f", {"a": {"type": "string"}})]
    assert lint(pair).refusal is None
    assert "another tool is named 'f'" in (lint(pair, needed={"f"}).refusal or "")


def test_names_that_become_equal_are_refused_where_either_is_called():
    pair = [tool("a.b"), tool("a_b", {"x": {"type": "string"}})]
    for called in ("a.b", "a_b"):
        assert lint(pair, needed={called}).refusal is not None


def test_an_undeclared_required_parameter_is_left_out():
    result = lint([tool("f", {"a": {"type": "string"}}, required=["a", "b"])])
    assert result.tools[0]["function"]["parameters"]["required"] == ["a"]
    assert rules(result) == [("required", "fixed")]


@pytest.mark.parametrize("tools", [[], [tool("f", MANY)]], ids=["empty", "all dropped"])
def test_a_list_without_tools_is_refused(tools):
    assert lint(tools).refusal == "no tool is offered"
