"""Finished replies in the shapes of the OpenAI API, whole and as stream chunks."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from nemo_local.core.tool_formats import Reading
from nemo_local.nim.call_stream import ReplyStream, read_constrained
from nemo_local.nim.checkpoint import Checkpoint
from nemo_local.nim.generation import Generation
from nemo_local.nim.logprobs import Logprobs
from nemo_local.nim.tool_calls import ToolUse

Json = dict[str, Any]


@dataclass
class Answer:
    """The replies in writing for one request, and what is needed to shape the answer."""

    object: str
    """`chat.completion` or `text_completion`."""
    prefix: str
    """`chatcmpl` or `cmpl`, before its id."""
    model: str
    """The id the client asked for."""
    checkpoint: Checkpoint
    prompts: list[list[int]]
    use: ToolUse
    echoes: list[str]
    """Per choice, text to repeat before it; empty but for `echo`."""
    include_usage: bool
    """Whether a stream ends with a chunk of usage."""
    replies: list[Generation] = field(default_factory=list)
    """The `n` choices of each prompt, one prompt after the other."""
    streams: list[ReplyStream] = field(default_factory=list)
    """Per choice, what its text becomes; the engine's thread pushes until it is finished."""
    events: "asyncio.Queue[tuple[int, list[Json] | None, int]]" = field(
        default_factory=asyncio.Queue
    )
    """(choice, new deltas, tokens that it has by then); deltas are None when it is finished."""
    created: int = field(default_factory=lambda: int(time.time()))
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def body(self, choices: list[Json], chunk: bool = False) -> Json:
        """The answer, or one chunk of a chat, around these choices."""
        return {
            "id": f"{self.prefix}-{self.key}",
            "object": f"{self.object}.chunk" if chunk else self.object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def cancel(self) -> None:
        """Stop writing; whoever asked is gone."""
        for reply in self.replies:
            reply.cancelled = True

    @property
    def waits(self) -> bool:
        """Whether there is nothing to say until more is written."""
        return self.events.empty() and not all(reply.closed for reply in self.replies)

    async def next(self) -> tuple[int, list[Json] | None, int]:
        """The next event. Raises the error of a choice that failed."""
        index, deltas, written = await self.events.get()
        error = self.replies[index].error
        if deltas is None and error is not None:
            raise error
        return index, deltas, written

    def logprobs(self) -> list[Logprobs]:
        """The log probabilities of each choice, none given out yet."""
        return [Logprobs(reply, self.checkpoint) for reply in self.replies]

    async def finish(self) -> None:
        """Wait for every choice. Raises the error of the first that failed."""
        open_choices = len(self.replies)
        while open_choices:
            _, deltas, _ = await self.next()
            open_choices -= deltas is None

    def usage(self) -> Json:
        """Tokens read and written; a prompt answered several times counts once."""
        read = sum(len(prompt) for prompt in self.prompts)
        written = sum(len(reply.tokens) for reply in self.replies)
        return {
            "prompt_tokens": read,
            "total_tokens": read + written,
            "completion_tokens": written,
        }


async def chat_body(answer: Answer) -> Json:
    """The whole chat completion, once it is written."""
    await answer.finish()
    choices = [chat_choice(answer, i) for i in range(len(answer.replies))]
    return {**answer.body(choices), "usage": answer.usage(), "prompt_logprobs": None}


async def completion_body(answer: Answer) -> Json:
    """The whole plain completion, once it is written."""
    await answer.finish()
    choices = []
    for i, (reply, echo) in enumerate(zip(answer.replies, answer.echoes, strict=True)):
        logprobs = Logprobs(reply, answer.checkpoint).of_text()
        choices.append(text_choice(i, reply, echo + reply.text, logprobs, finished=True))
    return {**answer.body(choices), "usage": answer.usage()}


async def chat_chunks(answer: Answer) -> AsyncIterator[Json]:
    """A chat completion, chunk by chunk; log probabilities come with what their tokens became."""
    logprobs = answer.logprobs()
    for i in range(len(answer.replies)):
        yield answer.body([_delta(i, {"role": "assistant", "content": ""})], chunk=True)
    open_choices = len(answer.replies)
    while open_choices:
        index, deltas, written = await answer.next()
        if deltas is None:
            open_choices -= 1
            choices = _last_choices(answer, index)
        else:
            choices = [_delta(index, delta) for delta in deltas]
        choices[0]["logprobs"] = logprobs[index].of_chat(written)
        for choice in choices:
            yield answer.body([choice], chunk=True)
    if answer.include_usage:
        yield {**answer.body([], chunk=True), "usage": answer.usage()}


async def completion_chunks(answer: Answer) -> AsyncIterator[Json]:
    """A plain completion, chunk by chunk."""
    logprobs = answer.logprobs()
    for i, (reply, echo) in enumerate(zip(answer.replies, answer.echoes, strict=True)):
        if echo:
            yield answer.body([text_choice(i, reply, echo, None, finished=False)])
    open_choices = len(answer.replies)
    while open_choices:
        index, deltas, written = await answer.next()
        finished = deltas is None
        open_choices -= finished
        for delta in deltas or [{"content": ""}]:
            new, reply = logprobs[index].of_text(written), answer.replies[index]
            yield answer.body([text_choice(index, reply, delta["content"], new, finished)])
    if answer.include_usage:
        yield {**answer.body([]), "usage": answer.usage()}


def reading_of(answer: Answer, index: int) -> Reading:
    """A finished choice as text and tool calls."""
    use, reply = answer.use, answer.replies[index]
    text = reply.text
    if use.mode == "none":
        return Reading(text, [])
    format_ = answer.checkpoint.tool_format
    if use.mode == "auto":
        reading = format_.read(text, constrained=False)
    else:
        cut = reply.finish_reason == "length" or reply.stream.stopped_by is not None
        reading = read_constrained(text, format_, cut)
    return reading if use.parallel else replace(reading, calls=reading.calls[:1])


def finish_reason(reply: Generation, reading: Reading, use: ToolUse) -> str | None:
    """Why the reply ended. Like vLLM, a named call ends with `stop`, others with `tool_calls`."""
    if not reading.calls or reading.cut:
        return reply.finish_reason
    return "stop" if use.mode == "named" else "tool_calls"


def chat_choice(answer: Answer, index: int) -> Json:
    """One choice of a chat completion."""
    reply, reading = answer.replies[index], reading_of(answer, index)
    message: Json = {"role": "assistant", "content": reading.content}
    if reading.calls:
        message["tool_calls"] = [
            {
                "id": answer.checkpoint.tool_format.new_call_id(),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in reading.calls
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": Logprobs(reply, answer.checkpoint).of_chat(),
        "finish_reason": finish_reason(reply, reading, answer.use),
        "stop_reason": reply.stop_reason,
    }


def text_choice(
    index: int, reply: Generation, text: str, logprobs: Json | None, finished: bool
) -> Json:
    """One choice of a plain completion, or of a chunk of one."""
    return {
        "index": index,
        "text": text,
        "logprobs": logprobs,
        "finish_reason": reply.finish_reason if finished else None,
        "stop_reason": reply.stop_reason if finished else None,
        "prompt_logprobs": None,
    }


def _last_choices(answer: Answer, index: int) -> list[Json]:
    """What a finished choice still has to say: its calls or held-back text, and why it ended."""
    reply, reading = answer.replies[index], reading_of(answer, index)
    last = _delta(index, {})
    last["finish_reason"] = finish_reason(reply, reading, answer.use)
    last["stop_reason"] = reply.stop_reason
    return [*(_delta(index, delta) for delta in answer.streams[index].finish(reading)), last]


def _delta(index: int, delta: Json) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
