"""Prompts of rails: checks and limits their templates, and explains what goes wrong with them."""

from __future__ import annotations

import operator
import re
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from jinja2 import Template
from jinja2.exceptions import SecurityError

from nemo_local.core.searching import SLOW_METHODS, bounded_trim, check_search

MAX_SECONDS = 1.0
"""Processor time of one rendering: one thread judges for everyone."""
LARGEST_FACTOR = 10**9
MAX_COMPARISONS = 10**9
"""Limit on (characters of a text) * (characters that a method or filter searches for in it)."""
VERDICTS = {"safe", "unsafe", "yes", "no"}
"""The words that a self check's default parser reads as a verdict."""
UNREADABLE = "JSON parsing failed"
"""The category that the tutorial's version of the library gives to an unreadable reply."""
UNREAD: ContextVar[list[Any]] = ContextVar("unread")
"""Unreadable replies of one flow, kept here because the library drops a self check's category."""
VARIABLES: ContextVar[dict[str, Any]] = ContextVar("variables")
"""A request's variables for prompts; the library gives a prompt the variables of its rail alone."""
RAILS_OWN = (
    "bot_response",
    "general_instructions",
    "history",
    "reasoning_enabled",
    "sample_conversation",
    "sample_conversation_two_turns",
    "user_input",
)
"""Variables that a prompt has from its rail, or not at all."""


def check_templates(config: Any) -> None:
    """Compile every template of the library's configuration.

    Raises:
        ValueError: a template is broken; the message names its task.
    """
    from nemoguardrails.llm.taskmanager import LLMTaskManager

    environment = _bounded(LLMTaskManager(config).env)
    for prompt in config.prompts or []:
        for template in [prompt.content] if prompt.content else prompt.messages:
            try:
                environment.from_string(template if isinstance(template, str) else template.content)
            except Exception as error:
                raise ValueError(
                    f"the prompt of task {prompt.task!r} is a broken template: {error}"
                ) from None


def watch(manager: Any) -> None:
    """Make the library's task manager explain failed prompts, and accept only readable replies.

    Prompts get the request's variables, too.

    The library keeps the reason of a failed action only when a model call failed. So a prompt that
    cannot be rendered, for example because it is too long, fails as a model call.
    """
    _bounded(manager.env)
    manager.render_task_prompt = _explained(manager.render_task_prompt)
    for name, parser in _strict_parsers().items():
        manager.register_output_parser(parser, name)


def _explained(render: Callable[..., Any]) -> Callable[..., Any]:
    from nemoguardrails.exceptions import LLMCallException

    def rendered(task: Any, context: dict[str, Any] | None = None, **options: Any) -> Any:
        given = {key: value for key, value in VARIABLES.get().items() if key not in RAILS_OWN}
        try:
            return render(task, {**given, **(context or {})}, **options)
        except Exception as error:
            raise LLMCallException(error, "its prompt cannot be rendered") from error

    return rendered


class _Limited(Template):
    """A template with a time limit, checked at every line and call."""

    def render(self, *args: Any, **values: Any) -> str:
        until = time.thread_time() + MAX_SECONDS
        before = sys.gettrace()

        def watched(frame: Any, event: str, argument: Any) -> Any:
            if time.thread_time() > until:
                raise SecurityError(f"a template may compute for at most {MAX_SECONDS:g} s")
            return watched if frame.f_code.co_filename == "<template>" else None

        sys.settrace(watched)
        try:
            return super().render(*args, **values)
        finally:
            sys.settrace(before)


def _bounded(environment: Any) -> Any:
    """The environment, with limits on the time and memory that its templates may use."""
    environment.template_class = _Limited
    operators = {"*": operator.mul, "%": operator.mod, "//": operator.floordiv, "**": None}
    environment.intercepted_binops = frozenset(operators)
    environment.binop_table |= {sign: _of_numbers(sign, operators[sign]) for sign in operators}
    divides = _of_numbers("divisibleby", lambda number, divisor: number % divisor == 0)
    environment.tests["divisibleby"] = divides
    environment.filters["trim"] = bounded_trim(MAX_COMPARISONS)
    environment.call = _limit_methods(environment.call)
    return environment


def _limit_methods(call: Callable[..., Any]) -> Callable[..., Any]:
    """An environment's `call` that limits text methods: one that runs cannot be stopped."""

    def bounded(context: Any, function: Any, /, *args: Any, **options: Any) -> Any:
        text = getattr(function, "__self__", None)
        if isinstance(text, (str, bytes)) and function.__name__ in SLOW_METHODS:
            raise SecurityError(f"{function.__name__} is not allowed in prompts")
        check_search(MAX_COMPARISONS, text, *args, *options.values())
        return call(context, function, *args, **options)

    return bounded


def _of_numbers(sign: str, compute: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
    def bounded(*factors: Any) -> Any:
        small = (isinstance(one, (int, float)) and abs(one) <= LARGEST_FACTOR for one in factors)
        if compute is None or not all(small):
            values = "" if compute is None else " with these values"
            raise SecurityError(f"{sign} is not allowed in prompts{values}")
        return compute(*factors)

    return bounded


def _strict_parsers() -> dict[str, Any]:
    """Parsers that distinguish unreadable replies from unsafe verdicts; both block."""
    from nemoguardrails.llm import output_parsers

    def strict(parse: Any) -> Any:
        def verdict(reply: str) -> Any:
            try:
                return parse(reply)
            except ValueError:
                UNREAD.get().append(reply)
                return [False, UNREADABLE]

        return verdict

    def in_words(reply: str) -> Any:
        # The library reads the first two words, and treats anything but a verdict as unsafe.
        words = re.sub(r"\W+", " ", reply.lower().strip()).split(" ")[:2]
        if not VERDICTS & {*words}:
            raise ValueError("the reply is not a verdict")
        return output_parsers.is_content_safe(reply)

    names = ("nemoguard_parse_prompt_safety", "nemoguard_parse_response_safety")
    parsers = {name: strict(getattr(output_parsers, name)) for name in names}
    return {**parsers, "is_content_safe": strict(in_words)}
