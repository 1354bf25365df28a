"""The rules of the Entity Store."""

import pytest

from nemo_local.core.errors import Conflict, Invalid, NotFound
from nemo_local.core.query import ListQuery
from nemo_local.entity_store.service import EntityStoreService


@pytest.fixture
def service(documents):
    service = EntityStoreService(documents)
    service.start()
    return service


def test_the_namespace_default_exists_after_every_start(service):
    service.start()
    assert [item["id"] for item in service.namespaces(ListQuery()).items] == ["default"]


def test_a_namespace_shows_neither_name_nor_namespace(service):
    created = service.create_namespace({"id": "ns"})
    assert set(created) == {"id", "custom_fields", "created_at", "updated_at"}


@pytest.mark.parametrize(
    ("namespace_id", "words"),
    [
        ("", "Field required"),
        *((name, "use letters, digits and . _ - only") for name in ("a b", "a/b", "a@b", "-a")),
        ("x" * 256, "use at most 255"),
    ],
)
def test_an_id_that_cannot_stand_in_a_path_is_refused(service, namespace_id, words):
    with pytest.raises(Invalid, match=words):
        service.create_namespace({"id": namespace_id})


def test_namespaces_are_filtered_by_their_own_id(service):
    service.create_namespace({"id": "ns", "project": "p"})
    for query in (
        ListQuery(filter={"namespace": "ns"}),
        ListQuery(search={"namespace": "NS"}),
        ListQuery(filter={"project": "p"}),
    ):
        assert [item["id"] for item in service.namespaces(query).items] == ["ns"]


def test_deleting_a_namespace_leaves_its_entities(service):
    service.create_namespace({"id": "ns"})
    service.create("dataset", {"namespace": "ns", "name": "d", "files_url": "hf://datasets/a/b"})
    deleted = service.delete_namespace("ns")
    assert deleted["deleted_at"] == "2025-06-20T03:58:16.182000"
    assert service.get("dataset", "ns", "d")["name"] == "d"


def test_the_same_name_may_stand_in_another_namespace_or_collection(service):
    service.create("project", {"name": "x", "namespace": "a"})
    service.create("project", {"name": "x", "namespace": "b"})
    service.create("model", {"name": "x", "namespace": "a"})
    with pytest.raises(Conflict, match="project 'a/x' already exists"):
        service.create("project", {"name": "x", "namespace": "a"})


@pytest.mark.parametrize("field", ["name", "namespace"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, "use letters, digits and .* only") for name in ("a b", "a/b", "../x", "ä")),
        ("x" * 256, "use at most 255"),
    ],
)
def test_a_name_that_cannot_stand_in_a_path_is_refused(service, field, name, words):
    with pytest.raises(Invalid, match=f"'{field}'.*{words}"):
        service.create("model", {field: name})


def test_an_update_replaces_top_level_fields_only(service, clock):
    created = service.create(
        "model", {"name": "m", "custom_fields": {"a": 1}, "base_model": "meta/b"}
    )
    clock.advance(1)
    changed = service.update(
        "model", "default", "m", {"custom_fields": {"b": 2}, "name": "n", "id": "x", "peft": None}
    )
    assert changed["custom_fields"] == {"b": 2} and changed["base_model"] == "meta/b"
    assert (changed["name"], changed["id"]) == ("m", created["id"])
    assert changed["updated_at"] > created["updated_at"]


def test_a_new_key_replaces_the_stored_one(service, documents):
    endpoint = {"url": "http://x", "model_id": "m", "api_key": "old"}
    service.create("model", {"name": "m", "api_endpoint": endpoint})
    service.update("model", "default", "m", {"api_endpoint": {**endpoint, "api_key": "******"}})
    assert documents.get("model", "default", "m")["api_endpoint"]["api_key"] == "old"
    service.update("model", "default", "m", {"api_endpoint": {**endpoint, "api_key": "new"}})
    assert documents.get("model", "default", "m")["api_endpoint"]["api_key"] == "new"


def test_what_is_not_there_is_named(service):
    for call in (service.get, service.delete):
        with pytest.raises(NotFound, match="dataset 'ns/d' not found"):
            call("dataset", "ns", "d")
    with pytest.raises(NotFound):
        service.update("dataset", "ns", "d", {})
