"""What a PATCH may not leave behind: an entity that nobody can read any more."""

from collections.abc import Iterator
from typing import Any

import pytest

from nemo_local.core.client import Client, UpstreamError
from nemo_local.settings import Settings
from tests.conftest import free_port, running_control_plane

pytestmark = pytest.mark.contract
OPTION = {"training_type": "sft", "finetuning_type": "lora", "num_gpus": 1, "micro_batch_size": 1}
NIM = {"image_name": "nim", "image_tag": "1", "gpu": 1}
METRIC = {"type": "em", "params": {"ground_truth": "{{ item.a }}"}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/projects": {},
    "/v1/datasets": {"files_url": "hf://datasets/ns/d"},
    "/v1/models": {"spec": {"num_parameters": 1, "context_size": 1, "num_virtual_tokens": 0,
                            "is_chat": True}},
    "/v1/customization/configs": {"max_seq_length": 100, "training_options": [OPTION]},
    "/v1/customization/targets": {
        "num_parameters": 5, "precision": "fp32", "base_model": "meta/llama-3.2-1b-instruct",
    },
    "/v1/deployment/configs": {"model": "meta/m", "nim_deployment": NIM},
    "/v1/deployment/model-deployments": {"config": {"model": "meta/m", "nim_deployment": NIM}},
    "/v1/evaluation/configs": {
        "type": "custom", "tasks": {"qa": {"type": "data", "metrics": {"em": METRIC}}},
    },
    "/v1/evaluation/targets": {"type": "rows", "rows": [{"a": 1}]},
}  # fmt: skip
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/datasets", {"files_url": None}),
    ("/v1/customization/configs", {"max_seq_length": None}),
    ("/v1/customization/targets", {"num_parameters": None}),
    ("/v1/customization/targets", {"precision": None}),
    *(
        (f"/v1/deployment/{kind}", change)
        for kind in ("configs", "model-deployments")
        for change in ({"description": 5}, {"custom_fields": [1]}, {"ownership": "x"})
    ),
    ("/v1/deployment/configs", {"model": 5}),
    ("/v1/deployment/model-deployments", {"config": 5}),
    ("/v1/deployment/model-deployments", {"models": 5}),
    ("/v1/evaluation/configs", {"tasks": 5}),
    ("/v1/evaluation/configs", {"type": None}),
    ("/v1/evaluation/targets", {"model": 5}),
    ("/v1/evaluation/targets", {"type": "nope"}),
    ("/v1/evaluation/targets", {"rows": ["a"]}),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = Settings.from_environment(
        {},
        home=tmp_path_factory.mktemp("patch"),
        port=free_port(),
        nim_port=free_port(),
        dataset_rows=0,
        spare_training=0,
    )
    with running_control_plane(settings) as running:
        yield running.client()


@pytest.fixture
def create(client: Client) -> Iterator[Any]:
    made: list[str] = []

    def create_entity(collection: str, **fields: Any) -> str:
        client.post(
            collection, json={**BODIES[collection], "name": "d", "namespace": "ns", **fields}
        )
        made.append(f"{collection}/ns/d")
        return made[-1]

    yield create_entity
    for path in made:
        client.delete(path)


def steady(entity: dict[str, Any]) -> dict[str, Any]:
    """The entity but for what changes by itself: a deployment waits for inference."""
    return {key: entity[key] for key in entity.keys() - {"status_details", "updated_at"}}


@pytest.mark.parametrize(
    ("collection", "change"), REFUSED, ids=[f"{path} {change}" for path, change in REFUSED]
)
def test_a_patch_after_which_every_get_would_fail_is_refused_and_changes_nothing(
    client: Client, create: Any, collection: str, change: dict[str, Any]
) -> None:
    path = create(collection)
    before = client.get(path)
    with pytest.raises(UpstreamError) as refused:
        client.patch(path, json=change)
    assert refused.value.status == 422
    (field,) = change
    assert all(problem["loc"][:2] == ["body", field] for problem in refused.value.detail)
    assert steady(client.get(path)) == steady(before)
    assert client.get(collection, params={"filter[namespace]": "ns"})["data"]


