"""Targets whose weights come from a Hub; here the platform's own Data Store is one."""

import json
import shutil
from functools import partial
from pathlib import Path
from threading import Thread

import psutil
import pytest

from nemo_local.core.client import UpstreamError
from nemo_local.processes import wait_until
from tests.conftest import free_port, running_control_plane
from tests.nemo_local.customizer.conftest import job_body
from tests.nemo_local.customizer.test_configs import BASE, OPTION, refused
from tests.nemo_local.customizer.test_interruptions import silent_server
from tests.nemo_local.customizer.test_jobs import wait_for

BODY = {"namespace": "ns", "num_parameters": 5, "precision": "fp32"}


@pytest.fixture(scope="module")
def hub(running, checkpoint, tmp_path_factory):
    """The Data Store with checkpoints: `ns/tiny@v1`, `ns/other`; one that is only pickled, and
    one whose weights are cut short."""
    hub, folder = running.hf(), tmp_path_factory.mktemp("hub")
    shutil.copytree(checkpoint, folder / "tiny")
    (folder / "tiny/original").mkdir()
    for name in ("original/params.json", "model.bin", "code.py", "consolidated.safetensors"):
        (folder / "tiny" / name).write_text("{}")
    (folder / "pickled").mkdir()
    for name in ("config.json", "pytorch_model.bin"):
        (folder / "pickled" / name).write_text("{}")
    for name in ("other", "cut"):
        shutil.copytree(checkpoint, folder / name)
    config = json.loads((folder / "other/config.json").read_text())
    (folder / "other/config.json").write_text(json.dumps(config | {"which": "other"}))
    (folder / "cut/model.safetensors").write_bytes(bytes([99]))
    for name in ("tiny", "pickled", "other", "cut"):
        hub.create_repo(f"ns/{name}", repo_type="model")
        hub.upload_folder(repo_id=f"ns/{name}", folder_path=folder / name, repo_type="model")
    hub.create_tag("ns/tiny", tag="v1", repo_type="model")
    hub.delete_file("config.json", "ns/tiny", repo_type="model")  # `main` is no checkpoint now
    return hub


def create(client, name, uri, **more):
    return client.post(f"{BASE}/targets", json=BODY | {"name": name, "model_uri": uri, **more})


def settled(client, name):
    """The target once its download has ended."""

    def target():
        return client.get(f"{BASE}/targets/ns/{name}")

    wait_until(lambda: target()["status"] not in ("pending", "downloading"), 120, f"{name} ended")
    return target()


def test_a_checkpoint_of_a_hub_is_fetched_and_trained(client, running, hub, serves, dataset):
    made = create(client, "tiny@1", "hf://ns/tiny@v1")
    assert (made["status"], made["model_path"]) == ("pending", "")
    target = settled(client, "tiny@1")
    assert target["status"] == "ready", target["custom_fields"]
    assert "weights of hf://ns/tiny@v1 from" in target["custom_fields"]["why"]
    folder = Path(target["model_path"])
    assert folder.parent == running.settings.home / "models"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
    assert not {"original", "original/params.json", "model.bin", "code.py", ".cache"} & files
    assert "consolidated.safetensors" not in files  # all weights a second time

    serves.append("ns/of-the-hub@v1")
    config = {"max_seq_length": 256, "training_options": [OPTION], "target": "ns/tiny@1"}
    body = job_body(config=config, output_model="ns/of-the-hub@v1")
    job = wait_for(client, client.post(f"{BASE}/jobs", json=body)["id"], "completed")
    assert job["status"] == "completed", job["status_details"]["status_logs"][-1]
    assert client.get("/v1/models/ns/of-the-hub@v1")["base_model"] == "ns/tiny@1"

    client.delete(f"{BASE}/targets/ns/tiny@1")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "uri", "words"),
    [
        ("a", "hf://ns/nowhere", "there is no model repository ns/nowhere at http"),
        ("b", "hf://ns/tiny@v9", "has no revision 'v9'"),
        ("f", "hf://ns/tiny@no%2Fx", "has no revision 'no/x'"),
        (
            "c",
            "hf://ns/tiny",
            "ns/tiny is not a checkpoint that can be trained: it needs config.json",
        ),
        ("d", "hf://ns/pickled", "*.safetensors (other formats are not loaded) and has"),
        ("e", "hf://ns/cut", "ns/cut is not a checkpoint that can be trained: the weights in"),
    ],
)
def test_a_download_that_fails_says_why(client, hub, dataset, name, uri, words):
    create(client, name, uri)
    target = settled(client, name)
    assert target["status"] == "failed" and words in target["custom_fields"]["why"]
    config = {"max_seq_length": 100, "training_options": [OPTION], "target": f"ns/{name}"}
    status, detail = refused(client.post, f"{BASE}/jobs", json=job_body(config=config))
    assert status == 422 and f"Target ns/{name} of The inline config is failed" in detail
    assert words in detail


