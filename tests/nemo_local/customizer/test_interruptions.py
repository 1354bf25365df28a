"""Jobs that are cancelled, or whose platform stops, while others keep them waiting."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import OperationalError

from nemo_local.core.client import UpstreamError
from nemo_local.core.documents import Documents
from nemo_local.customizer.hub import Hub
from nemo_local.customizer.records import KIND, Records
from nemo_local.customizer.references import OutputModel
from nemo_local.processes import wait_until
from tests.conftest import running_control_plane
from tests.nemo_local.customizer.conftest import ROWS, job_body, serving, upload
from tests.nemo_local.customizer.test_jobs import JOBS, details_of, wait_for

CANCELLED_WITHIN_S = 5


@contextmanager
def silent_server(port=0):
    """A server that takes connections and never says a word; yields its URL."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def wait_for_line(client, job_id, message):
    def said():
        lines = client.get(f"{JOBS}/{job_id}")["status_details"]["status_logs"]
        return any(line["message"] == message for line in lines)

    wait_until(said, 60, f"the job says {message}")


def cancel(client, job_id):
    """Seconds until a job that was asked to end has ended."""
    began = time.monotonic()
    client.post(f"{JOBS}/{job_id}/cancel")
    wait_until(
        lambda: client.get(f"{JOBS}/{job_id}")["status"] == "cancelled", 30, "it is cancelled"
    )
    return time.monotonic() - began


def register_far(client, name, url):
    """A dataset on another hub; its name, as a job gives it."""
    entity = {"namespace": "ns", "files_url": "hf://datasets/ns/d", "hf_endpoint": url}
    client.post("/v1/datasets", json={**entity, "name": name})
    return f"ns/{name}"


def test_a_job_that_was_deleted_in_the_queue_leaves_its_name_to_the_next(client, dataset):
    with silent_server() as url:
        far = register_far(client, "far-too", url)
        first = client.post(JOBS, json=job_body(dataset=far))
        body = job_body(dataset=far, output_model="ns/queued@v1")
        client.delete(f"{JOBS}/{client.post(JOBS, json=body)['id']}")
        again = client.post(JOBS, json=body)
        cancel(client, first["id"])
        wait_for_line(client, again["id"], "EntityHandler_0_Running")
        assert client.get("/v1/models/ns/queued@v1")["artifact"]["status"] == "created"
        with pytest.raises(UpstreamError) as error:
            client.post(JOBS, json=body)
        assert error.value.status == 409
        cancel(client, again["id"])


def test_a_job_whose_hub_never_answers_can_be_cancelled(client, dataset):
    with silent_server() as url:
        far = register_far(client, "far", url)
        job = client.post(JOBS, json=job_body(dataset=far))
        wait_for_line(client, job["id"], "EntityHandler_0_Running")
        assert cancel(client, job["id"]) < CANCELLED_WITHIN_S
    after = client.post(JOBS, json=job_body())
    assert wait_for(client, after["id"], "running", "completed")["status"] != "failed"


def test_a_job_that_is_deleted_while_the_platform_starts_holds_up_no_other(
    own_settings, tmp_path, monkeypatch
):
    def all_before_a_delete(records):
        found = every(records)
        monkeypatch.undo()
        for job_id in deleted:
            records.delete(job_id)
        return found

    with silent_server() as url:
        with running_control_plane(own_settings) as running:
            client = running.client()
            far = register_far(client, "far", url)
            jobs = [client.post(JOBS, json=job_body(dataset=far))["id"] for _ in range(3)]
            wait_for_line(client, jobs[0], "EntityHandler_0_Running")
        *deleted, last = jobs
        documents = Documents(own_settings.database_url)
        documents.update(KIND, jobs[1], {"status": "cancelling"})
        documents.close()
        every = Records.all
        monkeypatch.setattr(Records, "all", all_before_a_delete)
        with running_control_plane(own_settings) as running:
            client = running.client()
            wait_for_line(client, last, "EntityHandler_0_Running")
            cancel(client, last)


