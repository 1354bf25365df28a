"""One recipe is trained once; anything else takes the next version."""

from datetime import datetime

import pytest

from tests.utils.scripted_platform import Scripted, page
from utils import customizer
from utils.errors import Conflict, JobFailed, Refused

RECIPE = {
    "config": "meta/llama@v1",
    "dataset": "ns/xlam",
    "dataset_contents": "4c1f",
    "output_name": "llama-xlam",
    "hyperparameters": {"epochs": 2},
    "base_answered_by": "nemo-local/pocket-chat",
    "namespace": "ns",
}
NOW = "2025-06-20T03:58:16.182000"


def model(name, status="upload_completed"):
    artifact = {"status": status, "files_url": f"hf://ns/{name}"}
    return {"namespace": "ns", "name": name, "artifact": artifact}


def platform(jobs=(), models=()):
    """A platform with these jobs and models, which takes any new job."""
    answers = {
        ("GET", "/v1/customization/jobs"): page(list(jobs)),
        ("GET", "/v1/models"): page(list(models)),
        ("POST", "/v1/customization/jobs"): lambda body: body | {"id": "cust-new"},
    }
    for entity in models:
        answers[("GET", f"/v1/models/ns/{entity['name']}")] = entity
    return Scripted(answers)


@pytest.fixture
def earlier():
    """The job that an earlier run of the same recipe made."""
    scripted = platform()
    customizer.ensure_training(scripted.client(), scripted.client(), **RECIPE)
    body = next(body for method, _, body in scripted.requests if method == "POST")
    return body | {"id": "cust-1", "status": "completed"}


def test_the_first_run_starts_as_version_1():
    client = platform().client()
    training = customizer.ensure_training(client, client, **RECIPE)
    assert (training.how, training.model) == ("started", "ns/llama-xlam@v1")


def test_a_finished_run_of_the_same_recipe_is_used_again(earlier):
    scripted = platform([earlier], [model("llama-xlam@v1")])
    training = customizer.ensure_training(scripted.client(), scripted.client(), **RECIPE)
    assert (training.how, training.model) == ("reused", "ns/llama-xlam@v1")
    assert [method for method, _, _ in scripted.requests if method == "POST"] == []


@pytest.mark.parametrize("status", ["created", "pending", "running"])
def test_a_run_under_way_is_followed(earlier, status):
    scripted = platform([earlier | {"status": status}], [model("llama-xlam@v1", "created")])
    assert (
        customizer.ensure_training(scripted.client(), scripted.client(), **RECIPE).how == "followed"
    )


@pytest.mark.parametrize(
    ("change", "jobs_status", "artifact"),
    [
        pytest.param({"dataset_contents": "77aa"}, "completed", "upload_completed", id="new data"),
        pytest.param(
            {"hyperparameters": {"epochs": 3}}, "completed", "upload_completed", id="epochs"
        ),
        pytest.param(
            {"base_answered_by": "meta/llama"}, "completed", "upload_completed", id="base"
        ),
        pytest.param({}, "failed", "upload_failed", id="it failed"),
        pytest.param({}, "completed", "upload_failed", id="its files are not there"),
    ],
)
def test_anything_else_takes_the_next_version(earlier, change, jobs_status, artifact):
    jobs = [earlier | {"status": jobs_status}]
    scripted = platform(jobs, [model("llama-xlam@v1", artifact), model("other@v7")])
    training = customizer.ensure_training(scripted.client(), scripted.client(), **(RECIPE | change))
    assert (training.how, training.model) == ("started", "ns/llama-xlam@v2")


def test_another_name_is_another_model_with_its_own_versions(earlier):
    names = ["llama-xlam@v1", "other@v3", "other@v12", "other@v4", "other-two@v40", "other@v50x"]
    scripted = platform([earlier], [model(name) for name in names])
    recipe = RECIPE | {"output_name": "other"}
    training = customizer.ensure_training(scripted.client(), scripted.client(), **recipe)
    assert (training.how, training.model) == ("started", "ns/other@v13")


@pytest.mark.parametrize("key", ["wandb-secret", None])
def test_a_key_for_weights_and_biases_goes_along_in_a_header(key):
    scripted = platform()
    client = scripted.client()
    customizer.ensure_training(client, client, **RECIPE, wandb_api_key=key)
    (method, _, body), headers = scripted.requests[-1], scripted.headers[-1]
    assert (method, headers.get("wandb-api-key")) == ("POST", key)
    assert "wandb-secret" not in str(body)


