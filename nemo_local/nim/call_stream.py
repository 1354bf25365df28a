"""Streamed replies as deltas of text and tool calls, each given out once it is certain.

A stream never says what the whole reply would not: under `auto`, text that may still become calls
is held back until the reply ends. A constrained reply is certain from its first character, so its
calls are streamed while they are written.
"""

import json
import re
from typing import Any

from nemo_local.core.tool_formats import Reading, ToolCall, ToolFormat, json_text
from nemo_local.nim.tool_calls import ToolUse

Json = dict[str, Any]

_BEGIN = re.compile(r'\{"name": (?P<name>"(?:[^"\\]|\\.)*"), "(?:parameters|arguments)": ')
_TOKEN = re.compile(r'\s*(?P<token>["{}\[\],:]|(?:-?\d[\d.eE+-]*|true|false|null)(?=[\s,}\]]))')
"""One token of JSON; of a string, its first quote only."""
_CHARACTERS = re.compile(r'(?:[^"\\]|\\.)*')
"""The characters of a string, up to its last quote or as far as they came."""


class ReplyStream:
    """The deltas of one streamed choice."""

    def __init__(self, format_: ToolFormat, use: ToolUse) -> None:
        self._format = format_
        self._mode = use.mode
        self._text = ""
        self._given = 0  # characters given out as text
        self._calls = CallStream(format_)

    def push(self, text: str) -> list[Json]:
        """The deltas that became certain with this piece of text."""
        self._text += text
        if self._mode == "none":
            return self._content(len(self._text))
        if self._mode == "auto":
            return self._content(self._format.certain_text(self._text))
        return self._calls.push(text)

    def finish(self, reading: Reading) -> list[Json]:
        """What is left to say once the reply is read as a whole."""
        if self._calls.begun:
            return []
        if reading.calls:
            return call_deltas(reading.calls, self._format)
        return self._content(len(self._text))

    def _content(self, end: int) -> list[Json]:
        piece = self._text[self._given : end]
        self._given = max(self._given, end)
        return [{"content": piece}] if piece else []


class CallStream:
    """Deltas of calls that a grammar holds to their form, argument by argument.

    Fragments are spelt as `json.dumps` spells them, so that they add up to the very string that
    the whole reply carries. When max_tokens cuts the reply, its last call stays unfinished.
    """

    def __init__(self, format_: ToolFormat) -> None:
        self._format = format_
        self.begun = 0
        """Calls begun so far."""
        self._rest = ""
        self._depth = 0
        self._inside = False
        self._scanned = 0  # characters of an open string at the start of the rest

    def push(self, text: str) -> list[Json]:
        """The deltas that this piece of text completes."""
        self._rest += text
        deltas: list[Json] = []
        while delta := self._arguments() if self._inside else self._head():
            deltas.append(delta)
        return deltas

    def _head(self) -> Json | None:
        found = _BEGIN.search(self._rest)
        if found is None:
            return None
        self._rest, self._inside, self._depth = self._rest[found.end() :], True, 0
        self.begun += 1
        return _head_delta(self.begun - 1, json.loads(found["name"]), self._format)

    def _arguments(self) -> Json | None:
        fragment, at = "", 0
        while self._inside and (found := _TOKEN.match(self._rest, at)):
            end = found.end()
            if found["token"] == '"':
                # Go on where the last piece ended: a long string comes in thousands of pieces.
                characters = _CHARACTERS.match(self._rest, max(end, self._scanned))
                assert characters is not None, "it may be empty"
                if not self._rest.startswith('"', characters.end()):
                    self._scanned = characters.end() - at
                    break
                end = characters.end() + 1
            self._scanned = 0
            token = self._rest[found.start("token") : end]
            fragment += _spelt(token)
            self._depth += (token in "{[") - (token in "}]")
            self._inside = self._depth > 0
            at = end
        self._rest = self._rest[at:]
        return _arguments_delta(self.begun - 1, fragment) if fragment else None


def read_constrained(text: str, format_: ToolFormat, cut: bool) -> Reading:
    """A constrained reply as calls, the last one as far as it came; `cut` if it ended early."""
    calls = _begun_calls(text, format_)
    if not calls:
        return Reading(text, [])
    # Spelt as in a stream: read as values, arguments would lose a key that is written twice.
    whole = format_.read(text, constrained=True).calls
    return Reading(None, calls, cut=cut and len(whole) < len(calls))


def _begun_calls(text: str, format_: ToolFormat) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for delta in CallStream(format_).push(text):
        function = delta["tool_calls"][0]["function"]
        if "name" in function:
            calls.append(ToolCall(function["name"], ""))
        else:
            last = calls.pop()
            calls.append(ToolCall(last.name, last.arguments + function["arguments"]))
    return calls


def call_deltas(calls: list[ToolCall], format_: ToolFormat) -> list[Json]:
    """Two deltas for each finished call: its name, then its arguments."""
    return [
        delta
        for number, call in enumerate(calls)
        for delta in (
            _head_delta(number, call.name, format_),
            _arguments_delta(number, call.arguments),
        )
    ]


def _head_delta(number: int, name: str, format_: ToolFormat) -> Json:
    function = {"name": name, "arguments": ""}
    call = {"index": number, "id": format_.new_call_id(), "type": "function", "function": function}
    return {"tool_calls": [call]}


def _arguments_delta(number: int, fragment: str) -> Json:
    return {"tool_calls": [{"index": number, "function": {"arguments": fragment}}]}


def _spelt(token: str) -> str:
    if token in ",:":
        return f"{token} "
    if token in "{}[]":
        return token
    try:
        return json_text(json.loads(token))
    except ValueError:  # a number too long for Python, or an infinity
        return token