def test_a_job_whose_model_entity_is_deleted_meanwhile_is_complete(client, running, dataset):
    body = job_body(output_model="ns/gone@v1", hyperparameters={"max_steps": 1})
    job = client.post(JOBS, json=body)
    client.delete("/v1/models/ns/gone@v1")
    job = wait_for(client, job["id"], "completed")
    assert job["status"] == "completed", job["status_details"]["status_logs"][-1]
    assert "its model entity was deleted" in details_of(job, "ModelNotServed")
    assert "v1" in [tag.name for tag in running.hf().list_repo_refs("ns/gone").tags]


@pytest.mark.parametrize("finetuning_type", ["lora", "all_weights"])
def test_a_job_whose_upload_hangs_can_be_cancelled(client, dataset, monkeypatch, finetuning_type):
    inside, go_on = threading.Event(), threading.Event()

    def hang(hub, *given):
        inside.set()
        go_on.wait(60)
        return upload_to(hub, *given)

    upload_to = Hub.upload
    monkeypatch.setattr(Hub, "upload", hang)
    name = f"ns/hung-{finetuning_type.replace('_', '-')}"
    hyperparameters = {"finetuning_type": finetuning_type, "max_steps": 1}
    job = client.post(
        JOBS, json=job_body(output_model=f"{name}@v1", hyperparameters=hyperparameters)
    )
    assert inside.wait(120)
    assert cancel(client, job["id"]) < CANCELLED_WITHIN_S
    go_on.set()
    assert client.get(f"/v1/models/{name}@v1")["artifact"]["status"] == "upload_failed"


def test_an_upload_that_nobody_wants_any_more_stores_nothing(running, tmp_path):
    unwanted = threading.Event()
    unwanted.set()
    (tmp_path / "a.txt").write_text("a")
    model = OutputModel("ns", "unwanted", "v1")
    Hub(running.settings.platform_url, None).upload(tmp_path, model, "never", unwanted)
    hub = running.hf()
    assert "a.txt" not in hub.list_repo_files("ns/unwanted")
    assert not hub.list_repo_refs("ns/unwanted").tags


def test_a_new_version_has_no_file_of_the_one_before(running, tmp_path):
    hub = running.hf()
    for version in ("v1", "v2"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / f"only-in-{version}.txt").write_text(version)
        (folder / "config.json").write_text(version)
        made = Hub(running.settings.platform_url, None)
        made.upload(folder, OutputModel("ns", "versions", version), version, threading.Event())
    for version in ("v1", "v2"):
        files = set(hub.list_repo_files("ns/versions", revision=version))
        assert files - {".gitattributes"} == {"config.json", f"only-in-{version}.txt"}


def test_a_job_whose_inference_hangs_can_be_cancelled(own_settings, tmp_path):
    with silent_server(own_settings.nim_port), running_control_plane(own_settings) as running:
        client = running.client()
        upload(running, tmp_path, {"training/a.jsonl": ROWS})
        body = job_body(dataset="hf://datasets/ns/d", hyperparameters={"max_steps": 1})
        job = client.post(JOBS, json=body)
        wait_for_line(client, job["id"], "EntityHandler_1_Running")
        wait_until(
            lambda: client.get(f"/v1/models/{job['output_model']}")["artifact"]["status"]
            == "upload_completed", 60, "it is stored",
        )  # fmt: skip
        assert cancel(client, job["id"]) < CANCELLED_WITHIN_S


@pytest.mark.parametrize("phase", ["download", "upload"])
def test_a_platform_that_stops_during_a_transfer_goes_on_with_the_job(
    own_settings, tmp_path, monkeypatch, phase
):
    inside, stopped = threading.Event(), threading.Event()

    def slow(hub, *given):
        inside.set()
        assert stopped.wait(60), "the platform stops"
        return at_once(hub, *given)

    def until_no_connection():
        def refused():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", own_settings.port)) != 0

        wait_until(refused, 30, "the platform takes no connection")
        stopped.set()

    at_once = getattr(Hub, phase)
    monkeypatch.setattr(Hub, phase, slow)
    watching = threading.Thread(target=until_no_connection)
    with serving(own_settings) as serves:
        with running_control_plane(own_settings) as running:
            client = running.client()
            upload(running, tmp_path, {"training/a.jsonl": ROWS})
            body = job_body(
                dataset="hf://datasets/ns/d", output_model="ns/m@v1",
                hyperparameters={"max_steps": 1},
            )  # fmt: skip
            job = client.post(JOBS, json=body)
            assert inside.wait(120)
            watching.start()
        watching.join()
        monkeypatch.undo()
        serves.append("ns/m@v1")
        with running_control_plane(own_settings) as running:
            client = running.client()
            assert wait_for(client, job["id"], "completed")["status"] == "completed"
            stored = client.get("/v1/models/ns/m@v1")["artifact"]["status"]
            assert stored == "upload_completed"


