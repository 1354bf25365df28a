"""The official SDK against a running Evaluator, with a scripted model where NIM would be."""

from __future__ import annotations

import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from nemo_microservices import (
    APIStatusError,
    ConflictError,
    NeMoMicroservices,
    NotFoundError,
    UnprocessableEntityError,
)

from tests.nemo_local.evaluator.test_jobs import number_of, tool_config
from tests.scripted_model import ScriptedModel, serving, tool_call
from utils import evaluator

pytestmark = pytest.mark.contract

REAL_ROWS = Path(__file__).parents[3] / "shared/data/evaluator/aiva_tool_call.jsonl"
CHECK = {
    "type": "string-check",
    "params": {"check": ["{{ sample.output_text }}", "contains", "{{ item.a }}"]},
}


@pytest.fixture
def model(control_plane) -> Iterator[ScriptedModel]:
    scripted = ScriptedModel()
    with serving(scripted.app(), control_plane.settings.nim_port):
        yield scripted


@pytest.fixture
def sdk(control_plane, model: ScriptedModel) -> NeMoMicroservices:
    return control_plane.sdk()


@pytest.fixture
def upload(control_plane):
    """Uploads rows as `testing/<name>` of the repository `ns/rows`; returns their URL."""
    hf = control_plane.hf()
    hf.create_repo("ns/rows", repo_type="dataset")

    def put(rows: list[dict[str, Any]] | bytes, name: str = "rows.jsonl") -> str:
        lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows if isinstance(row, dict))
        hf.upload_file(
            path_or_fileobj=rows if isinstance(rows, bytes) else lines,
            path_in_repo=f"testing/{name}",
            repo_id="ns/rows",
            repo_type="dataset",
        )
        return f"hf://datasets/ns/rows/testing/{name}"

    return put


def row(number: int) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "f", "arguments": {"n": number}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    user = {"role": "user", "content": f"row {number}"}
    return {"messages": [user], "tools": [tool], "tool_calls": [call]}


def test_a_tool_calling_job_from_upload_to_results(sdk, model, upload, tmp_path):
    model.respond = lambda body: tool_call("f", {"n": number_of(body) if number_of(body) else 9})
    config = tool_config(upload([row(number) for number in range(10)]))
    config["tasks"]["calls"]["dataset"]["limit"] = 5
    job = sdk.evaluation.jobs.create(
        config=config,
        target={"type": "model", "model": "scripted/model"},
    )
    assert job.id.startswith("eval-") and job.status == "created"
    assert job.config.tasks["calls"].dataset.limit == 5
    assert job.target.model == "scripted/model"

    job = evaluator.wait_for_evaluation(sdk, job.id, timeout_s=30)
    details: Any = job.status_details
    assert (details.progress, details.message) == (100.0, "Job completed successfully.")
    assert sdk.evaluation.jobs.status(job.id).task_status == {"calls": "completed"}

    result = sdk.evaluation.jobs.results(job.id)
    assert (result.job, result.id) == (job.id, job.result)
    metric = result.tasks["calls"].metrics["accuracy"]
    assert metric.scores["function_name_accuracy"].value == 1.0
    arguments = metric.scores["function_name_and_args_accuracy"]
    assert (arguments.value, arguments.stats.count, arguments.stats.sum) == (0.8, 5, 4.0)
    assert result.tasks["calls"].data["answered_by"] == "a script"
    assert json.loads(result.model_dump_json(exclude_none=True))["groups"] == {}

    path = tmp_path / "results.zip"
    sdk.evaluation.jobs.download_results(job.id).write_to_file(path)
    with zipfile.ZipFile(path) as archive:
        rows = json.loads(archive.read(f"{job.id}/results/results.json"))["calls"]
    assert [r["item"]["messages"][0]["content"] for r in rows] == [f"row {n}" for n in range(5)]
    assert rows[0]["sample"]["response"]["choices"][0]["message"]["tool_calls"]
    logs = sdk.evaluation.jobs.with_raw_response.download_logs(job.id).read()
    with zipfile.ZipFile(io.BytesIO(logs)) as archive:
        assert b"asking" in archive.read(f"{job.id}/logs/job.log")


