"""Rendering conversations through a model's own template."""

import json
from pathlib import Path

import pytest

from nemo_local.customizer.rows import ChatRow, RowReader
from nemo_local.nim.chat_template import normalise_messages, render_chat
from nemo_local.nim.errors import BadValue
from nemo_local.nim.tool_calls import settle_tools
from tests.tiny_checkpoint import make_tokenizer

CALL = {"function": {"name": "add", "arguments": '{"a": 1}'}}


def test_arguments_render_the_same_as_text_and_as_an_object() -> None:
    as_object = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    texts = [
        render_chat(
            make_tokenizer(),
            [
                {"role": "user", "content": "1+0?"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "x", "content": "1"},
            ],
            [{"type": "function", "function": {"name": "add"}}],
        )
        for call in (CALL, as_object)
    ]
    assert texts[0] == texts[1]
    assert '{"name": "add", "parameters": {"a": 1}}' in texts[0]
    assert texts[0].endswith("add <|start|>assistant<|end|>")


def test_half_a_surrogate_in_arguments_is_rendered_as_it_was_written() -> None:
    function = {"name": "f", "arguments": r'{"a": "\ud83d é"}'}
    call = {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}
    assert r'"a": "\ud83d é"' in render_chat(
        make_tokenizer(), [{"role": "user", "content": "?"}, call], []
    )


def test_roles_and_parts_are_brought_to_one_form() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": parts}, {"role": "function", "content": "5"}]
    assert normalise_messages(messages) == [
        {"role": "system", "content": "ab"},
        {"role": "tool", "content": "5"},
    ]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        pytest.param([{"role": "boss", "content": ""}], "boss", id="role"),
        pytest.param([{"role": "user", "content": 5}], "content", id="number"),
        pytest.param(
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "not JSON",
            id="arguments",
        ),
        pytest.param([{"role": "assistant", "tool_calls": [{}]}], "function.name", id="call"),
        pytest.param([{"role": "assistant", "tool_calls": 5}], "must be a list", id="no list"),
        pytest.param(
            [{"role": "assistant",
              "tool_calls": [{"function": {"name": "f", "arguments": "[" * 10**5}}]}],
            "not JSON",
            id="deep arguments",
        ),
    ],
)  # fmt: skip
def test_messages_no_template_could_render_are_refused(messages: list, reason: str) -> None:
    with pytest.raises(BadValue, match=reason):
        normalise_messages(messages)


def test_an_error_of_a_message_names_its_place_and_not_the_chat_template() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "boss", "content": ""}]
    with pytest.raises(BadValue, match=r"^messages\[1\].role must be one of") as caught:
        render_chat(make_tokenizer(), messages, [])
    assert caught.value.param == "messages[1]"


def test_a_template_that_refuses_is_the_clients_error() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('only one turn') }}"
    with pytest.raises(BadValue, match="only one turn"):
        render_chat(tokenizer, [{"role": "user", "content": "hi"}], [])
    tokenizer.chat_template = "{% for i in range(10 ** 9) %}x{% endfor %}"
    with pytest.raises(BadValue, match="Range too big"):
        render_chat(tokenizer, [{"role": "user", "content": "hi"}], [])
    tokenizer.chat_template = None
    with pytest.raises(BadValue, match="no chat template"):
        render_chat(tokenizer, [{"role": "user", "content": "hi"}], [])


def test_training_reads_a_conversation_as_serving_does(tmp_path: Path) -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": "1+0?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", **CALL}]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        {"role": "assistant", "content": "1"},
    ]
    tools = [{"function": {"name": "add", "description": "Adds."}}]
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"messages": messages, "tools": tools}))
    (row,) = RowReader().read(tmp_path, [path])
    assert isinstance(row, ChatRow)
    assert row.messages == normalise_messages(messages)
    assert row.tools == settle_tools(tools, None, None).tools
