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
from nemo_local.nim.call_stream import ReplyStream


async def chat_chunks(answer: Answer) -> AsyncIterator[Json]:
    """A chat completion, chunk by chunk; log probabilities ride with a choice's last chunk."""
    head, numbers = answer.head, range(len(answer.replies))
    streams = [ReplyStream(answer.checkpoint.tool_format, answer.use) for _ in numbers]
    for i in numbers:
        yield head.body([_delta(i, {"role": "assistant", "content": ""})], chunk=True)
    open_choices = len(answer.replies)
    while open_choices:
        index, text = await answer.next()
        if text is not None:
            choices = [_delta(index, delta) for delta in streams[index].push(text)]
        else:
            open_choices -= 1
            choices = _last_choices(answer, index, streams[index])
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


def _last_choices(answer: Answer, index: int, stream: ReplyStream) -> list[Json]:
    """What a finished choice still has to say: its calls or held-back text, and why it ended."""
    reply, reading = answer.replies[index], reading_of(answer, index)
    last = _delta(index, {})
    last["logprobs"] = chat_logprobs(reply, answer.checkpoint)
    last["finish_reason"] = finish_reason(reply, reading, answer.use)
    last["stop_reason"] = reply.stop_reason
    return [*(_delta(index, delta) for delta in stream.finish(reading)), last]


def _delta(index: int, delta: Json) -> Json:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