def test_the_notebooks_verbs_read_scores_and_rows(sdk, model, upload):
    model.respond = lambda body: "f(n=0)" if number_of(body) else tool_call("f", {"n": 0})
    config = tool_config(upload([row(0), row(1)]))
    job = evaluator.start_evaluation(
        sdk, config=config, model="scripted/model", namespace="ns", dataset_contents="4c1f"
    )
    evaluator.wait_for_evaluation(sdk, job.id, timeout_s=30)
    scores = evaluator.scores(sdk, job.id)["calls"]
    assert (scores["function_name_accuracy"].value, scores["function_name_accuracy"].n) == (0.5, 2)
    rows = evaluator.row_results(sdk, job.id)
    assert [r.kind for r in rows] == ["right", "call written as text"]


def test_an_evaluation_that_a_notebook_was_interrupted_in_is_not_started_twice(sdk, model, upload):
    go_on = threading.Event()

    def respond(body):
        go_on.wait(30)
        return "f(n=0)"

    model.respond = respond
    config = tool_config(upload([row(0)]))

    def start(model="scripted/model", contents="4c1f"):
        return evaluator.start_evaluation(
            sdk, config=config, model=model, namespace="ns", dataset_contents=contents
        ).id

    try:
        first = start()
        assert start() == first
        assert first not in (start(contents="77aa"), start("scripted/other"))
    finally:
        go_on.set()
    evaluator.wait_for_evaluation(sdk, first, timeout_s=30)
    assert start() != first


def test_real_rows_are_scored(sdk, model, upload):
    if not REAL_ROWS.exists():
        pytest.skip("the sample rows are not beside this project")
    content = REAL_ROWS.read_bytes()
    gold = {}
    for line in content.splitlines():
        example = json.loads(line)
        gold[json.dumps(example["messages"])] = example["tool_calls"][0]["function"]

    def respond(body: dict[str, Any]) -> dict[str, Any]:
        function = gold[json.dumps(body["messages"])]
        return tool_call(function["name"], function["arguments"])

    model.respond = respond
    config = tool_config(upload(content, "aiva.jsonl"))
    job = sdk.evaluation.jobs.create(config=config, target={"type": "model", "model": "m"})
    evaluator.wait_for_evaluation(sdk, job.id, timeout_s=30)
    scores = evaluator.scores(sdk, job.id)["calls"]
    assert {score.value for score in scores.values()} == {1.0}


def test_a_registered_dataset_and_model_may_be_named_and_the_model_gets_its_key(
    sdk, model, upload, control_plane
):
    model.respond = lambda body: "it is b"
    sdk.datasets.create(name="rows", namespace="ns", files_url=upload([{"q": "a", "a": "b"}]))
    sdk.models.create(
        name="elsewhere",
        namespace="ns",
        api_endpoint={
            "url": f"{control_plane.nim_url}/v1/chat/completions",
            "model_id": "other",
            "api_key": "sk-theirs",
        },
    )
    client, path = control_plane.client(), "/v1/models/ns/elsewhere"
    client.patch(path, json=client.get(path) | {"description": "sent back with its mask"})
    template = {"messages": [{"role": "user", "content": "{{ item.q }}"}], "max_tokens": 5}
    task = {
        "type": "chat-completion",
        "dataset": "ns/rows",
        "params": {"template": template},
        "metrics": {"check": CHECK},
    }
    sdk.evaluation.configs.create(name="qa", namespace="ns", type="custom", tasks={"qa": task})
    sdk.evaluation.targets.create(name="t", namespace="ns", type="model", model="ns/elsewhere")
    job = sdk.evaluation.jobs.create(config="ns/qa", target="ns/t")
    evaluator.wait_for_evaluation(sdk, job.id, timeout_s=30)
    result = sdk.evaluation.jobs.results(job.id)
    assert result.tasks["qa"].metrics["check"].scores["string-check"].value == 1.0
    assert model.requests[0]["model"] == "other"
    assert model.headers[0]["authorization"] == "Bearer sk-theirs"
    assert [j.id for j in sdk.evaluation.jobs.list(filter={"status": "completed"})] == [job.id]
    assert [r.job for r in sdk.evaluation.results.list()] == [job.id]
    assert sdk.evaluation.results.retrieve(result.id).job == job.id


