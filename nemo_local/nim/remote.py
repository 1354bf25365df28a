"""The `remote` engine: another OpenAI-compatible server computes; ids and adapters stay ours.

    meta/llama-3.1-8b-instruct -> "llama3.1:8b" of http://gpu-box:8000

vLLM and SGLang load adapters while they run, from a folder that both machines see under the same
path. A server without that ability serves base models only.
Source: https://docs.vllm.ai/en/latest/features/lora.html#dynamically-serving-lora-adapters
        https://docs.sglang.ai/advanced_features/lora.html
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nemo_local.catalog import Catalog, CatalogModel
from nemo_local.core.client import Client, UpstreamError
from nemo_local.nim.lora import Unservable, read_adapter
from nemo_local.nim.models import Registry, Served

logger = logging.getLogger(__name__)

LOAD_PATHS = {
    "/v1/load_lora_adapter": "/v1/unload_lora_adapter",  # vLLM
    "/load_lora_adapter": "/unload_lora_adapter",  # SGLang
}
LOADS_WITHIN_S = 300.0
"""Time that the remote server gets to load an adapter (seconds)."""
ANSWERS_WITHIN_S = 10.0
"""Time that the remote server gets where it computes nothing (seconds)."""


def remote_url(url: str) -> str:
    """The server's root: `http://host:8000/v1/` -> `http://host:8000`."""
    return url.rstrip("/").removesuffix("/v1")


def remote_catalog(names: Mapping[str, str], known: Catalog) -> Catalog:
    """The models behind the remote server, by the ids we give them.

    {"meta/llama-3.1-8b-instruct": "llama3.1:8b"} -> one entry, answered by "llama3.1:8b"
    """
    return Catalog([_entry(one, name, known.get(one)) for one, name in names.items()])


def _entry(model_id: str, name: str, official: CatalogModel | None) -> CatalogModel:
    why = f"the remote server answers as {name}"
    if official is not None:
        return replace(official, id=model_id, path=None, answered_by=name, stand_in=False, why=why)
    return CatalogModel(model_id, None, name, False, 0, 0, "chat", why)


class RemoteModels(Registry):
    """What is served through the remote server."""

    def __init__(self, remote: Client) -> None:
        super().__init__()
        self._remote = remote
        self._unload_path = ""
        self._listed: set[str] = set()
        """Names that the remote server has listed at some time."""

    def name_of(self, served: Served) -> str:
        """What the remote server calls a model."""
        return served.id if served.folder else served.entry.answered_by

    def load_base(self, entry: CatalogModel) -> None:
        """Serve a model that the remote server has."""
        self._put(Served(entry.id, entry, root=entry.answered_by))

    def load_adapter(self, model_id: str, base_id: str, folder: Path, root: str) -> None:
        """Have the remote server load the adapter in `folder`, which it must see too.

        Raises:
            Unservable: the adapter is no plain LoRA, or the server refuses it or cannot.
            ConnectionError: the server does not answer, or not now, or does not see the folder;
                trying again may help.
        """
        if read_adapter(folder).token_ids:
            raise Unservable("the remote server would not see its rows of tokens; merge it instead")
        if (folder / "chat_template.jinja").is_file():
            logger.warning("%s: the remote server may not use its own chat template", model_id)
        served = Served(model_id, self.get(base_id).entry, root=root, folder=folder.resolve())
        body = {"lora_name": model_id, "lora_path": str(served.folder)}
        for path, unload_path in LOAD_PATHS.items():
            try:
                self._call(unload_path, {"lora_name": model_id})  # from a run before ours
                self._remote.raw("POST", path, json=body, timeout=LOADS_WITHIN_S)
            except UpstreamError as error:
                if said := _not_found(error):
                    raise ConnectionError(
                        f"the remote server does not find {served.folder} ({said}): both machines "
                        "must see this folder under the same path"
                    ) from error
                if error.status in (404, 405):
                    continue
                if error.status in (408, 429) or error.status >= 500:
                    raise ConnectionError(str(error)) from error
                raise Unservable(f"the remote server refused it: {error.detail}") from error
            self._unload_path = unload_path
            self._put(served)
            self._listed |= self._names() or set()
            logger.info("the remote server loaded adapter %s", model_id)
            return
        raise Unservable(
            "the remote server loads no adapters while it runs (for vLLM: --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; for SGLang: --enable-lora)"
        )

    def unload(self, model_id: str) -> None:
        """Stop serving a model; the remote server forgets an adapter and keeps its base models."""
        gone = self._pop(model_id)
        for served in gone:
            if served.folder is not None:
                self._call(self._unload_path, {"lora_name": served.id})

    def forget_lost(self) -> None:
        """Stop serving the adapters that the remote server no longer lists: it has restarted.

        One that it never listed stays: there are servers that list base models only.
        """
        adapters = {one.id for one in self.all() if one.folder}
        names = self._names() if adapters else None
        if names is None:
            return
        for model_id in adapters & self._listed - names:
            logger.warning("the remote server has lost adapter %s; loading it again", model_id)
            self._pop(model_id)
        self._listed |= names

    def _names(self) -> set[str] | None:
        """What the remote server lists; None when it does not tell."""
        try:
            listing = self._remote.get("/v1/models", timeout=ANSWERS_WITHIN_S)
            return {model["id"] for model in listing["data"]}
        except (UpstreamError, LookupError, TypeError):
            return None

    def _call(self, path: str, body: dict[str, Any]) -> None:
        """Ask for something; a refusal is only logged, as it may be done already."""
        try:
            self._remote.raw("POST", path, json=body)
        except UpstreamError as error:
            logger.debug("%s of the remote server: %s", path, error)


def _not_found(error: UpstreamError) -> str:
    """What a server says that has the route but lacks the folder; "" for any other error.

    {"error": {"message": "No adapter found for /a", "type": "NotFoundError", "code": 404}}

    A missing route has another type: `Not Found`, or none.
    """
    body = error.response_body if isinstance(error.response_body, dict) else {}
    inner = body.get("error")
    told = inner if isinstance(inner, dict) else body  # older versions of vLLM
    return str(told.get("message")) if told.get("type") == "NotFoundError" else ""
