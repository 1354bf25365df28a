"""The model under evaluation: where it answers, and one request to it with its retries."""

from __future__ import annotations

import asyncio
import difflib
from dataclasses import dataclass
from typing import Any

from nemo_local.core.client import AsyncClient, Client, Unreachable, UpstreamError
from nemo_local.core.inference import inference_root
from nemo_local.core.secrets import MASK

RETRIED = (408, 409, 429)
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0


class ModelError(Exception):
    """No row can be answered: the endpoint or the model does not exist."""


class RequestFailed(Exception):
    """One request failed for good; the message carries status and reason."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers."""

    root: str
    """Address up to and with `/v1`."""
    model_id: str
    api_key: str | None = None


def resolve(
    model: str | dict[str, Any], platform: Client, nim_url: str, token: str | None
) -> Endpoint:
    """The endpoint of a target's `model`: a NIM id, an Entity Store name, or an `api_endpoint`.

    Raises:
        ModelError: the object names no endpoint, or its URL is none.
    """
    if isinstance(model, str):
        given = _entity_endpoint(platform, model)
        if given is None:
            return Endpoint(f"{nim_url}/v1", model, token)
    else:
        given = model.get("api_endpoint")
        if given is None:
            raise ModelError("the target's model has no api_endpoint; give url and model_id")
    try:
        root = inference_root(str(given["url"]), nim_url)
    except (KeyError, ValueError) as error:
        raise ModelError(f"the target's api_endpoint is unusable: {error}") from None
    key = token if root == f"{nim_url}/v1" else given.get("api_key")
    return Endpoint(root, str(given.get("model_id")), None if key == MASK else key)


class ModelClient:
    """Sends requests to one endpoint; `retries` more attempts after an answer that may pass."""

    def __init__(self, endpoint: Endpoint, timeout_s: float, retries: int) -> None:
        self.endpoint = endpoint
        self._retries = retries
        self._http = AsyncClient(endpoint.root, endpoint.api_key, timeout_s)
        self._listed: list[str] = []

    async def identify(self) -> dict[str, Any]:
        """The model's own listing, with who really answers; `{}` where the endpoint lists none.

        Raises:
            ModelError: nothing answers at this address.
        """
        try:
            listing = await self._attempts("GET", "/models", None)
        except Unreachable as error:
            raise ModelError(str(error)) from None
        except UpstreamError:
            return {}
        models = listing.get("data") if isinstance(listing, dict) else None
        self._listed = [str(m["id"]) for m in models or [] if isinstance(m, dict) and "id" in m]
        found = [m for m in models or [] if m.get("id") == self.endpoint.model_id]
        return dict(found[0]) if found else {}

    async def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """The response to a chat request (`messages`) or a completion request (`prompt`).

        Raises:
            ModelError: the endpoint does not serve this model.
            RequestFailed: refused, or still failing after the retries.
        """
        path = "/chat/completions" if "messages" in body else "/completions"
        try:
            answer = await self._attempts("POST", path, body)
        except UpstreamError as error:
            if error.status == 404:
                raise ModelError(self._unknown(error)) from None
            raise RequestFailed(str(error)) from None
        if not isinstance(answer, dict):
            raise RequestFailed(f"{self.endpoint.root}{path} did not answer with a JSON object")
        return answer

    async def close(self) -> None:
        await self._http.close()

    async def _attempts(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        for attempt in range(self._retries + 1):
            try:
                return await self._http.call(method, path, json=body)
            except UpstreamError as error:
                may_pass = error.status in RETRIED or error.status >= 500
                if not may_pass or attempt == self._retries:
                    raise
            await asyncio.sleep(min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S))
        raise AssertionError("the last attempt returns or raises")

    def _unknown(self, error: UpstreamError) -> str:
        near = difflib.get_close_matches(self.endpoint.model_id, self._listed, n=3, cutoff=0.3)
        hint = f"; it serves {', '.join(near or self._listed[:3])}" if self._listed else ""
        endpoint = self.endpoint
        return f"{endpoint.root} does not serve {endpoint.model_id!r}{hint} ({error.detail})"


def output_text(response: Any) -> str:
    """The text of a response's first choice; empty with tool calls alone."""
    choices = response.get("choices") if isinstance(response, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else {}
    if not isinstance(first, dict):
        return ""
    message = first.get("message")
    text = message.get("content") if isinstance(message, dict) else first.get("text")
    return text if isinstance(text, str) else ""


def _entity_endpoint(platform: Client, model: str) -> dict[str, Any] | None:
    """The `api_endpoint` of an Entity Store model of this name, when it has one."""
    namespace, _, name = model.partition("/")
    if not name:
        return None
    try:
        entity = platform.get(f"/v1/models/{namespace}/{name}")
    except UpstreamError:
        return None
    endpoint = entity.get("api_endpoint") if isinstance(entity, dict) else None
    return endpoint if isinstance(endpoint, dict) else None