def test_configs_and_targets_are_crud(sdk):
    config = sdk.evaluation.configs.create(type="custom", name="c", namespace="ns", tasks={})
    assert config.id.startswith("eval-config-") and config.description is None
    with pytest.raises(ConflictError, match="already exists"):
        sdk.evaluation.configs.create(type="custom", name="c", namespace="ns", tasks={})
    changed = sdk.evaluation.configs.update(
        "c", path_namespace="ns", description="two", params={"parallelism": 2}
    )
    assert (changed.description, changed.params.parallelism) == ("two", 2)
    assert [c.name for c in sdk.evaluation.configs.list(filter={"namespace": "ns"})] == ["c"]
    assert sdk.evaluation.configs.retrieve("c", namespace="ns").updated_at == changed.updated_at
    assert sdk.evaluation.configs.delete("c", namespace="ns").message
    with pytest.raises(NotFoundError):
        sdk.evaluation.configs.retrieve("c", namespace="ns")

    target = sdk.evaluation.targets.create(type="rows", name="t", namespace="ns", rows=[{"a": 1}])
    assert target.rows == [{"a": 1}]
    sdk.evaluation.targets.update("t", namespace="ns", description="two")
    assert sdk.evaluation.targets.retrieve("t", namespace="ns").description == "two"
    assert [t.name for t in sdk.evaluation.targets.list()] == ["t"]
    sdk.evaluation.targets.delete("t", namespace="ns")

    result = sdk.evaluation.results.create(job="eval-x", tasks={})
    assert sdk.evaluation.results.update(result.id, description="two").description == "two"
    assert sdk.evaluation.results.delete(result.id).id == result.id


def test_a_task_and_a_metric_may_be_called_token(sdk, model, upload, control_plane):
    model.respond = lambda body: tool_call("f", {"n": number_of(body)})
    calls = tool_config(upload([row(0)]))["tasks"]["calls"]
    tasks: Any = {"token": {**calls, "metrics": {"token": calls["metrics"]["accuracy"]}}}
    config = sdk.evaluation.configs.create(type="custom", name="c", namespace="ns", tasks=tasks)
    assert config.tasks["token"].metrics["token"].type == "tool-calling"
    shown = control_plane.client().get("/v1/evaluation/configs/ns/c")
    control_plane.client().post("/v1/evaluation/configs", json={**shown, "name": "copy"})
    job = sdk.evaluation.jobs.create(
        config="ns/copy", target={"type": "model", "model": "scripted/model"}
    )
    job = evaluator.wait_for_evaluation(sdk, job.id, timeout_s=30)
    details: Any = job.status_details
    assert details.task_status == {"token": "completed"}
    scores = sdk.evaluation.jobs.results(job.id).tasks["token"].metrics["token"].scores
    assert scores["function_name_accuracy"].value == 1.0


def test_a_live_evaluation_answers_in_one_call(sdk):
    check = {"type": "string-check", "params": {"check": ["{{ item.p }}", "==", "{{ item.t }}"]}}
    live = sdk.evaluation.live(
        config={"type": "custom", "tasks": {"qa": {"type": "data", "metrics": {"m": check}}}},
        target={"type": "rows", "rows": [{"p": "a", "t": "a"}, {"p": "b", "t": "a"}]},
    )
    assert live.status == "completed" and live.status_details.progress == 100.0
    assert live.status_details.task_status == {"qa": "completed"}
    assert live.result.tasks["qa"].metrics["m"].scores["string-check"].value == 0.5
    assert len(live.logs["qa"]) == 2


def test_a_dataset_that_is_not_there_is_refused(sdk, upload):
    upload([{"a": 1}])
    target: Any = {"type": "model", "model": "m"}
    absent = ("rows/absent.jsonl", "absent", "rows?x=1", "rows#x", "rows@v9", "rows@%2F../rows")
    for url in (f"hf://datasets/ns/{name}" for name in absent):
        sentence = re.escape(f"{url} is not present on datastore")
        with pytest.raises(UnprocessableEntityError, match=sentence):
            sdk.evaluation.jobs.create(config=tool_config(url), target=target)


