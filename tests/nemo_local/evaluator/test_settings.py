"""Each setting of a config, a data set and an endpoint does what it says."""

import asyncio
import copy
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse

from nemo_local.core.client import MAX_CONNECTIONS, UpstreamError
from nemo_local.evaluator.models import Endpoint, resolve
from nemo_local.evaluator.runner import Sampling, TaskPlan, run_task
from nemo_local.evaluator.service import EvaluatorService
from tests.nemo_local.evaluator.conftest import Evaluator
from tests.nemo_local.evaluator.test_jobs import scores, text_config
from tests.scripted_model import completion, serving

ROWS = [{"q": str(number), "a": "b"} for number in range(6)]


def prompts(evaluator: Evaluator) -> list[str]:
    return sorted(body["prompt"] for body in evaluator.model.requests)


def offline(check: list[str], **task: Any) -> dict[str, Any]:
    metric = {"type": "string-check", "params": {"check": check}}
    return {
        "type": "custom",
        "tasks": {"t": {"type": "data", "metrics": {"m": metric}, **task}},
    }


def test_limits_keep_the_first_rows(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    config = text_config(evaluator.put_rows(ROWS), limit_samples=4)
    config["tasks"]["qa"]["dataset"]["limit"] = 3
    assert evaluator.run(config)["status_details"]["samples_processed"] == 3
    assert prompts(evaluator) == ["0", "1", "2"]


def test_a_limit_beyond_every_count_takes_all_rows(evaluator: Evaluator) -> None:
    limit = 10**30
    dataset = {"files_url": evaluator.put_rows(ROWS), "limit": limit}
    config = {**offline(["{{ item.a }}", "==", "b"]), "params": {"limit_samples": limit}}
    for target in ({"type": "rows", "rows": ROWS}, {"type": "dataset", "dataset": dataset}):
        assert evaluator.run(config, target)["status_details"]["samples_processed"] == len(ROWS)
        live = {"config": config, "target": target}
        assert evaluator.client.post("/v1/evaluation/live", json=live)["status"] == "completed"


def test_a_task_s_limit_counts_for_rows_of_the_target_too(evaluator: Evaluator) -> None:
    url = evaluator.put_rows(ROWS)
    config = offline(["{{ item.a }}", "==", "b"], dataset={"files_url": url, "limit": 2})
    for target in (
        {"type": "rows", "rows": ROWS},
        {"type": "dataset", "dataset": {"files_url": url}},
    ):
        assert evaluator.run(config, target)["status_details"]["samples_processed"] == 2


def test_a_split_keeps_its_own_files(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    evaluator.put_rows([{"q": "train", "a": "b"}], "data/train-0.jsonl")
    evaluator.put_rows([{"q": "test", "a": "b"}], "data/test-0.jsonl")
    config = text_config("hf://datasets/ns/data")
    config["tasks"]["qa"]["dataset"]["split"] = "test"
    evaluator.run(config)
    assert prompts(evaluator) == ["test"]


def test_a_commit_that_comes_while_rows_are_read_waits_for_the_next_job(
    evaluator: Evaluator,
) -> None:
    evaluator.model.respond = lambda body: "b"
    for name in ("a", "b"):
        evaluator.put_rows([{"q": "before", "a": "b"}], f"testing/{name}.jsonl")
    config = text_config("hf://datasets/ns/data/testing")
    config["tasks"]["again"] = copy.deepcopy(config["tasks"]["qa"])
    config["tasks"]["again"]["dataset"]["files_url"] += "/b.jsonl"
    after = [{"q": "after", "a": "b"}]
    evaluator.when_read = lambda: evaluator.put_rows(after, "testing/b.jsonl")
    assert evaluator.run(config)["status"] == "completed"
    assert prompts(evaluator) == ["before"] * 3
    evaluator.model.requests.clear()
    evaluator.run(config)
    assert prompts(evaluator) == ["after", "after", "before"]


def test_a_split_counts_for_a_single_file_too(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    config = text_config(evaluator.put_rows(ROWS[:1], "data/test-0.jsonl"))
    dataset = config["tasks"]["qa"]["dataset"]
    dataset["split"] = "test"
    assert evaluator.run(config)["status"] == "completed"
    dataset["split"] = "train"
    with pytest.raises(UpstreamError, match="-0.jsonl is not a file of split 'train'") as caught:
        evaluator.run(config)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("path", "format"),
    [
        pytest.param("rows.txt", "CSV", id="format beats the name"),
        pytest.param("ROWS.CSV", None, id="capital letters"),
        pytest.param("rows.csv", "squad", id="a format of rows says nothing of the file"),
    ],
)
def test_a_csv_file_is_read_as_one(evaluator: Evaluator, path: str, format: str | None) -> None:
    evaluator.model.respond = lambda body: "b"
    evaluator.files[path] = b'q,a\n"1, or 2",b\n'
    config = text_config(f"hf://datasets/ns/data/{path}")
    config["tasks"]["qa"]["dataset"]["format"] = format
    job = evaluator.run(config)
    assert job["status"] == "completed", job["status_details"]
    assert prompts(evaluator) == ["1, or 2"]


def test_sampling_parameters_reach_the_model_and_the_template_wins(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    given = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "stop": ["\n"]}
    template = {"prompt": "{{ item.q }}", "max_tokens": 3, "seed": 2}
    config = text_config(
        evaluator.put_rows(ROWS[:1]), template, **given, extra={"seed": 1, "top_k": 4}
    )
    evaluator.run(config)
    (body,) = evaluator.model.requests
    assert body == {
        **given,
        "top_k": 4,
        "seed": 2,
        "max_tokens": 3,
        "prompt": "0",
        "model": "scripted/model",
    }


def test_parallelism_bounds_the_rows_under_way(evaluator: Evaluator) -> None:
    under_way, together = set(), []

    def respond(body: dict[str, Any]) -> str:
        under_way.add(body["prompt"])
        together.append(len(under_way))
        time.sleep(0.02)  # so that others could begin
        under_way.remove(body["prompt"])
        return "b"

    evaluator.model.respond = respond
    evaluator.run(text_config(evaluator.put_rows(ROWS), parallelism=1))
    assert together == [1] * len(ROWS)


def test_no_more_rows_are_under_way_than_there_are_connections() -> None:
    class Model:
        endpoint = Endpoint("http://nim/v1", "m")
        under_way = most = 0

        async def ask(self, body: dict[str, Any]) -> dict[str, Any]:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0)  # all others that may be under way begin
            self.under_way -= 1
            return completion(body, "b")

    model: Any = Model()
    rows = [{"q": str(number)} for number in range(600)]
    task = TaskPlan("qa", rows, {}, "{{ item.q }}")
    run = run_task(task, model, Sampling.of({"parallelism": 600}), lambda: False, lambda *_: None)
    results = asyncio.run(run)
    assert [result.answered for result in results] == [True] * 600
    assert model.most == MAX_CONNECTIONS == 256


def test_a_request_is_repeated_as_often_as_max_retries_says(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: 503
    url = evaluator.put_rows(ROWS[:1])
    for retries in (0, 1):
        evaluator.model.requests.clear()
        evaluator.run(text_config(url, max_retries=retries))
        assert len(evaluator.model.requests) == retries + 1


@pytest.mark.parametrize(
    ("headers", "asked", "seconds"),
    [
        pytest.param({"retry-after": "1"}, 2, 1.0, id="later"),
        pytest.param({"retry-after": "soon"}, 2, 0.5, id="no number"),
        pytest.param({"x-should-retry": "false"}, 1, 0.0, id="never"),
    ],
)
def test_a_server_says_when_and_whether_it_is_asked_again(
    evaluator: Evaluator, headers: dict[str, str], asked: int, seconds: float
) -> None:
    elsewhere, at = FastAPI(), []

    @elsewhere.post("/v1/completions")
    def answer(body: dict[str, Any]) -> Any:
        at.append(time.monotonic())
        busy = JSONResponse({"detail": "busy"}, 503, headers)
        return busy if len(at) == 1 else completion(body, "b")

    with serving(elsewhere) as url:
        model = {"api_endpoint": {"url": f"{url}/v1", "model_id": "m"}}
        job = evaluator.run(
            text_config(evaluator.put_rows(ROWS[:1])), {"type": "model", "model": model}
        )
    assert job["status"] == ("completed" if asked > 1 else "failed")
    assert len(at) == asked and at[-1] - at[0] >= seconds


def test_a_request_that_ends_after_request_timeout_names_it(evaluator: Evaluator) -> None:
    asked, over = threading.Event(), threading.Event()

    def respond(body: dict[str, Any]) -> str:
        asked.set()
        over.wait(30)
        return "b"

    evaluator.model.respond = respond
    try:
        url = evaluator.put_rows(ROWS[:1])
        job = evaluator.run(text_config(url, request_timeout=1, max_retries=0))
    finally:
        over.set()
    assert asked.is_set() and job["status"] == "failed"
    message = job["status_details"]["message"]
    assert "completions did not finish its answer in 1 s (config.params.request_timeout)" in message
    assert "is it running?" not in message


def test_an_answer_that_comes_byte_by_byte_ends_after_request_timeout(evaluator: Evaluator) -> None:
    asked, over = threading.Event(), threading.Event()
    elsewhere = FastAPI()

    def dripping() -> Iterator[bytes]:
        asked.set()
        while not over.wait(0.1):
            yield b" "

    @elsewhere.post("/v1/completions")
    def answer() -> StreamingResponse:
        return StreamingResponse(dripping(), media_type="application/json")

    with serving(elsewhere) as url:
        model = {"api_endpoint": {"url": f"{url}/v1", "model_id": "m"}}
        config = text_config(evaluator.put_rows(ROWS[:1]), request_timeout=1, max_retries=0)
        try:
            job = evaluator.run(config, {"type": "model", "model": model})
        finally:
            over.set()
    assert asked.is_set() and job["status"] == "failed"
    assert "did not finish its answer in 1 s" in job["status_details"]["message"]


def test_cached_outputs_that_are_too_few_fail_the_job(evaluator: Evaluator) -> None:
    outputs = evaluator.put_rows([{"response": "x"}], "outputs.jsonl")
    target = {"type": "cached_outputs", "cached_outputs": {"files_url": outputs}}
    job = evaluator.run(text_config(evaluator.put_rows(ROWS)), target)
    assert job["status"] == "failed"
    assert job["status_details"]["message"] == "task 'qa' has 6 rows and 1 cached outputs"


@pytest.mark.parametrize("references", ["{{ item.r }}", ["{{ item.r }}"]], ids=["list", "nested"])
def test_bleu_takes_every_reference_and_gives_a_corpus_score(
    evaluator: Evaluator, references: Any
) -> None:
    rows = [{"p": "the cat sat on the mat", "r": ["a dog ran", "the cat sat on the mat"]}] * 2
    params = {"candidate": "{{ item.p }}", "references": references}
    config = offline([], metrics={"m": {"type": "bleu", "params": params}})
    job = evaluator.run(config, {"type": "rows", "rows": rows})
    found = scores(evaluator, job, "t", "m")
    assert found["sentence"]["value"] == pytest.approx(100)
    assert found["corpus"].keys() == {"value"} and found["corpus"]["value"] < 10


def test_an_endpoint_s_key_reaches_it_and_is_hidden_in_the_results(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    endpoint = {"url": f"{evaluator.model.url}/v1", "model_id": "m", "api_key": "sk-secret"}
    target = {"type": "model", "model": {"api_endpoint": endpoint}}
    job = evaluator.run(text_config(evaluator.put_rows(ROWS[:1])), target)
    assert evaluator.model.headers[0]["authorization"] == "Bearer sk-secret"
    path = f"/v1/evaluation/jobs/{job['id']}/download-results"
    content = evaluator.client.raw("GET", path).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert not any("sk-secret" in text for text in texts.values())
    shown = json.loads(texts[f"{job['id']}/config.json"])["target"]["model"]["api_endpoint"]
    assert shown["api_key"] == "******"


def test_a_key_with_a_line_break_is_sent_without_it(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    endpoint = {"url": f"{evaluator.model.url}/v1", "model_id": "m", "api_key": "sk-secret\n"}
    target = {"type": "model", "model": {"api_endpoint": endpoint}}
    job = evaluator.run(text_config(evaluator.put_rows(ROWS[:1])), target)
    assert job["status"] == "completed", job["status_details"]
    assert evaluator.model.headers[0]["authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize("path", ["jobs", "live"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(evaluator: Evaluator, path: str) -> None:
    endpoint = {"url": f"{evaluator.model.url}/v1", "model_id": "m", "api_key": "sk-ключ"}
    target = {"type": "model", "model": {"api_endpoint": endpoint}}
    body = {"config": text_config(evaluator.put_rows(ROWS[:1])), "target": target}
    with pytest.raises(UpstreamError, match="api_endpoint.api_key: the key holds") as caught:
        evaluator.client.post(f"/v1/evaluation/{path}", json=body)
    assert caught.value.status == 422 and "sk-" not in str(caught.value.response_body)


def test_a_password_in_an_endpoint_s_url_is_refused_and_stored_nowhere(
    evaluator: Evaluator,
) -> None:
    address = evaluator.model.url.replace("http://", "http://me:hidden@")
    endpoint = {"url": f"{address}/v1", "model_id": "scripted/model"}
    target = {"type": "model", "model": {"api_endpoint": endpoint}}
    with pytest.raises(UpstreamError, match="send it as api_key") as caught:
        evaluator.run(text_config(evaluator.put_rows(ROWS[:1])), target)
    assert caught.value.status == 422 and "hidden" not in str(caught.value.response_body)


def test_a_password_in_a_stored_target_s_url_is_refused_and_stored_nowhere(
    evaluator: Evaluator,
) -> None:
    def target(address: str) -> dict[str, Any]:
        return {"api_endpoint": {"url": f"{address}/v1", "model_id": "m"}}

    address, targets = evaluator.model.url, "/v1/evaluation/targets"
    hidden = target(address.replace("http://", "http://me:hidden@"))
    body = {"type": "model", "name": "t", "namespace": "ns", "model": target(address)}
    evaluator.client.post(targets, json=body)
    for method, path in (("POST", targets), ("PATCH", f"{targets}/ns/t")):
        with pytest.raises(UpstreamError, match="send it as api_key") as caught:
            evaluator.client.call(method, path, json={**body, "name": "u", "model": hidden})
        assert caught.value.status == 422 and "hidden" not in str(caught.value.response_body)
    stored = evaluator.documents.all("evaluation_target")
    assert len(stored) == 1 and "hidden" not in str(stored)


def test_the_platform_s_token_goes_to_its_own_nim_only(evaluator: Evaluator) -> None:
    nim = "http://127.0.0.1:8000"

    def key(url: str, own: str = "own") -> str | None:
        model = {"api_endpoint": {"url": url, "model_id": "m", "api_key": own}}
        return resolve(model, evaluator.documents, nim, "token").api_key

    assert resolve("m", evaluator.documents, nim, "token").api_key == "token"
    assert key("http://localhost:8000/v1/chat/completions") == "token"
    assert key("http://nim.test/v1") == "token"
    assert key("http://127.0.0.1:9000/v1") == "own"
    assert key("http://elsewhere:8000/v1") == "own"
    assert key("http://elsewhere:8000/v1", "******") is None


def test_a_model_that_nim_serves_comes_before_an_entity_of_its_name(evaluator: Evaluator) -> None:
    documents = evaluator.documents
    entity = {"api_endpoint": {"url": "http://elsewhere/v1", "model_id": "theirs"}}
    for namespace in ("scripted", "other"):
        documents.create("model", namespace, "model", entity)
    ours = resolve("scripted/model", documents, evaluator.model.url, None)
    theirs = resolve("other/model", documents, evaluator.model.url, None)
    down = resolve("scripted/model", documents, "http://127.0.0.1:9", None)
    assert (ours.root, ours.model_id) == (f"{evaluator.model.url}/v1", "scripted/model")
    assert theirs == down == Endpoint("http://elsewhere/v1", "theirs")


def test_a_job_of_a_platform_with_a_token_sends_it_to_nim(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    service = EvaluatorService(
        evaluator.documents, evaluator.client, evaluator.model.url, evaluator.jobs_dir, "token"
    )
    config = text_config(evaluator.put_rows(ROWS[:1]))
    job = service.create_job({"config": config, "target": {"type": "model", "model": "m"}})
    evaluator.ended(job["id"])
    service.stop()
    assert evaluator.model.headers[0]["authorization"] == "Bearer token"


def test_any_loopback_name_of_the_hub_is_the_platform(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    config = text_config(evaluator.put_rows(ROWS[:1]))
    dataset = config["tasks"]["qa"]["dataset"]
    hub = f"{evaluator.client.base_url}/v1/hf"
    dataset["hf_endpoint"] = hub.replace("127.0.0.1", "localhost") + "/"
    assert evaluator.run(config)["status"] == "completed"
    dataset["hf_endpoint"] = "https://huggingface.co"
    with pytest.raises(UpstreamError, match=f"it reads {hub}"):
        evaluator.run(config)


def test_only_tasks_that_asked_a_model_name_it(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    url = evaluator.put_rows(ROWS[:1])
    config = text_config(url)
    config["tasks"] |= offline(["{{ item.a }}", "==", "b"], dataset={"files_url": url})["tasks"]
    job = evaluator.run(config)
    tasks = evaluator.client.get(f"/v1/evaluation/jobs/{job['id']}/results")["tasks"]
    assert tasks["qa"]["data"]["model"] == "scripted/model"
    assert "data" not in tasks["t"]
