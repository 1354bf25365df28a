"""The nemoguardrails library, in a thread of its own: one flow's verdict on one conversation."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nemo_local.core.inference import inference_root
from nemo_local.guardrails.prompts import UNREADABLE, check_templates, watch
from nemo_local.guardrails.rules import Direction, flow_name

logger = logging.getLogger(__name__)

REFUSAL = "I'm sorry, I can't respond to that."
CACHED_RAILS = 32
MODEL_TIMEOUT_S = 60.0
_CLIENT_PARAMETERS = ("base_url", "api_key", "max_retries", "timeout", "connect_timeout", "model")
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
_RESERVED = ("generation_options", "user_message", "bot_message", "input_flows", "output_flows")

T = TypeVar("T")
Data = dict[str, Any]


@dataclass
class Verdict:
    """What one flow decided."""

    flow: str
    direction: Direction
    blocked: bool
    reason: str | None = None
    """Why it blocked; None when it let pass."""
    answer: dict[str, Any] = field(
        default_factory=lambda: {"role": "assistant", "content": REFUSAL}
    )
    """The message that replaces a blocked one."""
    rails: list[dict[str, Any]] = field(default_factory=list)
    """The library's log of this flow, one entry per activated rail."""
    stats: dict[str, float] = field(default_factory=dict)
    history: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    output_data: dict[str, Any] = field(default_factory=dict)


class Engine:
    """Runs flows of configurations; failing to judge is a verdict, and it blocks.

    The library is imported at the first use. Its coroutines all run on one event loop in a thread
    of this engine, because its HTTP connections belong to the loop that opened them.
    """

    def __init__(self, nim_url: str, token: str | None = None) -> None:
        self.nim_url = nim_url.rstrip("/")
        self._token = token
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._rails: OrderedDict[str, Any] = OrderedDict()
        self._clients: dict[tuple[str, str | None], Any] = {}

    def check(self, data: Data) -> None:
        """Let the library validate a configuration. Raises ValueError with its reason."""
        _rails_config(data)

    def prepare(self, data: Data, main_model: str) -> Any:
        """The library's object for this configuration, built once per content and main model.

        Raises:
            ValueError: the library refuses the configuration.
        """
        key = json.dumps([data, main_model], sort_keys=True)
        with self._lock:
            if key not in self._rails:
                self._rails[key] = self._build(data, main_model)
                if len(self._rails) > CACHED_RAILS:
                    self._rails.popitem(last=False)
            self._rails.move_to_end(key)
            return self._rails[key]

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
        output_vars: list[str] | bool = False,
        logs: dict[str, bool] | None = None,
    ) -> Verdict:
        """One flow's verdict; call it through `run`."""
        selected = {"input": False, "output": False, "retrieval": False, "dialog": False}
        options = {
            "rails": {**selected, direction: [flow]},
            "log": {**(logs or {}), "activated_rails": True},
            **({"output_vars": output_vars} if output_vars else {}),
        }
        known = {key: context[key] for key in context if key not in _RESERVED}
        conversation = [{"role": "context", "content": known}, *messages] if known else messages
        try:
            response = await rails.generate_async(
                messages=conversation, options=options, state={"events": []}
            )
            return _verdict(response, direction, flow)
        except Exception as error:
            # Whatever went wrong, nobody vouches for this message.
            logger.warning("rail %r could not judge: %s", flow, type(error).__name__)
            return Verdict(
                flow, direction, True, f"the rail could not judge, so it blocks: {error}"
            )

    def close(self) -> None:
        """Close every connection and end the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close_clients(), loop).result(10)
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

    async def _close_clients(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
        self._rails.clear()

    def _build(self, data: Data, main_model: str) -> Any:
        started = time.perf_counter()
        models = data.get("models") or []
        main = next((m for m in models if m["type"] == "main"), {"type": "main", "engine": "nim"})
        config = _rails_config(data)
        with _event_loop():
            rails = _library().LLMRails(config, llm=self._model({**main, "model": main_model}))
        # Our own clients: the library's are shared by the process and bound to one loop.
        own = {m["type"]: self._model(m) for m in models if m["type"] != "main"}
        rails.runtime.register_action_param("llms", own)
        for kind, model in own.items():
            rails.runtime.register_action_param(f"{kind}_llm", model)
        watch(rails.runtime.llm_task_manager)
        logger.info("guardrails configuration built in %.2f s", time.perf_counter() - started)
        return rails

    def _model(self, config: Data) -> Any:
        from nemoguardrails.llm.clients.openai_compatible import OpenAICompatibleClient
        from nemoguardrails.llm.models.openai_chat import OpenAIChatModel

        parameters = config.get("parameters") or {}
        own = f"{self.nim_url}/v1"
        given = parameters.get("base_url")
        url = inference_root(str(given), self.nim_url) if given else own
        variable = config.get("api_key_env_var")
        key = parameters.get("api_key") or (os.environ.get(variable) if variable else None)
        address = (url, self._token if url == own else key)
        if address not in self._clients:
            self._clients[address] = OpenAICompatibleClient(
                base_url=url, api_key=address[1], timeout=MODEL_TIMEOUT_S, max_retries=1
            )
        extra = {k: v for k, v in parameters.items() if k not in _CLIENT_PARAMETERS}
        client = self._clients[address]
        return OpenAIChatModel(client, config["model"], provider_name="nim", **extra)


def _library() -> Any:
    """The package, with its usage reports off and its logs, which quote prompts, silent."""
    os.environ.setdefault("NEMO_GUARDRAILS_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    logging.getLogger("nemoguardrails").setLevel(logging.CRITICAL + 1)
    # It reads its own deprecated fields while it validates a configuration.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="nemoguardrails")
    import nemoguardrails

    return nemoguardrails


def _rails_config(data: Data) -> Any:
    """The library's own form of a configuration. Raises ValueError where it has none."""
    config = _library().RailsConfig.from_content(config=_engine_data(data))
    check_templates(config)
    return config


