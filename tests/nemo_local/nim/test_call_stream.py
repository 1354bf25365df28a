"""Calls that are streamed while they are written: pieces add up to the whole, however they fall."""

import json
from typing import Any

import pytest

from nemo_local.core.tool_formats import LLAMA3_JSON
from nemo_local.nim.call_stream import CallStream

ARGUMENTS: dict[str, Any] = {
    "quoted": 'say "hi" \\ \\" \n é 🎉',
    "empty": "",
    "nested": {"list": [1, -2.5e-3, True, None, {"a": "}"}], "text": "[{,:"},
}
WRITTEN = f'{{"name": "write", "parameters": {json.dumps(ARGUMENTS)}}}'


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(WRITTEN)])
def test_pieces_of_a_call_add_up_wherever_they_are_cut(size: int) -> None:
    stream = CallStream(LLAMA3_JSON)
    pieces = [WRITTEN[at : at + size] for at in range(0, len(WRITTEN), size)]
    functions = [
        delta["tool_calls"][0]["function"] for piece in pieces for delta in stream.push(piece)
    ]
    assert functions[0]["name"] == "write"
    assert json.loads("".join(function["arguments"] for function in functions)) == ARGUMENTS


def test_a_string_is_given_out_when_it_ends_and_not_before() -> None:
    stream = CallStream(LLAMA3_JSON)
    stream.push('{"name": "write", "parameters": {"text": ')
    assert stream.push('"a') == stream.push("\\\\") == stream.push('\\"') == []
    (delta,) = stream.push('b"')
    assert delta["tool_calls"][0]["function"] == {"arguments": json.dumps('a\\"b')}
