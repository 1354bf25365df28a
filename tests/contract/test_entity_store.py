"""The official SDK against a running Entity Store."""

from __future__ import annotations

import httpx
import pytest
from nemo_microservices import (
    ConflictError,
    NeMoMicroservices,
    NotFoundError,
    UnprocessableEntityError,
)

from nemo_local.core.client import UpstreamError

pytestmark = pytest.mark.contract

MODEL = {
    "name": "llama-xlam@cust-FarcM8gwhL1XFDXQ57qGLL",
    "namespace": "ns",
    "base_model": "meta/llama-3.2-1b-instruct",
    "peft": {"finetuning_type": "lora"},
    "artifact": {"files_url": "hf://ns/llama-xlam@cust-1", "status": "upload_completed"},
}


@pytest.fixture
def sdk(control_plane) -> NeMoMicroservices:
    return control_plane.sdk()


def test_a_namespace_has_the_id_it_was_given(sdk):
    created = sdk.namespaces.create(id="ns", description="one", project="tool_calling")
    assert (created.id, created.description, created.project) == ("ns", "one", "tool_calling")
    assert sdk.namespaces.retrieve("ns").created_at == created.created_at
    assert {"default", "ns"} == {namespace.id for namespace in sdk.namespaces.list()}
    assert sdk.namespaces.update("ns", description="two").description == "two"
    assert sdk.namespaces.delete("ns").message == "Resource deleted successfully."
    with pytest.raises(NotFoundError, match="ns"):
        sdk.namespaces.retrieve("ns")


def test_second_create_of_a_namespace_is_a_conflict_that_no_client_retries(control_plane):
    asked = []
    http = httpx.Client(event_hooks={"request": [asked.append]})
    with NeMoMicroservices(base_url=control_plane.url, http_client=http) as sdk:
        sdk.namespaces.create(id="ns")
        with pytest.raises(ConflictError, match="409"):
            sdk.namespaces.create(id="ns")
    assert len(asked) == 2


def test_the_namespace_default_cannot_be_deleted(sdk):
    with pytest.raises(UnprocessableEntityError, match="default"):
        sdk.namespaces.delete("default")


def test_a_dataset_keeps_what_it_was_given(sdk):
    created = sdk.datasets.create(
        name="xlam", namespace="ns", project="p", files_url="hf://datasets/ns/xlam", format="json"
    )
    assert created.id.startswith("dataset-")
    found = sdk.datasets.retrieve("xlam", namespace="ns")
    assert found == created and found.split is None and found.custom_fields == {}
    changed = sdk.datasets.update("xlam", namespace="ns", description="new", custom_fields={"a": 1})
    assert (changed.description, changed.format) == ("new", "json")
    assert changed.created_at == created.created_at < changed.updated_at
    sdk.datasets.delete("xlam", namespace="ns")
    assert list(sdk.datasets.list()) == []


def test_a_null_means_the_default_where_there_is_one(sdk):
    nothing = {"custom_fields": None, "schema_version": None}
    for kind, body in (
        ("datasets", {"namespace": "ns", "name": "d", "files_url": "hf://datasets/a/b"}),
        ("models", {"namespace": "ns", "name": "m"}),
        ("projects", {"namespace": "ns", "name": "p"}),
    ):
        path = f"/v1/{kind}/ns/{body['name']}"
        created = sdk.post(f"/v1/{kind}", body={**body, **nothing}, cast_to=object)
        sdk.patch(path, body={"custom_fields": {"a": 1}}, cast_to=object)
        emptied = sdk.patch(path, body=nothing, cast_to=object)
        for shown in (created, emptied):
            assert (shown["custom_fields"], shown["schema_version"]) == ({}, "1.0")
    namespace = sdk.post("/v1/namespaces", body={"id": "n", **nothing}, cast_to=object)
    assert namespace["custom_fields"] == {}


def test_a_dataset_without_files_is_refused(sdk):
    with pytest.raises(UnprocessableEntityError, match="files_url"):
        sdk.post("/v1/datasets", body={"name": "x"}, cast_to=object)
    with pytest.raises(UnprocessableEntityError, match="files_url"):
        sdk.datasets.create(name="x", files_url="nowhere")


def test_an_entity_without_a_name_is_called_by_its_id(sdk):
    created = sdk.datasets.create(files_url="hf://datasets/a/b")
    assert created.name == created.id and created.namespace == "default"


def test_the_tutorial_lists_its_models(sdk):
    sdk.models.create(**MODEL)
    sdk.models.create(name="other", namespace="elsewhere")
    (model,) = sdk.models.list(filter={"namespace": "ns"}, sort="-created_at").data
    assert (model.name, model.base_model) == (MODEL["name"], MODEL["base_model"])
    assert model.peft.finetuning_type == "lora"
    found = sdk.models.retrieve(MODEL["name"], namespace="ns")
    assert found.artifact.status == "upload_completed"
    assert [m.name for m in sdk.models.list(filter={"peft": True})] == [MODEL["name"]]
    assert [m.name for m in sdk.models.list(filter={"peft": False})] == ["other"]
    assert [m.name for m in sdk.models.list(filter={"base_model": MODEL["base_model"]})] == [
        MODEL["name"]
    ]


