"""What careless and hostile clients send: refused by name, and nobody else notices."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nemo_local.core.client import Client, UpstreamError
from nemo_local.nim.checkpoint import Checkpoint
from nemo_local.nim.constraints import MAX_NESTING, Constraint
from nemo_local.nim.errors import BadValue
from nemo_local.nim.lora import Unservable, read_adapter
from nemo_local.settings import Settings
from tests.conftest import free_port
from tests.nemo_local.nim.conftest import MODEL as TINY
from tests.nemo_local.nim.conftest import Writer
from tests.running_nim import MODEL, OTHER, eventually, make_models_dir, running_nim
from tests.tiny_checkpoint import make_adapter

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "time"}}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("nim")
    return Settings.from_environment(
        {},
        home=folder / "home",
        port=free_port(),
        nim_port=free_port(),
        models_dir=make_models_dir(folder / "models"),
        threads=1,
    )


@pytest.fixture(scope="module")
def nim(settings: Settings) -> Iterator[Client]:
    with running_nim(settings) as client:
        yield client


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"nvext": {"repetition_penalty": 0}}, "nvext.repetition_penalty", id="nvext"),
        pytest.param({"nvext": {"top_k": -7}}, "nvext.top_k", id="top_k in nvext"),
        pytest.param({"stop": list("abcde")}, "stop must hold at most 4", id="five stops"),
        pytest.param({"min_tokens": 9, "max_tokens": 4}, "min_tokens (9)", id="min over max"),
        pytest.param(
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": "time"}},
            "tool_choice names None",
            id="a choice without an object",
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
def test_it_is_refused_by_name_and_at_once(nim: Client, body: dict, message: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        nim.post(CHAT, json={"model": MODEL, "messages": HELLO, "max_tokens": 8, **body})
    assert caught.value.status == 400
    assert message in caught.value.response_body["message"]


@pytest.mark.parametrize("text", [r'"\ud800"', "NaN"], ids=["half a character", "NaN"])
def test_json_that_no_answer_could_repeat_is_422(nim: Client, text: str) -> None:
    for path in (CHAT, "/v1/completions", "/v1/embeddings"):
        with pytest.raises(UpstreamError) as caught:
            body = f'{{"model": {text}, "messages": [], "prompt": "a", "input": "a"}}'.encode()
            nim.raw("POST", path, content=body, headers={"Content-Type": "application/json"})
        assert caught.value.status == 422


def test_a_schema_of_the_largest_depth_is_compiled(checkpoint: Checkpoint) -> None:
    checkpoint.grammars.matcher(Constraint("schema", nested(MAX_NESTING - 1)))
    with pytest.raises(BadValue, match="nested deeper than 100 levels"):
        checkpoint.grammars.matcher(Constraint("schema", nested(MAX_NESTING + 1)))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_without_a_way_on_ends_its_own_reply_only(
    writer: Writer, temperature: float
) -> None:
    stuck = writer.generation("Hello", temperature=temperature, ignore_eos=False, max_tokens=20)
    stuck.matcher = writer.checkpoint.grammars.matcher(Constraint("grammar", 'root ::= root "a"'))
    rules = {"temperature": temperature, "seed": 3}
    wanted = writer.write(writer.generation("Hello", **rules))[0].tokens
    _, neighbour = writer.write(stuck, writer.generation("Hello", **rules))
    assert isinstance(stuck.error, BadValue) and stuck.tokens == []
    assert neighbour.error is None and neighbour.tokens == wanted


def test_broken_weights_of_an_adapter_end_its_own_replies_only(
    writer: Writer, tmp_path: Path
) -> None:
    adapter = read_adapter(make_adapter(tmp_path / "a", 1))
    for _, b in adapter.pairs.values():
        b.fill_(float("nan"))
    writer.engine.add_adapter(TINY, "a", adapter)
    rules = {"temperature": 1.0, "seed": 3}
    wanted = writer.write(writer.generation("Hello", **rules))[0].tokens
    broken = writer.generation("Hello", adapter="a", **rules)
    _, neighbour = writer.write(broken, writer.generation("Hello", **rules))
    assert isinstance(broken.error, BadValue) and "adapter a" in str(broken.error)
    assert neighbour.error is None and neighbour.tokens == wanted


def test_a_repetition_penalty_next_to_nothing_breaks_no_number(writer: Writer) -> None:
    rules = {"repetition_penalty": 1e-44, "temperature": 1e-5, "seed": 1}
    reply = writer.write(writer.generation("Hello", **rules))[0]
    assert reply.error is None and len(reply.tokens) == 12


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"r": 0}, "ZeroDivisionError"),
        ({"r": "x"}, "ValueError"),
        ({"lora_alpha": None}, "ValueError"),
        ([], "no JSON object"),
    ],
)
def test_an_adapter_with_a_broken_configuration_is_unservable(
    tmp_path: Path, config: Any, words: str
) -> None:
    path = make_adapter(tmp_path, 1) / "adapter_config.json"
    whole = json.loads(path.read_text()) | config if config else config
    path.write_text(json.dumps(whole))
    with pytest.raises(Unservable, match=words):
        read_adapter(tmp_path)


def test_an_adapter_with_numbers_that_are_none_is_unservable(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = make_adapter(tmp_path, 1) / "adapter_model.safetensors"
    tensors = load_file(weights)
    key = next(iter(tensors))
    tensors[key][0, 0] = float("inf")
    save_file(tensors, weights)
    with pytest.raises(Unservable, match="not finite"):
        read_adapter(tmp_path)
    tensors[key] = tensors[key][:2].zero_()
    save_file(tensors, weights)
    with pytest.raises(Unservable, match="do not fit each other"):
        read_adapter(tmp_path)


def test_a_client_that_leaves_before_its_stream_begins_stops_the_writing(
    settings: Settings, nim: Client
) -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(48):  # compiling takes a while, in which the client leaves
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    body = {"model": MODEL, "messages": HELLO, "stream": True, "n": 32, "guided_json": schema}
    text = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: nim\r\nContent-Type: application/json\r\n"
    with socket.create_connection((settings.host, settings.nim_port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
    aborted = 'request_success_total{finished_reason="abort"} 32'
    eventually(lambda: aborted in nim.raw("GET", "/metrics").text, "nothing is written for it")


def test_more_replies_than_the_queue_holds_are_refused_before_any_is_made(
    nim: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*_: Any, **__: Any) -> None:
        raise AssertionError("a reply was made")

    monkeypatch.setattr("nemo_local.nim.service.Generation", made)
    with pytest.raises(UpstreamError) as error:
        nim.post("/v1/completions", json={"model": MODEL, "prompt": [[5]] * 20000, "n": 32})
    assert error.value.status == 400 and "256 replies at most, not 640000" in str(error.value)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_whose_arguments_no_json_can_say_is_text(nim: Client, stream: bool) -> None:
    text = '{"name": "time", "parameters": {"a": 1e999}}'
    body = {"model": MODEL, "messages": HELLO, "tools": [TOOL], "guided_choice": [text]}
    reply = nim.raw("POST", CHAT, json={**body, "max_tokens": 99, "stream": stream}).text
    if stream:
        *events, end, _ = reply.split("\n\n")
        assert end == "data: [DONE]"
        deltas = [json.loads(event[6:])["choices"][0]["delta"] for event in events]
        assert "".join(delta.get("content") or "" for delta in deltas) == text
    else:
        assert json.loads(reply)["choices"][0]["message"]["content"] == text


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
