"""NIM as clients see it: the openai client and bare HTTP against a running server."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from transformers import AutoTokenizer
from xgrammar import CompiledGrammar, GrammarCompiler

from nemo_local.core.client import Client, UpstreamError
from nemo_local.settings import Settings
from tests.conftest import free_port
from tests.running_nim import (
    CHAT,
    HELLO,
    MODEL,
    OTHER,
    answers,
    eventually,
    make_models_dir,
    metrics,
    running_nim,
)
from tests.scripted_model import serving
from tests.tiny_checkpoint import make_checkpoint


def test_models_are_listed_with_who_answers(nim: Client, openai: Any) -> None:
    listed = {model.id: model for model in openai.models.list()}
    assert {MODEL, OTHER} <= set(listed)
    model = nim.get(f"/v1/models/{MODEL}")
    assert (model["root"], model["parent"], model["max_model_len"]) == (MODEL, None, 512)
    assert (model["answered_by"], model["stand_in"]) == (MODEL, False)
    assert model["permission"][0]["object"] == "model_permission"
    assert openai.models.retrieve(OTHER).owned_by == "system"


def test_health_version_metadata_and_metrics(nim: Client) -> None:
    assert nim.get("/v1/health/live")["message"] == "Service is live."
    assert nim.get("/v1/health/ready/")["object"] == "health.response"
    assert nim.get("/v1/version")["api"] == "1.0"
    assert MODEL in nim.get("/v1/metadata")["assetInfo"]
    nim.post("/v1/completions", json={"model": MODEL, "prompt": "a", "max_tokens": 2})
    ended = 'request_success_total{finished_reason="length"}'
    eventually(lambda: ended in metrics(nim), "the reply is counted")
    eventually(lambda: "gpu_cache_usage_perc 0.0" in metrics(nim), "the cache is empty")
    assert "num_requests_running 0" in metrics(nim)
    assert "generation_tokens_total" in nim.raw("GET", "/metrics").text


def test_a_chat_reply_has_the_contracts_shape(nim: Client) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 5, "temperature": 0, "vision": {}}
    reply = nim.post(CHAT, json=body)
    assert reply["id"].startswith("chatcmpl-") and reply["object"] == "chat.completion"
    choice = reply["choices"][0]
    assert choice["message"].keys() == {"role", "content"} and choice["logprobs"] is None
    assert choice["finish_reason"] == "length" and choice["stop_reason"] is None
    used = reply["usage"]
    assert used["completion_tokens"] == 5
    assert used["total_tokens"] == used["prompt_tokens"] + 5
    again = nim.post(CHAT, json={**body, "tools": [], "tool_choice": None})
    assert again["choices"][0]["message"] == choice["message"]


def test_a_seed_repeats_its_choices_and_each_token_tells_its_likelihood(openai: Any) -> None:
    def ask(seed: int) -> Any:
        return openai.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=8, n=3, seed=seed, logprobs=True,
            top_logprobs=2,
        )  # fmt: skip

    first, again, other = ask(1), ask(1), ask(9)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert texts != [choice.message.content for choice in other.choices]
    assert len(set(texts)) > 1 and [choice.index for choice in first.choices] == [0, 1, 2]
    assert first.usage.completion_tokens == sum(len(c.logprobs.content) for c in first.choices)
    token = first.choices[0].logprobs.content[0]
    assert token.logprob < 0 and len(token.top_logprobs) == 2
    assert bytes(token.bytes).decode(errors="replace") == token.token


def test_bytes_of_tokens_join_to_the_reply_and_offsets_count_its_characters(openai: Any) -> None:
    text = "日本🎉é"
    options = {"model": MODEL, "max_tokens": 40, "extra_body": {"guided_choice": [text]}}
    chat = openai.chat.completions.create(messages=HELLO, logprobs=True, **options).choices[0]
    *tokens, _ = chat.logprobs.content  # the last is the end of the turn
    assert chat.message.content == b"".join(bytes(t.bytes) for t in tokens).decode() == text
    plain = openai.completions.create(prompt="Hello", logprobs=0, **options).choices[0]
    sizes = [3, 3, 4, 2]  # bytes, of which each is a token
    starts = [place for place, size in enumerate(sizes) for _ in range(size)]
    assert plain.logprobs.text_offset == [*starts, 4] and plain.text == text


def test_of_alternatives_that_read_alike_the_likeliest_is_told_and_the_chosen_one_always(
    openai: Any,
) -> None:
    def ask(alternatives: int) -> Any:
        return openai.completions.create(
            model=MODEL, prompt="Hello", logprobs=alternatives, temperature=1.6, seed=3,
            max_tokens=40,
        ).choices[0].logprobs  # fmt: skip

    most, one = ask(20), ask(1)
    for told, token, logprob in zip(one.top_logprobs, one.tokens, one.token_logprobs, strict=True):
        assert len(told) <= 2 and token in told
        if len(told) == 2:
            assert told[token] == logprob < max(told.values())
    for told in most.top_logprobs:
        values = list(told.values())[:-1]  # the last may be the chosen one
        assert values == sorted(values, reverse=True)


def test_an_echo_is_the_prompt_to_the_letter(openai: Any) -> None:
    prompt = "a <|eot_id|> b"
    reply = openai.completions.create(model=MODEL, prompt=prompt, echo=True, max_tokens=1)
    assert reply.choices[0].text.startswith(prompt)


@pytest.mark.parametrize(
    ("form", "check"),
    [
        pytest.param({"guided_choice": ["yes", "no"]}, {"yes", "no"}, id="top level"),
        pytest.param({"nvext": {"guided_regex": "[ab]"}}, {"a", "b"}, id="nvext"),
        pytest.param(
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "s", "schema": {"enum": [1, 2]}},
                }
            },
            {"1", "2"},
            id="response format",
        ),
    ],
)
def test_a_guided_reply_has_the_form_wherever_the_guide_stands(
    openai: Any, form: dict, check: set
) -> None:
    reply = openai.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=40, extra_body=form
    )
    assert reply.choices[0].message.content in check


def test_a_form_too_large_to_be_remembered_is_compiled_once_for_all_choices(
    nim: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    compile_regex = GrammarCompiler.compile_regex

    def count(compiler: GrammarCompiler, regex: str) -> CompiledGrammar:
        compiled.append(regex)
        return compile_regex(compiler, regex)

    monkeypatch.setattr(GrammarCompiler, "compile_regex", count)
    monkeypatch.setattr("nemo_local.nim.grammars.constraints.REMEMBERED_BYTES", 0)
    body = {"model": MODEL, "messages": HELLO, "n": 4, "guided_regex": "[ab]{7}"}
    texts = [one["message"]["content"] for one in nim.post(CHAT, json=body)["choices"]]
    assert all(re.fullmatch("[ab]{7}", text) for text in texts) and len(compiled) == 1


def test_a_text_completion_takes_several_prompts_or_ids_and_streams_the_same_text(
    openai: Any,
) -> None:
    reply = openai.completions.create(
        model=MODEL, prompt=["What time", "Please add"], n=2, echo=True, seed=1
    )
    assert len(reply.choices) == 4 and reply.object == "text_completion"
    assert reply.choices[3].text.startswith("Please add")
    reply = openai.completions.create(model=MODEL, prompt="What time", logprobs=1, seed=1)
    logprobs = reply.choices[0].logprobs
    assert len(logprobs.tokens) == 16 and logprobs.text_offset[:2] == [0, len(logprobs.tokens[0])]
    as_ids = openai.completions.create(model=MODEL, prompt=[7, 8, 9], max_tokens=3)
    assert as_ids.usage.prompt_tokens == 3
    pieces = openai.completions.create(
        model=MODEL, prompt="What time", max_tokens=6, temperature=0, stream=True
    )
    whole = openai.completions.create(model=MODEL, prompt="What time", max_tokens=6, temperature=0)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text


def test_fields_that_nothing_here_follows_change_no_reply(openai: Any) -> None:
    options: dict[str, Any] = {"model": MODEL, "max_tokens": 5, "temperature": 0}
    ignored: dict[str, Any] = {"user": "ann", "logit_bias": {"5": -100}}
    chats = [
        openai.chat.completions.create(messages=HELLO, **options, **more).choices[0].message
        for more in ({}, {**ignored, "extra_body": {"chat_template_kwargs": {"thinking": True}}})
    ]
    texts = [
        openai.completions.create(prompt="Hello", **options, **more).choices[0].text
        for more in ({}, {**ignored, "best_of": 3, "suffix": "end"})
    ]
    assert chats[0] == chats[1] and texts[0] == texts[1]


def test_max_tokens_beyond_the_context_are_cut(openai: Any) -> None:
    reply = openai.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=5000, extra_body={"ignore_eos": True}
    )
    assert reply.usage.total_tokens == 512 and reply.choices[0].finish_reason == "length"


def test_many_clients_at_once_each_get_their_own_reply(openai: Any) -> None:
    prompts = [f"Please add the two numbers {i} and {i * i}." for i in range(24)]

    def ask(prompt: str) -> str:
        messages: Any = [{"role": "user", "content": prompt}]
        reply = openai.chat.completions.create(
            model=MODEL, messages=messages, max_tokens=15, temperature=0
        )
        return reply.choices[0].message.content or ""

    alone = [ask(prompt) for prompt in prompts]
    together: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda i=i, p=p: together.update({i: ask(p)}))
        for i, p in enumerate(prompts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(24)] == alone and len(set(alone)) > 12


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_request_ends_at_its_time_limit(tmp_path: Path, settings: Settings, stream: bool) -> None:
    hasty = replace(
        settings, home=tmp_path, port=free_port(), nim_port=free_port(), request_timeout_s=1e-3
    )
    with running_nim(hasty) as client:
        body = {"model": MODEL, "messages": HELLO, "stream": stream}
        if stream:
            text = client.raw("POST", CHAT, json=body).text
            assert '"code": 504' in text and "within 0.001 s" in text
            assert text.endswith("data: [DONE]\n\n")
            return
        with pytest.raises(UpstreamError) as caught:
            client.post(CHAT, json=body)
    assert caught.value.status == 504
    message = caught.value.response_body["message"]
    assert "within 0.001 s" in message and "NEMO_LOCAL_REQUEST_TIMEOUT" in message


def test_a_chat_while_models_are_still_loaded_is_503_and_not_404(
    tmp_path: Path, settings: Settings
) -> None:
    asked, go_on = threading.Event(), threading.Event()
    platform = FastAPI()

    @platform.get("/v1/deployment/model-deployments")
    def not_yet() -> None:
        asked.set()
        go_on.wait(60)
        raise HTTPException(503)

    own = replace(settings, home=tmp_path, port=free_port(), nim_port=free_port())
    refusals: list[UpstreamError] = []

    def early() -> None:
        assert asked.wait(60)
        nim = Client(own.nim_url)
        eventually(lambda: answers(nim, "/v1/health/live"), "inference listens")
        body = {"model": MODEL, "messages": HELLO, "prompt": "a"}
        for method, path in (
            ("GET", "/v1/health/ready"),
            ("POST", CHAT),
            ("POST", "/v1/completions"),
        ):
            try:
                nim.raw(method, path, json=body)
            except UpstreamError as refusal:
                refusals.append(refusal)
        nim.close()
        go_on.set()

    thread = threading.Thread(target=early)
    thread.start()
    with serving(platform, own.port), running_nim(own) as nim:
        thread.join()
        assert nim.post(CHAT, json={"model": MODEL, "messages": HELLO, "max_tokens": 1})
        with pytest.raises(UpstreamError) as unknown:
            nim.post(CHAT, json={"model": "acme/nobody", "messages": HELLO})
    assert [one.status for one in refusals] == [503] * 3 and unknown.value.status == 404
    assert all("loading its models" in str(one) for one in refusals)
    assert all(one.headers["retry-after"] for one in refusals)


def test_models_take_turns_in_memory_that_holds_one_of_them(
    tmp_path: Path, settings: Settings
) -> None:
    small = replace(
        settings, home=tmp_path, port=free_port(), nim_port=free_port(), nim_memory_mb=0.2
    )
    with running_nim(small) as client:
        body = {"messages": HELLO, "max_tokens": 5, "temperature": 0}
        texts = [
            client.post(CHAT, json={"model": model, **body})["choices"][0]
            for model in (MODEL, OTHER, MODEL)
        ]
        assert {MODEL, OTHER} <= {m["id"] for m in client.get("/v1/models")["data"]}
    assert texts[0] == texts[2] != texts[1]


def test_a_token_is_demanded_when_one_is_set(tmp_path: Path, settings: Settings) -> None:
    guarded = Settings.from_environment(
        {},
        home=tmp_path,
        port=free_port(),
        nim_port=free_port(),
        models_dir=settings.models_dir,
        token="secret",
    )
    with running_nim(guarded) as client:
        assert client.get("/v1/models")["data"]
        stranger = Client(guarded.nim_url)
        with pytest.raises(UpstreamError) as caught:
            stranger.get("/v1/models")
        stranger.close()
    assert caught.value.status == 401


@pytest.mark.parametrize("broken", ["cut off", "a Git LFS pointer", "empty"])
def test_a_base_model_that_cannot_be_read_keeps_no_other_from_being_served(
    settings: Settings, tmp_path: Path, broken: str
) -> None:
    models = make_models_dir(tmp_path / "models")
    (weights,) = (models / OTHER).glob("*.safetensors")
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    kept = {"cut off": weights.read_bytes()[:-100], "a Git LFS pointer": pointer, "empty": b""}
    weights.write_bytes(kept[broken])
    own = replace(
        settings, models_dir=models, home=tmp_path / "home", nim_port=free_port(), port=free_port()
    )
    with running_nim(own) as nim:
        served = {model["id"] for model in nim.get("/v1/models")["data"]}
        assert MODEL in served and OTHER not in served
        with pytest.raises(
            UpstreamError, match="cannot be served: the weights in .* be read"
        ) as no:
            nim.post(CHAT, json={"model": OTHER, "messages": HELLO})
        assert no.value.status == 404


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"config.json": {"model_type": "their_own"}}, "their_own"),
        (
            {
                "generation_config.json": {"eos_token_id": 9999},
                "tokenizer_config.json": {"eos_token": None},
            },
            r"no token ends its replies.* name \[9999, None\], .* from 0 to 3",
        ),
    ],
    ids=["a type of its own", "no end token"],
)
def test_a_model_that_could_not_be_loaded_is_404_with_the_reason(
    settings: Settings, tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    folder = make_checkpoint(tmp_path / "models" / OTHER)
    for name, values in changed.items():
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(config | values))
    own = replace(
        settings, models_dir=tmp_path / "models", home=tmp_path / "home", nim_port=free_port(),
        port=free_port(),
    )  # fmt: skip
    with running_nim(own) as nim:
        with pytest.raises(UpstreamError, match=f"cannot be served: .*{why}") as no:
            nim.post(CHAT, json={"model": OTHER, "messages": HELLO})
        assert no.value.status == 404


def test_an_end_of_turn_that_the_model_lacks_breaks_no_reply_that_may_not_end_yet(
    settings: Settings, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "models" / OTHER)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<x{i}>" for i in range(6)]})
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    tokenizer.save_pretrained(folder)
    own = replace(
        settings, models_dir=tmp_path / "models", home=tmp_path / "home", nim_port=free_port(),
        port=free_port(),
    )  # fmt: skip
    body = {"model": OTHER, "prompt": "hi", "max_tokens": 20, "min_tokens": 20}
    with running_nim(own) as nim:
        for form in ({}, {"guided_regex": "[a-z]{20,}"}):
            assert nim.post("/v1/completions", json=body | form)["usage"]["completion_tokens"] == 20


def test_a_token_of_the_tokenizer_that_the_model_lacks_is_400_with_both_numbers(
    settings: Settings, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "models" / OTHER)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<x{i}>" for i in range(9)]})
    tokenizer.save_pretrained(folder)
    own = replace(
        settings, models_dir=tmp_path / "models", home=tmp_path / "home", nim_port=free_port(),
        port=free_port(),
    )  # fmt: skip
    messages = [{"role": "user", "content": "hi <x8>"}]
    asked = {CHAT: ("messages", messages), "/v1/completions": ("prompt", "hi <x8>")}
    size = len(tokenizer) - 3  # six rows of the embedding were nobody's
    with running_nim(own) as nim:
        for path, (field, value) in asked.items():
            with pytest.raises(UpstreamError) as caught:
                nim.post(path, json={"model": OTHER, field: value})
            assert caught.value.status == 400
            assert (
                f"'<x8>' is token {size + 2} of the tokenizer, and the model knows {size}"
                in str(caught.value)
            )


def test_a_prompt_that_is_answered_several_times_is_counted_once(nim: Client) -> None:
    def read() -> int:
        (line,) = re.findall(r"^prompt_tokens_total (\d+)$", metrics(nim), re.MULTILINE)
        return int(line)

    before = read()
    reply = nim.post(CHAT, json={"model": MODEL, "messages": HELLO, "max_tokens": 3, "n": 4})
    assert read() - before == reply["usage"]["prompt_tokens"]
