"""The document store."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from nemo_local.core.documents import Documents
from nemo_local.core.errors import Conflict, NotFound, Unavailable
from nemo_local.core.query import ListQuery


def names(page):
    return [item["name"] for item in page.items]


def test_an_entity_is_its_document_with_names_and_times(documents):
    created = documents.create("dataset", "ns", "d", {"files_url": "hf://x", "id": "ignored"})
    assert created == {
        "files_url": "hf://x",
        "id": created["id"],
        "namespace": "ns",
        "name": "d",
        "created_at": "2025-06-20T03:58:16.182000",
        "updated_at": "2025-06-20T03:58:16.182001",
    }
    assert created["id"].startswith("dataset-")
    assert documents.get("dataset", "ns", "d") == created
    assert documents.get_by_id("dataset", created["id"]) == created


def test_a_taken_name_is_a_conflict_and_names_it(documents):
    documents.create("dataset", "ns", "d", {})
    documents.create("model", "ns", "d", {})
    with pytest.raises(Conflict, match="dataset 'ns/d' already exists"):
        documents.create("dataset", "ns", "d", {})


def test_a_taken_id_is_a_conflict(documents):
    documents.create("evaluation_job", "default", None, {}, id="eval-1")
    with pytest.raises(Conflict, match="evaluation job 'eval-1' already exists"):
        documents.create("evaluation_job", "default", None, {}, id="eval-1")


def test_an_update_merges_and_advances_one_time_only(documents, clock):
    created = documents.create("model", "ns", "m", {"a": 1, "b": {"c": 2}})
    clock.advance(60)
    updated = documents.update("model", created["id"], {"b": 3, "name": "other", "created_at": "x"})
    assert (updated["a"], updated["b"], updated["name"]) == (1, 3, "m")
    assert updated["created_at"] == created["created_at"]
    assert updated["updated_at"] == "2025-06-20T03:59:16.182000"


def test_a_time_goes_forward_even_when_the_clock_stands(documents):
    created = documents.create("model", "ns", "m", {})
    assert documents.update("model", created["id"], {})["updated_at"] > created["updated_at"]


def test_updates_from_many_threads_are_all_counted(documents):
    counter = documents.create("counter", "", "c", {"value": 0})

    def add() -> None:
        for _ in range(20):
            documents.update("counter", counter["id"], lambda now: {"value": now["value"] + 1})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert documents.get("counter", "", "c")["value"] == 80


def test_no_writer_waits_for_a_locked_database_behind_another(settings):
    store, waited = Documents(settings.database_url, locked_s=1.0), []
    created = store.create("model", "ns", "m", {})

    def write() -> None:
        began = time.monotonic()
        with pytest.raises(
            (OperationalError, Unavailable), match="database is locked|busy for 1 s"
        ):
            store.update("model", created["id"], {"a": 1})
        waited.append(time.monotonic() - began)

    with closing(sqlite3.connect(settings.home / "platform.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    assert len(waited) == 4 and 0.9 <= max(waited) < 3.0  # one behind the other it were four
    assert store.update("model", created["id"], {"a": 2})["a"] == 2
    store.close()


def test_a_writer_that_waits_for_another_in_vain_is_told_so(settings):
    store = Documents(settings.database_url, locked_s=0.1)
    created = store.create("model", "ns", "m", {})

    def change(_):
        with ThreadPoolExecutor() as threads, pytest.raises(Unavailable, match="other requests"):
            threads.submit(store.create, "model", "ns", "other", {}).result(timeout=10)
        return {}

    store.update("model", created["id"], change)
    store.close()


def test_a_shortened_wait_for_another_program_ends_with_its_transaction(settings):
    store = Documents(settings.database_url, locked_s=1.0)
    created = store.create("model", "ns", "m", {})
    with pytest.raises(NotFound):
        store.delete("model", "none")
    store.update("model", created["id"], {"a": 1})
    with store._session() as session:
        wait = session.connection().exec_driver_sql("PRAGMA busy_timeout").scalar()
    assert wait == 30000
    store.close()


def test_a_failing_update_changes_nothing(documents):
    created = documents.create("model", "ns", "m", {"a": 1})

    def refuse(_):
        raise NotFound("no")

    with pytest.raises(NotFound):
        documents.update("model", created["id"], refuse)
    assert documents.get("model", "ns", "m") == created


def test_what_was_deleted_is_not_found(documents):
    created = documents.create("model", "ns", "m", {})
    assert documents.delete("model", created["id"]) == created
    for call in (documents.get_by_id, documents.delete):
        with pytest.raises(NotFound, match="not found"):
            call("model", created["id"])


def test_entities_survive_a_restart(documents, settings):
    documents.create("model", "ns", "m", {"a": 1})
    again = Documents(settings.database_url)
    assert again.get("model", "ns", "m")["a"] == 1
    again.close()


@pytest.mark.parametrize("name", ["50%25 off", "what?", "a#b"])
def test_the_database_lies_in_a_home_with_any_signs_in_its_name(settings, name):
    home = settings.home.with_name(name)
    store = Documents(replace(settings, home=home).database_url)
    store.create("model", "ns", "m", {})
    store.close()
    assert (home / "platform.db").is_file()


def test_all_lists_by_fields_oldest_first(documents):
    for name, status in (("b", "done"), ("a", "new"), ("c", "done")):
        documents.create("job", "ns", name, {"status": status})
    assert [job["name"] for job in documents.all("job", status="done", namespace="ns")] == [
        "b",
        "c",
    ]
    assert documents.all("job", namespace="other") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(ListQuery(), ["b", "a", "c"], id="created-first"),
        pytest.param(ListQuery(sort="-created_at"), ["c", "a", "b"], id="created-last"),
        pytest.param(ListQuery(sort="size"), ["a", "b", "c"], id="missing-last"),
        pytest.param(ListQuery(filter={"peft": "true"}), ["a"], id="presence"),
        pytest.param(ListQuery(filter={"peft": "false"}), ["b", "c"], id="absence"),
        pytest.param(ListQuery(filter={"peft": {"lora": "true"}}), ["a"], id="inner-presence"),
        pytest.param(ListQuery(filter={"enabled": "true"}), ["c"], id="boolean"),
        pytest.param(ListQuery(filter={"base": {"name": "x"}}), ["b", "a"], id="reference"),
        pytest.param(ListQuery(filter={"base": "x"}), ["b", "a"], id="name-of-an-object"),
        pytest.param(ListQuery(filter={"base": "n/x"}), ["a"], id="full-name-of-an-object"),
        pytest.param(ListQuery(filter={"base": "n"}), [], id="no-name"),
        pytest.param(ListQuery(filter={"name": "a,c"}), ["a", "c"], id="joined"),
        pytest.param(ListQuery(filter={"name": ["a", "c"]}), ["a", "c"], id="repeated"),
        pytest.param(ListQuery(filter={"size": "2"}), ["b"], id="number"),
        pytest.param(ListQuery(search={"text": "HELL"}), ["b"], id="search"),
        pytest.param(ListQuery(sort="-name"), ["c", "b", "a"], id="names-backwards"),
        pytest.param(ListQuery(sort="namespace"), ["b", "a", "c"], id="oldest-of-equals-first"),
        pytest.param(ListQuery(sort="-namespace"), ["b", "a", "c"], id="and-backwards"),
        pytest.param(ListQuery(filter={"namespace": "no"}), [], id="no-such-namespace"),
        pytest.param(ListQuery(filter={"name": ["a,b", "d"]}), ["b", "a"], id="lists-of-lists"),
        pytest.param(
            ListQuery(filter={"name": "a,b", "size": "2"}), ["b"], id="name-and-other-field"
        ),
        pytest.param(
            ListQuery(search={"base": "SECRET"}), [], id="no-search-for-secrets-in-an-object"
        ),
        pytest.param(
            ListQuery(search={"base": {"api_key": "nvapi"}}), [], id="no-search-for-a-secret"
        ),
        pytest.param(
            ListQuery(filter={"base": {"api_key": "nvapi-SECRET"}}), [], id="no-filter-by-a-secret"
        ),
        pytest.param(
            ListQuery(search={"created_at": {"end": "2025-06-20"}}),
            ["b", "a", "c"],
            id="to-the-end-of-a-day",
        ),
        pytest.param(ListQuery(search={"created_at": {"end": "2025-06-19"}}), [], id="day-before"),
        pytest.param(ListQuery(page=2, page_size=2), ["c"], id="last-page"),
        pytest.param(ListQuery(page=9), [], id="past-the-end"),
        pytest.param(
            ListQuery(filter={"created_at": {"gte": "2025-06-20T03:58:17"}}), ["a", "c"], id="since"
        ),
        pytest.param(
            ListQuery(search={"created_at": {"end": "2025-06-20T03:58:16.182Z"}}),
            ["b"],
            id="until-with-zone",
        ),
    ],
)
def test_a_list_has_the_entities_that_its_filter_search_and_page_ask_for(
    documents, clock, query, expected
):
    documents.create(
        "model", "ns", "b", {"base": "x", "enabled": False, "text": "Hello", "size": 2}
    )
    clock.advance(1)
    base = {"name": "x", "namespace": "n", "api_key": "nvapi-SECRET"}
    documents.create("model", "ns", "a", {"base": base, "peft": {"lora": {}}, "size": 1})
    clock.advance(1)
    documents.create("model", "ns", "c", {"text": "Bye", "enabled": True})
    page = documents.find("model", query)
    assert names(page) == expected
    if query.page > 1:
        assert page.total == 3


def test_a_page_in_the_middle_of_a_list_sorted_backwards(documents):
    for number in range(30):
        documents.create("model", "ns", f"m{number:02}", {})
    page = documents.find("model", ListQuery(page=3, page_size=7, sort="-name"))
    assert names(page) == [f"m{number:02}" for number in range(15, 8, -1)] and page.total == 30


def test_lists_at_the_same_time_do_not_wait_for_connections(documents):
    documents.create("model", "ns", "m", {})
    held = threading.Barrier(40, timeout=30)

    def read_one(_: int) -> str:
        with closing(documents.each("model")) as entities:
            name = next(entities)["name"]
            held.wait()  # forty lists are being read here
            return name

    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(read_one, range(40))) == ["m"] * 40


def test_a_statement_that_fails_does_not_tell_the_secret_in_it(settings):
    store = Documents(settings.database_url)
    other = sqlite3.connect(settings.home / "platform.db")
    other.execute("drop table documents")
    with pytest.raises(OperationalError) as failed:
        store.create("model", "ns", "m", {"api_key": "sk-SECRET"})
    assert "SECRET" not in str(failed.value)
    other.close()
    store.close()


def test_entities_of_a_namespace_are_read_one_by_one_and_deleted_at_once(documents):
    for namespace, name in (("a", "1"), ("b", "2"), ("a", "3")):
        documents.create("commit", namespace, name, {})
    documents.create("other", "c", "4", {})
    assert [entity["name"] for entity in documents.each("commit")] == ["1", "2", "3"]
    assert [entity["name"] for entity in documents.each("commit", namespace="a")] == ["1", "3"]
    assert documents.namespaces("commit") == {"a", "b"}
    documents.delete_all("commit", "a")
    assert [entity["name"] for entity in documents.each("commit")] == ["2"]
