"""Streams, and clients that leave."""

import json
from typing import Any

import pytest

from nemo_local.core.client import Client
from nemo_local.settings import Settings
from tests.leaving import ask
from tests.running_nim import CHAT, HELLO, MODEL, eventually, metrics


def test_streamed_text_equals_the_whole_reply(openai: Any) -> None:
    options: dict[str, Any] = {
        "model": MODEL, "messages": HELLO, "max_tokens": 20, "temperature": 0,
    }  # fmt: skip
    whole = openai.chat.completions.create(**options)
    chunks = list(
        openai.chat.completions.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    assert len({(c.id, c.created) for c in chunks}) == 1


def test_the_end_of_a_stream_is_sent_in_one_piece(settings: Settings, nim: Client) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 300, "ignore_eos": True}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    chunks = []
    with ask(settings.nim_url + CHAT, body) as connection, connection.makefile("rb") as answer:
        while answer.readline() != b"\r\n":
            pass  # a header
        while size := int(answer.readline(), 16):
            chunks.append(answer.read(size).decode())
            answer.readline()
    *_, last, usage, end, _ = chunks[-1].split("\n\n")
    assert '"finish_reason": "length"' in last and '"usage"' in usage and end == "data: [DONE]"
    # However far behind the server is, it sends some of 300 tokens before the last.
    assert len(chunks) > 2 and '"role": "assistant"' in chunks[0]


def test_a_stream_that_crashes_ends_with_an_error_and_done(
    nim: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr("nemo_local.nim.answers._last_choices", broken)
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 3, "stream": True}
    *_, error, end, _ = nim.raw("POST", CHAT, json=body).text.split("\n\n")
    assert "the reply failed: RecursionError" in json.loads(error[6:])["error"]["message"]
    assert end == "data: [DONE]"


def test_a_client_that_leaves_before_its_stream_begins_stops_the_writing(
    settings: Settings, nim: Client
) -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(48):  # compiling takes a while, in which the client leaves
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    body = {"model": MODEL, "messages": HELLO, "stream": True, "n": 32, "guided_json": schema}
    aborted = _aborted(nim)
    ask(settings.nim_url + CHAT, body).close()
    eventually(lambda: _aborted(nim) >= aborted + 32, "nothing is written for it")


def test_a_client_that_hangs_up_stops_the_writing(settings: Settings, nim: Client) -> None:
    for stream in (False, True):
        body = {"model": MODEL, "messages": HELLO, "ignore_eos": True, "stream": stream, "n": 16}
        aborted = _aborted(nim)
        with ask(settings.nim_url + CHAT, body):
            eventually(lambda: "num_requests_running 16" in metrics(nim), "writing began")
        eventually(lambda count=aborted: _aborted(nim) > count, "writing was given up")
        eventually(lambda: "num_requests_running 0" in metrics(nim), "nothing is written")


def _aborted(nim: Client) -> int:
    lines = [x for x in metrics(nim).splitlines() if 'finished_reason="abort"' in x]
    return int(lines[0].split()[-1]) if lines else 0


def test_a_stream_whose_form_can_be_read_in_ever_more_ways_ends_with_a_400(nim: Client) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 400, "guided_regex": "((.*)*)*x"}
    *_, error, end, _ = nim.raw("POST", CHAT, json={**body, "stream": True}).text.split("\n\n")
    told = json.loads(error[6:])["error"]
    assert told["code"] == 400 and "read in so many ways" in told["message"]
    assert end == "data: [DONE]"
