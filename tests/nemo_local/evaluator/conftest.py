"""An evaluator on a server of its own, beside a scripted model and a hub that is a dict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import Response

from nemo_local.core.client import Client
from nemo_local.core.documents import Documents
from nemo_local.core.error_bodies import install_error_handlers
from nemo_local.core.errors import NotFound
from nemo_local.core.jobs import FINISHED
from nemo_local.evaluator.kinds import MODEL, PREFIXES
from nemo_local.evaluator.routes import router
from nemo_local.evaluator.service import EvaluatorService
from tests.scripted_model import ScriptedModel, scripted_model, serving


@dataclass
class Evaluator:
    """The running evaluator and everything around it."""

    client: Client
    service: EvaluatorService
    documents: Documents
    model: ScriptedModel
    jobs_dir: Path
    files: dict[str, bytes] = field(default_factory=dict)
    """Files of the one dataset repository, `ns/data`, as its main branch has them."""
    when_read: Callable[[], object] = lambda: None
    """Called when the content of a file is asked for."""

    def put_rows(self, rows: list[dict[str, Any]], path: str = "testing/rows.jsonl") -> str:
        self.files[path] = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return f"hf://datasets/ns/data/{path}"

    def run(self, config: dict[str, Any], target: Any = None, wait: bool = True) -> dict[str, Any]:
        """The job, ended."""
        target = target or {"type": "model", "model": "scripted/model"}
        job = self.client.post(
            "/v1/evaluation/jobs", json={"config": config, "target": target, "namespace": "ns"}
        )
        return self.ended(job["id"]) if wait else job

    def ended(self, job_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while True:
            job: dict[str, Any] = self.client.get(f"/v1/evaluation/jobs/{job_id}")
            if job["status"] in FINISHED:
                return job
            assert time.monotonic() < deadline, job["status_details"]
            time.sleep(0.02)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluator]:
    """One server for a module's tests."""
    home = tmp_path_factory.mktemp("evaluator")
    app = FastAPI()
    install_error_handlers(app)
    documents = Documents(f"sqlite:///{home / 'platform.db'}")
    with scripted_model() as model, serving(app) as url:
        client = Client(url)
        service = EvaluatorService(documents, client, model.url, home / "jobs")
        evaluator = Evaluator(client, service, documents, model, home / "jobs")
        _add_hub(app, evaluator)
        app.include_router(router(service, []))
        yield evaluator
        service.stop()
        client.close()
    documents.close()


@pytest.fixture
def evaluator(running: Evaluator) -> Evaluator:
    """The server with no file, no entity and a model that has heard nothing."""
    for kind in (*PREFIXES, MODEL):
        for entity in running.documents.all(kind):
            running.documents.delete(kind, entity["id"])
    running.files.clear()
    running.when_read = lambda: None
    running.model.reset()
    return running


def _add_hub(app: FastAPI, evaluator: Evaluator) -> None:
    commits: dict[str, dict[str, bytes]] = {}

    def files(revision: str) -> dict[str, bytes]:
        return commits.get(revision, evaluator.files)

    @app.get("/v1/hf/api/datasets/{namespace}/{name}/revision/{revision}")
    def commit(namespace: str, name: str, revision: str) -> Any:
        if (namespace, name) != ("ns", "data"):
            raise NotFound("no such repository")
        sha = f"commit-{len(commits)}"
        commits[sha] = dict(files(revision))
        return {"sha": sha}

    @app.get("/v1/hf/api/datasets/{namespace}/{name}/tree/{revision}")
    def tree(namespace: str, name: str, revision: str) -> Any:
        if (namespace, name) != ("ns", "data"):
            raise NotFound("no such repository")
        return [{"type": "file", "path": path} for path in files(revision)]

    @app.get("/v1/hf/datasets/ns/data/resolve/{revision}/{path:path}")
    def resolve(revision: str, path: str) -> Response:
        evaluator.when_read()
        return Response(files(revision)[path])

    @app.get("/v1/datasets/{namespace}/{name}")
    def dataset(namespace: str, name: str) -> Any:
        if name != "registered":
            raise NotFound("dataset not found")
        return {"name": name, "namespace": namespace, "files_url": "hf://datasets/ns/data/testing"}
