"""What a guarded request says: its conversation, its configuration and its options."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from nemo_local.core.errors import Invalid
from nemo_local.guardrails.rules import Direction, flow_name

Message = dict[str, Any]


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
        """What the library gets for this flow; only topic safety reads the history."""
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
    rails: Any = None
    log: dict[str, Any] = field(default_factory=dict)
    llm_params: dict[str, Any] = field(default_factory=dict)
    output_vars: list[str] | bool = False
    return_choice: bool = False
    stream: bool = False

    @classmethod
    def of(cls, body: dict[str, Any]) -> Options:
        """The options of a request body.

        Raises:
            Invalid: more than one configuration is named, or a field has the wrong type.
        """
        given = body.get("guardrails") or {}
        if not isinstance(given, dict):
            raise Invalid("guardrails: must be an object")
        named = [key for key in ("config_id", "config_ids", "config") if given.get(key)]
        if len(named) > 1:
            raise Invalid(f"guardrails: give only one of {' and '.join(named)}")
        config = given.get("config")
        reference = given.get("config_id") or (config if isinstance(config, str) else None)
        ids = given.get("config_ids") or ([reference] if reference else None)
        if ids is not None and not (isinstance(ids, list) and all(isinstance(i, str) for i in ids)):
            raise Invalid("guardrails: config_id and config_ids name configurations as strings")
        options = given.get("options") or {}
        for key, value in (("context", given.get("context")), ("options", options)):
            if not isinstance(value, (dict, type(None))):
                raise Invalid(f"guardrails.{key}: must be an object")
        return cls(
            config_ids=ids,
            inline=config if isinstance(config, dict) else None,
            context=given.get("context") or {},
            rails=options.get("rails"),
            log=options.get("log") or {},
            llm_params=options.get("llm_params") or {},
            output_vars=options.get("output_vars") or False,
            return_choice=bool(given.get("return_choice")),
            stream=bool(body.get("stream") or given.get("stream")),
        )

    def chosen(self, direction: Direction, configured: list[str]) -> list[str]:
        """The flows of a direction that this request wants to run.

        Raises:
            Invalid: it selects a flow that the configuration does not have.
        """
        if isinstance(self.rails, list):
            return configured if direction in self.rails else []
        wanted = (self.rails or {}).get(direction, True)
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
        message = {"role": "guardrails_data", "content": json.dumps(data)}
        extra = {"index": len(response["choices"]), "message": message}
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


def _text(content: Any, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise Invalid(f"{place}: must be a string or a list of text parts")
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise Invalid(f"{place}: only text parts can be checked")
    return "\n".join(part["text"] for part in content)
