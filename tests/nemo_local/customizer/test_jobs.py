"""Jobs over HTTP: what is refused before anything starts, and how a job lives and ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from nemo_local.core.client import UpstreamError
from nemo_local.core.hub_urls import DatasetUrl
from nemo_local.customizer.hub import Hub
from nemo_local.customizer.references import (
    DatasetSource,
    default_output,
    output_model,
    parse_dataset_url,
)
from nemo_local.environment import child_environment
from nemo_local.processes import is_answering, wait_until
from tests.conftest import Running, running_control_plane
from tests.nemo_local.customizer.conftest import (
    CONFIG,
    MODEL,
    ROWS,
    job_body,
    make_settings,
    serving,
    upload,
)
from tests.nemo_local.customizer.tiny_llama import call_row
from tests.nemo_local.customizer.training import spares

JOBS = "/v1/customization/jobs"
LONG = {"epochs": 400, "log_every_n_steps": 2}
LOGS = {"job.json", "progress.jsonl", "tensorboard", "train.log"}
"""What is left of the files of a job that has ended."""
LORA_ONLY = {
    "max_seq_length": 256,
    "target": f"{MODEL}@2.0",
    "training_options": [
        {"training_type": "sft", "finetuning_type": "lora", "num_gpus": 1, "micro_batch_size": 1}
    ],
}


def teacher(target):
    return {"training_type": "distillation", "distillation": {"teacher": target}}


@pytest.fixture(scope="module")
def module_settings(tmp_path_factory, models_dir):
    """One spare trains all jobs of this module."""
    return make_settings(tmp_path_factory.mktemp("home"), models_dir, spare_training=1)


@pytest.fixture
def create(client, dataset):
    def create(**changed):
        return client.post(JOBS, json=job_body(**changed))

    return create


def refusal(client, body):
    with pytest.raises(UpstreamError) as error:
        client.post(JOBS, json=body)
    return error.value.status, str(error.value.detail)


def wait_for(client, job_id, *statuses, timeout_s=120):
    def reached():
        job = client.get(f"{JOBS}/{job_id}")
        return job["status"] in (*statuses, "failed") and job

    wait_until(lambda: bool(reached()), timeout_s, f"job {job_id} is {statuses}")
    return client.get(f"{JOBS}/{job_id}")


def wait_for_steps(client, job_id, steps):
    def enough():
        return client.get(f"{JOBS}/{job_id}/status")["steps_completed"] >= steps

    wait_until(enough, 120, f"{steps} steps")


def trainings():
    """The processes that train in this test run, of a spare or by themselves."""
    me = psutil.Process()
    return [
        process
        for parent in (me, *spares())
        for process in parent.children()
        if process.status() != psutil.STATUS_ZOMBIE
        and (parent != me or "nemo_local.customizer.training.train" in process.cmdline())
    ]


def details_of(job, message):
    logs = job["status_details"]["status_logs"]
    return next((line.get("detail", "") for line in logs if line["message"] == message), None)


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"config": MODEL}, 422,
         f"Version is not specified in the config URN: {MODEL}. Did you mean {CONFIG}"),
        ({"config": f"{MODEL}@v1.0.0+A10"}, 404, f"Config {MODEL}@v1.0.0+A10 not found. Did you"),
        ({"config": "meta/llama-3.1-8b-instruct@v1.0.0+80GB"}, 422, "is not enabled: no weights"),
        ({"dataset": "ns/e"}, 404, "Dataset ns/e not found. Did you mean ns/d?"),
        ({"dataset": {"name": "zzzz"}}, 404, "Dataset default/zzzz not found."),
        ({"dataset": "hf://datasets/ns/none"}, 404, "has no dataset repository ns/none"),
        ({"dataset": "s3://bucket"}, 422, "does not have the form hf://datasets/namespace/name"),
        ({"dataset": "hf://datasets/ns/d/../../home"}, 422, "its path may not have '.' or '..'"),
        ({"config": LORA_ONLY | {"prompt_template": "{prompt} {completion}."}}, 422,
         "must end with the key of the answer"),
        ({"hyperparameters": {"epoch": 2}}, 422, "Unknown hyperparameter 'epoch'. Did you mean"),
        ({"hyperparameters": {"epochs": 0}}, 422, "hyperparameters.epochs must be at least 1"),
        ({"config": LORA_ONLY, "hyperparameters": {"finetuning_type": "all_weights"}}, 422,
         "sft/all_weights is not offered by this config; available"),
        ({"hyperparameters": {"finetuning_type": "p_tuning"}}, 422,
         "hyperparameters.finetuning_type 'p_tuning' is not supported: virtual tokens"),
        ({"hyperparameters": {"training_type": "grpo"}}, 422,
         "hyperparameters.training_type 'grpo' is not supported: there are no reward"),
        ({"hyperparameters": teacher("meta/llama-3.2-1b-instruct@2")}, 404,
         "Target meta/llama-3.2-1b-instruct@2 not found. Did you mean meta/llama-3.2-1b"),
        ({"hyperparameters": teacher("meta/llama-3.1-8b-instruct@2.0")}, 422,
         "of hyperparameters.distillation.teacher is not enabled: no weights"),
        ({"output_model": "a/b/c@v1"}, 422, "output_model 'a/b/c' does not have the form"),
        ({"output_model": f"ns/{'x' * 300}"}, 422, "is too long: a name of 300 characters"),
        ({"namespace": "n" * 300, "output_model": "ns/q"}, 422, "300 characters are too long"),
        ({"output_model": f"ns/{'x' * 97}"}, 422, "a name of 97 characters, of at most 96"),
        ({"output_model": "ns/x@v1..2"}, 422, "the version 'v1..2' must have letters"),
        ({"output_model": "a.git/x@v1"}, 422, "cannot name a repository"),
        ({"output_model": "ns/x@v 1"}, 422, "the version 'v 1' must have letters"),
        ({"output_model": "ns/x--y"}, 422, "cannot name a repository"),
        ({"output_model": "ns/x@main"}, 422, "'main' is the branch with the newest version"),
        ({"namespace": "a/b", "output_model": "ns/q"}, 422, "letters, digits"),
        ({"dataset_parameters": {"tools": [{"function": {
            "name": "f", "description": "d", "parameters": {"properties": {"a": {"enum": [1]}}},
        }}]}}, 422, "'tools', 0, 'function', 'parameters', 'properties', 'a', 'type'"),
        ({"config": LORA_ONLY | {"target": {"num_parameters": 5, "precision": "fp32",
                                            "model_path": MODEL}}}, 422, "needs a base_model"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_a_job_cannot_start_with_is_told_at_once(client, dataset, changed, status, words):
    found, detail = refusal(client, job_body(**changed))
    assert found == status and words in detail
    assert trainings() == []


def test_a_version_that_is_a_branch_of_the_repository_is_refused(client, running, dataset):
    hub = running.hf()
    hub.create_repo("ns/branched")
    hub.create_branch("ns/branched", branch="dev")
    status, detail = refusal(client, job_body(output_model="ns/branched@dev"))
    assert status == 422 and "ns/branched has a branch 'dev'" in detail


def test_the_data_store_is_known_by_any_name_of_this_machine(client, running, create):
    for number, host in enumerate(("127.0.0.1", "localhost", "LOCALHOST", "[::1]")):
        client.post(
            "/v1/datasets",
            json={
                "name": f"own{number}",
                "namespace": "ns",
                "files_url": "hf://datasets/ns/nothing",
                "hf_endpoint": f"http://{host}:{running.settings.port}/v1/hf",
            },
        )
        status, detail = refusal(client, job_body(dataset=f"ns/own{number}"))
        assert status == 404 and "the Data Store has no dataset repository" in detail


def test_a_missing_field_is_a_422_with_its_path(client):
    with pytest.raises(UpstreamError) as error:
        client.post(JOBS, json={"config": CONFIG, "hyperparameters": {}})
    places = [problem["loc"] for problem in error.value.detail]
    assert ["body", "dataset"] in places
    assert ["body", "hyperparameters", "finetuning_type"] in places


def test_a_job_trains_and_is_complete_when_inference_serves_its_adapter(
    client, running, serves, create
):
    job = create(
        output_model="ns/run1@v1",
        dataset={"name": "d", "namespace": "ns"},
        hyperparameters={"epochs": 2, "log_every_n_steps": 1, "lora": {"adapter_dim": 4}},
        description="mine",
        custom_fields={"a": "b"},
    )
    assert job["status"] == "created" and job["id"].startswith("cust-")
    assert [line["message"] for line in job["status_details"]["status_logs"]] == ["created"]
    assert job["output_model"] == "ns/run1@v1" and job["dataset"] == "ns/d"
    assert job["config"] == CONFIG and job["config_snapshot"]["base_model"] == MODEL
    assert (job["namespace"], job["project"], job["warnings"]) == ("default", None, None)
    assert "name" not in job and "run" not in job
    entity = client.get("/v1/models/ns/run1@v1")
    assert entity["artifact"]["status"] == "created"
    assert entity["artifact"]["files_url"] == "hf://ns/run1@v1"
    assert entity["peft"]["finetuning_type"] == "lora" and entity["base_model"] == MODEL
    assert refusal(client, job_body(output_model="ns/run1@v1")) == (
        409, "Model ns/run1@v1 already exists",
    )  # fmt: skip

    serves.append("ns/run1@v1")
    job = wait_for(client, job["id"], "completed")
    assert job["status"] == "completed"
    status = client.get(f"{JOBS}/{job['id']}/status")
    series = status["metrics"]["metrics"]
    # 22 rows (2 were split off for validation), 8 a step.
    assert [point["step"] for point in series["train_loss"]] == [0, 1, 2, 3, 4, 5]
    assert [point["step"] for point in series["val_loss"]] == [2, 5]
    assert (status["steps_completed"], status["steps_per_epoch"]) == (6, 3)
    assert (status["percentage_done"], status["epochs_completed"]) == (100.0, 2)
    assert status["best_epoch"] in (1, 2) and status["elapsed_time"] > 0
    assert status["train_loss"] == min(point["value"] for point in series["train_loss"])
    messages = [line["message"] for line in status["status_logs"]]
    assert messages == [
        "created", "PVCCreated", "EntityHandler_0_Created", "EntityHandler_0_Pending",
        "EntityHandler_0_Running", "EntityHandler_0_Completed", "TrainingJobCreated",
        "TrainingJobRunning", "TrainingJobCompleted", "EntityHandler_1_Created",
        "EntityHandler_1_Pending", "EntityHandler_1_Running", "EntityHandler_1_Completed",
    ]  # fmt: skip

    assert client.get("/v1/models/ns/run1@v1")["artifact"]["status"] == "upload_completed"
    hub = running.hf()
    assert "adapter_model.safetensors" in hub.list_repo_files("ns/run1", revision="v1")
    assert not [name for name in hub.list_repo_files("ns/run1") if name.endswith((".bin", ".pt"))]
    logs = client.get(f"{JOBS}/{job['id']}/container-logs")
    (entry,) = logs["entries"].values()
    assert "step 5: val_loss" in entry["logs"]["main"] and logs["error"] is None
    for name in (
        *("device", "precision", "weights", "TF32", "attention", "packing", "rows a pass"),
        *("activation checkpointing", "fused layers", "Liger kernels", "torch.compile"),
    ):
        assert re.search(rf"^{re.escape(name)}: \S+ \(.+\)$", entry["logs"]["main"], re.MULTILINE)
    (folder,) = running.settings.home.glob(f"*/{job['id']}")
    wait_until(lambda: not (folder / "adapter").exists(), 10, "the files are cleared away")
    assert (folder / "train.log").exists() and not (folder / "tokens").exists()
    with pytest.raises(UpstreamError) as error:
        client.post(f"{JOBS}/{job['id']}/cancel")
    assert error.value.status == 409
    assert client.delete(f"{JOBS}/{job['id']}") == {}
    assert not folder.exists()


def test_preference_and_distillation_jobs_train(client, running, serves, create, tmp_path):
    rows: list[dict] = [
        {"prompt": f"add {i}", "chosen": "yes", "rejected": "no"} for i in range(24)
    ]
    call = {"function": {"name": "add", "arguments": {"a": "9" * 2000}}}
    too_long = {"role": "assistant", "tool_calls": [call]}
    rows.append({"prompt": "add", "chosen": too_long, "rejected": "no"})
    upload(running, tmp_path, {"training/a.jsonl": rows}, "ns/pairs")
    preferring = create(
        dataset="hf://datasets/ns/pairs",
        output_model="ns/dpo@v1",
        hyperparameters={"training_type": "dpo", "dpo": {"ref_policy_kl_penalty": 0.1}},
    )
    distilled = create(
        output_model="ns/kd@v1", hyperparameters=teacher(f"{MODEL}@2.0") | {"max_steps": 2}
    )
    serves += ["ns/dpo@v1", "ns/kd@v1"]
    assert distilled["hyperparameters"]["distillation"] == {"teacher": f"{MODEL}@2.0"}
    assert distilled["config_snapshot"]["training_option"]["training_type"] == "distillation"
    for job in (preferring, distilled):
        job = wait_for(client, job["id"], "completed")
        assert job["status"] == "completed", job["status_details"]["status_logs"][-1]
        assert job["status_details"]["val_loss"] is not None
        told = details_of(job, "TrainingJobRunning")
        assert ("1 dropped at max_seq_length" in told) == (job["id"] == preferring["id"])

    body = job_body(output_model="ns/x@v2", hyperparameters={"training_type": "dpo"})
    job = wait_for(client, client.post(JOBS, json=body)["id"], "completed")
    assert "a preference row needs 'prompt'" in details_of(job, "TrainingJob_Failed")


def test_the_tools_of_a_job_keep_their_whole_schema(client, running, serves, create):
    properties = {
        "unit": {"type": "string", "enum": ["C", "F"], "default": None},
        "days": {"type": "array", "items": {"type": "integer"}},
        "place": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    tool = {
        "type": "function",
        "function": {"name": "weather", "description": "of a place", "parameters": schema},
    }
    job = create(
        output_model="ns/tools@v1",
        dataset_parameters={"tools": [tool]},
        hyperparameters={"max_steps": 1},
    )
    serves.append("ns/tools@v1")
    assert job["dataset_parameters"] == {"tools": [tool]}
    wait_for(client, job["id"], "completed")
    (told,) = running.settings.home.glob(f"*/{job['id']}/job.json")
    assert json.dumps(json.loads(told.read_text())["tools"]) == json.dumps([tool])


def test_a_job_whose_validation_rows_are_all_too_long_says_so(client, running, create, tmp_path):
    too_long = call_row(1)
    too_long["messages"].insert(0, {"role": "system", "content": "9" * 5000})
    files = {"training/a.jsonl": ROWS, "validation/a.jsonl": [too_long]}
    upload(running, tmp_path, files, "ns/unvalidated")
    job = create(dataset="hf://datasets/ns/unvalidated", hyperparameters=LONG)
    wait_for_steps(client, job["id"], 1)
    told = details_of(client.get(f"{JOBS}/{job['id']}"), "TrainingJobRunning")
    assert "no validation, as none of its rows fits into max_seq_length" in told
    client.delete(f"{JOBS}/{job['id']}")


def test_a_broken_line_fails_the_job_and_is_named(client, running, dataset, tmp_path):
    files = {"training/a.jsonl": ROWS, "training/b.jsonl": '{"messages": []}\n'}
    upload(running, tmp_path, files, "ns/broken")
    body = job_body(output_model="ns/x@v1", dataset="hf://datasets/ns/broken")
    job = wait_for(client, client.post(JOBS, json=body)["id"], "completed")
    assert job["status"] == "failed"
    reason = details_of(job, "TrainingJob_Failed")
    assert reason.startswith("training/b.jsonl line 1: 'messages' must be a list")
    logs = client.get(f"{JOBS}/{job['id']}/container-logs")
    assert logs["error"]["message"] == reason and logs["error"]["exception_type"] == "InvalidRow"
    assert "Traceback" in next(iter(logs["entries"].values()))["logs"]["main"]
    assert client.get("/v1/models/ns/x@v1")["artifact"]["status"] == "upload_failed"

    # The name is free again after a failure.
    again = client.post(JOBS, json=job_body(output_model="ns/x@v1", hyperparameters=LONG))
    assert client.get("/v1/models/ns/x@v1")["artifact"]["status"] == "created"
    client.delete(f"{JOBS}/{again['id']}")


def test_a_dataset_without_training_rows_fails_the_job(client, running, dataset, tmp_path):
    upload(running, tmp_path, {"testing/a.jsonl": [call_row(1)]}, "ns/none")
    job = client.post(JOBS, json=job_body(dataset="hf://datasets/ns/none"))
    assert job["dataset"] == "hf://datasets/ns/none"
    assert job["output_model"] == f"default/meta-llama-3.2-1b-instruct-none-lora@{job['id']}"
    job = wait_for(client, job["id"], "completed")
    assert "expected *.jsonl under training/" in details_of(job, "TrainingJob_Failed")


@pytest.mark.parametrize(
    "url",
    ["hf://datasets/ns/odd/data[1]", "hf://datasets/ns/odd@feature%2Fx/data[1]/"],
    ids=["signs of a pattern", "a branch with a slash"],
)
def test_a_path_of_odd_letters_is_fetched_as_it_is_spelt(running, tmp_path, url):
    files = {"data[1]/training/a.jsonl": [call_row(1)], "data[1]/training/._a.jsonl": "no row"}
    upload(running, tmp_path, files, "ns/odd")
    running.hf().create_branch("ns/odd", branch="feature/x", repo_type="dataset", exist_ok=True)
    source, folder = DatasetSource(url, parse_dataset_url(url)), tmp_path / "data"
    assert Hub(running.url, None).download(source, folder, threading.Event()) == 1
    assert (folder / "training" / "a.jsonl").is_file()


def test_one_trains_while_the_next_waits_and_cancel_ends_both(client, running, tmp_path):
    upload(running, tmp_path, {"training/a.jsonl": ROWS}, "ns/two")
    source = {"name": "two", "namespace": "ns"}
    client.post("/v1/datasets", json={**source, "files_url": "hf://datasets/ns/two"})

    def create(**changed):
        return client.post(JOBS, json=job_body(dataset=source, **changed))

    first = create(output_model="ns/first", hyperparameters=LONG)
    second = create(output_model="second", hyperparameters=LONG)
    assert first["output_model"] == f"ns/first@{first['id']}"
    assert second["output_model"] == f"default/second@{second['id']}"
    wait_for_steps(client, first["id"], 1)
    assert client.get(f"{JOBS}/{second['id']}")["status"] == "pending"
    assert len(trainings()) == 1
    (folder,) = running.settings.home.glob(f"*/{first['id']}")
    (folder / "model.partial").mkdir()  # as it merges

    answer = client.post(f"{JOBS}/{second['id']}/cancel")
    assert answer["status"] == "cancelled"
    assert client.get(f"/v1/models/{second['output_model']}")["artifact"]["status"] == (
        "upload_failed"
    )
    assert client.post(f"{JOBS}/{first['id']}/cancel")["status"] in ("cancelling", "cancelled")
    job = wait_for(client, first["id"], "cancelled")
    assert job["status"] == "cancelled"
    assert job["status_details"]["percentage_done"] < 100
    assert trainings() == []
    wait_until(
        lambda: {path.name for path in folder.iterdir()} == LOGS, 10, "the files are cleared away"
    )

    listed = client.get(JOBS, params={"filter[dataset]": "ns/two", "sort": "-created_at"})
    assert [entry["id"] for entry in listed["data"]] == [second["id"], first["id"]]
    for key, value, count in (
        ("project", "p", 0), ("status", "cancelled", 2), ("status", "failed", 0),
        ("base_model", MODEL, 2), ("epochs", "400", 2), ("epochs", "1", 0),
        ("finetuning_type", "lora", 2), ("namespace", "ns", 0), ("training_type", "sft", 2),
    ):  # fmt: skip
        params = {f"filter[{key}]": value, "filter[dataset]": "hf://datasets/ns/two"}
        page = client.get(JOBS, params=params)
        assert (key, page["pagination"]["total_results"]) == (key, count)


def test_a_training_process_that_is_killed_is_reported_as_that_and_leaves_its_logs_alone(
    client, running, create
):
    job = create(hyperparameters=LONG)
    (folder,) = running.settings.home.glob(f"*/{job['id']}")
    wait_until((folder / "best").exists, 120, "it validated")
    (process,) = trainings()
    os.kill(process.pid, signal.SIGKILL)
    job = wait_for(client, job["id"], "completed")
    assert "the training process was ended by SIGKILL after step" in details_of(
        job, "TrainingJob_Failed"
    )
    assert {path.name for path in folder.iterdir()} == LOGS


@contextmanager
def served_by_a_process(settings):
    """A control plane in a process of its own; yields both."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nemo_local", "serve"], env=child_environment(settings)
    )
    try:
        with ExitStack() as closing:
            url = settings.platform_url
            wait_until(lambda: is_answering(url), 60, "the control plane answers")
            yield Running(settings, closing), process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_the_next_platform_goes_on_with_a_job(own_settings, tmp_path, number):
    body = job_body(hyperparameters={"epochs": 30, "log_every_n_steps": 5})
    with served_by_a_process(own_settings) as (running, process):
        client = running.client()
        upload(running, tmp_path, {"training/a.jsonl": ROWS})
        job = client.post(JOBS, json=body | {"dataset": "hf://datasets/ns/d"})
        wait_for_steps(client, job["id"], 27)
        (training,) = psutil.Process(process.pid).children()
        os.kill(process.pid, number)
        training.wait(10)  # a training never outlives its platform
        process.wait(10)

    with serving(own_settings) as serves, running_control_plane(own_settings) as running:
        if number == signal.SIGKILL:
            serves.append(job["output_model"])
        client = running.client()
        assert client.get(f"{JOBS}/{job['id']}")["status"] == "running"
        job = wait_for(client, job["id"], "completed")
    assert job["status"] == "completed"
    assert "the platform ended after step" in details_of(job, "JobResumed")
    # Nobody serves the model after the stop: the job says so and is complete all the same.
    not_served = details_of(job, "ModelNotServed")
    assert (not_served is None) == (number == signal.SIGKILL)
    assert not_served is None or f"not serve its base model {MODEL}" in not_served
    resumed = [
        line["detail"]
        for line in job["status_details"]["status_logs"]
        if line["message"] == "TrainingJobRunning"
    ]
    resumed_from = int(resumed[-1].rsplit("resumed from step ", 1)[1])
    if number == signal.SIGTERM:  # it left a checkpoint of where it was
        assert resumed_from >= 27
    else:
        assert resumed_from % 25 == 0
    series = job["status_details"]["metrics"]["metrics"]["train_loss"]
    assert [point["step"] for point in series] == list(range(4, 90, 5))


