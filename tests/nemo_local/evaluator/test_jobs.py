"""Jobs from creation to their results, against a scripted model."""

import io
import json
import threading
import zipfile
from typing import Any

import pytest

from nemo_local.core.client import UpstreamError
from tests.nemo_local.evaluator.conftest import Evaluator
from tests.scripted_model import tool_call

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
TOOL_METRIC = {
    "type": "tool-calling",
    "params": {"tool_calls_ground_truth": "{{ item.tool_calls | tojson }}"},
}


def tool_config(files_url: str, **params: Any) -> dict[str, Any]:
    return {
        "type": "custom",
        "params": params or None,
        "tasks": {
            "calls": {
                "type": "chat-completion",
                "dataset": {"files_url": files_url},
                "params": {
                    "template": {
                        "messages": "{{ item.messages | tojson}}",
                        "tools": "{{ item.tools | tojson }}",
                        "tool_choice": "auto",
                    }
                },
                "metrics": {"accuracy": TOOL_METRIC},
            }
        },
    }


def tool_row(number: int) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": f"row {number}"}],
        "tools": TOOLS,
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"n": number}}}],
    }


def number_of(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split()[-1])


def text_config(files_url: str, template: Any = "{{ item.q }}", **params: Any) -> dict[str, Any]:
    check = ["{{ sample.output_text }}", "equals", "{{ item.a }}"]
    return {
        "type": "custom",
        "params": params or None,
        "tasks": {
            "qa": {
                "type": "completion",
                "dataset": {"files_url": files_url},
                "params": {"template": template},
                "metrics": {"same": {"type": "string-check", "params": {"check": check}}},
            }
        },
    }


def scores(evaluator: Evaluator, job: dict[str, Any], task: str, metric: str) -> dict[str, Any]:
    result = evaluator.client.get(f"/v1/evaluation/jobs/{job['id']}/results")
    found: dict[str, Any] = result["tasks"][task]["metrics"][metric]["scores"]
    return found


def test_a_job_scores_every_row_and_keeps_dataset_order(evaluator: Evaluator) -> None:
    def respond(body: dict[str, Any]) -> dict[str, Any]:
        number = number_of(body)
        name = "g" if number == 3 else "f"
        return tool_call(name, "{" if number == 2 else {"n": 0 if number == 1 else number})

    evaluator.model.respond = respond
    url = evaluator.put_rows([tool_row(number) for number in range(10)])
    job = evaluator.run(tool_config(url, parallelism=4, temperature=0.0, max_tokens=64))

    assert job["status"] == "completed", job["status_details"]
    assert job["status_details"]["progress"] == 100.0
    assert job["status_details"]["samples_processed"] == 10
    assert job["status_details"]["task_status"] == {"calls": "completed"}
    found = scores(evaluator, job, "calls", "accuracy")
    # Row 3 calls g; row 1 has another argument; row 2's arguments are no JSON (NaN).
    assert found["function_name_accuracy"] == {
        "value": 0.9,
        "stats": {"count": 10, "sum": 9.0, "mean": 0.9},
    }
    arguments = found["function_name_and_args_accuracy"]
    assert arguments["stats"] == {"count": 9, "sum": 7.0, "mean": 7 / 9, "nan_count": 1}
    assert arguments["value"] == 7 / 9

    content = evaluator.client.raw(
        "GET", f"/v1/evaluation/jobs/{job['id']}/download-results"
    ).content
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = ["aggregate.json", "config.json", "logs/job.log", "results/results.json"]
    assert archive.namelist() == [f"{job['id']}/{name}" for name in names]
    shown = {
        name: json.loads(archive.read(f"{job['id']}/{name}.json"))
        for name in ("config", "aggregate")
    }
    assert shown["config"] == evaluator.client.get(f"/v1/evaluation/jobs/{job['id']}")
    results = evaluator.client.get(f"/v1/evaluation/jobs/{job['id']}/results")
    assert shown["aggregate"] == results
    rows = json.loads(archive.read(f"{job['id']}/results/results.json"))["calls"]
    assert [row["item"]["messages"][0]["content"] for row in rows] == [
        f"row {number}" for number in range(10)
    ]
    request = rows[4]["requests"][0]["request"]
    assert request["model"] == "scripted/model"
    assert (request["temperature"], request["max_tokens"]) == (0.0, 64)
    assert request["tools"] == TOOLS and request["tool_choice"] == "auto"
    assert rows[2]["metrics"]["accuracy"]["scores"]["function_name_and_args_accuracy"] == {
        "value": None,
        "stats": None,
    }
    result = evaluator.client.get(f"/v1/evaluation/jobs/{job['id']}/results")
    assert result["id"] == job["result"] and result["job"] == job["id"]
    assert result["tasks"]["calls"]["data"] == {
        "model": "scripted/model",
        "answered_by": "a script",
    }


