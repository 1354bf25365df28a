"""The checks of `doctor`: packages, settings, ports, disk, weights, and one tool call."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from nemo_local.catalog import load_catalog
from nemo_local.core.client import Client, UpstreamError
from nemo_local.home import check_nothing_is_taken, read_records
from nemo_local.ports import cannot_listen
from nemo_local.processes import port_of, readiness, roles
from nemo_local.settings import Settings, SettingsError

PACKAGES = (
    "torch", "transformers", "peft", "trl", "datasets", "nemo-microservices", "huggingface_hub",
    "fastapi", "sqlalchemy", "nemoguardrails", "xgrammar", "numba", "openai",
)  # fmt: skip
DISK_BYTES = 2 * 1024**3

CANARY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Returns the weather of a city.",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string", "enum": ["Oslo", "Lima", "Cairo"]}},
                    "required": ["city"],
                },
            },
        }
    ],
    "tool_choice": "required",
    "temperature": 0,
    "max_tokens": 64,
}


@dataclass(frozen=True)
class Check:
    """The result of one check."""

    verdict: Literal["ok", "warn", "fail"]
    subject: str
    finding: str


def checks(settings: Settings) -> Iterator[Check]:
    """Every check, in the order in which a person would make them."""
    yield _python()
    yield from _packages()
    try:
        settings.check()
        check_nothing_is_taken(settings.home, settings.models_dir)
    except SettingsError as error:
        yield Check("fail", "settings", str(error))
        return
    yield from _ports(settings)
    yield _disk(settings.home)
    yield from _weights(settings)
    yield _canary(settings)


def reason(error: UpstreamError, settings: Settings) -> str:
    """Why a part of the platform did not answer; on a 401, which setting to change."""
    if error.status != 401:
        return str(error)
    what = "NEMO_LOCAL_TOKEN to the one that this platform was started with"
    if settings.remote_nim_url and error.url.startswith(f"{settings.nim_url}/"):
        what = "NEMO_LOCAL_NIM_KEY to the key of that server"
    return f"{error.url} wants a token: set {what}"


def served_models(settings: Settings) -> tuple[list[dict[str, Any]], str]:
    """The models that inference lists, and "" or the reason why they are not known."""
    client = Client(settings.nim_url, settings.nim_token, 5)
    try:
        return [{**model, "id": model["id"]} for model in client.get("/v1/models")["data"]], ""
    except UpstreamError as error:
        return [], reason(error, settings)
    except (LookupError, TypeError):
        return [], f"{settings.nim_url}/v1/models returned no list of models"
    finally:
        client.close()


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("ok" if sys.version_info >= (3, 11) else "fail", "python", found)


def _packages() -> Iterator[Check]:
    missing = []
    for name in PACKAGES:
        try:
            yield Check("ok", name, version(name))
        except PackageNotFoundError:
            missing.append(name)
    for name in missing:
        yield Check("fail", name, "not installed; `make up` installs everything")


def _own_urls(settings: Settings) -> set[str]:
    return {record.url for record in read_records(settings.home).values() if record.process()}


def _ports(settings: Settings) -> Iterator[Check]:
    own = _own_urls(settings)
    for role, url in roles(settings).items():
        port, option, _ = port_of(settings, role)
        if url in own:
            yield Check("ok", f"port {port}", "this platform listens there")
        elif problem := cannot_listen(settings.host, port):
            yield Check("fail", f"port {port}", f"{problem}; see {option}")
        else:
            yield Check("ok", f"port {port}", "free")


def _disk(home: Path) -> Check:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    verdict: Literal["ok", "warn"] = "ok" if free > DISK_BYTES else "warn"
    return Check(verdict, "disk", f"{free / 1024**3:.1f} GiB free at {place}")


def _weights(settings: Settings) -> Iterator[Check]:
    for model in load_catalog(settings).models.values():
        if model.broken:
            yield Check("fail", model.id, model.why)
        elif model.path is None:
            continue
        elif model.stand_in:
            yield Check("warn", model.id, f"answered by the stand-in {model.answered_by}")
        else:
            yield Check("ok", model.id, f"{model.answered_by} at {model.path}")


def _canary(settings: Settings) -> Check:
    """Whether a tool call arrives as a call and not as text."""
    # Another platform may listen there, and a remote inference server may lack our health checks.
    own = settings.nim_url in _own_urls(settings)
    state, why = readiness(settings.nim_url) if own else ("absent", "")
    if state != "ready" and not settings.remote_nim_url:
        absent = f"inference does not answer at {settings.nim_url}; not tried"
        return Check("fail" if state == "failed" else "warn", "tool call", why or absent)
    listed, problem = served_models(settings)
    if not listed:
        return Check("fail", "tool call", problem or f"{settings.nim_url} serves no model")
    model = listed[0]["id"]
    client = Client(settings.nim_url, settings.nim_token)
    try:
        reply = client.post("/v1/chat/completions", json={**CANARY, "model": model})
        calls = reply["choices"][0]["message"].get("tool_calls") or []
        called = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
    except UpstreamError as error:
        return Check("fail", "tool call", reason(error, settings))
    except (LookupError, TypeError, AttributeError):
        return Check("fail", "tool call", f"{model} did not return a chat completion")
    finally:
        client.close()
    if [name for name, _ in called] == ["get_weather"]:
        return Check("ok", "tool call", f"{model} called get_weather({called[0][1]})")
    return Check(
        "fail",
        "tool call",
        f"{model} answered with text instead of a call; on a NIM of your own, set its tool-call "
        "parser (NIM_ENABLE_AUTO_TOOL_CHOICE=1, NIM_TOOL_CALL_PARSER=llama3_json)",
    )
