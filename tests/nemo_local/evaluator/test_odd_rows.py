"""One odd row, reply or file: what it costs, and what the others keep."""

import copy
import io
import json
import threading
import zipfile
from typing import Any

import pytest
from fastapi import FastAPI

from nemo_local.evaluator import models
from nemo_local.evaluator.shown import MAX_MESSAGE
from tests.nemo_local.evaluator.conftest import Evaluator
from tests.nemo_local.evaluator.test_jobs import (
    number_of,
    scores,
    text_config,
    tool_config,
    tool_row,
)
from tests.scripted_model import completion, serving, tool_call


def row_details(evaluator: Evaluator, job: dict[str, Any], task: str) -> list[dict[str, Any]]:
    path = f"/v1/evaluation/jobs/{job['id']}/download-results"
    archive = zipfile.ZipFile(io.BytesIO(evaluator.client.raw("GET", path).content))
    text = archive.read(f"{job['id']}/results/results.json").decode()
    found: list[dict[str, Any]] = json.loads(text, parse_constant=_refused)[task]
    return found


def _refused(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_two_datasets_with_one_id_are_both_read(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    right = evaluator.put_rows([{"q": "1", "a": "b"}] * 3, "testing/right.jsonl")
    wrong = evaluator.put_rows([{"q": "1", "a": "c"}] * 5, "testing/wrong.jsonl")
    config = text_config(right)
    config["tasks"]["qa"]["dataset"] = {"id": "dataset-1", "files_url": right}
    config["tasks"]["qb"] = copy.deepcopy(config["tasks"]["qa"])
    config["tasks"]["qb"]["dataset"]["files_url"] = wrong
    config["tasks"]["qc"] = copy.deepcopy(config["tasks"]["qb"])
    config["tasks"]["qc"]["dataset"]["limit"] = 2
    job = evaluator.run(config)
    found = {task: scores(evaluator, job, task, "same")["string-check"] for task in config["tasks"]}
    assert {task: (score["value"], score["stats"]["count"]) for task, score in found.items()} == {
        "qa": (1.0, 3),
        "qb": (0.0, 5),
        "qc": (0.0, 2),
    }


def test_copies_that_jupyter_hides_in_a_folder_are_no_rows(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    evaluator.put_rows([{"q": "1", "a": "b"}] * 3, ".me/rows/all.jsonl")
    evaluator.put_rows([{"q": "1", "a": "c"}] * 3, ".me/rows/.ipynb_checkpoints/all.jsonl")
    evaluator.files[".me/rows/._all.jsonl"] = b"\x00\xff"
    job = evaluator.run(text_config("hf://datasets/ns/data/.me/rows"))
    score = scores(evaluator, job, "qa", "same")["string-check"]
    assert (score["value"], score["stats"]["count"]) == (1.0, 3)


@pytest.mark.parametrize(
    ("odd", "template", "message"),
    [
        pytest.param('"x": NaN', {"seed": "{{ item.x }}"}, "valid JSON", id="NaN in the request"),
        pytest.param('"q": "\\ud83d"', {}, "surrogates", id="half a surrogate pair in the prompt"),
        pytest.param('"y": 1', {"stop": "{{ [item.x] }}"}, "'x'", id="missing part of a list"),
        pytest.param('"x": [1]', {"stop": "{{ item.x + 1 }}"}, "list", id="mistyped"),
    ],
)
def test_a_row_that_makes_no_request_fails_alone(
    evaluator: Evaluator, odd: str, template: dict[str, Any], message: str
) -> None:
    evaluator.model.respond = lambda body: "b"
    lines = ['{"q": "1", "a": "b", "x": 1}', f'{{"q": "2", "a": "b", {odd}}}']
    evaluator.files["rows.jsonl"] = "\n".join(lines).encode()
    url = "hf://datasets/ns/data/rows.jsonl"
    job = evaluator.run(text_config(url, template={"prompt": "{{ item.q }}", **template}))
    assert job["status"] == "completed", job["status_details"]
    stats = scores(evaluator, job, "qa", "same")["string-check"]["stats"]
    assert (stats["count"], stats["nan_count"]) == (1, 1)
    fine, failed = row_details(evaluator, job, "qa")
    assert "error" not in fine and message in failed["error"]


def test_columns_that_json_cannot_carry_are_null_in_the_results(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    evaluator.files["rows.jsonl"] = b'{"q": "1", "a": "b", "note": "x\\ud83d", "score": NaN}\n'
    job = evaluator.run(text_config("hf://datasets/ns/data/rows.jsonl"))
    assert job["status"] == "completed", job["status_details"]
    (row,) = row_details(evaluator, job, "qa")
    assert (row["item"]["note"], row["item"]["score"]) == ("x\ufffd", None)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(tool_call("f", '{"a":' + "[" * 1500), [1, None], id="deep arguments"),
        pytest.param({"tool_calls": [{"function": "f"}]}, [0, 0], id="a function that is text"),
        pytest.param({"tool_calls": [{"function": {"name": ["f"]}}]}, [0, 0], id="name no text"),
        pytest.param({"tool_calls": "f()"}, [0, 0], id="calls that are text"),
    ],
)
def test_a_reply_of_any_shape_is_scored_and_the_other_rows_keep_theirs(
    evaluator: Evaluator, reply: dict[str, Any], expected: list[float | None]
) -> None:
    def respond(body: dict[str, Any]) -> dict[str, Any]:
        odd = number_of(body) == 1
        return {"role": "assistant", **reply} if odd else tool_call("f", {"n": number_of(body)})

    evaluator.model.respond = respond
    job = evaluator.run(tool_config(evaluator.put_rows([tool_row(n) for n in range(3)])))
    assert job["status"] == "completed", job["status_details"]
    rows = row_details(evaluator, job, "calls")
    found = [[s["value"] for s in r["metrics"]["accuracy"]["scores"].values()] for r in rows]
    assert found == [[1, 1], expected, [1, 1]]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"error": {"message": "overloaded"}}, id="an error with status 200"),
        pytest.param({"choices": [], "note": "overloaded"}, id="no choice"),
    ],
)
def test_an_answer_without_a_choice_is_no_reply_that_could_be_right(
    evaluator: Evaluator, answer: dict[str, Any]
) -> None:
    elsewhere = FastAPI()

    @elsewhere.post("/v1/chat/completions")
    def answered(body: dict[str, Any]) -> Any:
        return answer if number_of(body) else completion(body, "no call is needed")

    url = evaluator.put_rows([{**tool_row(number), "tool_calls": []} for number in range(3)])
    with serving(elsewhere) as root:
        model = {"api_endpoint": {"url": root + "/v1", "model_id": "m"}}
        job = evaluator.run(tool_config(url), {"type": "model", "model": model})
    for score in scores(evaluator, job, "calls", "accuracy").values():
        assert score["stats"] == {"count": 1, "sum": 1.0, "mean": 1.0, "nan_count": 2}
    assert "overloaded" in row_details(evaluator, job, "calls")[2]["error"]