def test_a_result_is_dated_from_the_creation_of_its_job(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    job = evaluator.run(text_config(evaluator.put_rows([{"q": "1", "a": "b"}])))
    result = evaluator.client.get(f"/v1/evaluation/jobs/{job['id']}/results")
    assert result["created_at"] == job["created_at"]
    assert job["created_at"] < result["updated_at"] < job["updated_at"]
    (listed,) = evaluator.client.get("/v1/evaluation/results")["data"]
    assert listed["created_at"] == job["created_at"]


def test_a_score_that_no_row_could_give_is_null(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: tool_call("f", "{")
    job = evaluator.run(tool_config(evaluator.put_rows([tool_row(1), tool_row(2)])))
    assert job["status"] == "completed"
    found = scores(evaluator, job, "calls", "accuracy")
    assert found["function_name_accuracy"]["value"] == 1.0
    assert found["function_name_and_args_accuracy"] == {
        "value": None,
        "stats": {"count": 0, "sum": 0.0, "nan_count": 2},
    }


def test_eight_rows_are_asked_at_the_same_time(evaluator: Evaluator) -> None:
    together = threading.Barrier(8)

    def respond(body: dict[str, Any]) -> str:
        together.wait(timeout=10)
        return "b"

    evaluator.model.respond = respond
    url = evaluator.put_rows([{"q": str(number), "a": "b"} for number in range(16)])
    job = evaluator.run(text_config(url))
    assert scores(evaluator, job, "qa", "same")["string-check"]["stats"]["sum"] == 16


def test_an_empty_list_of_tools_is_not_sent(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "none"
    evaluator.run(tool_config(evaluator.put_rows([{**tool_row(1), "tools": []}])))
    (body,) = evaluator.model.requests
    assert not {"tools", "tool_choice"} & body.keys()


def test_a_passing_failure_is_retried_and_a_refused_row_counts_as_nan(evaluator: Evaluator) -> None:
    failed_once: set[str] = set()

    def respond(body: dict[str, Any]) -> str | int:
        if body["prompt"] == "refused":
            return 400
        if body["prompt"] == "busy" and body["prompt"] not in failed_once:
            failed_once.add("busy")
            return 503
        return "yes"

    evaluator.model.respond = respond
    url = evaluator.put_rows([{"q": q, "a": "yes"} for q in ("fine", "busy", "refused")])
    job = evaluator.run(text_config(url))
    assert job["status"] == "completed"
    assert scores(evaluator, job, "qa", "same")["string-check"] == {
        "value": 1.0,
        "stats": {"count": 2, "sum": 2.0, "mean": 1.0, "nan_count": 1},
    }
    log = evaluator.client.raw("GET", f"/v1/evaluation/jobs/{job['id']}/logs").content
    text = zipfile.ZipFile(io.BytesIO(log)).read(f"{job['id']}/logs/job.log").decode()
    assert "row 2" in text and "scripted failure 400" in text
    assert len(evaluator.model.requests) == 4


def test_a_job_whose_every_row_fails_says_why(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: 400
    job = evaluator.run(text_config(evaluator.put_rows([{"q": "a", "a": "b"}])))
    assert job["status"] == "failed"
    message = job["status_details"]["message"]
    assert "every row" in message and "scripted failure 400" in message
    with pytest.raises(UpstreamError, match="Results not found"):
        evaluator.client.get(f"/v1/evaluation/jobs/{job['id']}/results")


def test_a_missing_template_variable_is_named_in_the_failure(evaluator: Evaluator) -> None:
    url = evaluator.put_rows([{"q": "a", "a": "b"}])
    job = evaluator.run(text_config(url, template="{{ item.question }}"))
    assert job["status"] == "failed"
    assert "'question'" in job["status_details"]["message"]


def test_an_unknown_model_fails_the_job_and_names_near_ones(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: 404
    url = evaluator.put_rows([{"q": "a", "a": "b"}] * 20)
    job = evaluator.run(text_config(url), {"type": "model", "model": "scripted/modle"})
    assert job["status"] == "failed"
    message = job["status_details"]["message"]
    assert "does not serve 'scripted/modle'" in message and "scripted/model" in message
    assert len(evaluator.model.requests) <= 8


def test_an_endpoint_that_is_down_fails_the_job_at_once(evaluator: Evaluator) -> None:
    url = evaluator.put_rows([{"q": "a", "a": "b"}] * 50)
    endpoint = {"url": "http://127.0.0.1:9/v1/completions", "model_id": "m", "api_key": "secret"}
    target = {"type": "model", "model": {"api_endpoint": endpoint}}
    job = evaluator.run(text_config(url, max_retries=0), target)
    assert job["status"] == "failed"
    assert "does not answer" in job["status_details"]["message"]
    assert job["target"]["model"]["api_endpoint"]["api_key"] == "******"
    assert job["target"]["model"]["api_endpoint"]["format"] == "nim"
    kept = evaluator.service.job(job["id"])["target"]["model"]["api_endpoint"]
    assert kept["api_key"] == "secret"


def test_an_endpoint_under_a_cluster_name_is_the_local_nim(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "yes"
    url = evaluator.put_rows([{"q": "a", "a": "yes"}])
    endpoint = {"url": "http://nemo-nim-proxy:8000/v1/chat/completions", "model_id": "m"}
    job = evaluator.run(text_config(url), {"type": "model", "model": {"api_endpoint": endpoint}})
    assert job["status"] == "completed", job["status_details"]


def test_a_deleted_job_is_gone_with_its_files_and_its_result(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    job = evaluator.run(text_config(evaluator.put_rows([{"q": "a", "a": "b"}])))
    result = f"/v1/evaluation/results/{job['result']}"
    assert evaluator.client.get(result)["job"] == job["id"]
    response = evaluator.client.raw("DELETE", f"/v1/evaluation/jobs/{job['id']}")
    assert response.status_code == 204 and not response.content
    for path in (f"/v1/evaluation/jobs/{job['id']}", result):
        with pytest.raises(UpstreamError, match="404"):
            evaluator.client.get(path)
    assert not (evaluator.jobs_dir / job["id"]).exists()


def test_data_tasks_score_rows_without_a_model(evaluator: Evaluator) -> None:
    response = {"choices": [{"message": tool_call("f", {"n": 1})}]}
    rows = [{**tool_row(1), "response": response}, {**tool_row(2), "response": response}]
    config = tool_config(evaluator.put_rows(rows))
    config["tasks"]["calls"]["type"] = "data"
    del config["tasks"]["calls"]["dataset"]
    job = evaluator.run(config, {"type": "rows", "rows": rows})
    found = scores(evaluator, job, "calls", "accuracy")
    assert found["function_name_accuracy"]["value"] == 1.0
    assert found["function_name_and_args_accuracy"]["value"] == 0.5
    assert not evaluator.model.requests


def test_cached_outputs_are_paired_with_the_rows(evaluator: Evaluator) -> None:
    url = evaluator.put_rows([{"q": "1", "a": "x"}, {"q": "2", "a": "y"}])
    outputs = evaluator.put_rows([{"response": "x"}, {"response": "z"}], "outputs.jsonl")
    job = evaluator.run(
        text_config(url), {"type": "cached_outputs", "cached_outputs": {"files_url": outputs}}
    )
    assert scores(evaluator, job, "qa", "same")["string-check"]["value"] == 0.5


def test_a_broken_data_file_fails_the_job_naming_file_and_line(evaluator: Evaluator) -> None:
    url = evaluator.put_rows([{"q": "a", "a": "b"}])
    evaluator.files["testing/rows.jsonl"] += b"{broken\n"
    job = evaluator.run(text_config(url))
    assert job["status"] == "failed"
    assert "testing/rows.jsonl line 2 is not JSON" in job["status_details"]["message"]


def test_a_target_that_is_sent_back_as_it_was_shown_keeps_its_key(evaluator: Evaluator) -> None:
    endpoint = {"url": f"{evaluator.model.url}/v1", "model_id": "m", "api_key": "secret"}
    path = "/v1/evaluation/targets"
    target = {"type": "model", "name": "t", "namespace": "ns", "model": {"api_endpoint": endpoint}}
    evaluator.client.post(path, json=target)
    shown = evaluator.client.get(f"{path}/ns/t")
    assert shown["model"]["api_endpoint"]["api_key"] == "******"
    evaluator.client.patch(f"{path}/ns/t", json={**shown, "description": "new"})
    kept = evaluator.documents.get("evaluation_target", "ns", "t")
    assert kept["description"] == "new"
    assert kept["model"]["api_endpoint"]["api_key"] == "secret"
