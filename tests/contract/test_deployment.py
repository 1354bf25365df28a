"""Deployment Management: what is deployed is what NIM serves."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nemo_microservices import APIStatusError, NeMoMicroservices
from openai import OpenAI

from nemo_local.core.client import Client, UpstreamError
from nemo_local.settings import Settings
from tests.conftest import Running, free_port, running_control_plane
from tests.contract.tiny_platform import MODEL, eventually, refresh, tiny_platform
from tests.running_nim import CHAT, HELLO, make_models_dir, running_nim
from tests.tiny_checkpoint import make_adapter, make_checkpoint

pytestmark = pytest.mark.contract
NIM = {"image_name": "nvcr.io/nim/meta/llama-3.2-1b-instruct", "image_tag": "1.8.3", "gpu": 1}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with tiny_platform(tmp_path_factory.mktemp("tiny-deployment")) as platform:
        yield platform


@pytest.fixture(scope="module")
def sdk(running: Running) -> Iterator[NeMoMicroservices]:
    with running.sdk(max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def openai(running: Running) -> Iterator[OpenAI]:
    with running.openai() as client:
        yield client


def status_of(sdk: NeMoMicroservices, name: str, namespace: str) -> Any:
    deployment = sdk.deployment.model_deployments.retrieve(name, namespace=namespace)
    return deployment.status_details.status


def served(openai: OpenAI) -> list[str]:
    return [model.id for model in openai.models.list()]


def test_each_served_base_model_has_a_deployment_from_the_start(
    running: Running, sdk: NeMoMicroservices
) -> None:
    found = {f"{d.namespace}/{d.name}": d for d in sdk.deployment.model_deployments.list()}
    seed = found[MODEL]
    assert seed.deployed and seed.url == running.nim_url and seed.models == [MODEL]
    assert MODEL in (seed.status_details.description or "")
    assert seed.id.startswith("deployment-")  # type: ignore[attr-defined]


def test_deleting_unloads_and_creating_loads(sdk: NeMoMicroservices, openai: OpenAI) -> None:
    assert MODEL in served(openai)
    gone = sdk.deployment.model_deployments.delete("llama-3.2-1b-instruct", namespace="meta")
    assert gone.message == "Resource deleted successfully."
    assert MODEL not in served(openai)
    with pytest.raises(APIStatusError) as caught:
        status_of(sdk, "llama-3.2-1b-instruct", "meta")
    assert caught.value.status_code == 404
    made = sdk.deployment.model_deployments.create(
        name="llama-3.2-1b-instruct",
        namespace="meta",
        config={"model": MODEL, "nim_deployment": NIM},  # type: ignore[typeddict-item]
        hf_token="hf_secret",
    )
    assert made.models == [MODEL] and made.status_details.status in ("pending", "ready")
    assert "hf_secret" not in made.to_json()
    eventually(
        lambda: status_of(sdk, "llama-3.2-1b-instruct", "meta") == "ready", "it is deployed again"
    )
    assert MODEL in served(openai)


def test_a_duplicate_is_a_conflict_with_the_words_clients_look_for(sdk: NeMoMicroservices) -> None:
    with pytest.raises(APIStatusError, match="model deployment already exists: meta/") as caught:
        sdk.deployment.model_deployments.create(
            name="llama-3.2-1b-instruct",
            namespace="meta",
            config={"model": MODEL, "nim_deployment": NIM},  # type: ignore[typeddict-item]
        )
    assert caught.value.status_code == 409
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param("meta/llama-3.1-8b-instruct", "no weights of", id="known, no weights"),
        pytest.param("meta/llama-9", "unknown model", id="unknown"),
    ],
)
def test_what_cannot_be_served_fails_and_says_why(
    sdk: NeMoMicroservices, model: str, reason: str
) -> None:
    name = model.replace("/", "-")
    sdk.deployment.model_deployments.create(
        name=name,
        config={"model": model, "nim_deployment": NIM},  # type: ignore[typeddict-item]
    )
    eventually(lambda: status_of(sdk, name, "default") == "failed", "it failed")
    deployment = sdk.deployment.model_deployments.retrieve(name, namespace="default")
    assert reason in (deployment.status_details.description or "")
    assert not deployment.deployed and deployment.url == ""
    failed = sdk.deployment.model_deployments.list(filter={"status": "failed"})  # type: ignore[typeddict-unknown-key]
    assert name in [item.name for item in failed.data]
    sdk.deployment.model_deployments.delete(name, namespace="default")


def store(running: Running, model: str, folder: Path, **more: Any) -> None:
    """Upload a folder, and register it as a model."""
    hub = running.hf()
    hub.create_repo(model, exist_ok=True)
    hub.upload_folder(repo_id=model, folder_path=folder)
    register(running, model, **more)


def register(running: Running, model: str, **more: Any) -> None:
    namespace, _, name = model.partition("/")
    artifact = {"status": "upload_completed", "files_url": f"hf://{model}"}
    running.client().post(
        "/v1/models", json={"namespace": namespace, "name": name, "artifact": artifact, **more}
    )


def test_a_deployment_from_a_stored_configuration(
    running: Running, sdk: NeMoMicroservices, openai: OpenAI, tmp_path: Path
) -> None:
    adapter = {"base_model": "acme/tiny-chat", "peft": {"finetuning_type": "lora"}}
    store(running, "acme/beside", make_adapter(tmp_path / "a", 1), **adapter)
    assert "acme/beside" in refresh(running)["models"]
    configs = sdk.deployment.configs
    nim: Any = {
        **NIM, "disable_lora_support": True, "pvc_size": "25Gi",
        "additional_envs": {"NIM_MODEL_PROFILE": "p"},
    }  # fmt: skip
    configs.create(name="tiny", namespace="acme", model="acme/tiny-chat", nim_deployment=nim)
    config = configs.retrieve("tiny", namespace="acme")
    assert config.model == "acme/tiny-chat" and config.nim_deployment is not None
    assert nim.items() <= config.nim_deployment.to_dict().items()
    assert "tiny" in [config.name for config in configs.list().data]
    updated = configs.update("tiny", namespace="acme", description="a tiny one")
    assert updated.description == "a tiny one" and updated.nim_deployment is not None
    deployments = sdk.deployment.model_deployments
    deployments.delete("tiny-chat", namespace="acme")
    assert "acme/tiny-chat" not in served(openai)
    deployments.create(name="from-config", namespace="acme", config="acme/tiny")
    eventually(lambda: status_of(sdk, "from-config", "acme") == "ready", "it is deployed")
    configs.delete("tiny", namespace="acme")
    changed = deployments.update("from-config", namespace="acme", description="kept")
    assert changed.description == "kept" and changed.models == ["acme/tiny-chat"]
    refresh(running)
    assert "acme/tiny-chat" in served(openai) and "acme/beside" not in served(openai)
    with pytest.raises(APIStatusError) as caught:
        deployments.create(name="late", namespace="acme", config="acme/tiny")
    assert caught.value.status_code == 404


def test_a_model_that_is_uploaded_after_it_was_deployed_becomes_ready(
    running: Running, sdk: NeMoMicroservices, openai: OpenAI, tmp_path: Path
) -> None:
    register(running, "ns/soon")
    deployments = sdk.deployment.model_deployments
    config: Any = {"model": "ns/soon", "nim_deployment": NIM}
    deployments.create(name="soon", namespace="ns", config=config)

    def details() -> Any:
        return deployments.retrieve("soon", namespace="ns").status_details

    eventually(lambda: "404" in (details().description or ""), "the reason is shown")
    assert details().status == "pending"
    running.hf().create_repo("ns/soon")
    running.hf().upload_folder(repo_id="ns/soon", folder_path=make_checkpoint(tmp_path / "m"))
    refresh(running)  # at once, and not when its wait is over
    eventually(lambda: details().status == "ready", "it is deployed")
    assert "ns/soon" in served(openai)
    deployments.delete("soon", namespace="ns")


def test_a_patched_model_is_loaded_in_place_of_the_old_one(
    sdk: NeMoMicroservices, openai: OpenAI
) -> None:
    deployments = sdk.deployment.model_deployments
    deployments.create(
        name="patched",
        config={"model": "meta/llama-3.1-8b-instruct", "nim_deployment": NIM},  # type: ignore[typeddict-item]
    )
    eventually(lambda: status_of(sdk, "patched", "default") == "failed", "it failed")
    deployments.update("patched", namespace="default", models=[MODEL])
    eventually(lambda: status_of(sdk, "patched", "default") == "ready", "it is deployed")
    deployments.delete("patched", namespace="default")
    assert MODEL in served(openai)


EXTERNAL = {"host_url": "http://x", "api_key": "sk-1"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param({"model": MODEL}, "nim_deployment is missing", id="no nim_deployment"),
        pytest.param({"nim_deployment": NIM}, "name a model here", id="no model"),
        pytest.param(
            {"model": MODEL, "nim_deployment": {**NIM, "gpu": "one"}},
            "unable to parse string as an integer",
            id="mistyped",
        ),
        pytest.param(
            {"model": MODEL, "nim_deployment": NIM, "external_endpoint": EXTERNAL},
            "NEMO_LOCAL_NIM_URL",
            id="external endpoint",
        ),
    ],
)
def test_a_configuration_nothing_can_follow_is_422_and_says_why(
    sdk: NeMoMicroservices, config: Any, words: str
) -> None:
    with pytest.raises(APIStatusError, match=words) as caught:
        sdk.deployment.model_deployments.create(name="bad", config=config)
    assert caught.value.status_code == 422 and "sk-1" not in str(caught.value)


def test_deletions_and_statuses_survive_a_restart(tmp_path: Path) -> None:
    with tiny_platform(tmp_path) as first, first.sdk() as sdk:
        for deployment in list(sdk.deployment.model_deployments.list()):
            if deployment.name != "llama-3.2-1b-instruct":
                sdk.deployment.model_deployments.delete(
                    deployment.name or "", namespace=deployment.namespace or ""
                )
        settings = first.settings
    with running_control_plane(settings) as second, second.sdk() as sdk:
        found = [f"{d.namespace}/{d.name}" for d in sdk.deployment.model_deployments.list()]
    assert found == [MODEL]


def test_an_inference_process_nobody_wants_models_from_is_ready(tmp_path: Path) -> None:
    with tiny_platform(tmp_path) as running, running.sdk() as sdk, running.openai() as openai:
        for deployment in list(sdk.deployment.model_deployments.list()):
            sdk.deployment.model_deployments.delete(
                deployment.name or "", namespace=deployment.namespace or ""
            )
        assert served(openai) == []
        nim = Client(running.nim_url)
        assert nim.get("/v1/health/ready")["message"] == "Service is ready."
        nim.close()


def test_inference_that_can_load_nothing_any_more_starts_and_says_why(tmp_path: Path) -> None:
    with tiny_platform(tmp_path) as running, running.sdk() as sdk:
        store(running, "ns/whole", make_checkpoint(tmp_path / "whole"))
        deployments = sdk.deployment.model_deployments
        seeds = list(deployments.list())
        config: Any = {"model": "ns/whole", "nim_deployment": NIM}
        deployments.create(name="whole", namespace="ns", config=config)
        eventually(lambda: status_of(sdk, "whole", "ns") == "ready", "it is deployed")
        for seed in seeds:
            deployments.delete(seed.name or "", namespace=seed.namespace or "")
        running.hf().delete_repo("ns/whole")
        again = replace(running.settings, nim_port=free_port(), home=tmp_path / "again")
        with running_nim(again) as nim:
            body = {"model": "ns/whole", "messages": HELLO}
            with pytest.raises(UpstreamError, match="cannot be served: .*ns/whole.* not found"):
                nim.post(CHAT, json=body)


def test_a_model_whose_deployment_has_failed_is_404_with_the_reason(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {}, home=tmp_path / "home", port=free_port(), nim_port=free_port(), dataset_rows=0,
        models_dir=make_models_dir(tmp_path / "models"), threads=1, spare_training=0,
        nim_memory_mb=0.01,
    )  # fmt: skip
    reasons = {
        MODEL: "exceed the limit .*raise NEMO_LOCAL_NIM_MEMORY",
        "meta/llama-3.1-8b-instruct": "no weights of .* here; put a checkpoint",
    }
    with running_control_plane(settings) as running, running_nim(settings) as nim:
        client, path = running.client(), f"/v1/deployment/model-deployments/{MODEL}"
        eventually(lambda: client.get(path)["status_details"]["status"] == "failed", "it failed")
        for model, reason in reasons.items():
            with pytest.raises(UpstreamError, match=f"cannot be served: .*{reason}") as no:
                nim.post(CHAT, json={"model": model, "messages": HELLO})
            assert no.value.status == 404
