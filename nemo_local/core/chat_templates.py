"""A tokenizer's chat template on messages: what `apply_chat_template` gives, in less time.

It is transformers' own template in transformers' own sandbox. What is learnt and what is served is
rendered here, so that both read the same. Two things are left out. Rows and requests come from
JSON, so their values need no copy that rids them of dangerous methods. And the sandbox is not asked
about the keys of a dict, which it looks for only after Python failed to find an attribute, nor
about where a loop stands, nor whether the template may call its own macros: most of what templates
of tools do is that.
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
"""The role that templates know for each role of a message."""
OF_EVERY_DICT = frozenset(dir(dict))
"""Names that mean a method, as `schema.items` does; the sandbox decides about them."""
OF_EVERY_LOOP = frozenset(("first", "last", "index", "index0"))
"""Names of plain numbers."""


def render(
    tokenizer: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]], prompt: bool
) -> str:
    """The conversation as text, with `prompt` up to where the assistant has to go on.

    Values are plain JSON, and no field of a message is None. Calls have ids as the template wants.

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
    """The messages with ids of calls that Mistral's templates take: nine letters and digits.

    Others, such as OpenAI's `call_...`, and those that are missing, become the call's number in the
    conversation: nothing that a model could not foresee. Results follow their calls; those that
    name no call are the calls' in their order.
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
    """The template, and whether it takes short ids of calls only."""
    # Imported when something is rendered, as it takes long. Despite its name this function keeps
    # nothing: the environment is ours alone.
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
        kwargs.pop("_loop_vars", None)  # Context.call knows them, and a macro does not
        kwargs.pop("_block_vars", None)
        return called(context.eval_ctx, *args, **kwargs)

    environment.getattr, environment.call = get, call
    return template, format_of_template(text).short_ids
