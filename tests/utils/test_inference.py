"""Replies as the notebooks use them."""

from openai.types.chat import ChatCompletionMessage

from utils.inference import calls_of, turn_of


def reply(content: str | None, *arguments: str) -> ChatCompletionMessage:
    calls = [
        {"id": f"call-{i}", "type": "function", "function": {"name": "add", "arguments": text}}
        for i, text in enumerate(arguments)
    ]
    message = {"role": "assistant", "content": content, "tool_calls": calls or None}
    return ChatCompletionMessage.model_validate(message)


def test_calls_have_their_arguments_as_objects() -> None:
    assert calls_of(reply(None, '{"a": 1}', "")) == [
        {"id": "call-0", "name": "add", "arguments": {"a": 1}},
        {"id": "call-1", "name": "add", "arguments": {}},
    ]
    assert calls_of(reply("four")) == []


def test_a_call_that_max_tokens_cut_ends_no_notebook() -> None:
    """The barely trained model of a smoke run wrote an argument until it was stopped."""
    cut = reply(None, '{"a": 1}', '{"a": "and on and')
    assert [call["id"] for call in calls_of(cut)] == ["call-0"]
    assert [call["id"] for call in turn_of(cut)["tool_calls"]] == ["call-0"]
    assert calls_of(reply(None, '{"a": ')) == []
    assert turn_of(reply(None, '{"a": ')) == {"role": "assistant", "content": ""}


def test_a_reply_goes_on_as_a_turn_of_the_conversation() -> None:
    assert turn_of(reply("four")) == {"role": "assistant", "content": "four"}
    assert turn_of(reply(None, '{"a": 1}')) == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call-0",
                "type": "function",
                "function": {"name": "add", "arguments": '{"a": 1}'},
            }
        ],
    }
