"""Runs the nemoguardrails library in its own thread: one flow's verdict on one conversation."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from nemo_local.core.client import AsyncClient
from nemo_local.core.secrets import usable_key
from nemo_local.core.urls import inference_root, same_address
from nemo_local.core.web import without_nulls
from nemo_local.guardrails.configs import Data
from nemo_local.guardrails.prompts import UNREAD, VARIABLES, check_templates, watch
from nemo_local.guardrails.rules import FLOWS, KEY_HOSTS, Direction, flow_name, flows
from nemo_local.guardrails.verdicts import Verdict, verdict_of

logger = logging.getLogger(__name__)

CACHED_RAILS = 32
MODEL_TIMEOUT_S = 60.0
MODEL_RETRIES = 1
_CLIENT_PARAMETERS = (
    "base_url",
    "api_key",
    "max_retries",
    "timeout",
    "connect_timeout",
    "model",
    "stream",
)
_ENGINE_KEYS = (
    "models",
    "instructions",
    "sample_conversation",
    "prompts",
    "prompting_mode",
    "lowest_temperature",
    "colang_version",
    "custom_data",
    "enable_rails_exceptions",
    "passthrough",
)
_RESERVED = (
    "generation_options",
    "user_message",
    "bot_message",
    "input_flows",
    "output_flows",
    "skip_output_rails",
)

T = TypeVar("T")


class Engine:
    """Runs flows of configurations; a flow that fails to judge blocks.

    The library is imported at first use. All its coroutines run on one event loop in the engine's
    own thread, because its HTTP connections belong to the loop that opened them.
    """

    def __init__(self, nim_url: str, token: str | None = None) -> None:
        self.nim_url = nim_url.rstrip("/")
        self._token = token
        self._building = threading.Lock()
        self._lock = threading.Lock()
        """Held only briefly, since the server's event loop takes it too."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._rails: OrderedDict[str, Any] = OrderedDict()
        self._clients: set[AsyncClient] = set()

    def check(self, data: Data) -> None:
        """Let the library validate a configuration. Raises ValueError with its reason."""
        _rails_config(data)
        for model in data["models"]:
            self.endpoint(model)

    def prepare(self, data: Data, main_model: str) -> Any:
        """The library's object for this configuration, built once per content.

        Raises:
            ValueError: the library refuses the configuration.
        """
        # In a workshop each request may name another adapter, which most rails never call.
        key = json.dumps([data, main_model if _asks_main_model(data) else None], sort_keys=True)
        rails = self._known(key)
        if rails is None:
            with self._building:
                rails = self._known(key) or self._build(data, main_model)
        with self._lock:
            self._rails[key] = rails
            self._rails.move_to_end(key)
            if len(self._rails) > CACHED_RAILS:
                self._rails.popitem(last=False)
        return rails

    def _known(self, key: str) -> Any:
        with self._lock:
            return self._rails.get(key)

    def endpoint(self, model: Data) -> tuple[str, str | None]:
        """The URL (`…/v1`) and the key for requests to a configuration's model.

        Raises:
            ValueError: no header can carry the key, or the variable for it is not set or is meant
                for other servers.
        """
        parameters = model.get("parameters") or {}
        own = f"{self.nim_url}/v1"
        given = parameters.get("base_url")
        url = inference_root(str(given), self.nim_url) if given else own
        if url == own:
            return url, self._token
        variable = model.get("api_key_env_var")
        key = usable_key(parameters.get("api_key"))
        if key or not variable:
            return url, key
        if not self._may_have_key(variable, url):
            raise ValueError(
                f"the key in {variable} is not for {url}; give the key of that server as "
                "parameters.api_key"
            )
        key = usable_key(os.environ.get(variable))
        if not key:
            raise ValueError(f"{variable}, for the key of {url}, is not set in the environment")
        return url, key

    def _may_have_key(self, variable: str, url: str) -> bool:
        """Whether the key in the environment's `variable` may be sent to this server.

        Anyone who may send a request may send a configuration with any address in it.
        """
        parts = urlsplit(url)
        host = f".{parts.hostname}"
        if parts.scheme == "https" and host.endswith(f".{KEY_HOSTS[variable]}"):
            return True
        return variable != "OPENAI_API_KEY" and same_address(url, f"{self.nim_url}/v1")

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns, computed on the engine's own loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._running()))

    async def judge(
        self,
        rails: Any,
        direction: Direction,
        flow: str,
        messages: list[dict[str, Any]],
        context: dict[str, Any],
        output_vars: list[str] | bool,
        logs: dict[str, bool],
    ) -> Verdict:
        """One flow's verdict; call it through `run`."""
        selected = {"input": False, "output": False, "retrieval": False, "dialog": False}
        options = {
            "rails": {**selected, direction: [flow]},
            "log": {**logs, "activated_rails": True},
            "output_vars": output_vars,
        }
        known = {key: context[key] for key in context if key not in _RESERVED}
        conversation = [{"role": "context", "content": known}, *messages] if known else messages
        unread: list[Any] = []
        UNREAD.set(unread)
        VARIABLES.set(context)
        try:
            response = await _alone(rails, direction, flow).generate_async(
                messages=conversation, options=options, state={"events": []}
            )
            return verdict_of(response, direction, flow, judged=not unread)
        except Exception as error:
            # Whatever went wrong, the message was not judged.
            logger.warning("rail %r could not judge: %s", flow, type(error).__name__)
            return Verdict(flow, True, f"the rail could not judge, so it blocks: {error}")

    def close(self) -> None:
        """Close every connection and end the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close_clients([*self._clients]), loop).result(10)
        self._rails.clear()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        self._loop = self._thread = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=loop.run_forever, name="guardrails", daemon=True
                )
                self._thread.start()
            return self._loop

    async def _close_clients(self, clients: list[AsyncClient]) -> None:
        for client in clients:
            self._clients.discard(client)
            await client.close()

    def _forget(self, clients: list[AsyncClient]) -> None:
        """Close the connections of discarded rails, in whichever thread they are collected."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._close_clients(clients), self._loop)

    def _build(self, data: Data, main_model: str) -> Any:
        started = time.perf_counter()
        models = [m for m in data["models"] if m["type"] != "main"]
        config = _rails_config(data)
        clients: list[AsyncClient] = []
        with _event_loop():
            main = self._model({**main_model_of(data), "model": main_model}, clients)
            rails = _library().LLMRails(config, llm=main)
        # We use our own clients: the library's are shared by the process, bound to one loop, and
        # use the environment's proxy even for this machine.
        own = {model["type"]: self._model(model, clients) for model in models}
        rails.runtime.register_action_param("llms", own)
        for kind, model in own.items():
            rails.runtime.register_action_param(f"{kind}_llm", model)
        watch(rails.runtime.llm_task_manager)
        self._clients.update(clients)
        weakref.finalize(rails, self._forget, clients).atexit = False
        logger.info("guardrails configuration built in %.2f s", time.perf_counter() - started)
        return rails

    def _model(self, config: Data, clients: list[AsyncClient]) -> Any:
        from nemoguardrails.llm.clients.openai_compatible import OpenAICompatibleClient
        from nemoguardrails.llm.models.openai_chat import OpenAIChatModel

        url, key = self.endpoint(config)
        parameters = without_nulls(config.get("parameters") or {})
        client = AsyncClient(url, key, parameters.get("timeout", MODEL_TIMEOUT_S))
        clients.append(client)
        retries = parameters.get("max_retries", MODEL_RETRIES)
        requests = OpenAICompatibleClient(
            base_url=url, max_retries=retries, http_client=client.http
        )
        extra = sampling_of(config)
        return OpenAIChatModel(requests, config["model"], provider_name="nim", **extra)