def test_the_iterator_reaches_the_last_page_and_stops(sdk):
    for n in range(25):
        sdk.projects.create(name=f"p{n:02}", namespace="ns")
    names = [project.name for project in sdk.projects.list(sort="-name", page_size=10)]
    assert names == [f"p{n:02}" for n in reversed(range(25))]
    beyond = sdk.projects.list(page=9)
    assert beyond.data == [] and beyond.pagination.total_results == 25


def test_search_takes_parts_and_alternatives(sdk):
    for name in ("alpha", "beta", "gamma"):
        sdk.datasets.create(name=name, files_url="hf://datasets/a/b")
    assert [d.name for d in sdk.datasets.list(search={"name": "ALP"})] == ["alpha"]
    assert [d.name for d in sdk.datasets.list(search={"name": ["alp", "gam"]})] == [
        "alpha",
        "gamma",
    ]
    assert list(sdk.datasets.list(search={"created_at": {"end": "2001-01-01T00:00:00"}})) == []


def test_a_filter_may_be_json_text(control_plane):
    client = control_plane.client()
    tuned = {"finetuning_type": "lora"}
    client.post("/v1/models", json={"name": "base", "namespace": "ns"})
    client.post("/v1/models", json={"name": "tuned", "namespace": "ns", "peft": tuned})
    client.post("/v1/models", json={"name": "tuned", "namespace": "other", "peft": tuned})

    def found(**params):
        return [
            (m["namespace"], m["name"]) for m in client.get("/v1/models", params=params)["data"]
        ]

    assert found(filter='{"namespace": "ns", "peft": true}') == [("ns", "tuned")]
    assert found(filter='{"created_at": {"lte": "2001-01-01"}}') == []
    assert found(search='{"name": ["bas", "xyz"]}', filter="") == [("ns", "base")]
    deep = '{"base_model": ' + '{"a":' * 1000 + "1" + "}" * 1001
    for wrong in ("namespace", '["ns"]', "[" * 5000, '{"namespace": "\\ud83d"}', deep):
        with pytest.raises(UpstreamError, match=r"write filter\[field\]=value") as refused:
            found(filter=wrong)
        assert refused.value.status == 422
    with pytest.raises(UpstreamError, match="100 levels deep") as refused:
        found(**{"filter[base_model]" + "[a]" * 1000: "1"})
    assert refused.value.status == 422