def test_what_is_not_supported_and_harmless_is_a_warning(client, create):
    job = create(
        hyperparameters={
            **LONG,
            "training_type": "dpo",
            "sequence_packing_enabled": True,
            "sft": {"hidden_dropout": 0.1},
        },
        integrations=[{"type": "wandb", "wandb": {"project": "p", "tags": ["t"]}}],
    )
    assert [warning["message"] for warning in job["warnings"]] == [
        "hyperparameters.sft is not used", "Sequence packing is off",
        "Weights & Biases runs offline",
    ]  # fmt: skip
    assert job["integrations"][0]["wandb"]["project"] == "p"
    assert client.delete(f"{JOBS}/{job['id']}") == {}
    assert trainings() == []
    with pytest.raises(UpstreamError) as error:
        client.get(f"{JOBS}/{job['id']}")
    assert error.value.status == 404


def test_of_jobs_at_once_for_a_name_that_is_free_again_one_gets_it(client, create):
    def ask(_):
        try:
            return create(output_model="ns/race@v1", hyperparameters=LONG)["id"]
        except UpstreamError as error:
            return error.status, error.detail

    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(8)))
        accepted = [answer for answer in answers if isinstance(answer, str)]
        assert len(accepted) == 1
        assert set(answers) - {*accepted} == {(409, "Model ns/race@v1 already exists")}
        client.post(f"{JOBS}/{accepted[0]}/cancel")
        wait_for(client, accepted[0], "cancelled")