def main_model_of(data: Data) -> Data:
    """The configuration's main model, perhaps without a name; the platform's if it has none."""
    own = {"type": "main", "engine": "nim"}
    return next((model for model in data["models"] if model["type"] == "main"), own)


def _asks_main_model(data: Data) -> bool:
    configured = [flow for direction in FLOWS for flow in flows(data, direction)]
    return any(flow_name(flow).startswith("self check") for flow in configured)


def sampling_of(model: Data) -> Data:
    """The `parameters` of a model that go into each of its requests."""
    parameters = model.get("parameters") or {}
    return {
        key: value
        for key, value in parameters.items()
        if key not in _CLIENT_PARAMETERS and value is not None
    }


def _library() -> Any:
    """The nemoguardrails package, with usage reports and logs (they quote prompts) turned off."""
    os.environ.setdefault("NEMO_GUARDRAILS_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    logging.getLogger("nemoguardrails").setLevel(logging.CRITICAL + 1)
    # It reads its own deprecated fields while it validates a configuration.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="nemoguardrails")
    import nemoguardrails

    return nemoguardrails


def _rails_config(data: Data) -> Any:
    """The library's own object for a configuration. Raises ValueError if it refuses it."""
    try:
        config = _library().RailsConfig.from_content(config=_engine_data(data))
    except ValidationError as error:
        found = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
        raise ValueError("; ".join(f"{place}: {what}" for place, what in found)) from None
    check_templates(config)
    return config


@contextmanager
def _event_loop() -> Iterator[None]:
    """Set an event loop while the library builds; its own would never be closed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _alone(rails: Any, direction: Direction, flow: str) -> Any:
    """A copy of the rails with this flow only.

    The library, asked for one flow of a direction, would run all of them.
    """
    section = getattr(rails.config.rails, direction)
    section = section.model_copy(update={"flows": [flow], "parallel": False})
    sections = rails.config.rails.model_copy(update={direction: section})
    alone = object.__new__(type(rails))  # copying it would build it again
    alone.__dict__ = {**rails.__dict__, "runtime": copy(rails.runtime)}
    alone.config = alone.runtime.config = rails.config.model_copy(update={"rails": sections})
    return alone


def _engine_data(data: Data) -> Data:
    """The part of a configuration that the library gets to see."""
    seen = deepcopy({key: data[key] for key in _ENGINE_KEYS if data[key] is not None})
    # The main model comes with the request, and the API lets it be nameless.
    models = [model for model in seen["models"] if model["type"] != "main"]
    # The cache would store unreadable replies as verdicts. Keys and parameters are for our clients
    # (`_model`): from them the library would make clients of its own, and never let go of them.
    unread = ("reasoning_config", "cache", "api_key_env_var", "parameters")
    seen["models"] = [{k: v for k, v in m.items() if k not in unread} for m in models]
    rails = deepcopy(data["rails"])
    seen["rails"] = {key: rails[key] for key in ("input", "output", "config") if rails[key]}
    for prompt in seen.get("prompts", []):
        if prompt["task"].startswith("content_safety_check") and not prompt.get("output_parser"):
            # Without a parser the library reads the reply's first letter as "safe".
            prompt["output_parser"] = "is_content_safe"
    return without_nulls(seen)
