"""The rules of Guardrails: checks, and completions with checks of both input and output."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from nemo_local.core.documents import Documents
from nemo_local.core.errors import Invalid
from nemo_local.core.secrets import refuse_masks
from nemo_local.guardrails.answers import (
    answer_texts,
    guardrails_data,
    refusal,
    status,
    without_blocked,
)
from nemo_local.guardrails.configs import PRELOADED, Data, filled, merged
from nemo_local.guardrails.engine import Engine, main_model_of, sampling_of
from nemo_local.guardrails.guard import Guard
from nemo_local.guardrails.main_model import MainModel
from nemo_local.guardrails.requests import Conversation, Options, conversation, with_plain_texts
from nemo_local.guardrails.rules import FLOWS, check_data, flows
from nemo_local.guardrails.store import ConfigStore
from nemo_local.guardrails.streams import begun, finished, judged, passed_on
from nemo_local.guardrails.verdicts import Verdict

logger = logging.getLogger(__name__)

DEFAULT_CONFIG = "default/default"

Events = Iterator[str] | AsyncIterator[str]


class GuardrailsService:
    """Checks and guarded completions by the configurations in `configs`."""

    def __init__(
        self,
        documents: Documents,
        nim_url: str,
        token: str | None = None,
        generation_timeout_s: float | None = 600.0,
    ) -> None:
        self._engine = Engine(nim_url, token)
        self.configs = ConfigStore(documents, self._engine)
        self._timeout_s = generation_timeout_s
        self._warming: threading.Thread | None = None

    def start(self) -> None:
        """Store the preloaded configurations."""
        self.configs.seed()

    def prepare(self) -> None:
        """Load the library in the background, which takes seconds; call once the platform is up."""
        self._warming = threading.Thread(target=self._warm, name="guardrails-warm", daemon=True)
        self._warming.start()

    def stop(self) -> None:
        """Close the connections to guard models."""
        if self._warming:
            self._warming.join()
        self._engine.close()

    async def check(self, body: dict[str, Any]) -> dict[str, Any]:
        """Every rail's status on the conversation; nothing is generated.

        Raises:
            BadRequest: the configuration does not exist.
            Invalid: the request or an inline configuration is malformed.
        """
        talk = conversation(body)
        guard = await self._guard(body)
        outcome = await guard.judge(talk, "input", "output")
        return {
            "status": "blocked" if outcome.blocked else "success",
            "rails_status": {v.flow: status(v) for v in outcome.verdicts},
            "guardrails_data": guardrails_data(outcome, guard.options),
        }

    async def chat(self, body: dict[str, Any]) -> dict[str, Any] | Events:
        """The model's own chat completion, or a refusal, with `guardrails_data`.

        Server-sent events where the body asks for a stream.

        Raises:
            Invalid: as `check`, or there is no user message for the input rails.
            ModelFailed: the model refused, failed, or cannot be reached.
        """
        talk = conversation(body)
        if talk.answer is not None:
            talk = Conversation(talk.history, talk.user, None)
        return await self._complete(with_plain_texts(body), talk, "/chat/completions")

    async def text(self, body: dict[str, Any]) -> dict[str, Any] | Events:
        """The model's own text completion, or a refusal, as `chat`."""
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise Invalid("prompt: must be a string")
        if not isinstance(body.get("model"), str):
            raise Invalid("model: Field required")
        return await self._complete(body, Conversation([], prompt, None), "/completions")

    async def models(self, authorization: str | None) -> Any:
        """The inference endpoint's own model list."""
        nim = MainModel(*self._engine.endpoint({}), self._timeout_s)
        return await nim.models(authorization)

    async def _complete(
        self, body: dict[str, Any], talk: Conversation, path: str
    ) -> dict[str, Any] | Events:
        guard = await self._guard(body)
        options = guard.options
        if talk.user is None and guard.flows["input"]:
            raise Invalid("messages: there is no user message for the input rails to judge")
        checked = await guard.judge(talk, "input")
        if checked.blocked:
            response = refusal(checked, options, path)
            return finished(response, options.stream_usage) if options.stream else response
        layers = (sampling_of(main_model_of(guard.data)), options.llm_params, body)
        given = {
            key: value for layer in layers for key, value in layer.items() if value is not None
        }
        request = {key: given[key] for key in given if key not in ("guardrails", "stream")}
        model = MainModel(*self._engine.endpoint(main_model_of(guard.data)), self._timeout_s)
        if options.stream and not guard.flows["output"]:
            return await begun(_passed_on(model, path, request))
        if options.stream and guard.streaming["enabled"] and request.get("n") in (None, 1):
            return await begun(_judged(model, path, request, guard, talk))
        # An answer that is judged as a whole is generated as a whole, and streamed afterwards.
        request.pop("stream_options", None)
        response = await model.complete(path, request)
        said = [Conversation(talk.history, talk.user, text) for text in answer_texts(response)]
        outcomes = await asyncio.gather(*(guard.judge(choice, "output") for choice in said))
        checked.verdicts += [verdict for outcome in outcomes for verdict in outcome.verdicts]
        checked.seconds += max((outcome.seconds for outcome in outcomes), default=0)
        if checked.blocked and len(outcomes) == 1:
            response = refusal(checked, options, path)
        else:
            response = without_blocked(response, [outcome.blocked for outcome in outcomes], path)
            response = options.placed(response, guardrails_data(checked, options))
        return finished(response, options.stream_usage) if options.stream else response

    async def _guard(self, body: dict[str, Any]) -> Guard:
        """The rails that a request asks for. Raises BadRequest, Invalid."""
        options = Options.of(body)
        data = await asyncio.to_thread(self._resolve, options)
        chosen = {
            direction: options.chosen(direction, flows(data, direction)) for direction in FLOWS
        }
        try:
            rails = await asyncio.to_thread(self._engine.prepare, data, body["model"])
        except ValueError as error:
            raise Invalid(f"the rails configuration is unusable: {error}") from None
        return Guard(self._engine, data, rails, options, chosen)

    def _resolve(self, options: Options) -> Data:
        if options.inline is not None:
            check_data(options.inline, self._engine.nim_url)
            refuse_masks(options.inline, ("body", "guardrails", "config"))
            return filled(options.inline)
        return merged([self.configs.data(id_) for id_ in options.config_ids or [DEFAULT_CONFIG]])

    def _warm(self) -> None:
        try:
            self._engine.prepare(filled(PRELOADED["default"]), "warm")
        except Exception:
            logger.exception("guardrails cannot be loaded; checks will report it")


async def _passed_on(model: MainModel, path: str, request: dict[str, Any]) -> AsyncGenerator[str]:
    """The model's stream as it comes, since no rail judges it."""
    async with model.stream(path, request) as written:
        async for text in passed_on(written):
            yield text


async def _judged(
    model: MainModel, path: str, request: dict[str, Any], guard: Guard, talk: Conversation
) -> AsyncGenerator[str]:
    """The model's stream, which the output rails judge piece by piece."""

    async def judge(text: str) -> Verdict | None:
        said = Conversation(talk.history, talk.user, text)
        return (await guard.judge(said, "output")).blocked

    sizes = [guard.streaming[key] for key in ("chunk_size", "context_size", "stream_first")]
    async with model.stream(path, request) as written:
        async for event in judged(written, judge, *sizes):
            yield event