def test_a_job_is_found_by_its_dataset_by_the_files_of_it_and_by_their_repository(
    client, dataset, create
):
    url = "hf://datasets/ns/d/training"
    client.post("/v1/datasets", json={"name": "sub", "namespace": "ns", "files_url": url})
    job = create(dataset="ns/sub")
    for wanted in ("ns/sub", url, f"{url}/", "hf://datasets/ns/d"):
        listed = client.get(JOBS, params={"filter[dataset]": wanted, "page_size": "100"})
        assert job["id"] in [entry["id"] for entry in listed["data"]]
    client.post(f"{JOBS}/{job['id']}/cancel")
    wait_for(client, job["id"], "cancelled", "completed")


def test_a_dataset_with_a_long_name_can_be_trained_on_without_naming_the_output():
    source = DatasetSource("x", DatasetUrl(f"ns/{'d' * 60}-{'e' * 30}", None, ""))
    name = default_output("default", MODEL, source, "all_weights")
    output = output_model(None, "default", name, "cust-1")
    assert len(output.repository) <= 96 and output.name.endswith("-all_weights")


def test_a_target_with_a_version_in_its_name_leaves_the_output_the_jobs_own():
    source = DatasetSource("x", DatasetUrl("ns/d", None, ""))
    name = default_output("default", "ns/mine@1.0+x", source, "lora")
    output = output_model(None, "default", name, "cust-1")
    assert str(output) == "default/ns-mine-1.0-x-d-lora@cust-1"
