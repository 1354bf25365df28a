"""A control plane whose base model is a tiny random Llama, and a dataset to train it on."""

import json
import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nemo_local.settings import Settings
from tests.conftest import free_port, running_control_plane
from tests.nemo_local.customizer.tiny_llama import call_row, make_checkpoint, write_rows
from tests.nemo_local.customizer.training import make_job

MODEL = "meta/llama-3.2-1b-instruct"
CONFIG = f"{MODEL}@v1.0.0+80GB"
ROWS = [call_row(number) for number in range(24)]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def layer_calls(monkeypatch):
    """Of each time that a layer computes: whether it trains, has gradients, and its tokens.

    A layer of transformers, by its feed-forward block, or one of ours.
    """
    from torch import is_grad_enabled
    from transformers.models.llama.modeling_llama import LlamaMLP

    from nemo_local.customizer.layers.fused_layers import _FusedLayer

    calls = []

    def noted(inner):
        def compute(self, x, *given):
            calls.append((self.training, is_grad_enabled(), x.shape[:2].numel()))
            return inner(self, x, *given)

        return compute

    for kind, name in ((LlamaMLP, "forward"), (_FusedLayer, "_fused")):
        monkeypatch.setattr(kind, name, noted(getattr(kind, name)))
    return calls


@pytest.fixture
def job(checkpoint):
    """An adapter's training, as its process is told."""
    return replace(make_job(checkpoint), precision="bf16-mixed")


@pytest.fixture
def job_dir(tmp_path):
    """A job's folder with 30 training and 6 validation rows."""
    write_rows(tmp_path / "data/training/a.jsonl", [call_row(i) for i in range(30)])
    write_rows(tmp_path / "data/validation/a.jsonl", [call_row(i) for i in range(30, 36)])
    return tmp_path


@pytest.fixture
def alone(job_dir, tmp_path_factory):
    """A folder with the same rows, for one process."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(job_dir / "data", folder / "data")
    return folder


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_checkpoint(folder / MODEL)
    return folder


def make_settings(home, models_dir, spare_training=0):
    return Settings.from_environment(
        {},
        home=home,
        port=free_port(),
        nim_port=free_port(),
        models_dir=models_dir,
        dataset_rows=0,
        device="cpu",
        threads=1,
        spare_training=spare_training,
    )


@pytest.fixture
def own_settings(tmp_path, models_dir):
    """For tests that start a control plane of their own."""
    return make_settings(tmp_path / "home", models_dir)


@pytest.fixture(scope="module")
def module_settings(tmp_path_factory, models_dir):
    return make_settings(tmp_path_factory.mktemp("home"), models_dir)


@pytest.fixture(scope="module")
def serves(module_settings):
    """The models that inference says it serves."""
    with serving(module_settings) as models:
        yield models


@pytest.fixture(scope="module")
def running(module_settings, serves):
    """One control plane for the tests of a module; each uses names of its own."""
    with running_control_plane(module_settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(running):
    return running.client()


@pytest.fixture(scope="module")
def dataset(running, client, tmp_path_factory):
    """`ns/d`, with 24 rows."""
    upload(running, tmp_path_factory.mktemp("rows"), {"training/a.jsonl": ROWS})
    client.post(
        "/v1/datasets",
        json={"name": "d", "namespace": "ns", "files_url": "hf://datasets/ns/d"},
    )
    return "ns/d"


@contextmanager
def serving(settings):
    """An inference server that says it serves the models of the list it yields."""
    models = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.dumps({"models": models, "failed": {}}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Requests are not logged."""

    server = ThreadingHTTPServer(("127.0.0.1", settings.nim_port), Handler)
    thread = threading.Thread(target=server.serve_forever, name="inference")
    thread.start()
    try:
        yield models
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def upload(running, tmp_path, files, repository="ns/d"):
    """Put files of rows, or of text, into a dataset repository."""
    hub = running.hf()
    hub.create_repo(repository, repo_type="dataset", exist_ok=True)
    for name, rows in files.items():
        path = tmp_path / "upload" / name
        if isinstance(rows, str):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(rows)
        else:
            write_rows(path, rows)
        hub.upload_file(
            path_or_fileobj=path, path_in_repo=name, repo_id=repository, repo_type="dataset"
        )


def job_body(**changed):
    """A request for a job of a few steps; `hyperparameters` are merged."""
    given = {
        "finetuning_type": "lora",
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 0.001,
        **changed.pop("hyperparameters", {}),
    }
    return {"config": CONFIG, "dataset": "ns/d", "hyperparameters": given, **changed}
