"""The rules of deployments, without a NIM or with one that is not ours."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException

from nemo_local.catalog import Catalog
from nemo_local.core.client import Client
from nemo_local.core.documents import Documents
from nemo_local.core.errors import Conflict, Invalid, NotFound
from nemo_local.core.query import ListQuery
from nemo_local.deployment.service import DeploymentService
from nemo_local.processes import wait_until
from tests.conftest import free_port
from tests.scripted_model import scripted_model, serving
from tests.tiny_checkpoint import entry

SERVED, ABSENT = "meta/served", "meta/absent"
NIM = {"image_name": "nim", "image_tag": "1", "gpu": 1}
Make = Callable[..., DeploymentService]


@pytest.fixture
def make(documents: Documents, tmp_path: Path) -> Iterator[Make]:
    catalog = Catalog([entry(SERVED, tmp_path), entry(ABSENT, None)])
    with ExitStack() as clients:

        def service(
            nim_url: str, within_s: float = 0, platform_url: str = "", look_every_s: float = 5
        ) -> DeploymentService:
            nim = clients.enter_context(closing(Client(nim_url)))
            platform_url = platform_url or f"http://127.0.0.1:{free_port()}"
            platform = clients.enter_context(closing(Client(platform_url)))
            made = DeploymentService(documents, nim, catalog, platform, within_s, look_every_s)
            clients.callback(made.stop)
            return made

        yield service


@pytest.fixture
def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


def body(model: str, name: str = "d", **more: object) -> dict[str, Any]:
    config = {"model": model, "nim_deployment": NIM}
    return {"name": name, "namespace": "ns", "config": config, **more}


def state(service: DeploymentService, name: str = "d") -> tuple[str, str]:
    """The status, once it is no longer pending, and what explains it."""

    def details() -> dict[str, str]:
        found: dict[str, str] = service.get("ns", name)["status_details"]
        return found

    wait_until(lambda: details()["status"] != "pending", 20, f"{name} is settled")
    return details()["status"], details()["description"]


def test_a_nim_that_never_answers_fails_the_deployment_by_name(make: Make, nowhere: str) -> None:
    service = make(nowhere)
    service.create(body(SERVED))
    status, why = state(service)
    assert status == "failed" and nowhere in why and "does not answer" in why


def test_a_model_without_weights_fails_even_while_nim_is_down(make: Make, nowhere: str) -> None:
    with scripted_model() as platform:
        service = make(nowhere, platform_url=platform.url)
        service.create(body(ABSENT))
        assert state(service) == ("failed", f"no weights of {ABSENT} here")


def test_an_endpoint_that_is_not_ours_counts_by_what_it_lists(make: Make) -> None:
    with scripted_model() as nim:
        nim.models = [{"id": ABSENT}]
        service = make(nim.url)
        service.create(body(ABSENT))
        assert state(service)[0] == "ready"
        service.create(body(SERVED, name="other"))
        assert state(service, "other")[0] == "failed"


def test_a_deployment_that_nim_does_not_serve_yet_holds_up_no_other(make: Make) -> None:
    with scripted_model() as nim:
        nim.models = [{"id": ABSENT}]
        service = make(nim.url, within_s=300)
        service.create(body(SERVED, name="waits"))
        service.create(body(ABSENT, name="other"))
        assert state(service, "other")[0] == "ready"
        assert service.get("ns", "waits")["status_details"]["status"] == "pending"


def test_a_patch_mends_a_deployment_that_still_waits(make: Make) -> None:
    with scripted_model() as nim:
        nim.models = [{"id": ABSENT}]
        service = make(nim.url, within_s=300)
        service.create(body(SERVED))
        service.update("ns", "d", {"models": [ABSENT]})
        assert state(service) == ("ready", "ready")


def test_a_version_of_a_model_that_nim_serves_is_ready(make: Make) -> None:
    with scripted_model() as nim, scripted_model() as platform:
        nim.models = [{"id": ABSENT}]
        service = make(nim.url, within_s=300, platform_url=platform.url)
        service.create(body(f"{ABSENT}@v1.0.0+80GB"))
        assert state(service)[0] == "ready"


def test_a_version_of_a_model_that_nim_cannot_load_fails_with_the_reason(make: Make) -> None:
    nim = FastAPI()

    @nim.post("/internal/refresh")
    def refresh() -> dict[str, Any]:
        return {"models": [], "failed": {SERVED: "its weights are cut off"}, "tried_again": []}

    @nim.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"data": []}

    with serving(nim) as url:
        service = make(url, within_s=300)
        service.create(body(f"{SERVED}@v1.0.0+80GB"))
        assert state(service) == ("failed", "its weights are cut off")


def test_a_failure_that_may_pass_leaves_a_deployment_pending_until_it_has(make: Make) -> None:
    nim, served, hurries = FastAPI(), list[dict[str, str]](), list[bool]()

    @nim.post("/internal/refresh")
    def refresh(hurry: bool) -> dict[str, Any]:
        hurries.append(hurry)
        return {"models": [], "failed": {SERVED: "no such repository"}, "tried_again": [SERVED]}

    @nim.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"data": served}

    def details(service: DeploymentService) -> list[str]:
        return list(service.get("ns", "d")["status_details"].values())

    with serving(nim) as url:
        hasty = make(url)
        hasty.create(body(SERVED, name="late"))
        assert state(hasty, "late") == ("failed", "no such repository")
        hurries.clear()
        service = make(url, within_s=300, look_every_s=0.02)
        service.create(body(SERVED))
        expected = ["pending", "no such repository"]
        wait_until(lambda: details(service) == expected, 20, "the reason is shown")
        wait_until(lambda: len(hurries) > 2, 20, "NIM is asked again")
        assert hurries[:3] == [True, False, False]  # it has waits of its own
        served.append({"id": SERVED})
        assert state(service) == ("ready", "ready")


def test_a_model_that_nim_serves_no_more_is_not_ready_until_it_does_again(make: Make) -> None:
    with scripted_model() as nim:
        nim.models = [{"id": SERVED}]
        service = make(nim.url, within_s=300, look_every_s=0.02)
        service.create(body(SERVED))
        assert state(service)[0] == "ready"
        nim.models = []
        wait_until(lambda: not service.get("ns", "d")["deployed"], 20, "it is noticed")
        assert service.get("ns", "d")["status_details"]["status"] == "pending"
        nim.models = [{"id": SERVED}]
        assert state(service)[0] == "ready"


def test_a_deployment_that_has_failed_is_ready_once_nim_serves_its_model(make: Make) -> None:
    with scripted_model() as nim:
        nim.models = []
        service = make(nim.url, look_every_s=0.02)
        service.create(body(SERVED, name="late"))
        service.create(body(ABSENT, name="never"))
        assert state(service, "late")[0] == state(service, "never")[0] == "failed"
        nim.models = [{"id": SERVED}]
        wait_until(lambda: service.get("ns", "late")["deployed"], 20, "it is ready")
        assert service.get("ns", "never")["status_details"]["status"] == "failed"


def test_a_ready_deployment_is_not_doubted_while_the_entity_store_does_not_answer(
    make: Make,
) -> None:
    store, statuses = FastAPI(), [404]

    @store.get("/v1/models/{path:path}")
    def model(path: str) -> Any:
        statuses.append(statuses[-1])
        raise HTTPException(statuses[-1])

    with scripted_model() as nim, serving(store) as url:
        nim.models = [{"id": SERVED}]
        service = make(nim.url, platform_url=url, look_every_s=0.02)
        service.create(body(f"{SERVED}@v1.0.0+80GB"))
        assert state(service)[0] == "ready"
        statuses.append(503)
        wait_until(lambda: statuses[-3:] == [503] * 3, 20, "it is asked and fails")
        assert service.get("ns", "d")["deployed"]


@pytest.mark.parametrize(
    ("listed", "words"),
    [({"answered_by": "llama3.1:8b"}, "ready; meta/served answered by llama3.1:8b"), ({}, "ready")],
    ids=["nim says", "nim does not say"],
)
def test_who_answers_is_whom_nim_names_and_not_the_model_of_this_machine(
    make: Make, listed: dict[str, str], words: str
) -> None:
    with scripted_model() as nim:
        nim.models = [{"id": SERVED, **listed}]
        service = make(nim.url)
        service.create(body(f"{SERVED}@v1.0.0+80GB", models=[SERVED]))
        assert state(service) == ("ready", words)


def test_a_version_that_is_a_stored_model_is_not_ready_with_the_model_it_is_named_after(
    make: Make, nowhere: str
) -> None:
    with scripted_model() as nim:
        nim.models = [{"id": SERVED}]
        service = make(nim.url, platform_url=nowhere)  # whoever is not there may store it
        service.create(body(f"{SERVED}@mine"))
        assert state(service)[0] == "failed"


def test_models_of_a_deployment_can_be_patched_once_its_configuration_is_deleted(
    make: Make, nowhere: str
) -> None:
    service = make(nowhere)
    service.create_config({"name": "c", "namespace": "ns", "model": SERVED, "nim_deployment": NIM})
    service.create({"name": "d", "namespace": "ns", "config": "ns/c"})
    service.delete_config("ns", "c")
    assert service.update("ns", "d", {"models": [ABSENT]})["models"] == [ABSENT]
    shown = {**service.get("ns", "d"), "models": [SERVED]}
    assert service.update("ns", "d", shown)["models"] == [SERVED]


def test_a_deployment_follows_its_configuration_as_it_was_when_it_was_named(
    make: Make, nowhere: str
) -> None:
    service = make(nowhere)
    quiet = {**NIM, "disable_lora_support": True}
    service.create_config(
        {"name": "c", "namespace": "ns", "model": SERVED, "nim_deployment": quiet}
    )
    service.create({"name": "d", "namespace": "ns", "config": "ns/c"})

    def followed() -> Any:
        (found,) = service.find(ListQuery(), expand_config=True).items
        return found["config"].get("nim_deployment")

    service.update_config("ns", "c", {"nim_deployment": NIM})
    assert followed() == quiet
    service.update("ns", "d", {"config": "ns/c"})
    assert followed() == NIM
    service.update_config("ns", "c", {"nim_deployment": quiet})
    service.update("ns", "d", {"models": [SERVED]})
    assert followed() == NIM
    service.update("ns", "d", {"config": "ns/c", "models": [SERVED]})
    assert followed() == quiet
    service.delete_config("ns", "c")
    assert followed() == quiet
    (shown,) = service.find(ListQuery()).items
    assert shown == service.get("ns", "d") and shown["config"] == "ns/c"
    assert "disable_lora_support" not in str(shown) and "config_taken" not in shown


def test_a_new_configuration_changes_the_models_only_if_the_old_one_named_them(
    make: Make, nowhere: str
) -> None:
    service = make(nowhere)
    service.create_config({"name": "c", "namespace": "ns", "model": SERVED, "nim_deployment": NIM})
    service.create({"name": "named", "namespace": "ns", "config": "ns/c"})
    service.create({"name": "given", "namespace": "ns", "config": "ns/c", "models": ["a/b", "a/c"]})
    service.update_config("ns", "c", {"model": ABSENT})
    other = {"model": "a/other", "nim_deployment": NIM}
    for config, model in (("ns/c", ABSENT), (other, "a/other")):
        assert service.update("ns", "named", {"config": config})["models"] == [model]
        assert service.update("ns", "given", {"config": config})["models"] == ["a/b", "a/c"]
    assert service.update("ns", "given", {"models": []})["models"] == ["a/other"]


@pytest.mark.parametrize("model", ["", "served", "ns/", "/served", "ns/..", "ns/a/b"])
def test_an_id_that_no_model_can_have_is_refused(make: Make, nowhere: str, model: str) -> None:
    service = make(nowhere)
    with pytest.raises(Invalid, match="models"):
        service.create(body(SERVED, models=[model]))
    with pytest.raises(Invalid, match="models"):
        service.create(body(model))
    service.create(body(SERVED))
    with pytest.raises(Invalid, match="models"):
        service.update("ns", "d", {"models": [SERVED, model]})


@pytest.mark.parametrize("listing", [None, "<html>", [], {"object": "list"}, {"data": [7]}])
def test_an_endpoint_that_lists_no_models_does_not_leave_a_deployment_pending(
    make: Make, listing: Any
) -> None:
    with scripted_model() as nim:
        nim.listing = listing
        service = make(nim.url)
        service.create(body(SERVED))
        assert state(service) == ("failed", f"{nim.url}/v1/models returned no list of models")
        service.delete("ns", "d")


def test_seeds_are_made_once(make: Make, nowhere: str, documents: Documents) -> None:
    service = make(nowhere)
    service.start()
    assert [d["name"] for d in service.find(ListQuery()).items] == ["served"]
    service.delete("meta", "served")
    service.start()
    assert service.find(ListQuery()).total == 0


def test_a_deployment_that_failed_is_tried_again_at_the_next_start(
    make: Make, nowhere: str
) -> None:
    make(nowhere).create(body(SERVED))
    with scripted_model() as nim:
        nim.models = [{"id": SERVED}]
        service = make(nim.url)
        assert state(service)[0] == "failed"
        service.start()
        assert state(service)[0] == "ready"


def test_a_seed_gives_way_to_a_deployment_of_its_name(make: Make, nowhere: str) -> None:
    service = make(nowhere)
    service.create({**body(ABSENT, name="served"), "namespace": "meta"})
    service.start()
    assert service.get("meta", "served")["models"] == [ABSENT]


def test_fields_are_kept_and_secrets_are_not(
    make: Make, nowhere: str, documents: Documents
) -> None:
    service = make(nowhere)
    made = service.create(
        body(SERVED, description="mine", custom_fields={"a": 1}, hf_token="hf_x", models=[ABSENT])
    )
    assert (made["description"], made["custom_fields"]) == ("mine", {"a": 1})
    assert made["models"] == [ABSENT] and made["async_enabled"] is False
    stored = documents.get("model_deployment", "ns", "d")
    assert "hf_x" not in f"{made}{stored}" and made["id"].startswith("deployment-")


def test_a_model_that_is_named_three_times_is_one(make: Make, nowhere: str) -> None:
    made = make(nowhere).create(body(SERVED, models=[SERVED, ABSENT, SERVED, SERVED]))
    assert made["models"] == [SERVED, ABSENT]


@pytest.mark.parametrize(
    "name",
    [
        "NGC_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "MY_PASSWORD",
        "HUGGING_FACE_HUB_TOKEN",
        "A_SECRET",
        "PGPASSWORD",
    ],
)
def test_secrets_in_additional_envs_are_hidden_and_survive_a_round_trip(
    make: Make, nowhere: str, documents: Documents, name: str
) -> None:
    service = make(nowhere)
    envs = {name: "nvapi-x", "NIM_MODEL_NAME": "x"}
    config = {"model": SERVED, "nim_deployment": {**NIM, "additional_envs": envs}}
    service.create({"name": "d", "namespace": "ns", "config": config})
    service.create_config({"name": "c", "namespace": "ns", **config})
    shown, shown_config = service.get("ns", "d"), service.get_config("ns", "c")
    assert "nvapi-x" not in f"{shown}{shown_config}{service.find(ListQuery()).items}"
    hidden = {**envs, name: "******"}
    assert shown["config"]["nim_deployment"]["additional_envs"] == hidden
    shown["config"]["nim_deployment"]["additional_envs"]["NIM_MODEL_NAME"] = "y"
    assert "nvapi-x" not in str(service.update("ns", "d", shown))
    stored = documents.get("model_deployment", "ns", "d")["config"]["nim_deployment"]
    assert stored["additional_envs"] == {**envs, "NIM_MODEL_NAME": "y"}
    service.update_config("ns", "c", {**shown_config, "description": "new"})
    stored = documents.get("deployment_config", "ns", "c")["nim_deployment"]
    assert stored["additional_envs"] == envs


def test_an_embedded_model_is_named_by_its_namespace(make: Make, nowhere: str) -> None:
    config = {"model": {"namespace": "meta", "name": "served"}, "nim_deployment": NIM}
    made = make(nowhere).create({"config": config})
    assert made["models"] == [SERVED] and made["name"] == made["id"]
    assert made["namespace"] == "default"


@pytest.mark.parametrize("model", [{}, {"namespace": "meta"}, {"name": ""}, None])
def test_a_model_without_a_name_is_no_model(
    make: Make, nowhere: str, model: dict[str, str] | None
) -> None:
    service = make(nowhere)
    config = {"model": model, "nim_deployment": NIM}
    with pytest.raises(Invalid, match="name a model here or in config.model"):
        service.create({"config": config})
    assert service.create({"config": config, "models": [SERVED]})["models"] == [SERVED]


def test_filters_find_by_status(make: Make, nowhere: str) -> None:
    service = make(nowhere)
    service.create(body(ABSENT))
    assert state(service)[0] == "failed"
    assert service.find(ListQuery(filter={"status": "failed"})).total == 1
    assert service.find(ListQuery(filter={"status": "ready"})).total == 0


def test_a_name_that_is_taken_unknown_or_unusable_is_refused(make: Make, nowhere: str) -> None:
    service = make(nowhere)
    service.create(body(SERVED))
    with pytest.raises(Conflict, match="model deployment already exists: ns/d"):
        service.create(body(SERVED))
    with pytest.raises(NotFound):
        service.delete("ns", "other")
    with pytest.raises(NotFound):
        service.create({**body(SERVED, name="e"), "config": "ns/nothing"})
    with pytest.raises(Invalid):
        service.create(body(SERVED, name="a/b"))
    with pytest.raises(NotFound):
        service.update("ns", "d", {"config": "ns/nothing"})
    service.create_config({"name": "c", "model": SERVED, "nim_deployment": NIM})
    with pytest.raises(Conflict):
        service.create_config({"name": "c", "model": SERVED, "nim_deployment": NIM})


@pytest.mark.parametrize("namespace", ["a/b", "..", "-a", "a b"])
def test_a_namespace_that_cannot_stand_in_a_path_is_refused(
    make: Make, nowhere: str, namespace: str
) -> None:
    service = make(nowhere)
    with pytest.raises(Invalid, match="namespace"):
        service.create({**body(SERVED), "namespace": namespace})
    config = {"name": "c", "namespace": namespace, "model": SERVED, "nim_deployment": NIM}
    with pytest.raises(Invalid, match="namespace"):
        service.create_config(config)


@pytest.mark.parametrize("reference", ["cfg", "ns/", "/cfg", "a/b/c"])
def test_a_configuration_is_named_with_its_namespace(
    make: Make, nowhere: str, reference: str
) -> None:
    with pytest.raises(Invalid, match=f"namespace/name.*'input': '{reference}'"):
        make(nowhere).create({"name": "d", "config": reference})
