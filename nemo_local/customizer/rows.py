"""Parses the rows of dataset files into chats, prompts with completions, or preferences."""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

from nemo_local.core.chat_templates import ROLES
from nemo_local.core.completions import content_text


class InvalidRow(Exception):
    """A row we cannot train on; the message names file and line."""


@dataclass(frozen=True)
class ChatRow:
    """A conversation, with the tools that were offered."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    where: str
    """File and line, for messages."""
    learn_from: int = 0
    """Index of the first message to train on; what the assistant said before is only context."""


@dataclass(frozen=True)
class TextRow:
    """A filled prompt template: loss on the completion only."""

    prompt: str
    completion: str
    where: str


@dataclass(frozen=True)
class PreferenceRow:
    """Two answers to one conversation, each with the conversation before it."""

    chosen: ChatRow
    rejected: ChatRow
    where: str


Row = ChatRow | TextRow | PreferenceRow

Template = list[tuple[str, str]]
"""The texts of a prompt template, each with the key after it; the last key is the answer's."""


@dataclass(frozen=True)
class RowReader:
    """Turns the lines of a dataset into rows."""

    prompt_template: str = "{prompt} {completion}"
    default_tools: tuple[dict[str, Any], ...] = ()
    """Tools of a conversation that brings none."""
    preferences: bool = False
    """Whether rows are pairs of answers, as `dpo` takes them."""

    def read(self, root: Path, files: Iterable[Path], limit: int | None = None) -> Iterator[Row]:
        """Iterates over the rows of these files in order; at most `limit`, when it is given.

        Raises:
            InvalidRow: a line is not JSON, or has no schema we know; names file and line.
        """
        named = ((path, str(path.relative_to(root))) for path in files)
        rows = (
            self._row(value, f"{name} line {number}")
            for path, name in named
            for number, value in _values(path, name)
        )
        return islice(rows, limit and min(limit, sys.maxsize))

    def _row(self, value: Any, where: str) -> Row:
        if not isinstance(value, dict):
            raise InvalidRow(f"{where}: a row must be a JSON object, not {type(value).__name__}")
        if self.preferences:
            return self._preference(value, where)
        if value.get("messages") is not None:
            tools = _tools(value.get("tools"), where) or list(self.default_tools)
            return ChatRow(_messages(value["messages"], where), tools, where)
        parts = parse_template(self.prompt_template)
        missing = [key for _, key in parts if value.get(key) is None]
        if missing:
            raise InvalidRow(
                f"{where}: the row has neither 'messages' nor {', '.join(map(repr, missing))}, "
                f"which the prompt template {self.prompt_template!r} names; "
                f"it has {_keys(value)}"
            )
        *given, (before, answer) = parts
        prompt = "".join(text + _text(value[key]) for text, key in given) + before
        return TextRow(prompt, _text(value[answer]), where)

    def _preference(self, value: dict[str, Any], where: str) -> PreferenceRow:
        """{"prompt": [messages] or text, "chosen": answer, "rejected": answer, "tools": [...]}

        An answer is one assistant message or its text; `chosen_response` is another name of it.
        """
        prompt = value.get("prompt")
        if not prompt:
            raise InvalidRow(f"{where}: a preference row needs 'prompt'; it has {_keys(value)}")
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        before = [_message(item, where) for item in _listed(messages, "prompt", where)]
        tools = _tools(value.get("tools"), where) or list(self.default_tools)
        chosen, rejected = (
            ChatRow([*before, _answer(value, name, where)], tools, where, learn_from=len(before))
            for name in ("chosen", "rejected")
        )
        return PreferenceRow(chosen, rejected, where)


def parse_template(template: str) -> Template:
    """The keys that a prompt template names, in order, each with the text before it.

    parse_template("Q: {prompt} A: {completion}") -> [("Q: ", "prompt"), (" A: ", "completion")]

    Raises:
        InvalidRow: it names no key, has more than a key in braces, or text after the last key.
    """
    shown = f"prompt_template {template!r}"
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InvalidRow(f"{shown}: {error}; write {{{{ and }}}} for braces") from None
    if not parts or parts[-1][1] is None:
        raise InvalidRow(f"{shown} must end with the key of the answer, such as {{completion}}")
    found: Template = []
    before = ""
    for text, key, form, conversion in parts:
        before += text
        if key is None:  # an escaped brace
            continue
        if not key or form or conversion:
            raise InvalidRow(f"{shown}: braces must hold the key of a row and nothing else")
        found.append((before, key))
        before = ""
    return found