def test_a_reply_in_text_parts_is_their_text(evaluator: Evaluator) -> None:
    parts = [{"type": "text", "text": "Par"}, {"type": "text", "text": "is"}]
    evaluator.model.respond = lambda body: {"role": "assistant", "content": parts}
    config = text_config(evaluator.put_rows([{"q": "capital?", "a": "Paris"}]))
    messages = [{"role": "user", "content": "{{ item.q }}"}]
    config["tasks"]["qa"] |= {
        "type": "chat-completion",
        "params": {"template": {"messages": messages}},
    }
    job = evaluator.run(config)
    assert row_details(evaluator, job, "qa")[0]["sample"]["output_text"] == "Paris"


def test_a_row_without_a_reply_is_no_wrong_one_and_a_number_is_a_reply(
    evaluator: Evaluator,
) -> None:
    metric = {"type": "em", "params": {"ground_truth": "{{ item.a }}"}}
    config = {"type": "custom", "tasks": {"t": {"type": "data", "metrics": {"m": metric}}}}
    rows = [{"a": "x", "prediction": "x"}, {"a": 42, "response": 42}, {"a": "", "response": None}]
    job = evaluator.run(config, {"type": "rows", "rows": rows})
    assert scores(evaluator, job, "t", "m")["em"] == {
        "value": 1.0,
        "stats": {"count": 2, "sum": 2.0, "mean": 1.0, "nan_count": 1},
    }
    assert "'output_text'" in row_details(evaluator, job, "t")[0]["error"]