@contextmanager
def _event_loop() -> Iterator[None]:
    """A loop for this thread while the library builds: it opens one, and never closes it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _engine_data(data: Data) -> Data:
    """The part of a configuration that the library gets to see."""
    seen = deepcopy({key: data[key] for key in _ENGINE_KEYS if data.get(key) is not None})
    # The main model comes with the request, and the API lets it be nameless.
    models = [model for model in seen.get("models", []) if model["type"] != "main"]
    seen["models"] = [{k: v for k, v in m.items() if k != "reasoning_config"} for m in models]
    rails = deepcopy(data.get("rails") or {})
    seen["rails"] = {key: rails[key] for key in ("input", "output", "config") if rails.get(key)}
    for prompt in seen.get("prompts", []):
        if prompt["task"].startswith("content_safety_check") and not prompt.get("output_parser"):
            # Without one the library reads the reply's first letter as "safe".
            prompt["output_parser"] = "is_content_safe"
    return {key: _without_none(value) for key, value in seen.items()}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _verdict(response: Any, direction: Direction, flow: str) -> Verdict:
    log = response.log
    rails = [_plain_rail(rail) for rail in log.activated_rails]
    ran = [rail for rail in rails if rail["type"] == direction]
    message = dict(response.response[-1])
    blocked = not ran or any(rail["stop"] for rail in ran) or message["role"] == "exception"
    verdict = Verdict(
        flow,
        direction,
        blocked,
        rails=rails,
        stats={k: v for k, v in log.stats.model_dump().items() if isinstance(v, (int, float))},
        history=log.colang_history,
        events=_plain(log.internal_events or []),
        output_data=_plain(response.output_data or {}),
    )
    if blocked:
        verdict.reason = _reason(flow, ran)
        if message["role"] == "exception" or message.get("content"):
            verdict.answer = _plain(message)
    return verdict


def _reason(flow: str, ran: list[dict[str, Any]]) -> str:
    if not ran:
        return "the rail did not run, so it blocks"
    actions = [action for rail in ran for action in rail["executed_actions"]]
    outcome = actions[0]["return_value"] if actions else None
    if not isinstance(outcome, dict):
        asked = any(action["llm_calls"] for action in actions)
        what = "the guard model's reply was no verdict" if asked else "no guard model was asked"
        return f"the rail could not judge: {what}, so it blocks"
    categories = outcome.get("policy_violations") or []
    if UNREADABLE in categories:
        return f"the guard model's reply was no verdict ({UNREADABLE}), so the rail blocks"
    return f"{flow_name(flow)} blocked" + (f": {', '.join(categories)}" if categories else "")


def _plain_rail(rail: Any) -> dict[str, Any]:
    """One activated rail as JSON; a blocking one ends with its decisions as the API names them."""
    plain: dict[str, Any] = rail.model_dump(exclude={"executed_actions"})
    internal = ("retrieve_relevant_chunks", "generate_bot_message")
    plain["decisions"] = [
        d for d in plain["decisions"] if d not in [f"execute {name}" for name in internal]
    ]
    plain["executed_actions"] = []
    for action in rail.executed_actions:
        if action.action_name in internal:
            continue
        shown = action.model_dump(exclude={"return_value"})
        shown["return_value"] = _outcome(action.return_value)
        plain["executed_actions"].append(shown)
    return dict(_plain(plain))


def _outcome(value: Any) -> Any:
    """A rail action's outcome: `{"allowed": false, "policy_violations": ["Malware"]}`."""
    if not hasattr(value, "is_blocked"):
        return value
    violations = dict(value.metadata or {}).get("policy_violations") or []
    return {"allowed": not value.is_blocked, "policy_violations": list(violations)}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
