"""The remote engine: another server computes, and nobody notices."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from openai import BadRequestError, NotFoundError, OpenAI

from nemo_local.core.client import Client, UpstreamError
from nemo_local.nim.lora import Unservable
from nemo_local.nim.remote import RemoteModels, remote_catalog, remote_url
from nemo_local.settings import Settings, SettingsError
from tests.conftest import free_port
from tests.leaving import ask_and_leave
from tests.nemo_local.nim.test_token_rows import EMBEDDING, with_tokens
from tests.running_nim import CHAT, HELLO, MODEL, OTHER, make_models_dir, running_nim
from tests.scripted_model import serving
from tests.tiny_checkpoint import catalog_of, entry, make_adapter

OURS = "acme/large"


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenAI, OpenAI]]:
    """The server that computes, which demands a key, and ours in front of it."""
    folder = tmp_path_factory.mktemp("remote")
    there = Settings.from_environment(
        {}, home=folder / "there", port=free_port(), nim_port=free_port(),
        models_dir=make_models_dir(folder / "models"), threads=1, token="secret",
    )  # fmt: skip
    here = Settings.from_environment(
        {}, home=folder / "here", port=free_port(), nim_port=free_port(),
        engine_url=f"{there.nim_url}/v1", engine_key="secret",
        engine_models=f"{OURS}={MODEL}, acme/other={OTHER}",
    )  # fmt: skip
    with running_nim(there), running_nim(here):
        clients = [
            OpenAI(base_url=f"{s.nim_url}/v1", api_key="secret", max_retries=0)
            for s in (there, here)
        ]
        with clients[0] as computing, clients[1] as ours:
            yield computing, ours


def test_replies_whole_and_streamed_are_those_of_the_server_that_computes(engines: Any) -> None:
    computing, ours = engines
    rules = {"messages": HELLO, "max_tokens": 12, "temperature": 0}
    expected = computing.chat.completions.create(model=MODEL, **rules).choices[0].message.content
    reply = ours.chat.completions.create(model=OURS, **rules)
    assert (reply.model, reply.choices[0].message.content) == (OURS, expected)
    chunks = ours.chat.completions.create(model=OURS, stream=True, **rules)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == expected
    text = ours.completions.create(model="acme/other", prompt="What", max_tokens=3)
    assert text.usage.completion_tokens <= 3


def test_chunks_of_a_stream_name_the_model_that_was_asked_for(engines: Any) -> None:
    _, ours = engines
    more = {"max_tokens": 3, "stream": True, "stream_options": {"include_usage": True}}
    chats = ours.chat.completions.create(model=OURS, messages=HELLO, **more)
    texts = ours.completions.create(model="acme/other", prompt="What", **more)
    assert {chunk.model for chunk in chats} == {OURS}
    assert {chunk.model for chunk in texts} == {"acme/other"}


def test_lines_of_a_stream_that_are_no_chunks_stay_as_they_are(tmp_path: Path) -> None:
    kept = [
        ": a comment", 'data: {"model": ', 'data: ["model"]', 'data: {"error": {"model": 1}}',
        'event: {"model": 1}', "", "data: [DONE]", "", 'data: "model" without an end',
    ]  # fmt: skip
    chunk = json.dumps({"model": "big", "text": "\u00e4 \u2028", "logprob": -1e-05})
    text = "\n".join(["data:" + chunk + "\r", *kept])
    there = FastAPI()

    @there.get("/v1/models")
    def models() -> None:
        return None

    @there.post(CHAT)
    def chat() -> StreamingResponse:
        bits = (text[at : at + 7].encode() for at in range(0, len(text), 7))
        return StreamingResponse(bits, media_type="text/event-stream")

    with serving(there) as url:
        settings = Settings.from_environment(
            {}, home=tmp_path, port=free_port(), nim_port=free_port(),
            engine_url=url, engine_models=f"{OURS}=big",
        )  # fmt: skip
        with running_nim(settings) as nim:
            body = {"model": OURS, "messages": HELLO, "stream": True}
            first, *others = nim.raw("POST", CHAT, json=body).text.split("\n")
    assert json.loads(first.removeprefix("data: ")) == {**json.loads(chunk), "model": OURS}
    assert others == kept


def test_ids_are_ours_and_say_who_answers(engines: Any) -> None:
    _, ours = engines
    listed = {model.id: model.model_dump() for model in ours.models.list()}
    assert set(listed) == {OURS, "acme/other"}
    assert (listed[OURS]["answered_by"], listed[OURS]["stand_in"]) == (MODEL, False)
    assert ours.models.retrieve(OURS).id == OURS
    with pytest.raises(NotFoundError):
        ours.chat.completions.create(model=MODEL, messages=HELLO)


def test_refusals_of_the_server_that_computes_are_passed_on(engines: Any) -> None:
    _, ours = engines
    for stream in (False, True):
        with pytest.raises(BadRequestError, match="temperature must be"):
            ours.chat.completions.create(
                model=OURS, messages=HELLO, temperature=-1, stream=stream
            )  # fmt: skip


@pytest.mark.parametrize("kind", [{}, {"Content-Type": "application/json"}], ids=["none", "JSON"])
@pytest.mark.parametrize("text", [r'"\ud800"', "NaN", "[" * 600], ids=["half", "NaN", "deep"])
def test_a_body_that_no_json_could_repeat_is_422_whatever_its_type(
    engines: Any, text: str, kind: dict[str, str]
) -> None:
    content = f'{{"model": "{OURS}", "messages": {text}}}'.encode()
    for engine in engines:
        nim = Client(str(engine.base_url).removesuffix("/v1/"), engine.api_key)
        with pytest.raises(UpstreamError) as refusal:
            nim.raw("POST", CHAT, content=content, headers=kind)
        nim.close()
        assert refusal.value.status == 422


@pytest.mark.parametrize("body", [{}, {"model": None}, {"model": 5}, {"model": [OURS]}], ids=str)
def test_a_request_that_names_no_model_is_422_whoever_computes(
    engines: Any, body: dict[str, Any]
) -> None:
    asked = {CHAT: {"messages": HELLO}, "/v1/embeddings": {"input": "a"}}
    for engine in engines:
        nim = Client(str(engine.base_url).removesuffix("/v1/"), engine.api_key)
        for path, rest in asked.items():
            with pytest.raises(UpstreamError) as refusal:
                nim.post(path, json=rest | body)
            assert refusal.value.status == 422
            assert refusal.value.response_body["detail"][0]["loc"] == ["body", "model"]
        nim.close()


def fake_vllm(loaded: dict[str, str], load_path: str, lists: bool = False) -> FastAPI:
    """The routes of vLLM or SGLang that load adapters and maybe list them, as they answer."""
    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"data": [{"id": name} for name in ("big", *(loaded if lists else ()))]}

    @app.post(load_path)
    def load(body: dict[str, str]) -> str:
        if body["lora_name"] in loaded:
            raise HTTPException(400, f"{body['lora_name']} has already been loaded")
        loaded[body["lora_name"]] = body["lora_path"]
        return "Success"

    @app.post(load_path.replace("load", "unload", 1))
    def unload(body: dict[str, str]) -> str:
        if loaded.pop(body["lora_name"], None) is None:
            raise HTTPException(404, "no such adapter")
        return "Success"

    return app


@pytest.fixture(params=["/v1/load_lora_adapter", "/load_lora_adapter", "/nothing"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str], Client]]:
    """A server that loads adapters at a path, what it has loaded, and a client for it."""
    loaded: dict[str, str] = {}
    with serving(fake_vllm(loaded, request.param)) as url:
        client = Client(url)
        yield request.param, loaded, client
        client.close()


def test_adapters_are_loaded_where_the_server_can(served: Any, tmp_path: Path) -> None:
    path, loaded, client = served
    models = RemoteModels(client)
    models.load_base(entry("acme/base", None))
    folder = make_adapter(tmp_path / "a", 1)
    if path == "/nothing":
        with pytest.raises(Unservable, match="loads no adapters while it runs"):
            models.load_adapter("ns/a@v1", "acme/base", folder, "hf://ns/a@v1")
        assert models.ids() == ["acme/base"]
        return
    loaded["ns/a@v1"] = "/left/from/an/earlier/run"
    models.load_adapter("ns/a@v1", "acme/base", folder, "hf://ns/a@v1")
    assert loaded == {"ns/a@v1": str(folder)}
    assert models.name_of(models.get("ns/a@v1")) == "ns/a@v1"
    models.unload("ns/a@v1")
    assert loaded == {} and models.ids() == ["acme/base"]
    models.load_adapter("ns/a@v1", "acme/base", folder, "hf://ns/a@v1")
    models.unload("acme/base")
    assert loaded == {} and models.ids() == []


def test_readiness_says_why_the_server_that_computes_is_not_ready(tmp_path: Path) -> None:
    there, status = FastAPI(), [200]
    there.get("/v1/models")(lambda: Response("{}", status[-1]))

    def readiness(nim: Client) -> tuple[int, str, str]:
        with pytest.raises(UpstreamError) as refusal:
            nim.get("/v1/health/ready")
        body = refusal.value.body()
        return refusal.value.status, body["status"], body["reason"]

    with ExitStack() as stack:
        url = stack.enter_context(serving(there))
        settings = Settings.from_environment(
            {}, home=tmp_path, port=free_port(), nim_port=free_port(),
            engine_url=url, engine_models=f"{OURS}=big",
        )  # fmt: skip
        with running_nim(settings) as nim:
            said = "the server at NEMO_LOCAL_ENGINE_URL answered"
            for code, state, what in (
                (401, "failed", "NEMO_LOCAL_ENGINE_KEY"),
                (404, "failed", f"{url}/v1/models, its models"),
                (503, "starting", f"{url}/v1/models, its models"),
            ):
                status.append(code)
                assert readiness(nim) == (503, state, f"{said} {code}: check {what}")
            stack.close()
            assert readiness(nim)[:2] == (503, "starting")
            assert f"{url}/v1/models does not answer" in readiness(nim)[2]


@pytest.mark.parametrize("lists", [True, False])
def test_adapters_that_a_server_lost_when_it_restarted_are_served_no_more(
    tmp_path: Path, lists: bool
) -> None:
    loaded: dict[str, str] = {}
    with serving(fake_vllm(loaded, "/load_lora_adapter", lists)) as url:
        client = Client(url)
        models = RemoteModels(client)
        models.load_base(entry("acme/base", None))
        for name in ("ns/a", "ns/b"):
            models.load_adapter(name, "acme/base", make_adapter(tmp_path / name, 1), f"hf://{name}")
        models.forget_lost()
        assert models.ids() == ["acme/base", "ns/a", "ns/b"]
        del loaded["ns/a"]
        models.forget_lost()
        assert ("ns/a" in models.ids()) is not lists
    models.forget_lost()  # nobody is there: nothing is known to be lost
    assert "ns/b" in models.ids()
    client.close()


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, Unservable), (408, OSError), (429, OSError), (500, OSError), (503, OSError)],
)
def test_a_server_that_cannot_load_an_adapter_now_is_asked_again(
    tmp_path: Path, status: int, expected: type[Exception]
) -> None:
    there = FastAPI()

    @there.post("/v1/load_lora_adapter")
    def load() -> None:
        raise HTTPException(status, "not now")

    with serving(there) as url, closing(Client(url)) as client:
        models = RemoteModels(client)
        models.load_base(entry("acme/base", None))
        with pytest.raises(expected, match="not now"):
            models.load_adapter("ns/a", "acme/base", make_adapter(tmp_path, 1), "hf://ns/a")


@pytest.mark.parametrize("older", [False, True], ids=["vLLM", "older vLLM"])
def test_a_folder_that_the_server_does_not_see_is_named_and_tried_again(
    tmp_path: Path, older: bool
) -> None:
    there = FastAPI()

    @there.post("/v1/load_lora_adapter")
    def load(body: dict[str, str]) -> JSONResponse:
        said = f"No adapter found for {body['lora_path']}"
        error = {"message": said, "type": "NotFoundError", "code": 404}
        return JSONResponse({"object": "error", **error} if older else {"error": error}, 404)

    with serving(there) as url, closing(Client(url)) as client:
        models = RemoteModels(client)
        models.load_base(entry("acme/base", None))
        with pytest.raises(ConnectionError, match="No adapter found .* under the same path"):
            models.load_adapter("ns/a", "acme/base", make_adapter(tmp_path, 1), "hf://ns/a")


def test_what_another_server_would_not_see_of_an_adapter_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(f"http://127.0.0.1:{free_port()}")
    models = RemoteModels(client)
    models.load_base(entry("acme/base", None))
    folder = make_adapter(tmp_path / "a", 1)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ConnectionError):  # nobody is there: it may be asked again
        models.load_adapter("ns/a@v1", "acme/base", folder, "hf://ns/a")
    assert "ns/a@v1: the remote server may not use its own chat template" in caplog.text
    with_tokens(folder, [3], **{EMBEDDING: torch.zeros(1, 32)})
    with pytest.raises(Unservable, match="would not see its rows of tokens; merge it instead"):
        models.load_adapter("ns/a@v1", "acme/base", folder, "hf://ns/a")
    client.close()


def test_the_length_of_a_model_outside_the_catalogue_is_not_told(engines: Any) -> None:
    _, ours = engines
    assert ours.models.retrieve(OURS).max_model_len is None


def test_the_model_map_names_ids_and_their_names_there(tmp_path: Path) -> None:
    known = catalog_of(replace(entry("meta/x", tmp_path), max_model_len=4096))
    settings = Settings.from_environment(
        {}, home=tmp_path, engine_models="meta/x=llama3.1:8b, acme/y=y"
    )
    catalog = remote_catalog(settings.engine_names(), known)
    assert catalog.models["meta/x"].max_model_len == 4096
    assert catalog.models["meta/x"].path is None
    assert [one.answered_by for one in catalog.models.values()] == ["llama3.1:8b", "y"]
    for wrong in (None, "", "acme/y", "=y"):
        with pytest.raises(SettingsError, match="NEMO_LOCAL_ENGINE_MODELS.* id=name"):
            replace(settings, engine_models=wrong).engine_names()
    assert remote_url("http://host:8000/v1/") == "http://host:8000"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Response], Client]]:
    """The one reply of a server that computes, for tests to put in, and a client of ours."""
    replies: list[Response] = []
    there = FastAPI()

    @there.get("/v1/models")
    def models() -> None:
        return None

    @there.post(CHAT)
    def chat() -> Response:
        return replies[-1]

    with serving(there) as url:
        settings = Settings.from_environment(
            {}, home=tmp_path_factory.mktemp("odd"), port=free_port(), nim_port=free_port(),
            engine_url=url, engine_models=f"{OURS}=big",
        )  # fmt: skip
        with running_nim(settings) as nim:
            yield replies, nim


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("<html>", "text/html", "it is not valid JSON"),
        ("", "application/json", "it is not valid JSON"),
        ("[1]", "application/json", "must be a JSON object"),
        ('{"logprob": NaN}', "application/json", "NaN is not a JSON number"),
        ('{"logprob": -Infinity}', "application/json", "-Infinity is not a JSON number"),
        (r'{"content": "\ud83d"}', "application/json", "half of a surrogate pair"),
    ],
    ids=["HTML", "empty", "list", "NaN", "infinity", "half"],
)
def test_a_reply_that_no_json_could_repeat_is_502(
    odd: Any, text: str, kind: str, words: str, stream: bool
) -> None:
    replies, nim = odd
    replies.append(Response(text, media_type=kind))
    with pytest.raises(UpstreamError) as failure:
        nim.post(CHAT, json={"model": OURS, "messages": HELLO, "stream": stream})
    body = failure.value.body()
    assert (failure.value.status, body["type"]) == (502, "BadGatewayError")
    assert words in body["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("status", "text", "kind", "said"),
    [
        (502, "<html>Bad Gateway</html>", "BadGatewayError", ""),
        (404, "\n<!DOCTYPE html>", "NotFoundError", ""),
        (429, "x" * 999, "InternalServerError", ": " + "x" * 200),
    ],
    ids=["502", "404", "plain text"],
)
def test_an_error_that_is_no_json_has_the_form_of_nims_own(
    odd: Any, status: int, text: str, kind: str, said: str, stream: bool
) -> None:
    replies, nim = odd
    replies.append(Response(text, status))
    with pytest.raises(UpstreamError) as failure:
        nim.post(CHAT, json={"model": OURS, "messages": HELLO, "stream": stream})
    assert (failure.value.status, failure.value.body()) == (
        status,
        {
            "object": "error",
            "message": f"the server at NEMO_LOCAL_ENGINE_URL answered {status}{said}",
            "type": kind,
            "param": None,
            "code": status,
        },
    )


def test_a_stream_whose_type_is_written_large_names_the_model_too(odd: Any) -> None:
    replies, nim = odd
    replies.append(Response('data: {"model": "big"}\n\n', media_type="Text/Event-Stream"))
    reply = nim.raw("POST", CHAT, json={"model": OURS, "messages": HELLO, "stream": True})
    assert reply.text == f'data: {{"model": "{OURS}"}}\n\n'


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_stream_that_is_answered_whole_names_the_model_too(odd: Any, stream: bool) -> None:
    replies, nim = odd
    replies.append(JSONResponse({"model": "big", "choices": []}))
    reply = nim.post(CHAT, json={"model": OURS, "messages": HELLO, "stream": stream})
    assert reply == {"model": OURS, "choices": []}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "reply",
    [
        RedirectResponse(CHAT),
        Response("{}", headers={"content-encoding": "gzip"}, media_type="application/json"),
    ],
    ids=["circle of redirects", "wrong encoding"],
)
def test_a_reply_that_cannot_be_read_is_503(odd: Any, reply: Response, stream: bool) -> None:
    replies, nim = odd
    replies.append(reply)
    with pytest.raises(UpstreamError, match="does not answer") as failure:
        nim.post(CHAT, json={"model": OURS, "messages": HELLO, "stream": stream})
    body = failure.value.body()
    assert (failure.value.status, body["type"]) == (503, "ServiceUnavailableError")


@pytest.mark.parametrize(
    ("headers", "begun"),
    [({}, ['data: {"model": "acme/large"}']), ({"content-encoding": "gzip"}, [])],
    ids=["cut off", "wrong encoding"],
)
def test_a_stream_that_breaks_off_inside_an_event_ends_with_an_error_of_its_own(
    odd: Any, headers: dict[str, str], begun: list[str]
) -> None:
    async def events() -> AsyncIterator[bytes]:
        yield b'data: {"model": "big"}\n'
        raise ConnectionAbortedError

    replies, nim = odd
    replies.append(StreamingResponse(events(), media_type="text/event-stream", headers=headers))
    reply = nim.raw("POST", CHAT, json={"model": OURS, "messages": HELLO, "stream": True})
    *before, error, end, _ = reply.text.split("\n\n")
    assert (before, end) == (begun, "data: [DONE]")
    assert "does not answer" in json.loads(error.strip().removeprefix("data: "))["error"]["message"]


class Trickle:
    """A server of one model that says a word at a time, for ever, and sees who leaves."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.begun, self.left = threading.Event(), threading.Event()

        @self.app.get("/v1/models")
        def models() -> dict[str, Any]:
            return {"data": [{"id": "big"}]}

        @self.app.post("/v1/chat/completions")
        async def chat(request: Request) -> StreamingResponse:
            if (await request.json()).get("stream"):
                return StreamingResponse(self._words(), media_type="text/event-stream")
            self.begun.set()
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.left.set()
            return StreamingResponse(iter(()))

    async def _words(self) -> AsyncIterator[str]:
        try:
            while True:
                yield 'data: {"choices": []}\n\n'
                await asyncio.sleep(0.02)
        finally:
            self.left.set()


