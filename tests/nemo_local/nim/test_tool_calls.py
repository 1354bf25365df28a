"""Reading tool calls from replies, and settling what a request asks of tools."""

import pytest

from nemo_local.nim.errors import BadValue
from nemo_local.nim.tool_calls import (
    ToolCall,
    may_become_calls,
    parse_tool_calls,
    settle_tools,
)

ADD = '{"name": "add", "parameters": {"a": 1}}'
TIME = '{"name": "time", "arguments": {}}'
ADD_CALL, TIME_CALL = ToolCall("add", '{"a": 1}'), ToolCall("time", "{}")


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        pytest.param(ADD, [ADD_CALL], id="one object"),
        pytest.param(f"  {ADD}\n", [ADD_CALL], id="white space around"),
        pytest.param(f"{ADD}; {TIME}", [ADD_CALL, TIME_CALL], id="semicolon"),
        pytest.param(f"{ADD}\n{TIME}", [ADD_CALL, TIME_CALL], id="line break"),
        pytest.param(f"[{ADD}, {TIME}]", [ADD_CALL, TIME_CALL], id="JSON list"),
        pytest.param(f"<|python_tag|>{ADD}", [ADD_CALL], id="python tag"),
        pytest.param('{"name":"f","parameters":{"x":"é"}}', [ToolCall("f", '{"x": "é"}')], id="é"),
        pytest.param("Hello", None, id="prose"),
        pytest.param(f"Sure: {ADD}", None, id="prose before"),
        pytest.param(f"{ADD} done", None, id="prose after"),
        pytest.param(f"{ADD} {TIME}", None, id="no separator"),
        pytest.param(f"{ADD};", None, id="dangling separator"),
        pytest.param('{"name": "add", "parameters": {"a": 1}', None, id="not closed"),
        pytest.param('{"name": "add", "parameters": "{}"}', None, id="arguments as text"),
        pytest.param('{"name": "add"}', None, id="no arguments"),
        pytest.param('{"answer": 4}', None, id="another object"),
        pytest.param(f"{ADD}; 5", None, id="one that is no call"),
        pytest.param("[]", None, id="empty list"),
        pytest.param("[" * 100_000, None, id="absurd nesting"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_reply_is_calls_only_as_a_whole(text: str, calls: list[ToolCall] | None) -> None:
    assert parse_tool_calls(text) == calls


def test_streamed_text_is_held_back_while_it_may_become_a_call() -> None:
    assert may_become_calls("") and may_become_calls("  {") and may_become_calls("<|pyth")
    assert may_become_calls("<|python_tag|>{") and not may_become_calls("Hello {")


TOOL = {"type": "function", "function": {"name": "add"}}
OTHER = {"type": "function", "function": {"name": "time"}}
NAMED = {"type": "function", "function": {"name": "time"}}


def test_defaults_follow_the_presence_of_tools() -> None:
    assert settle_tools([], None, None).mode == "none"
    assert settle_tools(None, "none", None).tools == []
    assert settle_tools([TOOL], None, None).mode == "auto"
    assert settle_tools([TOOL], "none", None).tools == []


def test_required_may_call_every_tool_and_named_only_one() -> None:
    assert settle_tools([TOOL, OTHER], "required", None).callable == [TOOL, OTHER]
    named = settle_tools([TOOL, OTHER], NAMED, None)
    assert (named.callable, named.parallel, named.tools) == ([OTHER], False, [TOOL, OTHER])
    assert not settle_tools([TOOL], "required", False).parallel


def test_tools_reach_the_template_as_they_came() -> None:
    bare = {"function": {"name": "add", "extra": 1}}
    assert settle_tools([bare, TOOL], None, None).tools == [bare, TOOL]


@pytest.mark.parametrize(
    ("tools", "choice", "message"),
    [
        pytest.param([], "auto", "needs tools", id="choice without tools"),
        pytest.param([TOOL], NAMED, "'time'", id="unknown function"),
        pytest.param([TOOL], "sometimes", "sometimes", id="unknown choice"),
        pytest.param([{"type": "function"}], None, "tools\\[0\\]", id="no name"),
        pytest.param(
            [{"function": {"name": "f", "parameters": "int"}}], None, "parameters", id="no schema"
        ),
    ],
)
def test_contradictions_are_refused_by_name(tools: list, choice: object, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        settle_tools(tools, choice, None)  # type: ignore[arg-type]
