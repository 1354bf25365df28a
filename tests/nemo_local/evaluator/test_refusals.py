"""What the evaluator refuses at creation, and the sentence that says so; datasets and CRUD."""

from typing import Any

import pytest

from nemo_local.core.client import UpstreamError
from nemo_local.evaluator.datasets import DatasetError, parse_url, read_rows
from tests.nemo_local.evaluator.conftest import Evaluator
from tests.nemo_local.evaluator.test_jobs import text_config

MODEL = {"type": "model", "model": "scripted/model"}
HUGE = 10**400  # JSON, and no float


def refusal(evaluator: Evaluator, config: Any, target: Any = MODEL) -> str:
    with pytest.raises(UpstreamError) as caught:
        evaluator.client.post("/v1/evaluation/jobs", json={"config": config, "target": target})
    assert caught.value.status == 422
    return str(caught.value.detail)


def changed(config: dict[str, Any], **task: Any) -> dict[str, Any]:
    config["tasks"]["qa"].update(task)
    return config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"type": "lm_eval_harness"}, "'lm_eval_harness' is not supported", id="type"),
        pytest.param({"tasks": {}}, "at least one task", id="no tasks"),
        pytest.param({"tasks": {"qa": None}}, "config.tasks.qa needs a type", id="null task"),
        pytest.param({"groups": {"g": {"tasks": ["qa"]}}}, "'groups'", id="groups"),
        pytest.param({"params": {"parallelism": 0}}, "params.parallelism", id="parallelism"),
        pytest.param({"params": {"max_retries": -1}}, "params.max_retries", id="retries"),
        pytest.param({"params": {"temperature": -5}}, "from 0 to 2, not -5", id="temperature"),
        pytest.param({"params": {"top_p": 9}}, "from 0 (excluded) to 1, not 9", id="top_p"),
        pytest.param({"params": {"top_p": 0}}, "from 0 (excluded) to 1, not 0", id="top_p of 0"),
        pytest.param({"params": {"max_tokens": HUGE}}, "params.max_tokens", id="huge"),
    ],
)
def test_a_config_we_cannot_run_is_refused_by_name(
    evaluator: Evaluator, change: dict[str, Any], message: str
) -> None:
    config = text_config(evaluator.put_rows([{"q": "a", "a": "b"}]))
    assert message in refusal(evaluator, {**config, **change})


