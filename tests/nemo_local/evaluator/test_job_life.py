"""A job's life beside other jobs: queues, cancelling, deleting, and a platform that starts."""

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from fastapi.responses import JSONResponse

from nemo_local.core.client import Client, UpstreamError
from nemo_local.core.documents import Documents
from nemo_local.evaluator.service import KILLED, WORKERS, EvaluatorService
from nemo_local.processes import is_answering, wait_until
from nemo_local.settings import Settings
from tests.conftest import free_port, running_control_plane
from tests.nemo_local.evaluator.conftest import Evaluator
from tests.nemo_local.evaluator.test_jobs import text_config
from tests.scripted_model import Reply, ScriptedModel, serving

JOBS = "/v1/evaluation/jobs"


def checking(template: str) -> dict[str, Any]:
    """A configuration that asks no model: it renders this for each row, which should give "b"."""
    metric = {"type": "string-check", "params": {"check": [template, "==", "b"]}}
    return {"type": "custom", "tasks": {"t": {"type": "data", "metrics": {"m": metric}}}}


OFFLINE = checking("{{ item.a }}")
LOOP = "{% for i in range(9000) %}"
END = "{% endfor %}"


class Gate:
    """A model that answers when it is told to."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._open = threading.Event()
        evaluator.model.respond = self._respond

    def open(self) -> None:
        self._open.set()

    def wait_for_requests(self, count: int) -> None:
        requests = self._evaluator.model.requests
        wait_until(lambda: len(requests) >= count, 20, f"{count} requests")

    def _respond(self, body: dict[str, Any]) -> str:
        assert self._open.wait(30)
        return "b"


@pytest.fixture
def gate(evaluator: Evaluator) -> Iterator[Gate]:
    made = Gate(evaluator)
    yield made
    made.open()


def restarted(evaluator: Evaluator) -> EvaluatorService:
    """A service of a new process on the same documents."""
    return EvaluatorService(
        evaluator.documents, evaluator.client, evaluator.model.url, evaluator.jobs_dir
    )


def status(evaluator: Evaluator, job: dict[str, Any]) -> str:
    return str(evaluator.client.get(f"{JOBS}/{job['id']}")["status"])


def post(evaluator: Evaluator, config: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    job: dict[str, Any] = evaluator.client.post(JOBS, json={"config": config, "target": target})
    return job


def test_jobs_posted_while_the_platform_starts_run_once(evaluator: Evaluator, gate: Gate) -> None:
    service = evaluator.service
    url = evaluator.put_rows([{"q": "1", "a": "b"}])
    jobs = [evaluator.run(text_config(url), wait=False) for _ in range(WORKERS + 1)]
    gate.wait_for_requests(WORKERS)
    service.start()
    gate.open()
    assert [evaluator.ended(job["id"])["status"] for job in jobs] == ["completed"] * len(jobs)
    assert evaluator.client.get("/v1/evaluation/results")["pagination"]["total_results"] == 3
    assert len(evaluator.model.requests) == len(jobs)


def test_jobs_of_a_stopped_platform_run_at_its_next_start(evaluator: Evaluator, gate: Gate) -> None:
    first = restarted(evaluator)
    url = evaluator.put_rows([{"q": "1", "a": "b"}])
    body = {"config": text_config(url), "target": {"type": "model", "model": "scripted/model"}}
    jobs = [first.create_job(body) for _ in range(WORKERS + 2)]
    gate.wait_for_requests(WORKERS)
    first.stop()
    assert [status(evaluator, job) for job in jobs] == ["pending"] * WORKERS + ["created"] * 2
    stopped = evaluator.client.get(f"{JOBS}/{jobs[0]['id']}")
    assert stopped["status_details"] == {
        "message": "The platform was stopped; this job begins again with it.",
        "task_status": {},
        "progress": None,
        "samples_processed": 0,
    }

    gate.open()
    second = restarted(evaluator)
    second.start()
    assert [evaluator.ended(job["id"])["status"] for job in jobs] == ["completed"] * len(jobs)
    assert evaluator.client.get("/v1/evaluation/results")["pagination"]["total_results"] == 4
    second.stop()


def test_jobs_whose_inference_ends_before_the_platform_run_again_whole(settings: Settings) -> None:
    model, asked, stopped = ScriptedModel(), threading.Semaphore(0), threading.Event()
    documents, jobs = Documents(settings.database_url), list[dict[str, Any]]()

    def stored(job: dict[str, Any]) -> str:
        return str(documents.get_by_id("evaluation_job", job["id"])["status"])

    def respond(body: dict[str, Any]) -> Reply:
        if stopped.is_set() or body["prompt"] == "0":
            return "b"
        asked.release()
        if body["prompt"] == "held":  # so long the platform has no more than closed its listener
            running = jobs[:WORKERS]
            wait_until(lambda: not any(stored(job) == "running" for job in running), 20, "the end")
            return "at last"
        wait_until(lambda: not is_answering(settings.platform_url), 20, "the platform stops")
        return 500

    model.respond = respond
    rows = "".join(json.dumps({"q": str(number), "a": "b"}) + "\n" for number in range(4))
    another = Client(settings.platform_url)
    with serving(model.app(), settings.nim_port):
        with ThreadPoolExecutor() as pool, running_control_plane(settings) as running:
            hub, client = running.hf(), running.client()
            hub.create_repo("ns/data", repo_type="dataset")
            hub.upload_file(
                path_or_fileobj=rows.encode(),
                path_in_repo="rows.jsonl",
                repo_id="ns/data",
                repo_type="dataset",
            )
            config = text_config("hf://datasets/ns/data", parallelism=1, max_retries=0)
            body = {"config": config, "target": {"type": "model", "model": "scripted/model"}}
            jobs += [client.post(JOBS, json=body) for _ in range(WORKERS + 1)]
            completion = {"model": "scripted/model", "prompt": "held"}
            held = pool.submit(another.post, "/v1/completions", json=completion)
            for _ in range(WORKERS + 1):
                assert asked.acquire(timeout=20)
        assert held.result()["choices"][0]["text"] == "at last"
        assert [stored(job) for job in jobs] == ["pending"] * WORKERS + ["created"]

        stopped.set()
        with running_control_plane(settings) as running:
            client = running.client()
            for job in jobs:
                wait_until(lambda job=job: stored(job) == "completed", 20, "the job is complete")  # type: ignore[misc]
                result = client.get(f"{JOBS}/{job['id']}/results")
                score = result["tasks"]["qa"]["metrics"]["same"]["scores"]["string-check"]
                assert score["stats"] == {"count": 4, "sum": 4.0, "mean": 1.0}
    another.close()
    documents.close()


def test_a_live_evaluation_is_answered_at_once_when_the_platform_stops(settings: Settings) -> None:
    """It held the platform for 5 s, and was then answered 500 or as complete without its rows."""
    model, asked, over = ScriptedModel(), threading.Event(), threading.Event()

    def respond(body: dict[str, Any]) -> Reply:
        asked.set()
        over.wait(30)
        return "b"

    model.respond = respond
    another = Client(settings.platform_url)
    with serving(model.app(), settings.nim_port), ThreadPoolExecutor() as pool:
        with running_control_plane(settings) as running:
            hub = running.hf()
            hub.create_repo("ns/data", repo_type="dataset")
            hub.upload_file(
                path_or_fileobj=b'{"q": "1", "a": "b"}\n',
                path_in_repo="rows.jsonl",
                repo_id="ns/data",
                repo_type="dataset",
            )
            config = text_config("hf://datasets/ns/data")
            body = {"config": config, "target": {"type": "model", "model": "scripted/model"}}
            live = pool.submit(another.post, "/v1/evaluation/live", json=body)
            assert asked.wait(20)
        answer = live.result(20)
        over.set()
    assert answer["status"] == "failed" and answer["result"] is None
    assert answer["status_details"]["task_status"] == {"qa": "failed"}
    told = "The platform was stopped; start it, and send this evaluation again."
    assert answer["status_details"]["message"] == told
    another.close()


def left_running(evaluator: Evaluator, job: dict[str, Any], **details: Any) -> None:
    """The job as a platform leaves it that is killed."""
    document = evaluator.documents.get_by_id("evaluation_job", job["id"])
    running = {"status": "running", "status_details": {**document["status_details"], **details}}
    evaluator.documents.update("evaluation_job", job["id"], running)


def test_a_job_of_a_killed_platform_is_evaluated_again_from_the_start(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    job = evaluator.run(text_config(evaluator.put_rows([{"q": "a", "a": "b"}])))
    left_running(evaluator, job, progress=40.0, task_status={"qa": "running"})
    restarted(evaluator).start()
    again = evaluator.ended(job["id"])
    assert again["status"] == "completed" and again["result"] != job["result"]
    results = evaluator.client.get("/v1/evaluation/results")["data"]
    assert [result["id"] for result in results] == [again["result"]]
    assert len(evaluator.model.requests) == 2


def test_a_job_that_is_there_each_time_the_platform_is_killed_fails(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    job = evaluator.run(text_config(evaluator.put_rows([{"q": "a", "a": "b"}])))
    left_running(evaluator, job, message=KILLED)
    restarted(evaluator).start()
    ended = evaluator.client.get(f"{JOBS}/{job['id']}")
    assert ended["status"] == "failed"
    assert "killed twice while this job ran" in ended["status_details"]["message"]


def test_a_job_found_at_a_start_waits_until_inference_has_its_models(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    probes, loaded, app = [0], threading.Event(), evaluator.model.app()

    @app.get("/v1/health/ready")
    def ready() -> JSONResponse:
        probes[0] += 1
        return JSONResponse({}, 200 if loaded.is_set() else 503)

    port = free_port()
    service = EvaluatorService(
        evaluator.documents, evaluator.client, f"http://127.0.0.1:{port}", evaluator.jobs_dir
    )
    url = evaluator.put_rows([{"q": "1", "a": "b"}])
    target = {"type": "model", "model": "scripted/model"}
    job = service.create_job({"config": text_config(url, max_retries=0), "target": target})
    wait_until(lambda: status(evaluator, job) == "running", 20, "the job runs")
    with serving(app, port):
        wait_until(lambda: probes[0] > 1, 20, "it was told that models are loading")
        assert evaluator.model.requests == []
        loaded.set()
        assert evaluator.ended(job["id"])["status"] == "completed"
    service.stop()


def test_a_live_evaluation_does_not_wait_for_inference_to_start(evaluator: Evaluator) -> None:
    probes, app = [0], evaluator.model.app()

    @app.get("/v1/health/ready")
    def loading() -> JSONResponse:
        probes[0] += 1
        return JSONResponse({}, 503)

    evaluator.model.respond = lambda body: "b"
    url = evaluator.put_rows([{"q": "1", "a": "b"}])
    target = {"type": "model", "model": "scripted/model"}
    with serving(app) as nim_url:
        service = EvaluatorService(
            evaluator.documents, evaluator.client, nim_url, evaluator.jobs_dir
        )
        assert service.live({"config": text_config(url), "target": target})["status"] == "completed"
    assert probes == [0]


def test_a_job_that_was_cancelling_when_the_platform_died_is_cancelled(
    evaluator: Evaluator,
) -> None:
    evaluator.model.respond = lambda body: "b"
    job = evaluator.run(text_config(evaluator.put_rows([{"q": "a", "a": "b"}])))
    evaluator.documents.update("evaluation_job", job["id"], {"status": "cancelling"})
    restarted(evaluator).start()
    assert status(evaluator, job) == "cancelled"


def test_a_queued_job_is_cancelled_at_once(evaluator: Evaluator, gate: Gate) -> None:
    url = evaluator.put_rows([{"q": "1", "a": "b"}])
    jobs = [evaluator.run(text_config(url), wait=False) for _ in range(WORKERS + 1)]
    gate.wait_for_requests(WORKERS)
    cancelled = evaluator.client.post(f"{JOBS}/{jobs[-1]['id']}/cancel")
    assert cancelled["status"] == "cancelled"
    assert cancelled["status_details"]["message"] == "Cancelled before it ran."
    gate.open()
    for job in jobs[:-1]:
        assert evaluator.ended(job["id"])["status"] == "completed"
    assert len(evaluator.model.requests) == WORKERS


@pytest.mark.parametrize("asks", [True, False], ids=["asks a model", "asks none"])
def test_cancel_stops_a_running_job(evaluator: Evaluator, asks: bool) -> None:
    evaluator.model.respond = lambda body: "b"
    url = evaluator.put_rows([{"q": "1", "a": "b"}] * 5_000)
    config = text_config(url) if asks else checking(LOOP + END + "{{ item.a }}")
    target = None if asks else {"type": "dataset", "dataset": {"files_url": url}}
    job = evaluator.run(config, target, wait=False)
    path = f"{JOBS}/{job['id']}"
    wait_until(lambda: bool(evaluator.client.get(path)["status_details"]["progress"]), 30, "rows")
    assert evaluator.client.post(f"{path}/cancel")["status"] in ("cancelling", "cancelled")
    job = evaluator.ended(job["id"])
    assert job["status"] == "cancelled" and job["status_details"]["progress"] < 100
    assert set(job["status_details"]["task_status"].values()) == {"failed"}
    with pytest.raises(UpstreamError, match="409"):
        evaluator.client.post(f"{path}/cancel")


def test_cancel_stops_a_job_whose_endpoint_accepts_and_never_answers(evaluator: Evaluator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        model = {"api_endpoint": {"url": address, "model_id": "m"}}
        url = evaluator.put_rows([{"q": "1", "a": "b"}])
        job = evaluator.run(text_config(url), {"type": "model", "model": model}, wait=False)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(100).startswith(b"GET /v1/models")
            evaluator.client.post(f"{JOBS}/{job['id']}/cancel")
            assert evaluator.ended(job["id"])["status"] == "cancelled"


def test_cancel_stops_a_job_whose_template_never_ends(evaluator: Evaluator) -> None:
    endless = checking(LOOP + LOOP + END + END + "{{ item.a }}")
    job = post(evaluator, endless, {"type": "rows", "rows": [{"a": "b"}] * 50})
    wait_until(lambda: status(evaluator, job) == "running", 20, "the job runs")
    evaluator.client.post(f"{JOBS}/{job['id']}/cancel")
    assert evaluator.ended(job["id"])["status"] == "cancelled"


def test_results_of_a_job_that_is_deleted_meanwhile_are_not_sent_in_part(
    evaluator: Evaluator,
) -> None:
    job = post(evaluator, OFFLINE, {"type": "rows", "rows": [{"a": "b"}]})
    evaluator.ended(job["id"])
    large = evaluator.jobs_dir / job["id"] / "logs" / "large.log"
    large.write_bytes(secrets.token_bytes(30_000_000))
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(evaluator.client.raw, "GET", f"{JOBS}/{job['id']}/download-results")
        process = psutil.Process()
        wait_until(lambda: str(large) in str(process.open_files()), 20, "the files are read")
        evaluator.client.delete(f"{JOBS}/{job['id']}")
        with pytest.raises(UpstreamError, match="404"):
            sent.result(20)


def test_logs_of_a_job_that_is_gone_are_not_read(evaluator: Evaluator) -> None:
    left = evaluator.jobs_dir / "eval-gone" / "logs" / "job.log"
    left.parent.mkdir(parents=True)
    left.touch()
    os.utime(left, (0, 0))  # before 1980, which no archive can say
    with pytest.raises(UpstreamError, match="404"):
        evaluator.client.raw("GET", f"{JOBS}/eval-gone/logs")


def test_jobs_deleted_at_any_moment_leave_no_result_and_no_file(evaluator: Evaluator) -> None:
    evaluator.model.respond = lambda body: "b"
    url = evaluator.put_rows([{"q": "1", "a": "b"}] * 3)
    deleted = []
    for number in range(12):
        job = evaluator.run(text_config(url), wait=False)
        for _ in range(number):  # each one lives a request longer
            evaluator.client.get(f"{JOBS}/{job['id']}")
        evaluator.client.delete(f"{JOBS}/{job['id']}")
        deleted.append(job["id"])
    last = evaluator.run(text_config(url))  # the workers have left the deleted ones

    def left() -> list[str]:
        results = evaluator.client.get("/v1/evaluation/results", params={"page_size": 100})["data"]
        folders = [folder.name for folder in evaluator.jobs_dir.iterdir()]
        return [job for job in deleted if job in [r["job"] for r in results] + folders]

    wait_until(lambda: not left(), 20, "nothing is left")
    assert last["status"] == "completed"
