"""Accuracy of the model's tool calls on validation rows, measured at each validation.

The model answers greedily, and with no grammar to constrain it. A reply is read as inference reads
it and scored as Evaluator scores tool calls.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig

from nemo_local.core.tool_formats import ToolFormat, format_of_template
from nemo_local.customizer.layers.lora_forward import merged_once
from nemo_local.customizer.rows import ChatRow, Row
from nemo_local.customizer.training.batches import stop_ids
from nemo_local.customizer.training.facts import EAGER, FLASH, ROW_BY_ROW, SDPA, UNMASKED
from nemo_local.customizer.training.rendering import Renderer

logger = logging.getLogger(__name__)

ROWS = 16
"""Rows that the model is asked; fewer when the data has fewer."""
CANDIDATES = 1000
"""How many of the first rows they are chosen from; the others need not be in memory."""
LONGEST_ANSWER = 128
"""Tokens of the longest answer; rows with longer ones are not asked."""
TOKENS_PER_PASS = 8192
"""Tokens of the prompts (padding included) that are read at once."""
SEED = 1111
"""Seed of the choice of rows, so that every validation of every run asks the same."""

Calls = dict[str, Any]
"""The arguments of each tool call, by the tool's name."""


@dataclass(frozen=True)
class Question:
    """A prompt whose right answer is a tool call."""

    prompt: list[int]
    answer: list[int]
    calls: Calls


class CallAccuracy:
    """Measures how many tool calls a model gets right on a fixed choice of rows."""

    def __init__(self, questions: list[Question], reader: Reader) -> None:
        self._reader = reader
        self._batches = _batches(questions)
        self._count = len(questions)
        self._failed = False

    @classmethod
    def of(
        cls, rows: Iterable[Row], tokenizer: Any, checkpoint: Path, max_length: int
    ) -> CallAccuracy | None:
        """The measurement on some of these rows; None when no tool call in them can be read."""
        if not tokenizer.chat_template:
            return None
        reader = Reader(tokenizer, stop_ids(checkpoint, tokenizer))
        first = islice(rows, CANDIDATES)
        chosen = [row for row in first if isinstance(row, ChatRow) and row.tools]
        random.Random(SEED).shuffle(chosen)
        questions: list[Question] = []
        for row in chosen:
            question = reader.question(row, max_length)
            if question is not None:
                questions.append(question)
            if len(questions) == ROWS:
                break
        return cls(questions, reader) if questions else None

    def measure(self, model: Any) -> dict[str, float]:
        """Shares of replies, 0 to 1, with the right tool, and with the right arguments too.

        Empty from the first error on; training goes on without it.
        """
        if self._failed:
            return {}
        try:
            return self._measure(model)
        except Exception as error:
            self._failed = True
            logger.debug("tool calls could not be counted", exc_info=True)
            print(f"tool calls are not counted from here on: {type(error).__name__}: {error}")
            return {}

    def _measure(self, model: Any) -> dict[str, float]:
        started, names, calls = time.monotonic(), 0, 0
        with _answering(model) as answering:
            for batch in self._batches:
                for question, reply in zip(batch, self._replies(answering, batch), strict=True):
                    found = self._reader.calls(reply)
                    names += found.keys() == question.calls.keys()
                    calls += found == question.calls
        took = time.monotonic() - started
        print(
            f"tool calls: {names} right tool, {calls} right tool and arguments, "
            f"of {self._count} ({took:.2f} s)"
        )
        return {
            "eval_tool_name_accuracy": names / self._count,
            "eval_tool_call_accuracy": calls / self._count,
        }

    def _replies(self, model: Any, batch: list[Question]) -> list[list[int]]:
        width = max(len(question.prompt) for question in batch)
        ids = torch.full((len(batch), width), self._reader.pad_id)
        mask = torch.zeros_like(ids)
        for row, question in enumerate(batch):
            ids[row, width - len(question.prompt) :] = torch.tensor(question.prompt)
            mask[row, width - len(question.prompt) :] = 1
        output: Tensor = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(
                do_sample=False,
                use_cache=True,
                # The right answer needs no more.
                max_new_tokens=max(len(question.answer) for question in batch),
                eos_token_id=sorted(self._reader.stop_ids),
                pad_token_id=self._reader.pad_id,
            ),
        )
        replies: list[list[int]] = output[:, width:].tolist()
        return replies


class Reader:
    """Reads tool calls from an answer's tokens, in the format of the chat template."""

    def __init__(self, tokenizer: Any, stop: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer, stop)
        self._format: ToolFormat = format_of_template(str(tokenizer.chat_template))
        self.stop_ids = set(stop)
        self.pad_id: int = tokenizer.pad_token_id

    def question(self, row: ChatRow, max_length: int) -> Question | None:
        """A question for a row's first tool call; None if absent, too long or unreadable."""
        for rendered in self._renderer.rendered([row]):
            for span in rendered.spans:
                if not span.whole:
                    continue
                prompt = self._ids(rendered.text[: span.start])
                answer = self._ids(rendered.text[span.start : span.end])
                calls = self.calls(answer)
                fits = len(answer) <= LONGEST_ANSWER and len(prompt) + len(answer) <= max_length
                return Question(prompt, answer, calls) if calls and fits else None
        return None

    def calls(self, ids: list[int]) -> Calls:
        """The tool calls up to the end of the answer; empty when it is text."""
        end = next((i for i, token in enumerate(ids) if token in self.stop_ids), len(ids))
        text = str(self._tokenizer.decode(ids[:end], skip_special_tokens=False))
        calls = self._format.read(text, constrained=False).calls
        return {call.name: json.loads(call.arguments) for call in calls}

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def _batches(questions: list[Question]) -> list[list[Question]]:
    """The questions in batches, by prompt length, as large as TOKENS_PER_PASS allows."""
    batches: list[list[Question]] = [[]]
    for question in sorted(questions, key=lambda question: len(question.prompt)):
        if batches[-1] and (len(batches[-1]) + 1) * len(question.prompt) > TOKENS_PER_PASS:
            batches.append([])
        batches[-1].append(question)
    return batches


@contextmanager
def _answering(model: Any) -> Iterator[Any]:
    """A context with the model as inference has it; afterwards, even after an error, as before.

    Within, there are no dropout and no gradients, layers in the merged form add their adapters up
    once, and attention takes masks and a cache. The state of random numbers is restored.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    training, own = model.training, base.config._attn_implementation
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad(), merged_once(model):
        try:
            model.eval()
            if own in (ROW_BY_ROW, UNMASKED, FLASH):  # they take no masks, or no fp32
                base.set_attn_implementation(SDPA if base._supports_sdpa else EAGER)
            yield base
        finally:
            base.set_attn_implementation(own)
            model.train(training)
