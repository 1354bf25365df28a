"""NIM beside a running platform: adapters come and go with their entities."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import NotFoundError, OpenAI

from tests.conftest import Running
from tests.contract.tiny_platform import MODEL, eventually, refresh, tiny_platform
from tests.running_nim import CHAT, HELLO
from tests.tiny_checkpoint import make_adapter, make_checkpoint

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with tiny_platform(tmp_path_factory.mktemp("tiny-nim")) as platform:
        yield platform


@pytest.fixture(scope="module")
def openai(running: Running) -> OpenAI:
    return running.openai()


def upload(running: Running, folder: Path, name: str, version: str) -> str:
    """Store the adapter in the Data Store as Customizer does; returns its URL."""
    hub = running.hf()
    hub.create_repo(f"ns/{name}", repo_type="model", exist_ok=True)
    hub.upload_folder(repo_id=f"ns/{name}", folder_path=folder, repo_type="model")
    hub.create_tag(f"ns/{name}", tag=version, repo_type="model")
    return f"hf://ns/{name}@{version}"


def register(
    running: Running, model: str, files_url: str, status: str = "upload_completed", **more: Any
) -> None:
    namespace, _, name = model.partition("/")
    artifact = {"files_url": files_url, "status": status, "backend_engine": "hugging_face"}
    body = {
        "namespace": namespace,
        "name": name,
        "base_model": MODEL,
        "artifact": artifact,
        "peft": {"finetuning_type": "lora"},
        **more,
    }
    running.client().post("/v1/models", json=body)


def ask(openai: Any, model: str) -> str:
    reply = openai.chat.completions.create(
        model=model, messages=HELLO, max_tokens=12, temperature=0
    )
    return reply.choices[0].message.content or ""


def test_an_adapter_is_served_by_itself_and_gone_with_its_entity(
    running: Running, openai: Any, tmp_path: Path
) -> None:
    model = "ns/alpha@cust-1"
    url = upload(running, make_adapter(tmp_path / "a", 1), "alpha", "cust-1")
    register(running, model, url)
    eventually(lambda: model in [m.id for m in openai.models.list()], "the adapter is listed")
    listed = openai.models.retrieve(model).model_dump()
    assert (listed["parent"], listed["root"]) == (MODEL, url)
    assert listed["max_model_len"] is None and listed["owned_by"] == "system"
    assert ask(openai, model) != ask(openai, MODEL)
    running.client().delete(f"/v1/models/{model}")
    assert model not in refresh(running)["models"]
    with pytest.raises(NotFoundError, match="does not exist"):
        ask(openai, model)
    assert not list((running.settings.home / "nim" / "adapters").iterdir())


def test_the_same_name_registered_anew_means_the_new_weights(
    running: Running, openai: Any, tmp_path: Path
) -> None:
    model = "ns/beta@v1"
    url = upload(running, make_adapter(tmp_path / "a", 1), "beta", "v1")
    register(running, model, url)
    refresh(running)
    first = ask(openai, model)
    running.client().delete(f"/v1/models/{model}")
    running.hf().delete_tag("ns/beta", tag="v1", repo_type="model")
    register(running, model, upload(running, make_adapter(tmp_path / "b", 2), "beta", "v1"))
    refresh(running)
    assert ask(openai, model) != first


def test_a_name_that_gets_a_new_version_answers_all_the_time(
    running: Running, openai: Any, tmp_path: Path
) -> None:
    model = "ns/delta@v1"
    url = upload(running, make_adapter(tmp_path / "0", 1), "delta", "v1")
    register(running, model, url)
    refresh(running)
    replies: list[str] = []
    replaced = threading.Event()
    kept = running.settings.home / "nim" / "adapters"
    folders = len(list(kept.iterdir()))

    def replace_it(folder: Path, version: str) -> dict[str, Any]:
        artifact = {
            "files_url": upload(running, folder, "delta", version), "status": "upload_completed"
        }  # fmt: skip
        running.client().patch(f"/v1/models/{model}", json={"artifact": artifact})
        return refresh(running)

    def ask_on() -> None:
        while not replaced.is_set():
            replies.append(ask(openai, model))

    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(ask_on) for _ in range(3)]
        try:
            for seed in (2, 3, 4):
                replace_it(make_adapter(tmp_path / str(seed), seed), f"v{seed}")
                replies.append(ask(openai, model))
        finally:
            replaced.set()
    for future in asked:
        future.result()  # raises what a request was refused with
    assert len(set(replies)) == 4 and len(list(kept.iterdir())) == folders
    broken = make_adapter(tmp_path / "broken", 5)
    (broken / "adapter_config.json").write_text("{")
    state = replace_it(broken, "v5")
    assert model in state["failed"] and model not in state["models"]


def test_a_whole_model_that_gets_a_new_version_is_never_unknown_nor_are_its_adapters(
    running: Running, tmp_path: Path
) -> None:
    names = "ns/whole", "ns/beside-whole@v1"
    client = running.client()
    url = upload(running, make_checkpoint(tmp_path / "1", 5), "whole", "v1")
    register(running, "ns/whole", url, peft=None)
    url = upload(running, make_adapter(tmp_path / "a", 1), "beside-whole", "v1")
    register(running, names[1], url, base_model="ns/whole")
    nim = {"image_name": "nim", "image_tag": "1", "gpu": 1}
    config = {"model": "ns/whole", "nim_deployment": nim}
    deployment = {"name": "whole", "namespace": "ns", "config": config}
    client.post("/v1/deployment/model-deployments", json=deployment)
    eventually(lambda: set(names) <= set(refresh(running)["models"]), "both are served")
    patient = running.openai().with_options(max_retries=5)  # a 503 says when to try again
    before, replaced = [ask(patient, name) for name in names], threading.Event()

    def ask_on(name: str) -> None:
        while not replaced.is_set():
            ask(patient, name)

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask_on, name) for name in names]
        try:
            url = upload(running, make_checkpoint(tmp_path / "2", 6), "whole", "v2")
            artifact = {"files_url": url, "status": "upload_completed"}
            client.patch("/v1/models/ns/whole", json={"artifact": artifact})
            assert set(names) <= set(refresh(running)["models"])
        finally:
            replaced.set()
    for future in asked:
        future.result()  # raises what a request was refused with
    after = [ask(patient, name) for name in names]
    assert all(one != other for one, other in zip(before, after, strict=True))
    client.delete("/v1/deployment/model-deployments/ns/whole")
    client.delete(f"/v1/models/{names[1]}")
    client.delete("/v1/models/ns/whole")


def test_an_adapter_without_a_revision_follows_what_is_uploaded(
    running: Running, openai: Any, tmp_path: Path
) -> None:
    model, hub = "ns/late", running.hf()
    hub.create_repo(model, repo_type="model")
    register(running, model, f"hf://{model}")
    assert model in refresh(running)["failed"]
    replies = set()
    for seed in (1, 2):
        hub.upload_folder(
            repo_id=model, folder_path=make_adapter(tmp_path / "a", seed), repo_type="model"
        )
        assert model in refresh(running)["models"]
        replies.add(ask(openai, model))
    assert len(replies) == 2


def test_an_adapter_of_a_branch_with_a_slash_is_served_however_it_is_spelt(
    running: Running, tmp_path: Path
) -> None:
    upload(running, make_adapter(tmp_path / "a", 1), "branched", "v1")
    running.hf().create_branch("ns/branched", branch="feature/x", repo_type="model")
    for number, revision in enumerate(("feature/x", "feature%2Fx")):
        register(running, f"ns/branched@{number}", f"hf://ns/branched@{revision}")
    state = refresh(running)
    assert {"ns/branched@0", "ns/branched@1"} <= set(state["models"]), state["failed"]


def test_only_finished_uploads_of_served_bases_are_listed(running: Running, tmp_path: Path) -> None:
    url = upload(running, make_adapter(tmp_path / "a", 1), "gamma", "v1")
    register(running, "ns/unfinished@v1", url, status="created")
    register(running, "ns/elsewhere@v1", url, base_model="meta/llama-3.1-8b-instruct")
    served = refresh(running)["models"]
    assert not {"ns/unfinished@v1", "ns/elsewhere@v1"} & set(served)


def test_an_adapter_that_cannot_be_served_is_reported_and_harms_nothing(
    running: Running, openai: Any, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "a", 1)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    register(running, "ns/dora@v1", upload(running, folder, "dora", "v1"))
    register(running, "ns/nowhere@v1", "hf://ns/nowhere@v1")
    register(running, "ns/odd@v1", "https://example.com/adapter")
    state = refresh(running)
    assert "use_dora" in state["failed"]["ns/dora@v1"]
    assert "'ns/nowhere' not found" in state["failed"]["ns/nowhere@v1"]
    assert "hf://namespace/name" in state["failed"]["ns/odd@v1"]
    assert MODEL in state["models"] and ask(openai, MODEL)


def test_a_pickle_is_never_fetched(running: Running, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", 1)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    register(running, "ns/pickle@v1", upload(running, folder, "pickle", "v1"))
    assert "safetensors" in refresh(running)["failed"]["ns/pickle@v1"]


def test_the_sdk_chats_streams_and_lists(running: Running) -> None:
    sdk: Any = running.sdk()
    assert MODEL in [model.id for model in sdk.inference.models.list().data]
    asked: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 6}
    assert sdk.chat.completions.create(**asked).choices[0].message.content
    chunks = list(sdk.chat.completions.create(**asked, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")
    text = sdk.completions.create(model=MODEL, prompt="What", max_tokens=3)
    assert text.usage.completion_tokens <= 3


def test_inference_answers_on_the_platforms_port_too(running: Running) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 3}
    assert running.client().post(CHAT, json=body)["object"] == "chat.completion"
