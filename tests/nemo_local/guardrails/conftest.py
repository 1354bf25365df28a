"""Guardrails on a server of its own, beside a scripted guard model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from nemo_local.core.client import Client
from nemo_local.core.documents import Documents
from nemo_local.core.error_bodies import install_error_handlers
from nemo_local.core.middleware import RequestLog
from nemo_local.guardrails.routes import router
from nemo_local.guardrails.service import GuardrailsService
from tests.scripted_model import Reply, ScriptedModel, scripted_model, serving

INPUT_FLOW = "content safety check input $model=content_safety"
OUTPUT_FLOW = "content safety check output $model=content_safety"
GUARD = "nvidia/llama-3.1-nemoguard-8b-content-safety"
SAFE = json.dumps({"User Safety": "safe", "Response Safety": "safe"}) + " "
UNSAFE = json.dumps({"User Safety": "unsafe", "Safety Categories": "Malware, S24: Deleting Logs"})
UNSAFE_ANSWER = json.dumps({"User Safety": "safe", "Response Safety": "unsafe"})


def safety_config(**changes: Any) -> dict[str, Any]:
    """Content safety of what goes in and what comes out, as the tutorial writes it."""
    prompts = [
        {
            "task": "content_safety_check_input $model=content_safety",
            "messages": [
                {"type": "user", "content": "Categories: S1: Violence. {{user_query}}END"},
                {"type": "user", "content": "{{ user_input }}"},
            ],
            "output_parser": "nemoguard_parse_prompt_safety",
            "max_tokens": 50,
        },
        {
            "task": "content_safety_check_output $model=content_safety",
            "content": "user: {{ user_input }}\nresponse: {{ bot_response }}",
            "output_parser": "nemoguard_parse_response_safety",
            "max_tokens": 50,
        },
    ]
    data = {
        "models": [{"type": "content_safety", "engine": "nim", "model": GUARD}],
        "prompts": prompts,
        "rails": {"input": {"flows": [INPUT_FLOW]}, "output": {"flows": [OUTPUT_FLOW]}},
    }
    return {**data, **changes}


def by_content(body: dict[str, Any]) -> Reply:
    """A guard that knows its verdicts by a word in the prompt."""
    text = json.dumps(body["messages"])
    for word, reply in (
        ("bomb", UNSAFE),
        ("evil", UNSAFE_ANSWER),
        ("prose", "I think this is fine."),
        ("half", '{"User Safety": '),
        ("other json", '{"verdict": "safe"}'),
        ("silent", ""),
        ("down", 503),
        ("unknown model", 404),
    ):
        if word in text:
            return reply
    return SAFE


@dataclass
class Guardrails:
    """The running service and everything around it."""

    client: Client
    service: GuardrailsService
    model: ScriptedModel
    documents: Documents

    def create(self, data: dict[str, Any], name: str = "toolcalling") -> dict[str, Any]:
        body = {"name": name, "namespace": "ns", "data": data}
        created: dict[str, Any] = self.client.post("/v1/guardrail/configs", json=body)
        return created

    def check(self, *texts: str, config: Any = "ns/toolcalling", **guardrails: Any) -> Any:
        """The check of a conversation that alternates between user and assistant."""
        roles = ("user", "assistant")
        messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
        named = {"config": config} if isinstance(config, dict) else {"config_id": config}
        body = {"model": "main/model", "messages": messages, "guardrails": {**named, **guardrails}}
        return self.client.post("/v1/guardrail/checks", json=body)


@contextlib.contextmanager
def guardrails_beside(model: ScriptedModel, folder: Path) -> Iterator[Guardrails]:
    """A server that asks this model."""
    documents = Documents(f"sqlite:///{folder / 'platform.db'}")
    service = GuardrailsService(documents, model.url)
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router(service))
    app.add_middleware(RequestLog)
    with serving(app) as url:
        client = Client(url)
        yield Guardrails(client, service, model, documents)
        client.close()
    service.stop()
    documents.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guardrails]:
    """One server for a module's tests; building the library's objects is what costs."""
    folder = tmp_path_factory.mktemp("guardrails")
    with scripted_model() as model, guardrails_beside(model, folder) as running:
        yield running


@pytest.fixture
def guardrails(running: Guardrails) -> Guardrails:
    """The server with no configuration and a model that has heard nothing."""
    for config in running.documents.all("guardrail_config"):
        running.documents.delete("guardrail_config", config["id"])
    running.model.reset(by_content)
    return running