def test_a_row_whose_output_text_is_null_has_the_text_of_its_response(
    evaluator: Evaluator,
) -> None:
    metric = {"type": "em", "params": {"ground_truth": "{{ item.a }}"}}
    config = {"type": "custom", "tasks": {"t": {"type": "data", "metrics": {"m": metric}}}}
    response = {"choices": [{"message": {"role": "assistant", "content": "x"}}]}
    rows = [{"a": "x", "output_text": None, "response": response}]
    job = evaluator.run(config, {"type": "rows", "rows": rows})
    assert scores(evaluator, job, "t", "m")["em"]["value"] == 1.0


@pytest.mark.parametrize("kind", ["em", "f1", "rouge"])
def test_a_ground_truth_that_is_a_list_in_a_row_is_no_wrong_answer(
    evaluator: Evaluator, kind: str
) -> None:
    params = {"ground_truth": "{{ item.a }}", "prediction": "Paris"}
    metrics = {"m": {"type": kind, "params": params}}
    config = {"type": "custom", "tasks": {"t": {"type": "data", "metrics": metrics}}}
    rows = [{"a": "Paris"}, {"a": ["Paris", "paris city"]}]
    job = evaluator.run(config, {"type": "rows", "rows": rows})
    for score in scores(evaluator, job, "t", "m").values():
        assert (score["stats"]["count"], score["stats"]["nan_count"]) == (1, 1)
    message = "the ground truth is a list of 2, and is compared as one reference"
    assert message in row_details(evaluator, job, "t")[1]["error"]


