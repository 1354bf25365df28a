"""Prompts of rails: templates that must compile, and a reason for whatever goes wrong with them."""

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

from nemo_local.core.seeking import bounded_trim, check_search

MAX_SECONDS = 1.0
"""Processor time of one rendering: one thread judges for everyone."""
LARGEST_FACTOR = 10**9
MAX_COMPARISONS = 10**9
"""Characters of a text times those that a method or filter seeks in it."""
VERDICTS = {"safe", "unsafe", "yes", "no"}
"""Words that are a verdict, to the parser that a self check has by default."""
UNREADABLE = "JSON parsing failed"
"""What the tutorial's library generation gives as category of a reply that is no verdict."""
UNREAD: ContextVar[list[Any]] = ContextVar("unread")
"""Replies to one flow that were no verdict: of a self check the library keeps no category."""


def check_templates(config: Any) -> None:
    """Compile every template of the library's configuration.

    Raises:
        ValueError: a template is broken; the sentence names its task.
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
    """Let the library's task manager say why it cannot render, and take no reply on trust.

    Of an action that fails the library keeps no reason, except when a model call failed; so a
    prompt that cannot be rendered, one that is too long or endless say, fails as a model call.
    """
    _bounded(manager.env)
    manager.render_task_prompt = _explained(manager.render_task_prompt)
    for name, parser in _strict_parsers().items():
        manager.register_output_parser(parser, name)


def _explained(render: Callable[..., Any]) -> Callable[..., Any]:
    from nemoguardrails.exceptions import LLMCallException

    def rendered(*args: Any, **options: Any) -> Any:
        try:
            return render(*args, **options)
        except Exception as error:
            raise LLMCallException(error, "its prompt cannot be rendered") from error

    return rendered


class _Limited(Template):
    """A template that ends when it computes for too long: at its next line, or the next call."""

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
    """The environment: its templates limited, and what they call to little time and memory."""
    environment.template_class = _Limited
    operators = {"*": operator.mul, "%": operator.mod, "//": operator.floordiv, "**": None}
    environment.intercepted_binops = frozenset(operators)
    environment.binop_table |= {sign: _of_numbers(sign, operators[sign]) for sign in operators}
    divides = _of_numbers("divisibleby", lambda number, divisor: number % divisor == 0)
    environment.tests["divisibleby"] = divides
    environment.filters["trim"] = bounded_trim(MAX_COMPARISONS)
    environment.call = _seeking_little(environment.call)
    return environment


def _seeking_little(call: Callable[..., Any]) -> Callable[..., Any]:
    """An environment's `call` that a text's methods cannot keep busy: no limit ends one of them."""

    def bounded(context: Any, function: Any, /, *args: Any, **options: Any) -> Any:
        text = getattr(function, "__self__", None)
        check_search(MAX_COMPARISONS, text, *args, *options.values())
        return call(context, function, *args, **options)

    return bounded


def _of_numbers(sign: str, compute: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
    def bounded(*factors: Any) -> Any:
        small = (isinstance(one, (int, float)) and abs(one) <= LARGEST_FACTOR for one in factors)
        if compute is None or not all(small):
            raise SecurityError(f"{sign} is not allowed in prompts, or not with these values")
        return compute(*factors)

    return bounded


def _strict_parsers() -> dict[str, Any]:
    """Parsers that tell a reply that is no verdict from one that blocks; both do block."""
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
        # The library reads two words, and anything else in them as unsafe.
        words = re.sub(r"\W+", " ", reply.lower().strip()).split(" ")[:2]
        if not VERDICTS & {*words}:
            raise ValueError("the reply is no verdict")
        return output_parsers.is_content_safe(reply)

    names = ("nemoguard_parse_prompt_safety", "nemoguard_parse_response_safety")
    parsers = {name: strict(getattr(output_parsers, name)) for name in names}
    return {**parsers, "is_content_safe": strict(in_words)}