@pytest.fixture
def trickle(tmp_path: Path) -> Iterator[tuple[Trickle, Settings]]:
    """That server, and settings of ours in front of it."""
    there = Trickle()
    with serving(there.app) as url:
        yield there, Settings.from_environment(
            {}, home=tmp_path / "here", port=free_port(), nim_port=free_port(),
            engine_url=f"{url}/v1", engine_models=f"{OURS}=big",
        )  # fmt: skip


def test_a_client_that_leaves_before_the_answer_begins_ends_it_there(trickle: Any) -> None:
    there, settings = trickle
    with running_nim(settings):
        body = {"model": OURS, "messages": HELLO}
        ask_and_leave(settings.nim_url + CHAT, body, there.begun)
        assert there.left.wait(30)


def test_a_stream_that_only_trickles_ends_when_its_time_is_up(trickle: Any) -> None:
    there, settings = trickle
    with running_nim(replace(settings, request_timeout_s=1)) as nim:
        body = {"model": OURS, "messages": HELLO, "stream": True}
        *words, error, end, _ = nim.raw("POST", CHAT, json=body).text.split("\n\n")
        assert len(words) > 1 and end == "data: [DONE]"
        assert "did not finish the reply within 1 s" in error
        assert there.left.wait(30)
        with pytest.raises(UpstreamError, match="did not finish the reply within 1 s") as failure:
            nim.post(CHAT, json={**body, "stream": False})
        assert failure.value.status == 504
