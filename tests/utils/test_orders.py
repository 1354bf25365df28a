"""Tables of errors begin with what went wrong most often, whatever came first."""

from typing import Any

from utils import evaluator
from utils.evaluator import RowResult

WEATHER, NEWS, STOCKS = "get_weather", "get_news", "get_stocks"


def row(tool: str, said: str, right: bool = False) -> RowResult:
    """A row that should call `tool`; `said` is the tool it called, or a text."""
    calls: list[dict[str, Any]] = [{"name": said, "arguments": {}}] if said in TOOLS else []
    return RowResult(
        task="seen",
        index=0,
        question="",
        offered=TOOLS,
        expected=[{"name": tool, "arguments": {}}],
        predicted=calls,
        text="" if calls else said,
        name_right=right,
        args_right=right,
    )


TOOLS = (WEATHER, NEWS, STOCKS)
ROWS = [
    row(STOCKS, WEATHER),
    row(NEWS, NEWS, right=True),
    row(NEWS, "It is quiet."),
    row(NEWS, "It is quiet."),
    row(NEWS, WEATHER),
    row(WEATHER, "It is warm."),
    row(WEATHER, "It is warm."),
]


def test_the_most_frequent_kind_of_error_comes_first() -> None:
    found = evaluator.errors_by_kind(ROWS)
    assert [(kind, len(rows)) for kind, rows in found.items()] == [
        ("no call", 4),
        ("wrong tool", 2),
    ]


def test_the_tool_with_most_errors_comes_first() -> None:
    assert list(evaluator.errors_by_tool(ROWS).items()) == [
        (NEWS, (3, 4, "no call")),
        (WEATHER, (2, 2, "no call")),
        (STOCKS, (1, 1, "wrong tool")),
    ]