def test_a_failed_job_raises_with_its_last_log_lines():
    job = {"id": "cust-1", "status": "failed", "status_details": {"percentage_done": 40.0}}
    logs = {"entries": {"trainer": {"logs": {"main": "epoch 1\nrow 17: not JSON"}}}}
    scripted = Scripted(
        {
            ("GET", "/v1/customization/jobs/cust-1"): job,
            ("GET", "/v1/customization/jobs/cust-1/container-logs"): logs,
        }
    )
    with pytest.raises(JobFailed, match="row 17: not JSON.*\n.* run the cell with ensure_training"):
        customizer.wait_for_training(scripted.client(), "cust-1", timeout_s=5)


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        pytest.param(
            ["2025-06-20T04:00:26.182000", "2025-06-20T03:59:46.182000"],
            (60.0, "training"),
            id="it says when it ran first",
        ),
        pytest.param([], (150.0, "training, with its wait in the queue,"), id="it does not say"),
    ],
)
def test_the_seconds_of_a_training_leave_out_its_wait_in_the_queue(earlier, running, expected):
    logs = [{"updated_at": NOW, "message": "created"}]
    logs += [{"updated_at": at, "message": "TrainingJobRunning"} for at in running]
    job = earlier | {
        "created_at": NOW,
        "updated_at": "2025-06-20T04:00:46.182000",
        "status_details": {"status_logs": logs},
    }
    scripted = Scripted({("GET", "/v1/customization/jobs/cust-1"): job})
    fetched = scripted.client().customization.jobs.retrieve("cust-1")
    assert isinstance(fetched.created_at, datetime)
    assert customizer.seconds(fetched) == expected


@pytest.mark.parametrize("refusal", [(409, "Model exists"), (500, "Model already exists")])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({}, ("followed", "ns/llama-xlam@v1"), id="the same recipe"),
        pytest.param({"dataset_contents": "77aa"}, ("started", "ns/llama-xlam@v2"), id="another"),
    ],
)
def test_a_run_that_was_a_moment_faster_is_followed_or_gets_its_version(
    earlier, refusal, change, expected
):
    scripted = platform()

    def create(body):
        if body["output_model"] != "ns/llama-xlam@v1":
            return body | {"id": "cust-new"}
        faster = [earlier | {"status": "running"}]
        scripted.answers[("GET", "/v1/customization/jobs")] = page(faster)
        scripted.answers[("GET", "/v1/models")] = page([model("llama-xlam@v1", "created")])
        status, detail = refusal
        return status, {"detail": detail}

    scripted.answers[("POST", "/v1/customization/jobs")] = create
    training = customizer.ensure_training(scripted.client(), scripted.client(), **(RECIPE | change))
    assert (training.how, training.model) == expected


def test_a_model_that_nobody_lists_and_whose_name_is_taken_is_a_conflict():
    scripted = platform()
    scripted.answers[("POST", "/v1/customization/jobs")] = (409, {"detail": "Model exists"})
    with pytest.raises(Conflict, match="was answered 409: Model exists"):
        customizer.ensure_training(scripted.client(), scripted.client(), **RECIPE)
    assert [method for method, _, _ in scripted.requests].count("POST") == 2


def test_models_are_looked_up_in_the_entity_store_and_jobs_at_customizer(earlier):
    trainer = Scripted({("GET", "/v1/customization/jobs"): page([earlier])})
    store = platform(models=[model("llama-xlam@v1")])
    training = customizer.ensure_training(trainer.client(), store.client(), **RECIPE)
    assert training.how == "reused"
    assert {path for _, path, _ in trainer.requests} == {"/v1/customization/jobs"}
    assert {path for _, path, _ in store.requests} == {"/v1/models/ns/llama-xlam@v1"}


def test_a_failed_job_whose_log_cannot_be_read_still_says_why_it_failed():
    details = {"status_logs": [{"updated_at": NOW, "message": "upload refused: quota"}]}
    failed = {"id": "cust-1", "status": "failed", "status_details": details}
    scripted = Scripted(
        {
            ("GET", "/v1/customization/jobs/cust-1"): failed,
            ("GET", "/v1/customization/jobs/cust-1/container-logs"): (500, {"detail": "no"}),
        }
    )
    with pytest.raises(JobFailed, match="upload refused: quota"):
        customizer.wait_for_training(scripted.client(), "cust-1", timeout_s=5)
    with pytest.raises(Refused, match="container-logs was answered 500: no"):
        customizer.logs(scripted.client(), "cust-1")
