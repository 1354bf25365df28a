"""Inference verbs: which models are served, and single questions through the OpenAI client."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from openai import OpenAI
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageFunctionToolCall

from utils.http import translates
from utils.jobs import OnUpdate, wait_for


@dataclass(frozen=True)
class ServedModel:
    """One entry of NIM's model list."""

    id: str
    parent: str | None
    """Base model of an adapter; None for a base model."""
    answered_by: str
    """What really computes the reply; differs from `id` where a platform serves a stand-in."""

    @property
    def is_stand_in(self) -> bool:
        return self.answered_by != self.id


@translates("NIM_URL")
def served_models(openai: OpenAI) -> list[ServedModel]:
    """The models that answer at this moment, base models and adapters."""
    return [
        ServedModel(
            id=model.id,
            parent=getattr(model, "parent", None),
            answered_by=getattr(model, "answered_by", None) or model.id,
        )
        for model in openai.models.list().data
    ]


def find_served(openai: OpenAI, model: str) -> ServedModel | None:
    """The served model of that id, or None."""
    return next((served for served in served_models(openai) if served.id == model), None)


def wait_until_served(
    openai: OpenAI, model: str, *, timeout_s: float, on_update: OnUpdate | None = None
) -> ServedModel:
    """The model as NIM lists it, as soon as it does.

    A finished training job means that the adapter is stored; NIM finds it by itself a moment
    later (seconds here, up to three minutes on a cluster).

    Raises:
        TimedOut: NIM does not list `model` after `timeout_s` seconds.
    """
    served = wait_for(
        lambda: find_served(openai, model),
        what=f"NIM to serve {model}",
        timeout_s=timeout_s,
        on_update=on_update,
        otherwise="read the platform's log. An adapter is never served on other weights than those "
        "it was trained on: if its base model has others now, train again, as notebook 2 does",
    )
    assert served is not None  # wait_for returns truthy values only
    return served


@translates("NIM_URL")
def ask(
    openai: OpenAI,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: Literal["auto", "required", "none"] = "auto",
    max_tokens: int = 256,
) -> ChatCompletionMessage:
    """The model's reply to a conversation, most likely token first (temperature 0)."""
    options = {"tools": list(tools), "tool_choice": tool_choice} if tools else {}
    completion = openai.chat.completions.create(
        model=model,
        messages=cast(Any, list(messages)),
        temperature=0,
        max_tokens=max_tokens,
        **cast(Any, options),
    )
    return cast(ChatCompletionMessage, completion.choices[0].message)


def calls_of(message: ChatCompletionMessage) -> list[dict[str, Any]]:
    """The calls of a reply: [{"id", "name", "arguments"}], arguments as an object.

    A call that `max_tokens` cut off, so that its arguments are no JSON, is left out.
    """
    return [
        {
            "id": call.id,
            "name": call.function.name,
            "arguments": json.loads(call.function.arguments or "{}"),
        }
        for call in _whole_calls(message)
    ]


def turn_of(message: ChatCompletionMessage) -> dict[str, Any]:
    """A reply as a message of the conversation that goes on, with the calls of `calls_of`."""
    turn: dict[str, Any] = {"role": "assistant", "content": message.content or ""}
    calls = [call.model_dump(include={"id", "type", "function"}) for call in _whole_calls(message)]
    return {**turn, "tool_calls": calls} if calls else turn


def _whole_calls(message: ChatCompletionMessage) -> list[ChatCompletionMessageFunctionToolCall]:
    calls = [call for call in message.tool_calls or [] if call.type == "function"]
    return [call for call in calls if _is_json(call.function.arguments or "{}")]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