@pytest.mark.parametrize(
    "field", ["filter[name]", "filter[namespace]", "search[name]", "search[description]"]
)
def test_a_date_operator_on_a_text_does_not_break_the_listing(control_plane, field):
    client = control_plane.client()
    client.post("/v1/projects", json={"name": "abc", "namespace": "ns", "description": "hello"})
    date = "2025-06-20"
    client.post("/v1/projects", json={"name": date, "namespace": date, "description": date})
    found = client.get("/v1/projects", params={f"{field}[gte]": "2025-01-01"})["data"]
    assert [item["name"] for item in found] == [date]
    for bound in ("hello", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(UpstreamError, match="not an ISO date") as refused:
            client.get("/v1/projects", params={f"{field}[gte]": bound})
        assert refused.value.status == 422


def test_an_api_key_is_never_shown_and_survives_a_round_trip(sdk, control_plane, documents):
    endpoint = {"url": "http://x/v1", "model_id": "m", "api_key": "sk-secret"}
    sdk.models.create(name="remote", api_endpoint=endpoint)
    shown = sdk.models.retrieve("remote", namespace="default")
    assert shown.api_endpoint.api_key == "******"
    payload = shown.model_dump(mode="json")
    control_plane.client().patch("/v1/models/default/remote", json=payload | {"description": "d"})
    stored = control_plane.client().get("/v1/models/default/remote")
    assert stored["description"] == "d" and stored["api_endpoint"]["api_key"] == "******"
    assert documents.get("model", "default", "remote")["api_endpoint"] == endpoint


def test_a_quoted_version_in_a_path_is_understood(control_plane):
    client = control_plane.client()
    client.post("/v1/models", json={"name": "m@v1.0.0+80GB", "namespace": "ns"})
    for path in ("/v1/models/ns/m@v1.0.0+80GB", "/v1/models/ns/m%40v1.0.0%2B80GB/"):
        assert client.get(path)["name"] == "m@v1.0.0+80GB"


def test_the_filter_for_lora_finds_what_customizer_makes(sdk):
    sdk.models.create(**MODEL)
    sdk.models.create(name="merged", peft={"finetuning_type": "lora_merged"})
    sdk.models.create(name="base")
    assert [m.name for m in sdk.models.list(filter={"peft": {"lora": True}})] == [MODEL["name"]]
    assert [m.name for m in sdk.models.list(filter={"peft": {"lora": False}})] == ["merged", "base"]


def test_a_model_that_an_earlier_sdk_calls_p_tuned_is_kept(sdk):
    tuned = {"finetuning_type": "p_tuning", "p_tuning": {"token_embeddings": [[0.5]]}}
    created = sdk.models.create(name="m", namespace="ns", peft=tuned)
    sdk.models.update("m", namespace="ns", peft=tuned, description="d")
    for shown in (created, sdk.models.retrieve("m", namespace="ns"), *sdk.models.list()):
        assert shown.peft.finetuning_type == "p_tuning"
        assert shown.peft.p_tuning.token_embeddings == [[0.5]]
    with pytest.raises(UnprocessableEntityError, match="finetuning_type"):
        sdk.models.create(name="other", peft={"finetuning_type": "magic"})
    with pytest.raises(UnprocessableEntityError, match="peft"):
        sdk.models.create(name="other", peft="lora")


@pytest.mark.parametrize("rails", ["ns/cfg", {"name": "cfg", "data": {"models": []}}])
def test_a_model_may_name_its_guardrails_or_hold_them(sdk, control_plane, rails):
    sdk.models.create(name="m", namespace="ns", guardrails=rails)
    sdk.models.update("m", namespace="ns", guardrails=rails, description="d")
    client = control_plane.client()
    (listed,) = client.get("/v1/models", params={"filter[namespace]": "ns"})["data"]
    assert listed["guardrails"] == rails
    shown = client.get("/v1/models/ns/m")["guardrails"]  # an object with its nulls
    assert shown == rails or shown["name"] == rails["name"]


@pytest.mark.parametrize(
    ("rails", "place", "words"),
    [
        (5, [], "valid dictionary"),
        ("", [], "write namespace/name"),
        ({"data": {"models": 5}}, ["data", "models"], "valid list"),
    ],
)
def test_a_mistake_in_a_models_guardrails_is_named_where_it_is(sdk, rails, place, words):
    sdk.models.create(name="m", namespace="ns")
    for send in (
        lambda: sdk.models.create(name="other", guardrails=rails),
        lambda: sdk.models.update("m", namespace="ns", guardrails=rails),
    ):
        with pytest.raises(UnprocessableEntityError) as refused:
            send()
        (problem,) = refused.value.body["detail"]
        assert problem["loc"] == ["body", "guardrails", *place] and words in problem["msg"]


def test_a_model_is_found_by_the_name_of_its_embedded_base(sdk):
    sdk.models.create(name="m", base_model={"namespace": "meta", "name": "b"})
    for name in ("b", "meta/b", {"name": "b"}):
        assert [m.name for m in sdk.models.list(filter={"base_model": name})] == ["m"]
    assert list(sdk.models.list(filter={"base_model": "meta"})) == []


def test_what_an_entity_says_of_owners_hubs_providers_and_prompts_is_kept(sdk):
    owner = {"created_by": "ann", "access_policies": {"read": "all"}}
    dataset = sdk.datasets.create(
        name="d",
        files_url="hf://datasets/a/b",
        hf_endpoint="https://hub.example",
        ownership=owner,
    )
    assert dataset == sdk.datasets.retrieve("d", namespace="default")
    assert (dataset.hf_endpoint, dataset.ownership) == ("https://hub.example", owner)
    prompt = {"system_prompt": "be brief", "icl_few_shot_examples": "a -> b"}
    model = sdk.models.create(name="m", prompt=prompt, model_providers=["ns/hosted"])
    sdk.models.create(name="plain")
    assert model == sdk.models.retrieve("m", namespace="default")
    assert model.prompt.system_prompt == "be brief" and model.model_providers == ["ns/hosted"]
    for filter, name in ((True, "m"), (False, "plain"), ({"system_prompt": "be brief"}, "m")):
        assert [found.name for found in sdk.models.list(filter={"prompt": filter})] == [name]


def test_an_unknown_search_does_not_empty_a_list(control_plane):
    client = control_plane.client()
    client.post("/v1/models", json={"name": "m", "custom_fields": {"item": "adapter"}})

    def found(**search):
        return len(client.get("/v1/models", params=search)["data"])

    assert found(**{"search[bogus]": "x"}) == found(**{"search[custom_property][item]": "x"}) == 1
    assert found(**{"search[custom_fields][item]": "adapt"}) == 1
    assert found(**{"search[custom_fields][item]": "x"}) == found(**{"search[spec]": "x"}) == 0


def test_a_search_to_a_date_includes_that_day(sdk):
    sdk.models.create(name="m")
    (model,) = sdk.models.list()
    day = str(model.created_at)[:10]
    assert len(list(sdk.models.list(search={"created_at": {"start": day, "end": day}}))) == 1


def test_no_entity_is_in_a_namespace_that_cannot_exist(sdk):
    for create in (
        lambda: sdk.namespaces.create(id="a@b"),
        lambda: sdk.datasets.create(namespace="a@b", files_url="hf://datasets/a/b"),
        lambda: sdk.evaluation.configs.create(type="custom", namespace="a@b", tasks={}),
        lambda: sdk.guardrail.configs.create(namespace="a@b", data={"models": []}),
    ):
        with pytest.raises(UnprocessableEntityError, match=r"use letters, digits and \. _ - only"):
            create()