@pytest.mark.parametrize("revision", ["before/all", "before%2Fall"])
def test_a_branch_with_a_slash_is_fetched_however_it_is_spelt(client, hub, revision):
    branch = {"branch": "before/all", "revision": "v1"}
    hub.create_branch("ns/tiny", repo_type="model", exist_ok=True, **branch)
    name = f"branch-{len(revision)}"
    create(client, name, f"hf://ns/tiny@{revision}")
    target = settled(client, name)
    assert target["status"] == "ready", target["custom_fields"]


def test_another_uri_is_another_download(client, hub):
    create(client, "moved", "hf://ns/nowhere")
    assert settled(client, "moved")["status"] == "failed"
    changed = client.patch(f"{BASE}/targets/ns/moved", json={"model_uri": "hf://ns/tiny@v1"})
    assert changed["status"] == "pending"
    ready = settled(client, "moved")
    assert ready["status"] == "ready"
    changed = client.patch(f"{BASE}/targets/ns/moved", json={"description": "mine"})
    assert (changed["status"], changed["model_path"]) == ("ready", ready["model_path"])


def test_a_target_sent_back_with_a_new_description_keeps_its_weights(client, hub):
    create(client, "kept", "hf://ns/tiny@v1")
    ready = settled(client, "kept")
    for sent in (ready, {"model_uri": ready["model_uri"]}):
        changed = client.patch(f"{BASE}/targets/ns/kept", json=sent | {"description": "mine"})
        assert (changed["status"], changed["description"]) == ("ready", "mine")
        assert Path(changed["model_path"], "config.json").is_file()


def test_a_failed_download_is_tried_again_with_the_same_uri(client, running, hub, checkpoint):
    create(client, "again", "hf://ns/late")
    assert settled(client, "again")["status"] == "failed"
    hub.create_repo("ns/late", repo_type="model")
    hub.upload_folder(repo_id="ns/late", folder_path=checkpoint, repo_type="model")
    client.patch(f"{BASE}/targets/ns/again", json={"model_uri": "hf://ns/late"})
    assert settled(client, "again")["status"] == "ready"


def test_another_hub_does_not_take_the_weights_of_a_folder(client, checkpoint):
    body = BODY | {"name": "local", "model_path": str(checkpoint)}
    client.post(f"{BASE}/targets", json=body)
    changed = client.patch(f"{BASE}/targets/ns/local", json={"hf_endpoint": "http://elsewhere"})
    assert (changed["status"], changed["model_path"]) == ("ready", str(checkpoint))


def test_a_download_that_waits_brings_what_its_target_was_changed_to(client, hub, checkpoint):
    def status(name):
        return client.get(f"{BASE}/targets/ns/{name}")["status"]

    names = ("slow-1", "slow-2")
    with silent_server() as url:
        for name in names:
            create(client, name, "hf://x/y", hf_endpoint=url)
        wait_until(lambda: {*map(status, names)} == {"downloading"}, 60, "both are downloaded")
        same = client.patch(f"{BASE}/targets/ns/slow-1", json={"model_uri": "hf://x/y"})
        assert same["status"] == "downloading"
        create(client, "waiting", "hf://ns/tiny@v1")
        client.patch(f"{BASE}/targets/ns/waiting", json={"model_uri": "hf://ns/other"})
        client.delete(f"{BASE}/targets/ns/slow-1")
        target = settled(client, "waiting")
        assert "weights of hf://ns/other from" in target["custom_fields"]["why"]
        config = json.loads(Path(target["model_path"], "config.json").read_text())
        assert config["which"] == "other"
        path = {"model_path": str(checkpoint)}
        assert client.patch(f"{BASE}/targets/ns/slow-2", json=path)["status"] == "ready"


def test_nothing_is_left_of_a_target_that_is_deleted_while_it_is_downloaded(client, running):
    def downloads():
        children = psutil.Process().children()
        return [child for child in children if "customizer.download" in str(child.cmdline())]

    path, models = f"{BASE}/targets/ns/given-up", running.settings.home / "models"
    with silent_server() as url:
        target = create(client, "given-up", "hf://x/y", hf_endpoint=url)
        wait_until(lambda: client.get(path)["status"] == "downloading", 60, "it is downloaded")
        (process,) = downloads()
        (models / f"{target['id']}.partial").mkdir()
        (models / f"{target['id']}.partial/model.safetensors").write_bytes(b"half of it")
        client.delete(path)
        wait_until(lambda: not process.is_running(), 10, "the download ended")
    assert not list(models.glob(f"{target['id']}*"))