def _values(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    """Line number and value of every row; a `.json` file may also hold one list of rows."""
    if path.suffix == ".json" and _first_sign(path, name) == "[":
        yield from enumerate(_list_of_rows(path, name), start=1)
        return
    for number, line in _lines(path, name):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line.removesuffix("\n"))
        except json.JSONDecodeError as error:
            place = f"column {error.colno}"
            raise InvalidRow(f"{name} line {number}: not JSON ({error.msg}, {place})") from None
        except (ValueError, RecursionError) as error:  # a number too long, lists nested too deep
            raise InvalidRow(f"{name} line {number}: cannot be read ({error})") from None


def _lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    # Not splitlines(): text in a row may hold U+2028, which is no line end in JSON Lines.
    with path.open("rb") as binary, TextIOWrapper(binary, encoding="utf-8-sig") as file:
        try:
            yield from enumerate(file, start=1)
        except UnicodeDecodeError as error:
            byte = binary.tell() - len(error.object) + error.start
            raise InvalidRow(f"{name}: not UTF-8 text ({error.reason} at byte {byte})") from None


def _first_sign(path: Path, name: str) -> str:
    return next((line.lstrip()[0] for _, line in _lines(path, name) if line.strip()), "")


def _keys(row: dict[str, Any]) -> str:
    """_keys({"prompt": "a", "completion": None}) -> "['completion' (null), 'prompt']" """
    shown = [repr(key) + (" (null)" if row[key] is None else "") for key in sorted(row)]
    return f"[{', '.join(shown)}]"


def _text(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _list_of_rows(path: Path, name: str) -> Any:
    """The JSON value of a whole file: a list of rows."""
    try:
        return json.loads("".join(line for _, line in _lines(path, name)))
    except json.JSONDecodeError as error:
        raise InvalidRow(f"{name} line {error.lineno}: not JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRow(f"{name}: cannot be read ({error})") from None


def _messages(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise InvalidRow(f"{where}: 'messages' must be a list with at least one message")
    messages = [_message(item, f"{where}, message {i}") for i, item in enumerate(value, start=1)]
    if not any(message["role"] == "assistant" for message in messages):
        raise InvalidRow(f"{where}: no assistant message, so there is nothing to learn")
    if not any(message["role"] == "assistant" for message in messages[1:]):
        raise InvalidRow(
            f"{where}: the only assistant message is the first, which answers nothing, so there "
            "is nothing to learn"
        )
    return messages


def _message(value: Any, where: str) -> dict[str, Any]:
    role = value.get("role") if isinstance(value, dict) else None
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRow(f"{where}: role {role!r} is not one of {sorted(ROLES)}")
    message: dict[str, Any] = {"role": ROLES[role], "content": _content(value, where)}
    calls = _decoded(value.get("tool_calls"), where, "tool_calls")
    # The older form of a tool call in OpenAI's API.
    function = None if calls else _decoded(value.get("function_call"), where, "function_call")
    if function:
        calls = [{"function": function}]
    if calls:
        message["tool_calls"] = [_call(call, where) for call in _listed(calls, "tool_calls", where)]
    for key in ("name", "tool_call_id"):
        if value.get(key) is not None:
            message[key] = value[key]
    return message


def _answer(row: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    given = row.get(name)
    if given is None:
        given = row.get(f"{name}_response")
    if isinstance(given, str):
        given = {"role": "assistant", "content": given}
    listed = given if isinstance(given, list) else [given]
    if len(listed) != 1 or not isinstance(listed[0], dict) or listed[0].get("role") != "assistant":
        raise InvalidRow(
            f"{where}: a preference row needs {name!r} (or '{name}_response'): "
            "one assistant message, or its text"
        )
    return _message(listed[0], where)


def _content(message: dict[str, Any], where: str) -> str:
    content = message.get("content")
    if content is None:
        return ""
    text = content_text([content] if isinstance(content, dict) else content)
    if text is None:
        raise InvalidRow(f"{where}: content must be text, null or a list of text parts")
    return text


def _call(value: Any, where: str) -> dict[str, Any]:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRow(f"{where}: each tool call needs function.name")
    arguments = _decoded(function.get("arguments"), where, "arguments")
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        raise InvalidRow(f"{where}: arguments of {function['name']!r} must be a JSON object")
    call = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return call | ({"id": value["id"]} if value.get("id") is not None else {})


def _tools(value: Any, where: str) -> list[dict[str, Any]]:
    tools = _decoded(value, where, "tools") or []
    if not isinstance(tools, list):
        raise InvalidRow(f"{where}: 'tools' must be a list")
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRow(f"{where}: each tool needs function.name")
    return tools


def _decoded(value: Any, where: str, name: str) -> Any:
    """The value, decoded if it was stored as JSON text, which is how Arrow keeps mixed objects."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "null")
    except json.JSONDecodeError as error:
        raise InvalidRow(f"{where}: {name} are not JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRow(f"{where}: {name} cannot be read ({error})") from None


def _listed(value: Any, key: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRow(f"{where}: {key!r} must be a list")
    return value