def test_a_task_that_fails_leaves_the_other_tasks_their_scores(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: 400 if body["prompt"] == "bad" else "b"
    config = text_config(evaluator.put_rows([{"q": "1", "a": "b"}] * 3, "testing/good.jsonl"))
    bad = evaluator.put_rows([{"q": "bad", "a": "b"}], "testing/bad.jsonl")
    config["tasks"]["qb"] = {**config["tasks"]["qa"], "dataset": {"files_url": bad}}
    job = evaluator.run(config)
    assert job["status"] == "completed"
    assert job["status_details"]["task_status"] == {"qa": "completed", "qb": "failed"}
    message = job["status_details"]["message"]
    assert "every row of task 'qb' failed" in message and "scripted failure 400" in message
    assert scores(evaluator, job, "qa", "same")["string-check"]["value"] == 1.0
    assert scores(evaluator, job, "qb", "same")["string-check"]["value"] is None
    assert len(row_details(evaluator, job, "qb")) == 1


def test_a_metric_that_fails_on_every_row_leaves_the_other_metrics(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    config = text_config(evaluator.put_rows([{"q": "1", "a": "b"}] * 2))
    broken = {"type": "em", "params": {"ground_truth": "{{ item.absent }}"}}
    config["tasks"]["qa"]["metrics"]["broken"] = broken
    job = evaluator.run(config)
    assert job["status_details"]["task_status"] == {"qa": "completed"}
    assert "'absent'" in job["status_details"]["message"]
    assert scores(evaluator, job, "qa", "same")["string-check"]["value"] == 1.0
    assert scores(evaluator, job, "qa", "broken")["em"]["value"] is None


def test_replies_that_no_metric_could_judge_are_kept(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    config = text_config(evaluator.put_rows([{"q": "1", "a": "b"}]))
    config["tasks"]["qa"]["metrics"]["same"]["params"]["check"][2] = "{{ item.absent }}"
    job = evaluator.run(config)
    assert job["status"] == "completed"
    assert job["status_details"]["task_status"] == {"qa": "failed"}
    assert row_details(evaluator, job, "qa")[0]["sample"]["output_text"] == "b"


def test_a_message_is_never_longer_than_one_can_read(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: 400
    url = evaluator.put_rows([{"q": "a", "a": "b"}])
    template = {"prompt": "x", "stop": "{{ item['" + "y" * 5000 + "'] }}"}
    job = evaluator.run(text_config(url, template=template))
    assert job["status"] == "failed"
    assert 100 < len(job["status_details"]["message"]) <= MAX_MESSAGE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"q,a\n1,b\nHello, you,b\n", "line 3 has 3 cells, not the 2", id="ragged"),
        pytest.param(b"q,a\n1\n", "line 2 has 1 cells, not the 2", id="short"),
        pytest.param(b"q,a\nx\ry,b\n", "line 2 is not CSV", id="a line break of its own"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_named_with_its_line(
    evaluator: Evaluator, content: bytes, message: str
) -> None:
    evaluator.files["rows.csv"] = content
    job = evaluator.run(text_config("hf://datasets/ns/data/rows.csv"))
    assert job["status"] == "failed"
    assert f"rows.csv {message}" in job["status_details"]["message"]


def test_rows_beyond_the_limit_are_not_read(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: body["prompt"]
    url = evaluator.put_rows([{"q": "1", "a": "1"}, {"q": "2", "a": "2"}])
    evaluator.files["testing/rows.jsonl"] += b"{broken\n"
    job = evaluator.run(text_config(url, limit_samples=2.0))
    assert job["status"] == "completed", job["status_details"]
    assert sorted(body["prompt"] for body in evaluator.model.requests) == ["1", "2"]


def test_an_endpoint_whose_list_comes_late_is_asked_all_the_same(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "LISTING_TIMEOUT_S", 0.2)
    elsewhere, asked = FastAPI(), threading.Event()

    @elsewhere.get("/v1/models")
    def late() -> None:
        asked.wait(30)

    @elsewhere.post("/v1/completions")
    def answer(body: dict[str, Any]) -> Any:
        asked.set()
        return completion(body, "b")

    config = text_config(evaluator.put_rows([{"q": "a", "a": "b"}]), max_retries=0)
    with serving(elsewhere) as url:
        model = {"api_endpoint": {"url": f"{url}/v1", "model_id": "m"}}
        try:
            job = evaluator.run(config, {"type": "model", "model": model})
        finally:
            asked.set()
    assert job["status"] == "completed", job["status_details"]


def test_a_template_that_renders_to_a_number_says_so(evaluator: Evaluator) -> None:
    job = evaluator.run(text_config(evaluator.put_rows([{"q": 5, "a": "b"}])))
    assert job["status"] == "failed"
    message = job["status_details"]["message"]
    assert "renders to a value of type int, not to a string" in message


def test_an_endpoint_whose_list_holds_text_is_asked_all_the_same(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    listed: list[Any] = ["scripted/model", *evaluator.model.models]
    evaluator.model.models, usual = listed, evaluator.model.models
    try:
        job = evaluator.run(text_config(evaluator.put_rows([{"q": "a", "a": "b"}])))
    finally:
        evaluator.model.models = usual
    assert job["status"] == "completed", job["status_details"]


def test_a_404_for_one_row_of_a_listed_model_fails_that_row(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: 404 if body["prompt"] == "0" else "b"
    url = evaluator.put_rows([{"q": str(n), "a": "b"} for n in range(4)])
    job = evaluator.run(text_config(url, parallelism=1))
    assert job["status"] == "completed", job["status_details"]
    assert scores(evaluator, job, "qa", "same")["string-check"]["stats"]["nan_count"] == 1
