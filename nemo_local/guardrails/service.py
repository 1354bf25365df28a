"""The rules of Guardrails: configurations, checks, and guarded completions."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

from nemo_local.core.client import AsyncClient, Unreachable
from nemo_local.core.clock import timestamp
from nemo_local.core.documents import Documents
from nemo_local.core.errors import BadRequest, Conflict, Invalid, NotFound, Unavailable
from nemo_local.core.ids import new_id
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.web import check_name, deleted
from nemo_local.guardrails.answers import (
    Outcome,
    answer_texts,
    guardrails_data,
    refusal,
    status,
    without_blocked,
)
from nemo_local.guardrails.configs import PRELOADED, STORE_URL, filled, merged
from nemo_local.guardrails.engine import Engine, Verdict
from nemo_local.guardrails.requests import Conversation, Options, conversation
from nemo_local.guardrails.rules import Direction, check_data, flows

logger = logging.getLogger(__name__)

CONFIG = "guardrail_config"
DEFAULT_CONFIG = "default/default"
GENERATION_TIMEOUT_S = 600.0


class GuardrailsService:
    """Configs, checks and guarded completions."""

    def __init__(self, documents: Documents, nim_url: str, token: str | None = None) -> None:
        self._documents = documents
        self._engine = Engine(nim_url, token)
        self._token = token
        self._warming: threading.Thread | None = None

    def start(self) -> None:
        """Store the preloaded configurations; load the library while nobody waits for it."""
        for name in PRELOADED:
            if not self._documents.all(CONFIG, namespace="default", name=name):
                document = {
                    "description": f"{name} guardrail config",
                    "files_url": f"{STORE_URL}{name}",
                    "schema_version": "1.0",
                }
                self._documents.create(CONFIG, "default", name, document, new_id("guardrail"))
        self._warming = threading.Thread(target=self._warm, name="guardrails-warm", daemon=True)
        self._warming.start()

    def stop(self) -> None:
        """Close the connections to guard models."""
        if self._warming:
            self._warming.join()
        self._engine.close()

    # Configurations

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """The stored configuration, defaults filled in.

        Raises:
            Invalid: neither data nor a known files_url, or something in data is unsupported.
            Conflict: the name is taken.
        """
        name = check_name(str(body["name"])) if body.get("name") else None
        namespace = check_name(body.get("namespace") or "default", "namespace")
        entity_id = new_id("guardrail")
        document = {
            "description": None,
            "project": None,
            "custom_fields": {},
            "ownership": None,
            "schema_version": "1.0",
            **{key: value for key, value in body.items() if value is not None},
            **self._content(body),
        }
        try:
            return self._documents.create(CONFIG, namespace, name, document, entity_id)
        except Conflict:
            raise Conflict(f"config '{name}' already exists.") from None

    def retrieve(self, namespace: str, name: str) -> dict[str, Any]:
        try:
            return self._documents.get(CONFIG, namespace, name)
        except NotFound:
            raise NotFound("Guardrail config not found.") from None

    def update(self, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        entity = self.retrieve(namespace, name)
        content = self._content(body) if body.get("data") or body.get("files_url") else {}
        return self._documents.update(CONFIG, entity["id"], {**body, **content})

    def delete(self, namespace: str, name: str) -> dict[str, Any]:
        entity = self._documents.delete(CONFIG, self.retrieve(namespace, name)["id"])
        return deleted(entity, timestamp(self._documents.clock()))

    def find(self, query: ListQuery) -> Page:
        return self._documents.find(CONFIG, query)

    # Checks and completions

    async def check(self, body: dict[str, Any]) -> dict[str, Any]:
        """Every rail's status on the conversation; nothing is generated.

        Raises:
            BadRequest: the configuration does not exist.
            Invalid: the request or an inline configuration is malformed.
        """
        options = Options.of(body)
        talk = conversation(body)
        outcome = await self._judge(body, options, talk, ("input", "output"))
        return {
            "status": "blocked" if outcome.blocked else "success",
            "rails_status": {v.flow: status(v) for v in outcome.verdicts},
            "guardrails_data": guardrails_data(outcome, options),
        }

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """The model's own chat completion, or a refusal, with `guardrails_data`."""
        talk = conversation(body)
        if talk.answer is not None:
            talk = Conversation(talk.history, talk.user, None)
        return await self._complete(body, talk, "/chat/completions")

    async def text(self, body: dict[str, Any]) -> dict[str, Any]:
        """The model's own text completion, or a refusal, with `guardrails_data`."""
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise Invalid("prompt: must be a string")
        return await self._complete(body, Conversation([], prompt, None), "/completions")

    async def models(self, authorization: str | None) -> Any:
        """The inference endpoint's own model list."""
        return await self._call("GET", "/models", None, authorization)

    async def _complete(
        self, body: dict[str, Any], talk: Conversation, path: str
    ) -> dict[str, Any]:
        options = Options.of(body)
        checked = await self._judge(body, options, talk, ("input",))
        if checked.blocked:
            return refusal(checked, options, path)
        request = {**options.llm_params, **body}
        request = {k: v for k, v in request.items() if k not in ("guardrails", "stream")}
        response = await self._call("POST", path, request)
        said = [Conversation(talk.history, talk.user, text) for text in answer_texts(response)]
        judged = await asyncio.gather(
            *(self._judge(body, options, choice, ("output",)) for choice in said)
        )
        checked.verdicts += [verdict for outcome in judged for verdict in outcome.verdicts]
        checked.seconds += max((outcome.seconds for outcome in judged), default=0)
        if checked.blocked and len(judged) == 1:
            return refusal(checked, options, path)
        if checked.blocked:
            response = without_blocked(response, [outcome.blocked for outcome in judged], path)
        return options.placed(dict(response), guardrails_data(checked, options))

    async def _judge(
        self,
        body: dict[str, Any],
        options: Options,
        talk: Conversation,
        directions: tuple[Direction, ...],
    ) -> Outcome:
        data, config_ids = await asyncio.to_thread(self._resolve, options)
        model = _main_model(data, body)
        try:
            rails = await asyncio.to_thread(self._engine.prepare, data, model)
        except ValueError as error:
            raise Invalid(f"the rails configuration is unusable: {error}") from None
        started = time.perf_counter()
        verdicts: list[Verdict] = []
        for direction in directions:
            if any(verdict.blocked for verdict in verdicts):
                break
            if (talk.user if direction == "input" else talk.answer) is not None:
                chosen = options.chosen(direction, flows(data, direction))
                verdicts += await self._engine.run(
                    self._direction(rails, data, direction, chosen, talk, options)
                )
        return Outcome(verdicts, time.perf_counter() - started, config_ids)

    async def _direction(
        self,
        rails: Any,
        data: dict[str, Any],
        direction: Direction,
        chosen: list[str],
        talk: Conversation,
        options: Options,
    ) -> list[Verdict]:
        """The verdicts of one direction: in order up to the first block, or all at once."""

        async def judge(flow: str) -> Verdict:
            messages = talk.messages(direction, flow)
            logs = {key: options.logs(key) for key in ("internal_events", "colang_history")}
            return await self._engine.judge(
                rails, direction, flow, messages, options.context, options.output_vars, logs
            )

        if data["rails"][direction].get("parallel"):
            return list(await asyncio.gather(*(judge(flow) for flow in chosen)))
        verdicts: list[Verdict] = []
        for flow in chosen:
            verdicts.append(await judge(flow))
            if verdicts[-1].blocked:
                break
        return verdicts

    def _resolve(self, options: Options) -> tuple[dict[str, Any], list[str] | None]:
        """The rails configuration a request means, and the ids it named."""
        if options.inline is not None:
            check_data(options.inline, self._engine.nim_url)
            return filled(options.inline), None
        found = [self._data(reference) for reference in options.config_ids or [DEFAULT_CONFIG]]
        return (found[0] if len(found) == 1 else filled(merged(found))), options.config_ids

    def _data(self, reference: str) -> dict[str, Any]:
        namespace, slash, name = reference.partition("/")
        places = [(namespace, name), ("default", name)] if slash else [("default", namespace)]
        for place in places:
            for entity in self._documents.all(CONFIG, namespace=place[0], name=place[1]):
                data = entity.get("data")
                return data if data else filled(PRELOADED[_stored_name(entity)])
        raise BadRequest(f"Guardrail config not found: {'/'.join(places[0])}")

    def _content(self, body: dict[str, Any]) -> dict[str, Any]:
        """The checked and filled `data` of a body, or its known `files_url`."""
        if body.get("data") is not None:
            check_data(body["data"], self._engine.nim_url)
            data = filled(body["data"])
            try:
                self._engine.check(data)
            except ValueError as error:
                raise Invalid(f"data is no rails configuration: {error}") from None
            return {"data": data}
        url = str(body.get("files_url") or "")
        if url.removeprefix(STORE_URL) not in PRELOADED:
            raise Invalid(
                "a config needs data; of files_url only the preloaded ones are supported: "
                + ", ".join(f"{STORE_URL}{name}" for name in PRELOADED)
            )
        return {"files_url": url}

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None, authorization: str | None = None
    ) -> Any:
        client = AsyncClient(f"{self._engine.nim_url}/v1", self._token, GENERATION_TIMEOUT_S)
        headers = {"authorization": authorization} if authorization and not self._token else {}
        try:
            return await client.call(method, path, json=body, headers=headers)
        except Unreachable as error:
            raise Unavailable(str(error)) from None
        finally:
            await client.close()

    def _warm(self) -> None:
        try:
            self._engine.prepare(filled(PRELOADED["default"]), "warm")
        except Exception:
            logger.exception("guardrails cannot be loaded; checks will say so")


def _main_model(data: dict[str, Any], body: dict[str, Any]) -> str:
    """The request's model; it replaces the configuration's own main model."""
    own = [m.get("model") for m in data["models"] if m["type"] == "main"]
    model = body.get("model") or next((name for name in own if name), None)
    if not isinstance(model, str):
        raise Invalid("model: Field required")
    return model


def _stored_name(entity: dict[str, Any]) -> str:
    return str(entity["files_url"]).removeprefix(STORE_URL)
