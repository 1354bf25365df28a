"""Checks what a rails configuration may contain here; everything else is refused by name."""

from __future__ import annotations

import re
from typing import Any, Literal

from nemo_local.core.errors import Invalid
from nemo_local.core.urls import inference_root

Direction = Literal["input", "output"]
FLOWS: dict[Direction, tuple[str, ...]] = {
    "input": ("content safety check input", "self check input", "topic safety check input"),
    "output": ("content safety check output", "self check output"),
}
ENGINES = ("nim", "openai", "nvidia_ai_endpoints")
PARSERS = (
    "is_content_safe",
    "nemoguard_parse_prompt_safety",
    "nemoguard_parse_response_safety",
    "nemotron_content_safety_parse_prompt_safety",
    "nemotron_content_safety_parse_response_safety",
    "nemotron_reasoning_parse_prompt_safety",
    "nemotron_reasoning_parse_response_safety",
)
KEY_HOSTS = {
    "NIM_ENDPOINT_API_KEY": "api.nvidia.com",
    "NVIDIA_API_KEY": "api.nvidia.com",
    "OPENAI_API_KEY": "api.openai.com",
}
"""Environment variables that may hold a key, and the domain each key is for."""
CODE_KEYS = (
    "actions",
    "bot_messages",
    "colang_content",
    "config_path",
    "config_py",
    "core",
    "docs",
    "flows",
    "import_paths",
    "imported_paths",
    "knowledge_base",
    "user_messages",
)
"""Top-level keys that would bring Colang, Python or files into the platform."""
UNSENDABLE = ("client", "messages", "provider_name", "self")
"""Parameters that would override arguments with which the library makes its requests."""
INSTEAD = {
    "model": "the model's own field `model` names it",
    "model_kwargs": "give what is in it as parameters of their own",
    "model_name": "the model's own field `model` names it",
    **dict.fromkeys(
        ("cache", "callbacks", "disable_streaming", "name", "streaming", "tags", "verbose"),
        "it is a setting of LangChain's clients; leave it out",
    ),
}
"""Parameters that no guard model could be asked with, and what to do."""
LONGEST_S = 3600
MOST_RETRIES = 10
_ALIAS = re.compile(r"[a-zA-Z]\w*_(api_key|base_url|api_base|endpoint)")
"""How LangChain's clients name the key and the address of a server."""
_MODEL = re.compile(r"""\$model=(["']?)(?P<type>[^\s"'$=,()]+)\1""")
_OBJECTS = ("rails", "custom_data", "tracing")
_LISTS = ("models", "prompts", "instructions")


def check_data(data: Any, nim_url: str) -> None:
    """Refuse a configuration that we cannot or will not run.

    Raises:
        Invalid: an unsupported flow, engine, parser or key; the message names it.
    """
    if not isinstance(data, dict):
        raise Invalid("data must be an object with models, prompts and rails")
    for keys, kind in ((_OBJECTS, dict), (_LISTS, list)):
        for key in keys:
            if not isinstance(data.get(key), (kind, type(None))):
                raise Invalid(f"data.{key} must be a JSON {'list' if kind is list else 'object'}")
    for key in CODE_KEYS:
        if data.get(key):
            raise Invalid(
                f"data.{key} is not supported: a configuration cannot bring code or files"
            )
    if data.get("actions_server_url"):
        raise Invalid("data.actions_server_url is not supported by the local guardrails")
    if (data.get("tracing") or {}).get("enabled"):
        raise Invalid("data.tracing is not supported by the local guardrails")
    if data.get("colang_version") not in (None, "1.0"):
        raise Invalid(f"colang_version {data['colang_version']!r} is not supported; use 1.0")
    models = data.get("models") or []
    for number, model in enumerate(models):
        _check_model(f"data.models[{number}]", model, nim_url)
    types = [model["type"] for model in models]
    twice = next((kind for kind in types if types.count(kind) > 1), None)
    if twice:
        raise Invalid(f"data.models: there are several of type {twice!r}; keep one")
    for number, prompt in enumerate(data.get("prompts") or []):
        _check_prompt(f"data.prompts[{number}]", prompt)
    _check_rails(data)


def flows(data: dict[str, Any], direction: Direction) -> list[str]:
    """The flows of one direction of a filled configuration, in order.

    flows({"rails": {"input": {"flows": ["self check input"]}}}, "input") -> ["self check input"]
    """
    return list(data["rails"][direction]["flows"])


def flow_name(flow: str) -> str:
    """A flow without its parameters: `"self check input $variant=x"` -> `"self check input"`."""
    return flow.split(" $")[0].strip()


def _check_model(place: str, model: Any, nim_url: str) -> None:
    if not isinstance(model, dict) or not all(
        isinstance(model.get(k), str) for k in ("type", "engine")
    ):
        raise Invalid(f"{place} needs a type and an engine")
    if model["engine"] not in ENGINES:
        raise Invalid(f"{place}: engine {model['engine']!r} is not supported; use one of {ENGINES}")
    if model["type"] != "main" and not isinstance(model.get("model"), str):
        raise Invalid(f"{place} of type {model['type']!r} needs the name of its model")
    if model["type"] in ("embeddings", "jailbreak_detection"):
        raise Invalid(f"{place}: a model of type {model['type']!r} is not supported")
    variable = model.get("api_key_env_var")
    if variable is not None and variable not in tuple(KEY_HOSTS):
        known = ", ".join(KEY_HOSTS)
        raise Invalid(f"{place}: api_key_env_var {variable!r} is not one of {known}")
    parameters = {} if model.get("parameters") is None else model["parameters"]
    if not isinstance(parameters, dict):
        raise Invalid(f"{place}.parameters must be a JSON object")
    _check_client(f"{place}.parameters", parameters, nim_url)
    if model["type"] != "main":
        _check_guard(f"{place}.parameters", parameters)


