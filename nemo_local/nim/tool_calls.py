"""What a request asks of tools."""

from dataclasses import dataclass
from typing import Any, Literal

from nemo_local.nim.chat_template import Tool
from nemo_local.nim.errors import BadValue


@dataclass(frozen=True)
class ToolUse:
    """What a request asks of tools, after its defaults and contradictions are settled."""

    tools: list[Tool]
    """The tools to render; empty when none were given or `tool_choice` is none."""
    mode: Literal[
        "none",  # the reply is text
        "auto",  # the model decides; its reply is parsed, never constrained
        "required",  # constrained to one or several calls of the given tools
        "named",  # constrained to one call of the only tool in `callable`
    ]
    callable: list[Tool]
    """The tools that a constrained reply may call; empty when unconstrained."""
    parallel: bool
    """Whether several calls are allowed."""


def settle_tools(
    tools: list[Tool] | None, choice: str | dict[str, Any] | None, parallel: bool | None
) -> ToolUse:
    """The tool use that a request's `tools`, `tool_choice` and `parallel_tool_calls` mean.

    Raises:
        BadValue: a tool without a name, a choice without tools, an unknown choice or function.
    """
    given = [_checked(tool, i) for i, tool in enumerate(tools or [])]
    many = parallel is not False
    if choice is None:
        choice = "auto" if given else "none"
    if choice == "none":
        return ToolUse([], "none", [], many)
    if not given:
        raise BadValue("tool_choice needs tools; none were given", "tool_choice")
    if choice == "auto":
        return ToolUse(given, "auto", [], many)
    if choice == "required":
        return ToolUse(given, "required", given, many)
    if isinstance(choice, dict) and choice.get("type", "function") == "function":
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        named = [tool for tool in given if tool["function"]["name"] == name]
        if not named:
            known = [tool["function"]["name"] for tool in given]
            message = f"tool_choice names {name!r}, which is not in tools {known}"
            raise BadValue(message, "tool_choice")
        return ToolUse(given, "named", named[:1], False)
    raise BadValue(
        f"tool_choice {choice!r} is not none, auto, required or a named function", "tool_choice"
    )


def _checked(tool: Tool, index: int) -> Tool:
    """The tool, unchanged: templates print it, and training showed it as it came."""
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise BadValue(f"tools[{index}] needs function.name", "tools")
    if not isinstance(function.get("parameters") or {}, dict):
        raise BadValue(f"tools[{index}].function.parameters must be a JSON Schema object", "tools")
    return tool
