"""Renders messages with a tokenizer's chat template: `apply_chat_template`, but faster.

Training and inference both render here, so a model is prompted as it was trained. The template is
compiled by transformers and runs in its sandbox, with two shortcuts. Rows and requests come from
JSON, so their values are not copied to strip dangerous methods. And the sandbox is not consulted
about dict keys (it tries them only after a failed attribute lookup), a loop's position or calls of
the template's own macros, which make up most of what tool templates do.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from nemo_local.core.tool_formats import format_of_template

ROLES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "developer": "system",
    "function": "tool",
}
"""The role that templates use for each role a message may have."""
OF_EVERY_DICT = frozenset(dir(dict))
"""Names of dict's own methods, such as `items` in `schema.items`; the sandbox decides on them."""
OF_EVERY_LOOP = frozenset(("first", "last", "index", "index0"))
"""Loop attributes that are plain numbers or booleans, which need no check by the sandbox."""


def render(
    tokenizer: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]], prompt: bool
) -> str:
    """The conversation as text; with `prompt`, it ends where the assistant's answer begins.

    Values are plain JSON, and no message field is None. Call ids are put in the template's form.

    Raises:
        Exception: whatever the template raises; ValueError without a template or a message.
    """
    if not messages:
        raise ValueError("there is no message before the first answer")
    template, short_ids = _compiled(tokenizer.get_chat_template(tools=tools or None))
    return str(
        template.render(
            messages=with_short_ids(messages) if short_ids else messages,
            tools=tools or None,
            documents=None,
            add_generation_prompt=prompt,
            **tokenizer.special_tokens_map,
        )
    )


def with_short_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with call ids that Mistral's templates accept: nine letters and digits.

    A missing id, or another one such as OpenAI's `call_...`, becomes the call's number in the
    conversation, which a model can predict. Tool results get the new id of their call; results
    that name no known call are matched to the unanswered calls in order.
    """
    short: dict[Any, str] = {}
    unanswered: list[str] = []
    count = 0
    renamed = []
    for message in messages:
        if calls := message.get("tool_calls"):
            unanswered = []
            for call in calls:
                given = call.get("id")
                fits = isinstance(given, str) and _SHORT_ID.fullmatch(given)
                unanswered.append(given if fits else f"{count:09}")
                short[given] = unanswered[-1]
                count += 1
            named = zip(calls, unanswered, strict=True)
            message = {**message, "tool_calls": [{**call, "id": name} for call, name in named]}
        elif message["role"] == "tool":
            given = message.get("tool_call_id")
            if given is not None and given in short:
                message = {**message, "tool_call_id": short[given]}
            elif unanswered:
                message = {**message, "tool_call_id": unanswered.pop(0)}
        renamed.append(message)
    return renamed


_SHORT_ID = re.compile("[A-Za-z0-9]{9}")


@lru_cache
def _compiled(text: str) -> tuple[Any, bool]:
    """The compiled template, and whether it accepts only short call ids."""
    # Imported here because it takes long. Despite its name, transformers' function caches nothing,
    # so the environment changed below is ours alone.
    from jinja2.runtime import Context, LoopContext, Macro
    from transformers.utils.chat_template_utils import _cached_compile_jinja_template

    template: Any = _cached_compile_jinja_template(text)
    environment = template.environment
    in_sandbox, call_in_sandbox = environment.getattr, environment.call

    def get(value: Any, name: str) -> Any:
        kind = type(value)
        if kind is dict and name not in OF_EVERY_DICT:
            return value[name] if name in value else environment.undefined(obj=value, name=name)
        if kind is LoopContext and name in OF_EVERY_LOOP:
            return getattr(value, name)
        return in_sandbox(value, name)

    def call(context: Context, called: Any, *args: Any, **kwargs: Any) -> Any:
        if type(called) is not Macro:
            return call_in_sandbox(context, called, *args, **kwargs)
        kwargs.pop("_loop_vars", None)  # Context.call takes them, a macro does not
        kwargs.pop("_block_vars", None)
        return called(context.eval_ctx, *args, **kwargs)

    environment.getattr, environment.call = get, call
    return template, format_of_template(text).short_ids