@pytest.mark.parametrize(
    ("task", "message"),
    [
        pytest.param({"type": "prompt-optimization"}, "'prompt-optimization'", id="task type"),
        pytest.param({"params": {}}, "needs a template", id="no template"),
        pytest.param({"metrics": {}}, "at least one metric", id="no metric"),
        pytest.param({"metrics": {"j": {"type": "llm-judge"}}}, "'llm-judge'", id="judge"),
        pytest.param({"metrics": {"j": {"type": "em"}}}, "ground_truth is missing", id="parameter"),
        pytest.param(
            {"metrics": {"j": {"type": "string-check", "params": {"check": ["a", "like", "b"]}}}},
            "unknown operator 'like'",
            id="operator",
        ),
        *(
            pytest.param(
                {"metrics": {"j": {"type": "number-check", "params": {"check": check}}}},
                'takes "epsilon" and a number of 0 or more',
                id=f"epsilon {check[3:]}"[:30],
            )
            for check in (
                ["1", "absolute difference", "2"],
                ["1", "absolute difference", "2", "epsilon"],
                ["absolute difference", "1", "2", "epsilon", "abc"],
                ["1", "absolute difference", "2", "epsilon", None],
                ["1", "absolute difference", "2", -1],
                ["1", "==", "2", "about", 3],
                ["1", "absolute difference", "2", HUGE],
            )
        ),
        pytest.param(
            {"metrics": {"j": {"type": "em", "params": {"references": ["a", "b"]}}}},
            "em compares with one reference, not with a list",
            id="several references",
        ),
        pytest.param(
            {"dataset": {"limit": 3}},
            "Dataset is not in the expected format; it needs to have the files_url property set",
            id="no files_url",
        ),
        pytest.param(
            {"dataset": {"files_url": "hf://datasets/ns/absent"}},
            "hf://datasets/ns/absent is not present on datastore",
            id="no repository",
        ),
        pytest.param(
            {"dataset": {"files_url": "hf://datasets/ns/data/absent.jsonl"}},
            "is not present on datastore",
            id="no file",
        ),
        pytest.param({"dataset": "ns/absent"}, "is not present on datastore", id="not registered"),
        pytest.param({"dataset": {"files_url": "s3://x/y"}}, "hf://datasets/", id="scheme"),
        *(
            pytest.param(
                {"dataset": {"files_url": "hf://datasets/ns/data", "limit": limit}},
                f"limit of a dataset must be at least 1 (a whole number), not {limit}",
                id=f"limit {limit}"[:30],
            )
            for limit in (0, -1, HUGE)
        ),
    ],
)
def test_a_task_we_cannot_run_is_refused_by_name(
    evaluator: Evaluator, task: dict[str, Any], message: str
) -> None:
    config = text_config(evaluator.put_rows([{"q": "a", "a": "b"}]))
    assert message in refusal(evaluator, changed(config, **task))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        *(
            pytest.param({"type": kind, kind: {}}, f"target type '{kind}'", id=kind)
            for kind in ("rag", "retriever")
        ),
        pytest.param({"type": "rows", "rows": []}, "has no 'rows'", id="no rows"),
        pytest.param({"type": "rows", "rows": ["a", 1]}, "'target', 'rows', 0", id="no object"),
        pytest.param("ns/absent", "evaluation target 'ns/absent' not found", id="reference"),
        pytest.param({"model": "m"}, "type", id="no type"),
        *(
            pytest.param(
                {"type": "model", "model": {"api_endpoint": {"url": url, "model_id": "m"}}},
                "api_endpoint.url: ",
                id=f"address {url!r}",
            )
            for url in (
                "",
                "http://x:abc/v1",
                "http://h:99999",
                "http://ho st/v1",
                "http://\0/",
                "http://xn--a/",
                "http://../",
            )
        ),
    ],
)
def test_a_target_we_cannot_reach_is_refused_by_name(
    evaluator: Evaluator, target: Any, message: str
) -> None:
    config = text_config(evaluator.put_rows([{"q": "a", "a": "b"}]))
    assert message in refusal(evaluator, config, target)


def test_a_live_evaluation_of_rows_that_are_no_objects_names_the_row(evaluator: Evaluator) -> None:
    body = {"config": text_config("hf://x"), "target": {"type": "rows", "rows": [{"q": "a"}, 1]}}
    body["config"]["tasks"]["qa"].pop("dataset")
    with pytest.raises(UpstreamError, match="'target', 'rows', 1"):
        evaluator.client.post("/v1/evaluation/live", json=body)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        pytest.param(
            {"files_url": "hf://datasets/ns/data/absent.jsonl"},
            "absent.jsonl is not present on datastore",
            id="file",
        ),
        pytest.param("ns/absent", "ns/absent is not present on datastore", id="registration"),
        pytest.param({"limit": 1}, "needs to have the files_url property set", id="files_url"),
    ],
)
def test_skipping_the_checks_moves_a_missing_dataset_to_run_time(
    evaluator: Evaluator, dataset: Any, message: str
) -> None:
    job = evaluator.client.post(
        "/v1/evaluation/jobs",
        params={"skip_validation_checks": "True"},
        json={"config": changed(text_config("hf://x"), dataset=dataset), "target": MODEL},
    )
    assert job["status"] == "created"
    job = evaluator.ended(job["id"])
    assert job["status"] == "failed"
    assert message in job["status_details"]["message"]


