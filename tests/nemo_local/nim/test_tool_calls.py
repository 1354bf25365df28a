"""Settling what a request asks of tools."""

import pytest

from nemo_local.nim.errors import BadValue
from nemo_local.nim.tool_calls import settle_tools

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
