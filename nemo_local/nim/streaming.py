"""Replies as stream chunks, while they are written."""

from collections.abc import AsyncIterator

from nemo_local.nim.answers import (
    Answer,
    Json,
    calls_of,
    chat_logprobs,
    finish_reason,
    text_choice,
    text_logprobs,
)
from nemo_local.nim.tool_calls import ToolCall, may_become_calls, new_call_id


async def chat_chunks(answer: Answer) -> AsyncIterator[Json]:
    """A chat completion, chunk by chunk.

    Text that may still turn out to be tool calls is held back until it is decided; log
    probabilities ride with the last chunk of a choice.
    """
    head, numbers = answer.head, range(len(answer.replies))
    undecided = {i: "" for i in numbers if answer.use.mode != "none"}
    for i in numbers:
        yield head.body([_delta(i, {"role": "assistant", "content": ""})], chunk=True)
    open_choices = len(answer.replies)
    while open_choices:
        index, text = await answer.next()
        if text is None:
            open_choices -= 1
            for choice in _last_choices(answer, index, undecided.get(index, "")):
                yield head.body([choice], chunk=True)
            continue
        if index in undecided:
            undecided[index] += text
            if may_become_calls(undecided[index]):
                continue
            text = undecided.pop(index)
        yield head.body([_delta(index, {"content": text})], chunk=True)
    if answer.include_usage:
        yield {**head.body([], chunk=True), "usage": answer.usage()}


async def completion_chunks(answer: Answer) -> AsyncIterator[Json]:
    """A plain completion, chunk by chunk."""
    head = answer.head
    for i, (reply, echo) in enumerate(zip(answer.replies, answer.echoes, strict=True)):
        if echo:
            yield head.body([text_choice(i, reply, echo, None, finished=False)])
    open_choices = len(answer.replies)
    while open_choices:
        index, text = await answer.next()
        reply = answer.replies[index]
        if text is None:
            open_choices -= 1
            logprobs = text_logprobs(reply, answer.checkpoint, len(answer.echoes[index]))
            yield head.body([text_choice(index, reply, "", logprobs, finished=True)])
        else:
            yield head.body([text_choice(index, reply, text, None, finished=False)])
    if answer.include_usage:
        yield {**head.body([]), "usage": answer.usage()}


def _last_choices(answer: Answer, index: int, undecided: str) -> list[Json]:
    """What a finished choice still has to say: its calls or held-back text, and why it ended."""
    reply = answer.replies[index]
    calls = calls_of(reply, answer.use)
    deltas = _call_deltas(calls)
    if undecided and not calls:
        deltas = [{"content": undecided}]
    last = _delta(index, {})
    last["logprobs"] = chat_logprobs(reply, answer.checkpoint)
    last["finish_reason"] = finish_reason(reply, calls, answer.use)
    last["stop_reason"] = reply.stop_reason
    return [*(_delta(index, delta) for delta in deltas), last]


def _call_deltas(calls: list[ToolCall]) -> list[Json]:
    """Two deltas for each call: its name, then its arguments."""
    deltas: list[Json] = []
    for number, call in enumerate(calls):
        function = {"name": call.name, "arguments": ""}
        head = {"index": number, "id": new_call_id(), "type": "function", "function": function}
        rest = {"index": number, "function": {"arguments": call.arguments}}
        deltas += [{"tool_calls": [head]}, {"tool_calls": [rest]}]
    return deltas


def _delta(index: int, delta: Json) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