def _check_client(place: str, parameters: dict[str, Any], nim_url: str) -> None:
    """Check the parameters that say how a model's server is asked."""
    if parameters.get("default_headers"):
        raise Invalid(f"{place}.default_headers is not supported; api_key is")
    for key in UNSENDABLE:
        if key in parameters:
            raise Invalid(f"{place}.{key} is not supported")
    given = {key: value for key, value in parameters.items() if value is not None}
    for key in ("api_key", "base_url"):
        if not isinstance(given.get(key, ""), str):
            # The value may hold a key, so only its type is told.
            raise Invalid(f"{place}.{key} must be a string, not {type(given[key]).__name__}")
    for key in ("timeout", "connect_timeout"):
        seconds = given.get(key, 1)
        if type(seconds) not in (int, float) or not 0 < seconds <= LONGEST_S:
            raise Invalid(
                f"{place}.{key} must be a number of seconds, above 0 and at most {LONGEST_S}, "
                f"not {seconds!r}"
            )
    retries = given.get("max_retries", 0)
    if type(retries) is not int or not 0 <= retries <= MOST_RETRIES:
        raise Invalid(
            f"{place}.max_retries must be a whole number from 0 to {MOST_RETRIES}, not {retries!r}"
        )
    if given.get("base_url"):
        try:
            inference_root(given["base_url"], nim_url)
        except ValueError as error:
            raise Invalid(f"{place}.base_url: {error}") from None


def _check_guard(place: str, parameters: dict[str, Any]) -> None:
    for key, value in parameters.items():
        alias = _ALIAS.fullmatch(key)
        if alias and value is not None:
            known = "api_key" if alias[1] == "api_key" else "base_url"
            raise Invalid(f"{place}.{key} is not supported; call it {known}")
        if key in INSTEAD and value is not None:
            raise Invalid(f"{place}.{key} is not supported: {INSTEAD[key]}")


def _check_prompt(place: str, prompt: Any) -> None:
    if not isinstance(prompt, dict) or not isinstance(prompt.get("task"), str):
        raise Invalid(f"{place} needs a task")
    parser = prompt.get("output_parser")
    # The library treats an unknown parser as none, and then lets every reply pass.
    if parser is not None and parser not in PARSERS:
        raise Invalid(f"{place}: output_parser {parser!r} is not one of {', '.join(PARSERS)}")


def _check_rails(data: dict[str, Any]) -> None:
    rails = data.get("rails") or {}
    for section, given in rails.items():
        if not isinstance(given, (dict, type(None))):
            raise Invalid(f"data.rails.{section} must be a JSON object")
        value = given or {}
        _check_flags(f"data.rails.{section}", value, "parallel")
        _check_streaming(f"data.rails.{section}.streaming", value.get("streaming"))
        if value.get("apply_to_reasoning_traces"):
            raise Invalid(f"data.rails.{section}.apply_to_reasoning_traces is not supported")
        listed = value.get("flows") or []
        if not isinstance(listed, list):
            raise Invalid(f"data.rails.{section}.flows must be a JSON list")
        if section not in FLOWS:
            if listed:
                raise Invalid(f"flow not supported: {listed[0]!r} (data.rails.{section})")
            continue
        direction: Direction = "input" if section == "input" else "output"
        for flow in listed:
            if not isinstance(flow, str) or flow_name(flow) not in FLOWS[direction]:
                raise Invalid(f"flow not supported: {flow!r} (data.rails.{section})")
            _check_flow(flow, data)


def _check_streaming(place: str, given: Any) -> None:
    if not isinstance(given, (dict, type(None))):
        raise Invalid(f"{place} must be a JSON object")
    settings = given or {}
    _check_flags(place, settings, "enabled", "stream_first")
    for key, least in (("chunk_size", 1), ("context_size", 0)):
        size = settings.get(key, least)
        if size is not None and not (type(size) is int and size >= least):
            raise Invalid(f"{place}.{key} must be a whole number of at least {least}, not {size!r}")


def _check_flags(place: str, settings: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if not isinstance(settings.get(key), (bool, type(None))):
            raise Invalid(f"{place}.{key} must be true or false, not {settings[key]!r}")


def _check_flow(flow: str, data: dict[str, Any]) -> None:
    """Raise Invalid for a flow without its model or its prompt."""
    types = [model["type"] for model in data.get("models") or []]
    name = flow_name(flow)
    task = name.replace(" ", "_")
    if not task.startswith("self_check"):
        found = _MODEL.fullmatch(flow.strip().removeprefix(name).strip())
        if not found:
            raise Invalid(
                f"flow {flow!r} needs a model, and takes nothing else: write "
                f"'{name} $model=<type>', with a type without spaces, quotes and any of $=,()"
            )
        if found["type"] == "main":
            raise Invalid(
                f"flow {flow!r}: the main model is the one that each request names; give the "
                "guard a model of a type of its own in data.models"
            )
        if found["type"] not in types:
            raise Invalid(f"flow {flow!r} needs a model of type {found['type']!r} in data.models")
        task = f"{task} $model={found['type']}"
    elif "$" in flow:
        raise Invalid(f"flow not supported: {flow!r} (self check takes no parameters here)")
    modes = ["standard", data.get("prompting_mode") or "standard"]
    given = [p.get("mode") or "standard" for p in data.get("prompts") or [] if p["task"] == task]
    if not any(mode in modes for mode in given):
        raise Invalid(
            f"flow {flow!r} needs a prompt with task {task!r} in data.prompts"
            + (
                f", and of mode {' or '.join(dict.fromkeys(modes))}, not {given[0]}"
                if given
                else ""
            )
        )
