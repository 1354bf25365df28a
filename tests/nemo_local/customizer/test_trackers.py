"""TensorBoard, Weights & Biases and MLflow, as the official client's jobs feed them."""

import base64
import json
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch

import psutil
import pytest
from nemo_microservices import UnprocessableEntityError

from nemo_local.customizer.progress import Stopped, TrainingFailed
from tests.conftest import free_port, running_control_plane
from tests.nemo_local.customizer.conftest import ROWS, job_body, serving, upload
from tests.nemo_local.customizer.test_jobs import (
    JOBS,
    details_of,
    served_by_a_process,
    trainings,
    wait_for,
    wait_for_steps,
)
from tests.nemo_local.customizer.training import TASK

KEY = "1" * 8 + "abcdef01" * 4
WANDB = [
    {
        "type": "wandb",
        "wandb": {"project": "calls", "entity": "team", "notes": "by hand", "tags": ["a", "b"]},
    }
]
SCALARS = {
    "train/loss", "train/learning_rate", "train/grad_norm", "train/tokens_per_second",
    "eval/loss", "eval/tool_name_accuracy", "eval/tool_call_accuracy",
}  # fmt: skip


@pytest.fixture(scope="module")
def sdk(running, dataset):
    return running.sdk()


@pytest.fixture
def train(running, sdk, serves, client):
    """Runs a job to its end through the official client; returns the job, its folder, its log."""

    def train(sdk=sdk, **changed):
        given = {"epochs": 2, "log_every_n_steps": 2, **changed.pop("hyperparameters", {})}
        made = sdk.customization.jobs.create(**job_body(hyperparameters=given), **changed)
        serves.append(made.output_model)
        return made, *ended(running, client, made.id)

    return train


def ended(running, client, job_id):
    job = wait_for(client, job_id, "completed")
    assert job["status"] == "completed", job["status_details"]["status_logs"][-1]
    folder = running.settings.home / "customization" / job_id
    return folder, details_of(job, "TrainingJobRunning"), (folder / "train.log").read_text()


def scalars(folder):
    """Series of a TensorBoard folder: name -> {step: value}."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def holding(folder, secret):
    """Files below the folder that hold a text."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]


def wandb_run(folder, job_id):
    """The bytes that `wandb sync` would send."""
    (path,) = folder.glob(f"wandb/offline-run-*-{job_id}/run-{job_id}.wandb")
    return path.read_bytes()


def test_every_training_leaves_tensorboard_files_and_says_where(train, client):
    job, folder, where, log = train()
    series = scalars(folder / "tensorboard")
    assert set(series) >= SCALARS
    status = client.get(f"{JOBS}/{job.id}/status")
    reported = status["metrics"]["metrics"]
    for name, key in (("train/loss", "train_loss"), ("eval/loss", "val_loss")):
        # The status counts steps from 0.
        points = [(point["step"] + 1, pytest.approx(point["value"])) for point in reported[key]]
        assert series[name] == points
    assert [step for step, _ in series["eval/tool_call_accuracy"]] == [3, 6]
    assert all(value > 0 for _, value in series["train/tokens_per_second"])
    assert f"TensorBoard in {folder / 'tensorboard'}" in where
    assert f"TensorBoard in {folder / 'tensorboard'}" in log
    assert "Weights & Biases" not in log and not (folder / "wandb").exists()
    assert job.warnings is None
    assert set(reported) == {"train_loss", "val_loss"}
    result = details_of({"status_details": status}, "TrainingJobCompleted")
    assert ", tool calls there: 0." in result and result.endswith(" right tool and arguments")


def test_without_a_key_weights_and_biases_runs_offline_in_the_jobs_folder(train):
    job, folder, where, log = train(integrations=WANDB)
    assert job.integrations[0].wandb.project == "calls"
    assert [warning.message for warning in job.warnings] == ["Weights & Biases runs offline"]
    kept = wandb_run(folder, job.id)
    for text in ("calls", "team", "by hand", job.id, "ns/d", *SCALARS):
        assert text.encode() in kept, text
    assert "Weights & Biases offline (no wandb-api-key came with the job): wandb sync " in where
    assert f"wandb sync {folder}/wandb/offline-run-" in log


