"""The notebooks' own verbs against a running control plane: everything may run twice."""

import logging
from dataclasses import replace

import pytest

from tests.conftest import running_control_plane
from utils import clients, data_store, entity_store
from utils.errors import InvalidFile, NotFound, OutOfOrder, Refused, Unreachable

pytestmark = pytest.mark.contract


def test_namespaces_repository_and_dataset_are_ensured_twice(
    control_plane, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)  # to caplog
    file = tmp_path / "training.jsonl"
    file.write_text('{"messages": []}\n')
    hf, nemo = data_store.hub(control_plane.url), control_plane.sdk()
    revisions, created = [], []
    for _ in range(2):
        created.append(data_store.ensure_namespace(control_plane.url, "ns"))
        entity_store.ensure_namespace(nemo, "ns")
        url = data_store.ensure_dataset_repo(hf, "ns/xlam")
        revisions.append(data_store.upload_files(hf, "ns/xlam", {"training/training.jsonl": file}))
        dataset = entity_store.ensure_dataset(nemo, "ns", "xlam", url)
    assert created == [True, False]
    assert revisions[0] == revisions[1]
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []
    assert dataset.files_url == "hf://datasets/ns/xlam"
    assert data_store.list_files(hf, "ns/xlam") == ["training/training.jsonl"]


def test_data_that_change_and_change_back_have_the_contents_they_had(control_plane, tmp_path):
    hf, file = data_store.hub(control_plane.url), tmp_path / "training.jsonl"
    data_store.ensure_dataset_repo(hf, "ns/xlam")
    contents, revisions = [], []
    for text in ("{}", '{"messages": []}', "{}"):
        file.write_text(text)
        revisions.append(data_store.upload_files(hf, "ns/xlam", {"training/training.jsonl": file}))
        contents.append(data_store.contents(hf, "ns/xlam"))
    assert len(set(revisions)) == 3
    assert contents[0] == contents[2] != contents[1]


def test_rows_that_another_run_put_in_place_of_ones_own_are_not_used(control_plane, tmp_path):
    hf, file = data_store.hub(control_plane.url), tmp_path / "seen.jsonl"
    data_store.ensure_dataset_repo(hf, "ns/xlam")
    file.write_text('{"id": "mine"}')
    data_store.upload_files(hf, "ns/xlam", {"testing/seen.jsonl": file})
    mine = data_store.contents(hf, "ns/xlam")
    data_store.require_contents(hf, "ns/xlam", mine, notebook="2.ipynb")
    file.write_text('{"id": "of another run"}')
    data_store.upload_files(hf, "ns/xlam", {"testing/seen.jsonl": file})
    with pytest.raises(OutOfOrder, match="ns/xlam .* other files than this run's.* Run 2.ipynb"):
        data_store.require_contents(hf, "ns/xlam", mine, notebook="2.ipynb")


def test_a_dataset_follows_its_new_files_url(control_plane):
    nemo = control_plane.sdk()
    entity_store.ensure_dataset(nemo, "ns", "xlam", "hf://datasets/ns/old")
    entity_store.ensure_dataset(nemo, "ns", "xlam", "hf://datasets/ns/new")
    assert nemo.datasets.retrieve("xlam", namespace="ns").files_url == "hf://datasets/ns/new"


def test_a_missing_file_is_named_before_anything_is_sent(control_plane, tmp_path):
    hf = data_store.hub(control_plane.url)
    with pytest.raises(InvalidFile, match="nowhere.jsonl"):
        data_store.upload_files(hf, "ns/xlam", {"a": tmp_path / "nowhere.jsonl"})


def test_an_unknown_data_set_is_not_found(control_plane):
    with pytest.raises(NotFound):
        data_store.load_rows(control_plane.hub_url, "ns/none")


def test_a_model_that_is_not_there_is_absent(control_plane):
    model = entity_store.find_model(control_plane.sdk(), "ns/none@v1")
    assert entity_store.artifact_status(model) == "absent"


def test_a_model_that_a_reset_took_away_names_the_notebook_that_makes_it(control_plane):
    nemo = control_plane.sdk()
    with pytest.raises(OutOfOrder, match=f"ns/m@v1 is not on .*{control_plane.url}. Run 2_x again"):
        entity_store.require_model(nemo, "ns/m@v1", notebook="2_x")
    nemo.models.create(name="m@v1", namespace="ns")
    assert entity_store.require_model(nemo, "ns/m@v1", notebook="2_x").name == "m@v1"


def test_a_service_that_does_not_answer_is_named_with_its_setting(control_plane):
    urls = {
        "Entity Store": ("NEMO_URL", control_plane.url),
        "NIM": ("NIM_URL", "http://127.0.0.1:9"),
    }
    with pytest.raises(Unreachable, match="set NIM_URL"):
        clients.require_answers(urls)


def test_a_service_that_wants_a_token_is_told_as_that(settings):
    with running_control_plane(replace(settings, token="secret")) as running:
        urls = {"Entity Store": ("NEMO_URL", running.url)}
        with pytest.raises(Refused, match="set NEMO_TOKEN to a token that"):
            clients.require_answers(urls)
        clients.require_answers(urls, token="secret")
