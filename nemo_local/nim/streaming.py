"""Replies as stream chunks, while they are written."""

from collections.abc import AsyncIterator

from nemo_local.nim.answers import (
    Answer,
    Json,
    chat_logprobs,
    finish_reason,
    reading_of,
    text_choice,
    text_logprobs,
)


async def chat_chunks(answer: Answer) -> AsyncIterator[Json]:
    """A chat completion, chunk by chunk; log probabilities ride with a choice's last chunk."""
    head = answer.head
    for i in range(len(answer.replies)):
        yield head.body([_delta(i, {"role": "assistant", "content": ""})], chunk=True)
    open_choices = len(answer.replies)
    while open_choices:
        index, deltas = await answer.next()
        if deltas is None:
            open_choices -= 1
            choices = _last_choices(answer, index)
        else:
            choices = [_delta(index, delta) for delta in deltas]
        for choice in choices:
            yield head.body([choice], chunk=True)
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
        index, deltas = await answer.next()
        reply = answer.replies[index]
        if deltas is None:
            open_choices -= 1
            logprobs = text_logprobs(reply, answer.checkpoint, len(answer.echoes[index]))
            yield head.body([text_choice(index, reply, "", logprobs, finished=True)])
        for delta in deltas or []:
            yield head.body([text_choice(index, reply, delta["content"], None, finished=False)])
    if answer.include_usage:
        yield {**head.body([]), "usage": answer.usage()}


def _last_choices(answer: Answer, index: int) -> list[Json]:
    """What a finished choice still has to say: its calls or held-back text, and why it ended."""
    reply, reading = answer.replies[index], reading_of(answer, index)
    last = _delta(index, {})
    last["logprobs"] = chat_logprobs(reply, answer.checkpoint)
    last["finish_reason"] = finish_reason(reply, reading, answer.use)
    last["stop_reason"] = reply.stop_reason
    return [*(_delta(index, delta) for delta in answer.streams[index].finish(reading)), last]


def _delta(index: int, delta: Json) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
