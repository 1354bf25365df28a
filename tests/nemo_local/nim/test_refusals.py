"""What NIM refuses, by name and at once."""

import json
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError

from nemo_local.core.client import Client, UpstreamError
from tests.nemo_local.nim.test_constraints import nested
from tests.running_nim import ADD, CHAT, HELLO, MODEL, TIME


def refused(nim: Client, path: str = CHAT, **body: Any) -> tuple[int, dict]:
    """Status and body of a refusal."""
    with pytest.raises(UpstreamError) as caught:
        nim.post(path, json={"model": MODEL, "messages": HELLO, "max_tokens": 4, **body})
    return caught.value.status, caught.value.response_body


def test_an_unknown_model_is_404_with_near_names(openai: Any) -> None:
    with pytest.raises(NotFoundError, match="meta/llama-3.2-1b-instruct") as caught:
        openai.chat.completions.create(model="meta/llama-3.2-1b", messages=HELLO)
    assert caught.value.body["type"] == "NotFoundError"  # type: ignore[index]
    with pytest.raises(NotFoundError):
        openai.models.retrieve("nobody/knows@this")


def test_a_prompt_over_the_context_is_400(openai: Any) -> None:
    long = [{"role": "user", "content": "number " * 600}]
    with pytest.raises(BadRequestError, match="maximum context length is 512 tokens"):
        openai.chat.completions.create(model=MODEL, messages=long)


@pytest.mark.parametrize("prompt", ["number " * 600, [5] * 600, "a" * 10**7], ids=lambda p: p[:3])
def test_a_prompt_over_the_context_names_the_field_it_came_in(nim: Client, prompt: Any) -> None:
    assert refused(nim, "/v1/completions", prompt=prompt)[1]["param"] == "prompt"
    if isinstance(prompt, str):
        assert (
            refused(nim, messages=[{"role": "user", "content": prompt}])[1]["param"] == "messages"
        )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"temperature": -1}, "temperature", id="temperature"),
        pytest.param({"top_p": 0}, "top_p", id="top_p"),
        pytest.param({"n": 0}, "n must be", id="n"),
        pytest.param({"max_tokens": 0}, "max_tokens", id="max_tokens"),
        pytest.param({"max_completion_tokens": 0}, "max_completion_tokens", id="newer name"),
        pytest.param({"stop": [""]}, "stop", id="empty stop"),
        pytest.param({"top_logprobs": 3}, "top_logprobs", id="alternatives without logprobs"),
        pytest.param({"logprobs": True, "top_logprobs": 21}, "top_logprobs", id="too many"),
        pytest.param({"tool_choice": "auto"}, "needs tools", id="choice without tools"),
        pytest.param({"messages": []}, "messages must hold at least one", id="no message"),
        pytest.param({"guided_regex": "["}, "regex", id="bad expression"),
        pytest.param({"guided_regex": "a", "guided_choice": ["b"]}, "one form", id="two guides"),
        pytest.param(
            {"tools": [ADD], "tool_choice": "required", "guided_regex": "a"}, "one form", id="both"
        ),
        pytest.param({"response_format": {"type": "json_schema"}}, "schema", id="no schema"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "image_url",
            id="image",
        ),
        pytest.param({"nvext": {"repetition_penalty": 0}}, "nvext.repetition_penalty", id="nvext"),
        pytest.param({"nvext": {"top_k": -7}}, "nvext.top_k", id="top_k in nvext"),
        pytest.param({"stop": list("abcde")}, "stop must hold at most 4", id="five stops"),
        pytest.param({"min_tokens": 9, "max_tokens": 4}, "min_tokens (9)", id="min over max"),
        pytest.param(
            {"tools": [TIME], "tool_choice": {"type": "function", "function": "time"}},
            "tool_choice names None",
            id="a choice without an object",
        ),
        pytest.param(
            {"tools": [TIME], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
            "'allowed_tools': {}} is not none, auto, required or a named function",
            id="a choice of a type that NIM lacks",
        ),
        pytest.param({"tools": [{"function": {"name": ""}}]}, "tools[0]", id="a nameless tool"),
        pytest.param({"stop": "a" * 2000}, "at most 1000 characters", id="a long stop"),
        pytest.param({"n": 2 * 10**9}, "n must be between 1 and 32", id="two billion replies"),
        pytest.param(
            {"guided_choice": ["x" * k for k in range(1, 600)]}, "more than 131072",
            id="choices that take a minute to compile",
        ),
        pytest.param({"guided_json": nested(200)}, "nested deeper", id="a deep schema"),
        pytest.param(
            {"guided_json": json.dumps(nested(200))}, "nested deeper", id="a deep schema as text"
        ),
        pytest.param(
            {"tools": [{"function": {"name": "f", "parameters": nested(450)}}],
             "tool_choice": "required"},
            "nested deeper", id="deep parameters",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": "a" * 10_000_000}]},
            "at least", id="10 MB of text",
        ),
        pytest.param(
            {"guided_grammar": 'root ::= root "a"', "temperature": 1.0},
            "allows no further token", id="a grammar that ends nowhere",
        ),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_400_by_name(nim: Client, body: dict, message: str) -> None:
    status, answer = refused(nim, **body)
    assert (status, answer["code"], answer["type"]) == (400, 400, "BadRequestError")
    assert message in answer["message"] and answer["object"] == "error"


@pytest.mark.parametrize("logprobs", [0, 2])
def test_an_echo_with_log_probabilities_is_400_as_those_of_the_prompt_are_missing(
    nim: Client, logprobs: int
) -> None:
    body = {"prompt": "Hello", "echo": True, "logprobs": logprobs}
    status, answer = refused(nim, "/v1/completions", **body)
    assert (status, answer["param"]) == (400, "echo")
    assert "echo cannot go with logprobs" in answer["message"]


def test_a_mistyped_field_is_422_with_its_path(nim: Client) -> None:
    status, answer = refused(nim, messages="Hello")
    assert status == 422 and answer["detail"][0]["loc"] == ["body", "messages"]


def test_abilities_without_a_model_are_404(nim: Client) -> None:
    for path in ("/v1/embeddings", "/v1/classify"):
        assert refused(nim, path, model="nvidia/some-embedder", input="a")[0] == 404
        status, answer = refused(nim, path, input="a")
        assert status == 404 and "does not support" in answer["message"]


@pytest.mark.parametrize("text", [r'"\ud800"', "NaN"], ids=["half a character", "NaN"])
def test_json_that_no_answer_could_repeat_is_422(nim: Client, text: str) -> None:
    for path in (CHAT, "/v1/completions", "/v1/embeddings"):
        with pytest.raises(UpstreamError) as caught:
            body = f'{{"model": {text}, "messages": [], "prompt": "a", "input": "a"}}'.encode()
            nim.raw("POST", path, content=body, headers={"Content-Type": "application/json"})
        assert caught.value.status == 422


def test_more_replies_than_the_queue_holds_are_refused_before_any_is_made(
    nim: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*_: Any, **__: Any) -> None:
        raise AssertionError("a reply was made")

    monkeypatch.setattr("nemo_local.nim.service.Generation", made)
    with pytest.raises(UpstreamError) as error:
        nim.post("/v1/completions", json={"model": MODEL, "prompt": [[5]] * 20000, "n": 32})
    assert error.value.status == 400 and "256 replies at most, not 640000" in str(error.value)
