"""Deployment Management: what is deployed is what NIM serves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nemo_microservices import APIStatusError, NeMoMicroservices
from openai import OpenAI

from nemo_local.core.client import Client
from tests.conftest import Running, running_control_plane
from tests.contract.tiny_platform import MODEL, eventually, tiny_platform

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


def test_a_deployment_from_a_stored_configuration(sdk: NeMoMicroservices, openai: OpenAI) -> None:
    configs = sdk.deployment.configs
    configs.create(
        name="tiny",
        namespace="acme",
        model="acme/tiny-chat",
        nim_deployment={**NIM, "disable_lora_support": True},  # type: ignore[typeddict-item]
    )
    assert configs.retrieve("tiny", namespace="acme").model == "acme/tiny-chat"
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
    assert "acme/tiny-chat" in served(openai)
    with pytest.raises(APIStatusError) as caught:
        deployments.create(name="late", namespace="acme", config="acme/tiny")
    assert caught.value.status_code == 404


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


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"model": MODEL}, id="no nim_deployment"),
        pytest.param({"nim_deployment": NIM}, id="no model"),
        pytest.param({"model": MODEL, "nim_deployment": {"gpu": "one"}}, id="mistyped"),
        pytest.param(
            {"model": MODEL, "external_endpoint": {"host_url": "http://x", "api_key": "sk-1"}},
            id="external endpoint",
        ),
    ],
)
def test_a_configuration_nothing_can_follow_is_422(sdk: NeMoMicroservices, config: Any) -> None:
    with pytest.raises(APIStatusError) as caught:
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