class WandbServer(ThreadingHTTPServer):
    """As much of a Weights & Biases server as one run needs; without `welcome` it refuses all."""

    def __init__(self, welcome):
        super().__init__(("127.0.0.1", 0), WandbHandler)
        self.welcome = welcome
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.credentials = set()
        self.uploaded = {}

    def answer(self, query, variables):
        """The data of a GraphQL query, of the ones that matter to the client."""
        if "mutation UpsertBucket" in query:
            entity = {"id": "e", "name": variables.get("entity") or "mine"}
            project = {"id": "p", "name": variables["project"], "entity": entity}
            bucket = {"id": "b", "displayName": variables["name"], "historyLineCount": 0}
            bucket |= {"name": variables["name"], "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "mutation CreateRunFiles" in query:
            files = [
                {"name": name, "uploadUrl": f"{self.url}/upload/{name}"}
                for name in variables["files"]
            ]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {"model": None}


class WandbHandler(BaseHTTPRequestHandler):
    server: WandbServer

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.credentials.add(self.headers.get("authorization"))
        asked = json.loads(body) if self.path == "/graphql" else {"query": "", "variables": {}}
        data = json.dumps({"data": self.server.answer(asked["query"], asked["variables"])})
        self.reply(data.encode() if self.server.welcome else b"{}")

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.uploaded[self.path.rpartition("/")[2]] = body
        self.reply(b"{}")

    def reply(self, body):
        self.send_response(200 if self.server.welcome else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Requests are not logged."""


@contextmanager
def wandb_server(monkeypatch, welcome):
    with WandbServer(welcome) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        thread = threading.Thread(target=server.serve_forever, name="wandb")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def by_argument(sdk, client, body):
    return sdk.customization.jobs.create(**body, wandb_api_key=KEY).id


def by_default_header(sdk, client, body):
    # What jobs.create of older SDKs sends; that of this one drops the header.
    with_key = sdk.with_options(default_headers={"wandb-api-key": KEY})
    return with_key.post(JOBS, body=body, cast_to=object)["id"]


def by_header_alone(sdk, client, body):
    del body["integrations"]
    job = client.post(JOBS, json=body, headers={"wandb-api-key": KEY})
    assert job["warnings"] is None and KEY not in str(job)
    return job["id"]


@pytest.mark.parametrize("create", [by_argument, by_default_header, by_header_alone])
def test_a_key_reaches_weights_and_biases_and_is_kept_nowhere(
    create, running, sdk, client, serves, monkeypatch
):
    body = job_body(integrations=WANDB, hyperparameters={"log_every_n_steps": 1})
    with wandb_server(monkeypatch, welcome=True) as server:
        job_id = create(sdk, client, body)
        serves.append(client.get(f"{JOBS}/{job_id}")["output_model"])
        folder, where, _ = ended(running, client, job_id)
    assert server.credentials == {f"Basic {base64.b64encode(f'api:{KEY}'.encode()).decode()}"}
    project = "team/calls" if "integrations" in body else "mine/nvidia-nemo-customizer"
    assert f"Weights & Biases at {server.url}/{project}/runs/{job_id}" in where
    assert set(json.loads(server.uploaded["wandb-summary.json"])) >= SCALARS
    assert KEY not in str(client.get(f"{JOBS}/{job_id}"))
    assert KEY not in str(client.get(f"{JOBS}/{job_id}/container-logs"))
    assert holding(running.settings.home, KEY) == [] and list(folder.glob("wandb/run-*"))


def test_a_key_that_is_refused_costs_the_training_nothing(running, train, monkeypatch):
    with wandb_server(monkeypatch, welcome=False) as server:
        job, folder, where, _ = train(integrations=WANDB, wandb_api_key=KEY)
    assert len(server.credentials) == 1
    assert "Weights & Biases offline (its server could not be used, " in where
    assert wandb_run(folder, job.id)
    assert holding(running.settings.home, KEY) == []


def test_a_key_is_in_no_process_argument(client, dataset, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    body = job_body(hyperparameters={"epochs": 400}, integrations=WANDB)
    job = client.post(JOBS, json=body, headers={"wandb-api-key": KEY})
    wait_for_steps(client, job["id"], 1)
    (training,) = trainings()
    for process in [training, *training.children(recursive=True)]:
        assert KEY not in " ".join(process.cmdline())
    client.delete(f"{JOBS}/{job['id']}")


def test_two_runs_for_one_job_are_refused(sdk):
    with pytest.raises(UnprocessableEntityError, match="followed in one W&B run, not in 2"):
        sdk.customization.jobs.create(**job_body(), integrations=WANDB * 2)


def test_a_job_that_the_next_platform_picks_up_goes_on_without_its_key(
    own_settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    body = job_body(
        hyperparameters={"epochs": 40, "log_every_n_steps": 5},
        integrations=WANDB,
        dataset="hf://datasets/ns/d",
    )
    with served_by_a_process(own_settings) as (running, process):
        client = running.client()
        upload(running, tmp_path, {"training/a.jsonl": ROWS})
        job = client.post(JOBS, json=body, headers={"wandb-api-key": KEY})
        wait_for_steps(client, job["id"], 27)
        (training,) = psutil.Process(process.pid).children()
        os.kill(process.pid, signal.SIGKILL)
        training.wait(10)
        process.wait(10)
    with serving(own_settings) as serves, running_control_plane(own_settings) as running:
        serves.append(job["output_model"])
        folder, _, log = ended(running, running.client(), job["id"])
    assert "keys are not kept, and the platform has restarted" in log
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2
    assert holding(own_settings.home, KEY) == []
    # What came after the checkpoint is there once.
    steps = [step for step, _ in scalars(folder / "tensorboard")["train/loss"]]
    assert steps == list(range(5, 121, 5))


@pytest.fixture
def with_mlflow(own_settings, tmp_path, monkeypatch):
    """Starts a platform whose trainings are logged at a URI; yields what trains a job there."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    @contextmanager
    def with_mlflow(uri):
        settings = replace(own_settings, mlflow_tracking_uri=uri)
        with serving(settings) as serves, running_control_plane(settings) as running:
            upload(running, tmp_path, {"training/a.jsonl": ROWS})
            body = job_body(hyperparameters={"log_every_n_steps": 1}, dataset="hf://datasets/ns/d")

            def train():
                made = running.sdk().customization.jobs.create(**body)
                serves.append(made.output_model)
                return made, *ended(running, running.client(), made.id)

            yield train

    return with_mlflow


def test_mlflow_has_the_run_when_its_uri_is_set(with_mlflow, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    with with_mlflow(str(tmp_path / "mlruns")) as train:
        job, _, where, _ = train()
    assert f"MLflow at {tmp_path / 'mlruns'}" in where
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for the client of this test alone
    store = mlflow.MlflowClient(str(tmp_path / "mlruns"))
    (experiment,) = store.search_experiments(filter_string="name = 'nvidia-nemo-customizer'")
    (run,) = store.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (job.id, "FINISHED")
    assert run.data.tags["dataset"] == "hf://datasets/ns/d"
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_second", "eval_loss",
            "eval_tool_call_accuracy"} <= set(run.data.metrics)  # fmt: skip
    assert [m.step for m in store.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3]


class AProcess:
    """A training process as MLflow sees it: a run is active in one thread."""

    def __init__(self, folder):
        self._folder = folder

    def ends_with(self, error, step):
        """Log a loss at this step and end."""
        thread = threading.Thread(target=self._run, args=(error, step))
        thread.start()
        thread.join()

    def _run(self, error, step):
        from transformers import TrainerControl, TrainerState, TrainingArguments

        from nemo_local.customizer.training.trackers import Trackers

        arguments = TrainingArguments(str(self._folder), use_cpu=True, seed=step)
        told = (arguments, TrainerState(global_step=step), TrainerControl())
        with (
            suppress(Stopped, TrainingFailed),
            Trackers(TASK, self._folder) as trackers,
        ):
            mlflow = trackers.callbacks(0)[-1]
            mlflow.on_train_begin(*told, model=None)
            mlflow.on_log(*told, logs={"loss": 1.0})
            if error is not None:
                raise error
            mlflow.on_train_end(*told)


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ([TrainingFailed("nan")], "FAILED"),
        ([Stopped()], "RUNNING"),
        ([Stopped(), None], "FINISHED"),
        ([TrainingFailed("memory"), None], "FINISHED"),
    ],
    ids=["failed", "stopped", "stopped and gone on with", "failed and begun again"],
)
def test_mlflow_has_one_run_of_a_job_and_how_it_ended(tmp_path, ends, status):
    mlflow = pytest.importorskip("mlflow")
    store = str(tmp_path / "mlruns")
    with patch.dict(os.environ, {"MLFLOW_TRACKING_URI": store, "MLFLOW_ALLOW_FILE_STORE": "true"}):
        for step, error in enumerate(ends, 1):
            AProcess(tmp_path).ends_with(error, step)
        client = mlflow.MlflowClient(store)
        (run,) = client.search_runs([found.experiment_id for found in client.search_experiments()])
        assert (run.info.run_name, run.info.status) == (tmp_path.name, status)
        series = client.get_metric_history(run.info.run_id, "loss")
        assert [point.step for point in series] == list(range(1, len(ends) + 1))
        assert run.data.params["seed"] == "1"


def test_an_mlflow_server_that_is_down_does_not_fail_the_training(with_mlflow):
    pytest.importorskip("mlflow")
    with with_mlflow(f"http://me:secret@127.0.0.1:{free_port()}") as train:
        _, folder, where, log = train()
    assert "MLflow at http://127.0.0.1:" in where
    assert log.count("MLflow gets no more of this run: ") == 1
    assert "secret" not in where and "secret" not in log
    assert holding(folder, "secret") == []


def test_an_mlflow_uri_without_mlflow_is_told_at_once(with_mlflow, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with with_mlflow("http://127.0.0.1:1") as train:
        with pytest.raises(UnprocessableEntityError, match="but MLflow is not installed: pip in"):
            train()