def test_a_dataset_that_is_registered_after_its_job_was_posted_is_read(
    evaluator: Evaluator,
) -> None:
    evaluator.model.respond = lambda body: "b"
    evaluator.put_rows([{"q": "a", "a": "b"}])
    job = evaluator.client.post(
        "/v1/evaluation/jobs",
        params={"skip_validation_checks": "True"},
        json={
            "config": changed(text_config("hf://x"), dataset="ns/registered"),
            "target": MODEL,
        },
    )
    assert evaluator.ended(job["id"])["status"] == "completed"


@pytest.mark.parametrize("method_path", ["POST jobs", "POST live", "PATCH configs/ns/c"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "not valid JSON", id="empty"),
        pytest.param(b"{x", "JSON decode error|not valid JSON", id="broken"),
        pytest.param(b"[1]", "must be a JSON object$", id="list"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(
    evaluator: Evaluator, method_path: str, body: bytes, words: str
) -> None:
    method, path = method_path.split()
    headers = {"content-type": "application/json"}
    with pytest.raises(UpstreamError, match=words) as caught:
        evaluator.client.call(method, f"/v1/evaluation/{path}", content=body, headers=headers)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param({"type": "custom", "tasks": [1]}, "'tasks'\\], 'msg'", id="tasks"),
        pytest.param({"type": "custom", "tasks": {"t": "x"}}, "'tasks', 't'\\]", id="task"),
        pytest.param({"type": "custom", "params": [1]}, "'params'\\], 'msg'", id="params"),
        pytest.param({"tasks": {}}, "'type'\\], 'msg': 'Field required'", id="no type"),
    ],
)
def test_a_live_evaluation_of_a_malformed_config_is_refused(
    evaluator: Evaluator, config: dict[str, Any], words: str
) -> None:
    body = {"config": config, "target": {"type": "rows", "rows": [{"q": "a"}]}}
    with pytest.raises(UpstreamError, match=words) as caught:
        evaluator.client.post("/v1/evaluation/live", json=body)
    assert caught.value.status == 422


def test_a_job_in_a_namespace_that_is_no_name_is_refused(evaluator: Evaluator) -> None:
    config = text_config(evaluator.put_rows([{"q": "a", "a": "b"}]))
    body = {"config": config, "target": MODEL, "namespace": "a b/c"}
    with pytest.raises(UpstreamError, match="use letters, digits"):
        evaluator.client.post("/v1/evaluation/jobs", json=body)


def test_a_stored_target_shows_its_inline_model_in_full(evaluator: Evaluator) -> None:
    endpoint = {"url": "http://x/v1", "model_id": "m", "api_key": "k"}
    target = {"type": "model", "model": {"api_endpoint": endpoint}}
    model = evaluator.client.post("/v1/evaluation/targets", json=target)["model"]
    assert model["id"].startswith("model-") and model["name"] == model["id"]
    assert model["api_endpoint"] == {**endpoint, "api_key": "******", "format": "nim"}


