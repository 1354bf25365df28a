"""Live evaluations: a few rows, answered in the same call."""

from typing import Any

import pytest

from nemo_local.core.client import UpstreamError
from tests.nemo_local.evaluator.conftest import Evaluator


def test_a_live_evaluation_takes_few_rows_and_names_what_they_lack(evaluator: Evaluator) -> None:
    check = ["{{ item.prediction }}", "equals", "{{ item.truth }}"]
    task = {"type": "data", "metrics": {"m": {"type": "string-check", "params": {"check": check}}}}
    body: dict[str, Any] = {
        "config": {"type": "custom", "tasks": {"qa": task}},
        "target": {"type": "rows", "rows": [{"prediction": "a"}]},
    }
    failed = evaluator.client.post("/v1/evaluation/live", json=body)
    assert failed["status"] == "failed" and "truth" in failed["status_details"]["message"]

    body["target"]["rows"] = [{"prediction": "a", "truth": "a"}] * 11
    with pytest.raises(UpstreamError, match="at most 10 rows"):
        evaluator.client.post("/v1/evaluation/live", json=body)


def test_a_live_evaluation_that_cannot_read_its_rows_says_so(evaluator: Evaluator) -> None:
    check = {"type": "string-check", "params": {"check": ["{{ item.q }}", "==", "1"]}}
    task = {"type": "data", "metrics": {"m": check}}
    evaluator.files["rows.jsonl"] = b'{"q": "1"}\n{broken\n'
    dataset = {"files_url": "hf://datasets/ns/data/rows.jsonl"}
    body: dict[str, Any] = {
        "config": {"type": "custom", "tasks": {"qa": task}},
        "target": {"type": "dataset", "dataset": dataset},
    }
    answer = evaluator.client.post("/v1/evaluation/live", json=body)
    assert answer["status"] == "failed"
    assert "rows.jsonl line 2 is not JSON" in answer["status_details"]["message"]


def test_a_live_evaluation_takes_references(evaluator: Evaluator) -> None:
    check = {"type": "string-check", "params": {"check": ["{{ item.q }}", "==", "1"]}}
    named = {"name": "live", "namespace": "ns"}
    tasks = {"qa": {"type": "data", "metrics": {"m": check}}}
    evaluator.client.post(
        "/v1/evaluation/configs", json={"type": "custom", "tasks": tasks, **named}
    )
    evaluator.client.post(
        "/v1/evaluation/targets", json={"type": "rows", "rows": [{"q": "1"}], **named}
    )
    body = {"config": "ns/live", "target": named}
    assert evaluator.client.post("/v1/evaluation/live", json=body)["status"] == "completed"