def test_a_revision_is_read_as_it_was(sdk, upload, control_plane):
    hf = control_plane.hf()
    upload([{"a": "b", "response": "b"}])
    hf.create_branch("ns/rows", branch="before/all", repo_type="dataset")
    hf.create_tag("ns/rows", tag="v1", repo_type="dataset")
    upload([{"a": "b", "response": "c"}] * 2)
    config: Any = {"type": "custom", "tasks": {"qa": {"type": "data", "metrics": {"m": CHECK}}}}
    found = {}
    for revision in ("", "@main", "@v1", "@before%2Fall"):
        dataset = {"files_url": f"hf://datasets/ns/rows{revision}/testing/rows.jsonl"}
        live = sdk.evaluation.live(config=config, target={"type": "dataset", "dataset": dataset})
        score = live.result.tasks["qa"].metrics["m"].scores["string-check"]
        found[revision] = (score.value, score.stats.count)
    assert found == {"": (0, 2), "@main": (0, 2), "@v1": (1, 1), "@before%2Fall": (1, 1)}


@pytest.mark.parametrize("kind", ["jobs", "live evaluations"])
def test_many_evaluations_posted_at_once_leave_threads_for_what_they_ask(
    control_plane, upload, kind
):
    sdk = control_plane.sdk(max_retries=0)
    task = {"type": "data", "metrics": {"check": CHECK}}
    dataset = {"files_url": upload([{"a": "b", "response": "b"}])}

    def post(_: int) -> Any:
        create = sdk.evaluation.jobs.create if kind == "jobs" else sdk.evaluation.live
        return create(
            config={"type": "custom", "tasks": {"qa": {**task, "dataset": dataset}}},
            target={"type": "dataset", "dataset": dataset},
        )

    with ThreadPoolExecutor(60) as pool:
        statuses = [answer.status for answer in pool.map(post, range(60))]
    assert statuses == ["created" if kind == "jobs" else "completed"] * 60


def test_jobs_are_cancelled_and_deleted(sdk, model, upload):
    model.respond = lambda body: 503
    config = tool_config(upload([row(number) for number in range(50)]))
    job = sdk.evaluation.jobs.create(config=config, target={"type": "model", "model": "m"})
    sdk.evaluation.jobs.cancel(job.id)
    with pytest.raises(Exception, match="cancelled"):
        evaluator.wait_for_evaluation(sdk, job.id, timeout_s=30)
    with pytest.raises(NotFoundError, match="Results not found"):
        sdk.evaluation.jobs.results(job.id)
    assert sdk.evaluation.jobs.delete(job.id) is None
    with pytest.raises(NotFoundError):
        sdk.evaluation.jobs.retrieve(job.id)
    with pytest.raises(APIStatusError):
        sdk.evaluation.jobs.status(job.id)


def test_the_pocket_model_is_evaluated_and_named(platform):
    sdk, hf = platform.sdk(), platform.hf()
    hf.create_repo("evaluation-contract/rows", repo_type="dataset")
    hf.upload_file(
        path_or_fileobj=b"".join(json.dumps(row(n)).encode() + b"\n" for n in range(8)),
        path_in_repo="rows.jsonl",
        repo_id="evaluation-contract/rows",
        repo_type="dataset",
    )
    config = tool_config("hf://datasets/evaluation-contract/rows", max_tokens=16)
    job = evaluator.start_evaluation(
        sdk,
        config=config,
        model="meta/llama-3.2-1b-instruct",
        namespace="evaluation-contract",
        dataset_contents="4c1f",
    )
    evaluator.wait_for_evaluation(sdk, job.id, timeout_s=120)
    task = sdk.evaluation.jobs.results(job.id).tasks["calls"]
    assert task.data["model"] == "meta/llama-3.2-1b-instruct" and task.data["answered_by"]
    scores = task.metrics["accuracy"].scores
    assert scores["function_name_accuracy"].stats.count == 8
