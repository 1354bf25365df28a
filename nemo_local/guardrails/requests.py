"""Reads a guarded request: its conversation, its configuration and its options."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from nemo_local.core.errors import Invalid
from nemo_local.guardrails.rules import FLOWS, Direction, flow_name

Message = dict[str, Any]
RAILS = ("input", "output", "retrieval", "dialog")
"""The names allowed in `options.rails` as a list; the last two never run here."""


@dataclass(frozen=True)
class Conversation:
    """The messages that rails look at."""

    history: list[Message]
    """User and assistant texts before the last user message."""
    user: str | None
    """The last user message; None when there is none."""
    answer: str | None
    """The text of the last message when it is the assistant's; else None."""

    def messages(self, direction: Direction, flow: str) -> list[Message]:
        """The messages that the library gets for a flow; only topic safety reads the history."""
        before = self.history if flow_name(flow).startswith("topic safety") else []
        asked = {"role": "user", "content": self.user or ""}
        if direction == "input":
            return [*before, asked]
        return [asked, {"role": "assistant", "content": self.answer}]


@dataclass(frozen=True)
class Options:
    """The `guardrails` field of a request."""

    config_ids: list[str] | None = None
    """References as the client gave them; None = the default configuration."""
    inline: dict[str, Any] | None = None
    """A configuration sent with the request."""
    context: dict[str, Any] = field(default_factory=dict)
    rails: dict[Direction, list[str] | bool | None] = field(default_factory=dict)
    """The flows to run in each direction; None or absent = every flow of the configuration."""
    log: dict[str, Any] = field(default_factory=dict)
    llm_params: dict[str, Any] = field(default_factory=dict)
    output_vars: list[str] | bool = False
    return_choice: bool = False
    stream: bool = False
    stream_usage: bool = False
    """Whether a stream ends with the usage, as `stream_options` asks."""

    @classmethod
    def of(cls, body: dict[str, Any]) -> Options:
        """The options of a request body.

        Raises:
            Invalid: more than one configuration is named, or a field has the wrong type.
        """
        given = _object(body, "guardrails")
        options = _object(given, "options", "guardrails.")
        named = {
            key: given[key]
            for key in ("config_id", "config_ids", "config")
            if given.get(key) not in (None, "", [])
        }
        if len(named) > 1:
            raise Invalid(f"guardrails: give only one of {' and '.join(named)}")
        config = named.get("config")
        if not isinstance(config, (dict, str, type(None))):
            raise Invalid("guardrails.config: must be the name of a configuration or an object")
        reference = named.get("config_id", config if isinstance(config, str) else None)
        ids = named.get("config_ids", None if reference is None else [reference])
        if ids is not None and not (isinstance(ids, list) and all(isinstance(i, str) for i in ids)):
            raise Invalid("guardrails: config_id and config_ids name configurations as strings")
        return cls(
            config_ids=ids,
            inline=config if isinstance(config, dict) else None,
            context=_object(given, "context", "guardrails."),
            rails=_rails(options),
            log=_object(options, "log", "guardrails.options."),
            llm_params=_object(options, "llm_params", "guardrails.options."),
            output_vars=_flag_or_names(options, "output_vars", "guardrails.options.") or False,
            return_choice=_flag(given, "return_choice", "guardrails."),
            stream_usage=bool(_object(body, "stream_options").get("include_usage")),
            stream=_flag(body, "stream") or _flag(given, "stream", "guardrails."),
        )

    def chosen(self, direction: Direction, configured: list[str]) -> list[str]:
        """The flows of a direction that this request wants to run.

        Raises:
            Invalid: it selects a flow that the configuration does not have.
        """
        wanted = self.rails.get(direction)
        if not isinstance(wanted, list):
            return configured if wanted is not False else []
        for flow in wanted:
            if flow not in configured:
                raise Invalid(
                    f"guardrails.options.rails.{direction}: {flow!r} is not a flow of this "
                    f"configuration ({', '.join(configured) or 'it has none'})"
                )
        return [flow for flow in configured if flow in wanted]

    def logs(self, part: str) -> bool:
        return bool(self.log.get(part))

    def placed(self, response: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """The response with the guardrails data where the request wants it."""
        if not self.return_choice:
            return {**response, "guardrails_data": data}
        extra: dict[str, Any] = {"index": len(response["choices"]), "finish_reason": "stop"}
        if response["object"] == "text_completion":
            extra |= {"text": json.dumps(data), "logprobs": None}
        else:
            extra["message"] = {"role": "guardrails_data", "content": json.dumps(data)}
        return {**response, "choices": [*response["choices"], extra]}


def conversation(body: dict[str, Any]) -> Conversation:
    """The conversation of a chat-like body.

        {"messages": [{"role": "user", "content": "hi"}]} -> Conversation([], "hi", None)

    Raises:
        Invalid: no messages, nothing a rail could read, or an image.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Invalid("messages: Field required, a list with at least one message")
    if not isinstance(body.get("model"), str):
        raise Invalid("model: Field required")
    spoken: list[Message] = []
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Invalid(f"messages[{number}]: must have a role")
        if message["role"] in ("user", "assistant"):
            content = _text(message.get("content"), f"messages[{number}].content")
            spoken.append({"role": message["role"], "content": content})
    last_user = max((i for i, m in enumerate(spoken) if m["role"] == "user"), default=None)
    answers = messages[-1]["role"] == "assistant" and bool(spoken[-1]["content"])
    answer = spoken[-1]["content"] if answers else None
    if last_user is None and answer is None:
        raise Invalid("messages: no user or assistant text, so there is nothing to check")
    history = [m for m in spoken[: last_user or 0] if m["content"]]
    user = None if last_user is None else spoken[last_user]["content"]
    return Conversation(history, user, answer)


def with_plain_texts(body: dict[str, Any]) -> dict[str, Any]:
    """The body with text parts joined, so that the model reads exactly the text that was judged."""
    messages = [
        {**message, "content": _text(message["content"], "content")}
        if message["role"] in ("user", "assistant") and isinstance(message.get("content"), list)
        else message
        for message in body["messages"]
    ]
    return {**body, "messages": messages}


def _object(of: dict[str, Any], key: str, place: str = "") -> dict[str, Any]:
    """The object under this key, empty when there is none. Raises Invalid."""
    value = of.get(key)
    if not isinstance(value, (dict, type(None))):
        raise Invalid(f"{place}{key}: must be an object")
    return value or {}


def _flag(of: dict[str, Any], key: str, place: str = "") -> bool:
    """The flag under this key. Raises Invalid."""
    value = of.get(key)
    if not isinstance(value, (bool, type(None))):
        raise Invalid(f"{place}{key}: must be true or false, not {value!r}")
    return bool(value)


def _flag_or_names(of: dict[str, Any], key: str, place: str) -> list[str] | bool | None:
    """The flag or the list of names under this key. Raises Invalid."""
    value = of.get(key)
    names = isinstance(value, list) and all(isinstance(name, str) for name in value)
    if not names and not isinstance(value, (bool, type(None))):
        raise Invalid(f"{place}{key}: must be true, false or a list of names")
    return value


def _rails(options: dict[str, Any]) -> dict[Direction, list[str] | bool | None]:
    """The flows to run in each direction; a list names whole directions. Raises Invalid."""
    if isinstance(options.get("rails"), list):
        unknown = [rail for rail in options["rails"] if rail not in RAILS]
        if unknown:
            raise Invalid(f"guardrails.options.rails: {unknown[0]!r} is not one of {RAILS}")
        return {direction: direction in options["rails"] for direction in FLOWS}
    rails = _object(options, "rails", "guardrails.options.")
    place = "guardrails.options.rails."
    return {direction: _flag_or_names(rails, direction, place) for direction in FLOWS}


def _text(content: Any, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise Invalid(f"{place}: must be a string or a list of text parts")
    for part in content:
        is_text = isinstance(part, dict) and part.get("type") == "text"
        if not is_text or not isinstance(part.get("text"), str):
            raise Invalid(f"{place}: only text parts can be checked")
    return "".join(part["text"] for part in content)
