"""Conversations as the text a model was trained on, through its own chat template.

Training brings its rows into the same form (see customizer/rows.py) and renders them with the same
`core.chat_templates`, so that what is learnt is what is served; a test compares the two.
"""

import json
from typing import Any

from transformers import PreTrainedTokenizerBase

from nemo_local.core.chat_templates import ROLES, render
from nemo_local.nim.errors import BadValue

Message = dict[str, Any]
Tool = dict[str, Any]


def render_chat(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], tools: list[Tool]
) -> str:
    """The prompt for the next assistant turn.

    Templates run in transformers' Jinja sandbox. Tools reach the template as they came.

    Raises:
        BadValue: the model has no chat template, or it or `normalise_messages` refuses.
    Source: https://huggingface.co/docs/transformers/chat_templating
    """
    if not tokenizer.chat_template:
        raise BadValue("this model has no chat template; use /v1/completions", "messages")
    normal = normalise_messages(messages)
    try:
        text = render(tokenizer, normal, tools, prompt=True)
    except Exception as error:  # a template raises what it likes
        message = f"the chat template refused this conversation: {error}"
        raise BadValue(message, "messages") from error
    # JSON's spelling for half a surrogate pair, which a model may have written in a call.
    return text.encode(errors="backslashreplace").decode()


def normalise_messages(messages: list[Message]) -> list[Message]:
    """The conversation in the one form templates expect.

        {"role": "assistant", "content": None,
         "tool_calls": [{"function": {"name": "f", "arguments": "{\\"a\\": 1}"}}]}
        -> {"role": "assistant", "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]}

    Content parts are joined, `developer` becomes `system`, `function` becomes `tool`.

    Raises:
        BadValue: an unknown role, a part that is not text, calls that are no list, arguments that
            are no JSON object.
    """
    if not messages:
        raise BadValue("messages must hold at least one message", "messages")
    return [_normalise(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _normalise(message: Message, where: str) -> Message:
    role = ROLES.get(str(message.get("role")))
    if role is None:
        known = ", ".join(sorted(ROLES))
        raise BadValue(f"{where}.role must be one of {known}; not {message.get('role')!r}", where)
    normal: Message = {"role": role, "content": _text(message.get("content"), where)}
    if calls := message.get("tool_calls"):
        if not isinstance(calls, list):
            raise BadValue(f"{where}.tool_calls must be a list of calls", where)
        normal["tool_calls"] = [_call(call, where) for call in calls]
    for key in ("name", "tool_call_id"):
        if message.get(key) is not None:
            normal[key] = message[key]
    return normal


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadValue(f"{where}.content must be a string, null or a list of parts", where)
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise BadValue(f"{where}.content: only text parts are supported, not {kind!r}", where)
        texts.append(part["text"])
    return "".join(texts)


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadValue(f"{where}.tool_calls: each call needs function.name", where)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise BadValue(f"{where}.tool_calls: arguments are not JSON: {error}", where) from error
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        raise BadValue(f"{where}.tool_calls: arguments must be a JSON object", where)
    normal = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    if call.get("id") is not None:
        normal["id"] = call["id"]
    return normal