@pytest.mark.parametrize("collection", BODIES)
def test_a_client_may_send_back_the_nulls_it_was_shown(
    client: Client, create: Any, collection: str
) -> None:
    path = create(collection, description="old")
    changed = client.patch(path, json={**client.get(path), "description": None})
    assert changed.get("description") is None
    assert steady(client.get(path)).items() <= changed.items()


@pytest.mark.parametrize("collection", [path for path in BODIES if "customization" not in path])
def test_a_null_in_place_of_custom_fields_means_none(
    client: Client, create: Any, collection: str
) -> None:
    path = create(collection, custom_fields={"a": 1})
    assert client.patch(path, json={"custom_fields": None})["custom_fields"] == {}


@pytest.mark.parametrize(
    "change",
    [{"tasks": 5}, {"tasks": {"t": 5}}, {"groups": [1]}, {"custom_fields": 5}, {"job": None}],
    ids=str,
)
def test_a_result_that_could_not_be_shown_is_refused(
    client: Client, change: dict[str, Any]
) -> None:
    made = client.post("/v1/evaluation/results", json={"job": "eval-1"})
    path = f"/v1/evaluation/results/{made['id']}"
    with pytest.raises(UpstreamError, match=next(iter(change))) as refused:
        client.patch(path, json=change)
    assert refused.value.status == 422
    assert client.get(path) == made


def test_a_result_may_be_sent_back_as_it_was_shown(client: Client) -> None:
    made = client.post("/v1/evaluation/results", json={"job": "eval-1"})
    path = f"/v1/evaluation/results/{made['id']}"
    assert client.patch(path, json={"tasks": None, "custom_fields": None})["tasks"] == {}
    assert client.patch(path, json={"description": "kept"})["tasks"] == {}
    scores = {"qa": {"metrics": {"f1": {"scores": {"f1": {"value": None}}}}}}
    changed = client.patch(path, json={"tasks": scores})
    assert client.patch(path, json=changed)["tasks"] == changed["tasks"]


def test_a_null_in_a_patched_training_config_means_the_default(client: Client, create: Any) -> None:
    path = create("/v1/customization/configs", prompt_template="{a} {b}")
    changed = client.patch(path, json={"prompt_template": None})
    assert changed["prompt_template"] == "{prompt} {completion}"


@pytest.mark.parametrize("kind", ["configs", "model-deployments"])
def test_a_null_in_a_patched_deployment_means_the_default(
    client: Client, create: Any, kind: str
) -> None:
    fields: dict[str, Any] = {"custom_fields": {"a": 1}}
    defaults: dict[str, Any] = {"custom_fields": {}}
    if kind == "model-deployments":
        fields, defaults = {**fields, "async_enabled": True}, {**defaults, "async_enabled": False}
    path = create(f"/v1/deployment/{kind}", **fields)
    assert client.patch(path, json=dict.fromkeys(fields)).items() >= defaults.items()


def test_a_refused_patch_does_not_show_the_key_it_brought(client: Client, create: Any) -> None:
    path = create("/v1/evaluation/targets")
    with pytest.raises(UpstreamError, match="url") as refused:
        client.patch(path, json={"model": {"api_endpoint": {"api_key": "sk-1"}}})
    assert "sk-1" not in str(refused.value.detail)


@pytest.mark.parametrize("collection", BODIES)
def test_lists_keep_the_nulls_that_users_put_into_custom_fields(
    client: Client, create: Any, collection: str
) -> None:
    fields = {"a": 1, "n": None, "inside": [{"m": None}]}
    path = create(collection, custom_fields=fields)
    listed = client.get(collection, params={"filter[namespace]": "ns"})["data"]
    assert [entity["custom_fields"] for entity in listed] == [fields]
    assert client.get(path)["custom_fields"] == fields
    assert client.patch(path, json={"custom_fields": {"b": None}})["custom_fields"] == {"b": None}