def test_a_created_job_shows_config_and_target_in_full(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    evaluator.put_rows([{"q": "a", "a": "b"}])
    config = changed(text_config("hf://x"), dataset="ns/registered", own_key="kept")
    job = evaluator.run(config, wait=False)
    assert job["status_details"] == {"message": None, "task_status": {}, "progress": None}
    assert job["target"]["model"] == "scripted/model" and job["target"]["rows"] is None
    assert job["config"]["name"] == job["config"]["id"]
    task = job["config"]["tasks"]["qa"]
    assert task["own_key"] == "kept" and task["dataset"]["version_id"] == "main"
    assert task["dataset"]["files_url"] == "hf://datasets/ns/data/testing"
    assert "name" not in job and job["result"] is None
    assert evaluator.client.get("/v1/evaluation/configs")["data"] == []
    assert evaluator.ended(job["id"])["status"] == "completed"


def test_stored_configs_and_targets_are_listed_changed_used_and_deleted(
    evaluator: Evaluator,
) -> None:
    client = evaluator.client
    evaluator.model.respond = lambda body: "b"
    config = text_config(evaluator.put_rows([{"q": "a", "a": "b"}]))
    created = client.post(
        "/v1/evaluation/configs", json={**config, "name": "qa", "namespace": "ns"}
    )
    assert created["id"].startswith("eval-config-") and "description" not in created
    with pytest.raises(UpstreamError, match="409"):
        client.post("/v1/evaluation/configs", json={**config, "name": "qa", "namespace": "ns"})
    client.post("/v1/evaluation/targets", json={**MODEL, "name": "t", "namespace": "ns"})
    changed_config = client.patch(
        "/v1/evaluation/configs/ns/qa", json={"description": "two", "name": "ignored"}
    )
    assert (changed_config["description"], changed_config["name"]) == ("two", "qa")
    job = client.post("/v1/evaluation/jobs", json={"config": "ns/qa", "target": "ns/t"})
    assert job["config"]["id"] == created["id"] and job["config"]["params"] is None
    assert evaluator.ended(job["id"])["status"] == "completed"
    for reference, count in (("ns/qa", 1), ("ns/other", 0), ("ns/other,ns/qa", 1)):
        found = client.get("/v1/evaluation/jobs", params={"filter[config]": reference})
        assert len(found["data"]) == count
        assert found["filter"] == {"config": reference}
    results = client.get("/v1/evaluation/results", params={"filter[job_id]": job["id"]})
    assert [result["job"] for result in results["data"]] == [job["id"]]
    assert results["filter"] == {"job_id": job["id"]}
    gone = client.delete("/v1/evaluation/configs/ns/qa")
    assert gone["message"] == "Resource deleted successfully."
    with pytest.raises(UpstreamError, match="404"):
        client.get("/v1/evaluation/configs/ns/qa")


def test_a_target_that_is_saved_as_it_was_shown_keeps_the_nulls_of_its_rows(
    evaluator: Evaluator,
) -> None:
    rows = [{"q": "a", "answer": None, "calls": [{"id": None}]}]
    body = {"name": "t", "namespace": "ns", "type": "rows", "rows": rows, "description": None}
    evaluator.client.post("/v1/evaluation/targets", json=body)
    path = "/v1/evaluation/targets/ns/t"
    shown = evaluator.client.get(path)
    assert shown["rows"] == rows and "description" not in shown
    evaluator.client.patch(path, json={"rows": shown["rows"], "description": "new"})
    stored = evaluator.documents.get("evaluation_target", "ns", "t")
    assert (stored["rows"], stored["description"]) == (rows, "new")


def test_a_config_is_shown_with_the_nulls_of_its_templates(evaluator: Evaluator) -> None:
    config = text_config("hf://datasets/ns/data")
    message = {"role": "assistant", "content": None, "tool_calls": []}
    task = config["tasks"]["qa"]
    task["params"] = {"template": {"messages": [message]}}
    task["metrics"]["same"]["params"]["default"] = None
    task["description"] = None
    evaluator.client.post("/v1/evaluation/configs", json={**config, "name": "c", "namespace": "ns"})
    shown = evaluator.client.get("/v1/evaluation/configs/ns/c")["tasks"]["qa"]
    assert shown["params"] == task["params"] and "description" not in shown
    assert shown["metrics"] == task["metrics"]


def test_jobs_are_found_by_one_of_several_configs(evaluator: Evaluator) -> None:
    config = text_config(evaluator.put_rows([{"q": "a", "a": "b"}]))
    evaluator.model.respond = lambda body: "b"
    for name in ("one", "two", "three"):
        named = {**config, "name": name, "namespace": "ns"}
        evaluator.client.post("/v1/evaluation/configs", json=named)
        evaluator.run(f"ns/{name}")  # type: ignore[arg-type]

    def found(given: str) -> list[str]:
        query = {"filter": f'{{"config": {given}}}'}
        jobs = evaluator.client.get("/v1/evaluation/jobs", params=query)["data"]
        return [job["config"]["name"] for job in jobs]

    assert found('"ns/one"') == found('{"name": "one"}') == found('[{"name": "one"}]') == ["one"]
    assert found('[{"name": "one"}, "ns/two"]') == found('["ns/one", "ns/two"]') == ["one", "two"]
    assert found('"ns/one,ns/two"') == ["one", "two"]
    with pytest.raises(UpstreamError, match="write namespace/name, or an object") as caught:
        found('[["ns/one"]]')
    assert caught.value.status == 422


def test_rows_come_from_jsonl_json_and_csv() -> None:
    text = b'\xef\xbb\xbf{"q": "\xc3\xa9\xe2\x80\xa8"}\r\n\n'
    assert list(read_rows("a.jsonl", [text])) == [{"q": "é\u2028"}]
    assert list(read_rows("a.jsonl", [bytes([byte]) for byte in text])) == [{"q": "é\u2028"}]
    assert list(read_rows("a.json", [b'[{"q": 1}]'])) == [{"q": 1}]
    assert list(read_rows("a.json", [b'{"q": 1}\n{"q": 2}\n'])) == [{"q": 1}, {"q": 2}]
    assert list(read_rows("a.csv", [b"q,a\n1,2\n"])) == [{"q": "1", "a": "2"}]


@pytest.mark.parametrize("start", [b"\n", b"\r\n \r\n", b",\n"], ids=["empty", "blank", "commas"])
def test_a_csv_file_may_begin_with_empty_lines(start: bytes) -> None:
    assert list(read_rows("a.csv", [start + b"q,a\n1,2\n"])) == [{"q": "1", "a": "2"}]


@pytest.mark.parametrize("blank", [b"  ", b"", b" , , ", b"\t"], ids=repr)
def test_a_line_of_blanks_is_no_row_of_a_csv_file(blank: bytes) -> None:
    content = b"q,a\n1,2\n" + blank + b"\n3,4\n" + blank + b"\n"
    assert [row["q"] for row in read_rows("a.csv", [content])] == ["1", "3"]


def test_an_empty_cell_is_a_value_of_a_csv_file() -> None:
    assert list(read_rows("a.csv", [b'q\n""\n'])) == [{"q": ""}]
    assert list(read_rows("a.csv", [b"q,a\n,\n"])) == [{"q": "", "a": ""}]


def test_a_cell_may_hold_a_whole_document() -> None:
    text = "x" * 200_000
    assert list(read_rows("a.csv", [f"q,a\n{text},2\n".encode()])) == [{"q": text, "a": "2"}]


def test_columns_of_one_name_are_all_kept() -> None:
    (row,) = read_rows("a.csv", [b"q,q,q_1,q\n1,2,3,4\n"])
    assert row == {"q": "1", "q_2": "2", "q_1": "3", "q_3": "4"}


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("a.jsonl", b'{"q": 1}\n[1]\n', "a.jsonl line 2 is a JSON list"),
        ("a.json", b"[1]", "list of objects"),
        ("a.jsonl", b"\xff", "not UTF-8"),
    ],
)
def test_a_malformed_file_is_named(path: str, content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        list(read_rows(path, [content]))


def test_a_dataset_url_may_carry_a_revision_and_a_folder() -> None:
    url = parse_url("hf://datasets/ns/d@v1/testing/")
    assert (url.repository, url.revision, url.path) == ("ns/d", "v1", "testing")
    with pytest.raises(DatasetError, match="hf://datasets/"):
        parse_url("hf://datasets/ns")


def test_a_dataset_url_cannot_leave_its_repository() -> None:
    with pytest.raises(DatasetError, match="its path may not have '.' or '..'"):
        parse_url("hf://datasets/ns/d/../other/x.jsonl")
