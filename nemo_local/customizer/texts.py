"""Rows rendered as text, with the spans that count in the loss.

A conversation is rendered with the model's own chat template, as inference renders it. What the
assistant wrote is found by rendering twice: everything before the turn with the generation prompt
(what the model sees when it must answer), and everything up to and including the turn; the
difference is the answer, and the loss is on nothing else.

Some templates render a prompt differently once it is answered: Mistral's drop the system message,
and those of reasoning models put the opening `<think>` into the prompt only. The answer is then the
part of the text that changes with its words, and it is trained on after its own prompt.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Any

from nemo_local.core.chat_templates import render
from nemo_local.customizer.rows import ChatRow, TextRow


class UntrainableData(Exception):
    """The data, or the model's chat template, cannot be trained on; the message says why."""


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text that count in the loss."""

    start: int
    end: int
    whole: bool
    """True for a tool call, which is worthless when cut."""


@dataclass(frozen=True)
class Rendered:
    """A text and its spans that count in the loss."""

    text: str
    spans: list[Span]
    where: str
    answers: bool = True
    """Whether the spans answer a prompt in the text; a completion may be the whole text."""
    after_bos: bool = False
    """Whether a BOS token goes before the text, as the tokenizer puts one before a bare prompt."""


class Texts:
    """Renders rows as text for one tokenizer."""

    def __init__(self, tokenizer: Any, stop_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._stop_ids = stop_ids
        self._after_bos = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]

    def of(self, row: ChatRow | TextRow, rejected: bool = False) -> list[Rendered]:
        """The texts of a row to train on: one for most rows.

        A template may move text when the conversation goes on (tools after the *last* user
        message, say). An earlier answer then had another prompt than the whole conversation
        shows, and gets a sequence of its own. An assistant message that opens the conversation
        answers nothing, and is only context.
        """
        if isinstance(row, TextRow):
            return [self._completion(row)]
        sequences: list[Rendered] = []
        text, spans = "", list[Span]()
        for number, message in enumerate(row.messages):
            if message["role"] != "assistant" or number < max(1, row.learn_from):
                continue
            prompt = self._render(row, number, add_generation_prompt=True)
            self._check_tools(row, number, prompt, rejected)
            full = self._render(row, number + 1, add_generation_prompt=False)
            if not full.startswith(prompt):
                full = prompt + self._answer(row, number, prompt, full)
            if spans and not prompt.startswith(text):
                sequences.append(Rendered(text, spans, row.where))
                spans = []
            text = full.rstrip()  # a line break after the end-of-turn token is not an answer
            spans = [*spans, Span(len(prompt), len(text), bool(message.get("tool_calls")))]
        return [*sequences, Rendered(text, spans, row.where)]

    def _answer(self, row: ChatRow, number: int, prompt: str, full: str) -> str:
        """The answer in `full`, the text up to its turn, which does not begin with the prompt.

        The answer begins where the text would differ with another answer. White space before that
        point belongs to the answer unless the prompt ends with it.
        """
        before = row.messages[:number]
        others = [
            replace(row, messages=[*before, {"role": "assistant", "content": content}])
            for content in ("0", "1")  # two, as the answer itself may begin with one of them
        ]
        texts = [self._render(other, number + 1, add_generation_prompt=False) for other in others]
        head = commonprefix([full, *texts])
        asked = head.rstrip() + prompt[len(prompt.rstrip()) :]
        answer = full[len(asked if head.startswith(asked) else head) :]
        if not answer.strip():
            raise UntrainableData(
                f"{row.where}: message {number + 1} cannot be found in the text that the chat "
                "template makes of the row, so there is nothing to learn. Does this template show "
                "what the assistant said?"
            )
        return answer

    def _completion(self, row: TextRow) -> Rendered:
        text = row.prompt + row.completion + self._end_of_text(row)
        # A space before a word is part of the word's token, so inference prompts end without it.
        start = len(row.prompt.removesuffix(" "))
        if not start and not self._after_bos:  # the prompt would be empty
            start = len(row.prompt)
        span = Span(start, len(text), whole=False)
        # BOS is no part of the text: some tokenizers encode text differently after a special token.
        return Rendered(text, [span], row.where, answers=False, after_bos=self._after_bos)

    def _end_of_text(self, row: TextRow) -> str:
        if self._tokenizer.eos_token is not None:
            return str(self._tokenizer.eos_token)
        if not self._stop_ids:
            raise UntrainableData(
                f"{row.where}: neither the checkpoint's tokenizer (eos_token) nor its "
                "generation_config.json or config.json (eos_token_id) names a token that ends a "
                "text; name one in the target's tokenizer.eos_token"
            )
        return str(self._tokenizer.decode([min(self._stop_ids)], skip_special_tokens=False))

    def _render(self, row: ChatRow, count: int, add_generation_prompt: bool) -> str:
        try:
            return render(self._tokenizer, row.messages[:count], row.tools, add_generation_prompt)
        except Exception as error:  # a template raises what it likes
            raise UntrainableData(
                f"{row.where}: the chat template refused the row: {error}"
            ) from error

    def _check_tools(self, row: ChatRow, number: int, prompt: str, rejected: bool) -> None:
        offered = [tool["function"]["name"] for tool in row.tools]
        # A rejected answer may call what is no tool: the model learns not to.
        calls = row.messages[number].get("tool_calls", []) if offered and not rejected else []
        called = [call["function"]["name"] for call in calls]
        # What users say may name a tool, too.
        said = "".join(str(message["content"]) for message in row.messages[:number])
        bare = (
            self._without_tools(row, number) if any(x in said for x in (*called, *offered)) else ""
        )
        shown = {name for name in (*called, *offered) if prompt.count(name) > bare.count(name)}
        for name in offered:
            if name not in shown:
                raise UntrainableData(
                    f"{row.where}: tool {name!r} does not appear in the rendered prompt, so the "
                    "model would learn to call what it cannot see. Does this chat template "
                    "support tools?"
                )
        for name in called:
            if name not in shown:
                raise UntrainableData(
                    f"{row.where}: an answer calls {name!r}, which is not among its tools "
                    f"{offered}; the model would learn to call what it cannot see"
                )

    def _without_tools(self, row: ChatRow, number: int) -> str:
        try:
            return self._render(replace(row, tools=[]), number, add_generation_prompt=True)
        except UntrainableData:  # the template may require tools
            return ""