def test_weights_that_a_job_needs_stay(client, hub, dataset):
    create(client, "used", "hf://ns/tiny@v1")
    settled(client, "used")
    path = f"{BASE}/targets/ns/used"
    config = {"max_seq_length": 256, "training_options": [OPTION], "target": "ns/used"}
    with silent_server() as url:
        far = {"name": "far", "namespace": "ns", "files_url": "hf://datasets/ns/d"}
        client.post("/v1/datasets", json=far | {"hf_endpoint": url})
        job = client.post(f"{BASE}/jobs", json=job_body(config=config, dataset="ns/far"))
        for call in (client.delete, partial(client.patch, json={"model_uri": "hf://ns/other"})):
            status, detail = refused(call, path)
            assert status == 409 and f"Target ns/used is used by job {job['id']}; " in detail
        assert client.get(path)["status"] == "ready"
        client.post(f"{BASE}/jobs/{job['id']}/cancel")
        wait_for(client, job["id"], "cancelled")
    client.delete(path)


def test_a_hub_that_does_not_answer_is_named(client):
    nobody = f"http://127.0.0.1:{free_port()}"
    create(client, "offline", "hf://ns/tiny", hf_endpoint=nobody)
    target = settled(client, "offline")
    assert target["status"] == "failed"
    assert f"{nobody} does not answer" in target["custom_fields"]["why"]
    assert "give that as model_path" in target["custom_fields"]["why"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model_uri": "hf://tiny"}, "does not have the form hf://namespace/name@revision"),
        ({"model_uri": "hf://ns/../x"}, "does not have the form"),
        ({"model_uri": "hf://ns/tiny@../../x"}, "does not have the form"),
        ({"model_uri": "hf://ns/tiny@a%2F..%2Fx"}, "does not have the form"),
        ({"model_uri": "hf://ns/tiny@"}, "does not have the form"),
        ({"model_uri": "hf://ns/tiny", "hf_endpoint": "file:///x"}, "is not a URL of http"),
        ({"model_uri": "hf://ns/tiny", "hf_endpoint": "http://x:y"}, "endpoint: 'http://x:y' is"),
        (
            {"model_uri": "hf://ns/tiny", "hf_endpoint": "http://joe:pw@hub"},
            "hf_endpoint: the URL holds a user name or password; set NEMO_LOCAL_HF_ENDPOINT",
        ),
        ({"tokenizer": {"bos_token": "x"}}, "tokenizer.bos_token is not supported"),
    ],
)
def test_a_target_that_cannot_be_is_refused_at_once(client, changed, words):
    status, detail = refused(client.post, f"{BASE}/targets", json=BODY | {"name": "x"} | changed)
    assert status == 422 and words in detail
    with pytest.raises(UpstreamError):
        client.get(f"{BASE}/targets/ns/x")


def test_the_next_platform_goes_on_with_a_download(own_settings, checkpoint):
    with running_control_plane(own_settings) as running:
        hub, client = running.hf(), running.client()
        hub.create_repo("ns/tiny", repo_type="model")
        hub.upload_folder(repo_id="ns/tiny", folder_path=checkpoint, repo_type="model")
        create(client, "tiny", "hf://ns/tiny")
    with running_control_plane(own_settings) as running:
        target = settled(running.client(), "tiny")
        assert target["status"] == "ready", target["custom_fields"]


def test_a_token_goes_to_the_hub_it_is_for_and_nowhere_else(documents, settings):
    from dataclasses import replace

    from nemo_local.customizer.downloads import HUGGING_FACE, Downloads

    secrets = replace(settings, token="ours", hf_token="theirs")
    own = f"{settings.platform_url}/v1/hf"

    def sent(endpoint, **changed):
        downloads = Downloads(documents, replace(secrets, **changed))
        target = {"id": "t", "model_uri": "hf://ns/tiny@v1", "hf_endpoint": endpoint}
        wanted = downloads._wanted(target)
        assert json.loads(wanted.line())["revision"] == "v1"
        return wanted.endpoint, wanted.token

    assert sent(None) == (own, "ours")
    by_name = own.replace("127.0.0.1", "localhost")
    assert sent(by_name) == (by_name, "ours")
    assert sent(f"{HUGGING_FACE}/") == (HUGGING_FACE, "theirs")
    assert sent("http://elsewhere") == ("http://elsewhere", None)
    assert sent(None, hf_endpoint="http://mirror") == ("http://mirror", "theirs")
    assert sent(own, hf_endpoint="http://mirror") == (own, "ours")


def test_nobody_waits_to_write_while_the_weights_of_a_target_are_looked_at(
    documents, settings, checkpoint, monkeypatch
):
    from nemo_local.catalog import Catalog
    from nemo_local.customizer.downloads import Downloads
    from nemo_local.customizer.registry import Registry

    registry = Registry(documents, Catalog([]), None, Downloads(documents, settings))
    registry.create_target(BODY | {"name": "local", "model_path": str(checkpoint)})
    wrote = []

    def look(path):
        writer = Thread(target=documents.create, args=("note", "ns", f"n-{len(wrote)}", {}))
        writer.start()
        writer.join(10)
        wrote.append(not writer.is_alive())
        return ""

    monkeypatch.setattr("nemo_local.customizer.registry.why_unreadable", look)
    changed = registry.update_target("ns", "local", {"model_path": str(checkpoint.parent)})
    assert wrote == [True] and changed["model_path"] == str(checkpoint.parent)
