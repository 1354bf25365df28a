"""Prompts of rails: templates that must compile, and a reason for whatever goes wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

UNREADABLE = "JSON parsing failed"
"""What the tutorial's library generation gives as category of a reply that is no verdict."""


def check_templates(config: Any) -> None:
    """Compile every template of the library's configuration.

    Raises:
        ValueError: a template is broken; the sentence names its task.
    """
    from nemoguardrails.llm.taskmanager import LLMTaskManager

    environment = LLMTaskManager(config).env
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
    prompt that cannot be rendered, one that is too long say, fails as a model call.
    """
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


def _strict_parsers() -> dict[str, Any]:
    """The two NemoGuard parsers, reading anything that is no verdict as a block."""
    from nemoguardrails.llm import output_parsers

    def strict(parse: Any) -> Any:
        def verdict(reply: str) -> Any:
            try:
                return parse(reply)
            except ValueError:
                return [False, UNREADABLE]

        return verdict

    names = ("nemoguard_parse_prompt_safety", "nemoguard_parse_response_safety")
    return {name: strict(getattr(output_parsers, name)) for name in names}