def test_a_failure_that_the_database_cannot_store_is_stored_once_it_can(
    client, dataset, monkeypatch
):
    def full(records, job_id, error):
        refused.set()
        raise OperationalError("UPDATE", {}, Exception("database or disk is full"))

    refused = threading.Event()
    monkeypatch.setattr(Records, "keep_error", full)
    job = client.post(JOBS, json=job_body(dataset="hf://datasets/ns/d/nothing"))
    assert refused.wait(60)
    assert client.get(f"{JOBS}/{job['id']}")["status"] == "running"
    monkeypatch.undo()
    assert wait_for(client, job["id"], "failed")["status"] == "failed"


def test_a_job_whose_delete_the_database_cannot_store_can_be_deleted_again(
    client, running, dataset, monkeypatch
):
    def full(records, job_id):
        raise OperationalError("DELETE", {}, Exception("database or disk is full"))

    job = client.post(JOBS, json=job_body(dataset="hf://datasets/ns/d/nothing"))
    wait_for(client, job["id"], "failed")
    (folder,) = running.settings.home.glob(f"*/{job['id']}")
    with monkeypatch.context() as patched, pytest.raises(UpstreamError):
        patched.setattr(Records, "delete", full)
        client.delete(f"{JOBS}/{job['id']}")
    assert not folder.exists()
    assert client.delete(f"{JOBS}/{job['id']}") == {}


def test_the_next_platform_clears_away_what_a_job_left_that_ended_as_its_own_was_killed(
    own_settings, tmp_path
):
    with running_control_plane(own_settings) as running:
        client = running.client()
        upload(running, tmp_path, {"training/a.jsonl": ROWS})
        job = client.post(JOBS, json=job_body(dataset="hf://datasets/ns/d/nothing"))
        wait_for(client, job["id"], "failed")
    (folder,) = own_settings.home.glob(f"*/{job['id']}")
    logs = {path.name for path in folder.iterdir()}
    for name in ("data", "checkpoints", "model"):
        (folder / name).mkdir(exist_ok=True)
    with running_control_plane(own_settings):
        assert {path.name for path in folder.iterdir()} == logs


def test_a_job_fails_with_its_reason_whatever_became_of_its_model_entity(client, dataset):
    body = job_body(dataset="hf://datasets/ns/d/nothing", output_model="ns/patched@v1")
    job = client.post(JOBS, json=body)
    client.patch("/v1/models/ns/patched@v1", json={"artifact": None})
    job = wait_for(client, job["id"], "failed")
    assert details_of(job, "TrainingJob_Failed")


def test_the_name_of_a_model_that_no_job_made_is_free_again(client, dataset):
    body = job_body(dataset="hf://datasets/ns/d/nothing", output_model="ns/again@v1")
    wait_for(client, client.post(JOBS, json=body)["id"], "failed")
    artifact = client.get("/v1/models/ns/again@v1")["artifact"]
    # As it stands when the platform ended before it could say otherwise.
    client.patch("/v1/models/ns/again@v1", json={"artifact": {**artifact, "status": "created"}})
    job = client.post(JOBS, json=body)
    wait_for(client, job["id"], "failed")
    client.post("/v1/models", json={"namespace": "ns", "name": "mine@v1", "artifact": artifact})
    client.patch("/v1/models/ns/mine@v1", json={"artifact": {**artifact, "status": "created"}})
    with pytest.raises(UpstreamError) as error:
        client.post(JOBS, json={**body, "output_model": "ns/mine@v1"})
    assert error.value.status == 409
