"""The model under evaluation: finding its endpoint, and sending it requests with retries."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from nemo_local.core.client import AsyncClient, Client, Unreachable, UpstreamError
from nemo_local.core.completions import content_text
from nemo_local.core.documents import Documents
from nemo_local.core.errors import NotFound
from nemo_local.core.near import near_names
from nemo_local.core.secrets import MASK, usable_key
from nemo_local.core.urls import inference_root, same_address
from nemo_local.evaluator.kinds import MODEL

RETRIED = (408, 409, 429)
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
LONGEST_WAIT_S = 60.0
LISTING_TIMEOUT_S = 5.0


class ModelError(Exception):
    """No row can be answered: the endpoint or the model does not exist."""


class RequestFailed(Exception):
    """One request failed for good; the message carries status and reason."""


class _Late(Unreachable):
    """No complete answer in time; the server may well be running."""


@dataclass(frozen=True)
class Endpoint:
    """A model's address, id and key."""

    root: str
    """Address up to and including `/v1`."""
    model_id: str
    api_key: str | None = None


def resolve(
    model: str | dict[str, Any], documents: Documents, nim_url: str, token: str | None
) -> Endpoint:
    """The endpoint of a target's `model`: a NIM id, an Entity Store name, or an `api_endpoint`.

    A model that our inference serves takes precedence over an Entity Store model of that name.

    Raises:
        ModelError: the object names no endpoint, or its URL or key cannot be used.
    """
    if isinstance(model, str):
        given = _entity_endpoint(documents, model)
        if given is None or _serves(nim_url, token, model):
            return Endpoint(f"{nim_url}/v1", model, token)
    else:
        given = model.get("api_endpoint")
        if given is None:
            raise ModelError("the target's model has no api_endpoint; give url and model_id")
    try:
        root = inference_root(str(given["url"]), nim_url)
        model_id = str(given["model_id"])
        own = usable_key(given.get("api_key"))
    except KeyError as error:
        raise ModelError(f"the target's api_endpoint has no {error.args[0]}") from None
    except ValueError as error:
        raise ModelError(f"the target's api_endpoint is unusable: {error}") from None
    key = token if token and same_address(root, f"{nim_url}/v1") else own
    return Endpoint(root, model_id, None if key == MASK else key)


class ModelClient:
    """Sends requests to one endpoint, with up to `retries` retries of transient errors."""

    def __init__(self, endpoint: Endpoint, timeout_s: float, retries: int) -> None:
        self.endpoint = endpoint
        self._retries = retries
        self._timeout_s = timeout_s
        self._http = AsyncClient(endpoint.root, endpoint.api_key, None)
        self._listed: list[str] = []
        self._answered = False

    async def wait_until_ready(self, within_s: float) -> None:
        """Wait while the server starts; it is `identify` that reports one that never answers."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            try:
                await self._within(LISTING_TIMEOUT_S, self._http.call("GET", "/health/ready"))
            except UpstreamError as error:
                if error.status != 503:
                    return
            else:
                return
            await asyncio.sleep(FIRST_PAUSE_S)

    async def identify(self) -> dict[str, Any]:
        """The model's entry in the endpoint's list, perhaps with who really answers; `{}` if none.

        Raises:
            ModelError: nothing answers at this address.
        """
        try:
            listing = await self._attempts("GET", "/models", LISTING_TIMEOUT_S)
        except _Late:
            return {}  # a slow list says nothing about answers
        except Unreachable as error:
            raise ModelError(str(error)) from None
        except UpstreamError:
            return {}
        self._listed = _ids(listing)
        return next((m for m in _entries(listing) if m.get("id") == self.endpoint.model_id), {})

    async def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """The response to a chat request (`messages`) or a completion request (`prompt`).

        Raises:
            ModelError: the endpoint neither lists this model nor ever answered for it.
            RequestFailed: refused, or still failing after the retries.
        """
        path = "/chat/completions" if "messages" in body else "/completions"
        try:
            json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise RequestFailed(f"the request is not valid JSON ({error})") from None
        try:
            answer = await self._attempts("POST", path, self._timeout_s, json=body)
        except _Late:
            limit = f"{self._timeout_s:g} s (config.params.request_timeout)"
            raise RequestFailed(
                f"{self.endpoint.root}{path} did not finish its answer in {limit}"
            ) from None
        except UpstreamError as error:
            known = self._answered or self.endpoint.model_id in self._listed
            if error.status == 404 and not known:
                raise ModelError(self._unknown(error)) from None
            raise RequestFailed(str(error)) from None
        if not isinstance(answer, dict):
            raise RequestFailed(f"{self.endpoint.root}{path} did not answer with a JSON object")
        if not first_choice(answer):
            raise RequestFailed(f"{self.endpoint.root}{path} answered without a choice: {answer}")
        self._answered = True
        return answer

    async def close(self) -> None:
        await self._http.close()

    async def _attempts(self, method: str, path: str, timeout_s: float, **options: Any) -> Any:
        for attempt in range(self._retries + 1):
            try:
                return await self._within(timeout_s, self._http.call(method, path, **options))
            except UpstreamError as error:
                if attempt == self._retries or not _may_pass(error):
                    raise
                pause = max(_asked_for(error), _pause(attempt))
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _within(self, timeout_s: float, request: Coroutine[Any, Any, Any]) -> Any:
        """A request's answer within a total time; httpx's own timeout restarts with every byte."""
        try:
            async with asyncio.timeout(timeout_s):
                return await request
        except TimeoutError:
            raise _Late(self.endpoint.root, f"no complete answer in {timeout_s:g} s") from None

    def _unknown(self, error: UpstreamError) -> str:
        near = near_names(self.endpoint.model_id, self._listed)
        hint = f"; it serves {', '.join(near or self._listed[:3])}" if self._listed else ""
        endpoint = self.endpoint
        return f"{endpoint.root} does not serve {endpoint.model_id!r}{hint} ({error.detail})"


def _may_pass(error: UpstreamError) -> bool:
    passing = error.status in RETRIED or error.status >= 500
    return passing and error.headers.get("x-should-retry") != "false"


def _pause(attempt: int) -> float:
    """Seconds before the next attempt after this one, counted from 0."""
    # The limit is reached by then, and a float cannot hold 1,024 doublings.
    return min(FIRST_PAUSE_S * 2.0 ** min(attempt, 10), LONGEST_PAUSE_S)


def _asked_for(error: UpstreamError) -> float:
    """Seconds to wait that a busy server asks for in `Retry-After`, limited; 0 without it."""
    seconds = error.headers.get("retry-after", "")
    return min(float(seconds), LONGEST_WAIT_S) if seconds.isdecimal() else 0.0


def first_choice(response: Any) -> dict[str, Any]:
    """The first choice of a response; `{}` where there is none."""
    choices = response.get("choices") if isinstance(response, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def output_text(response: Any) -> str:
    """The text of a response's first choice; empty with tool calls alone."""
    first = first_choice(response)
    message = first.get("message")
    content = message.get("content") if isinstance(message, dict) else first.get("text")
    return content_text(content) or ""


def _serves(nim_url: str, token: str | None, model: str) -> bool:
    """Whether our inference server lists this model; False when it does not answer."""
    nim = Client(nim_url, token, LISTING_TIMEOUT_S)
    try:
        listing = nim.get("/v1/models")
    except UpstreamError:
        return False
    finally:
        nim.close()
    return model in _ids(listing)


def _ids(listing: Any) -> list[str]:
    return [str(m["id"]) for m in _entries(listing) if "id" in m]


def _entries(listing: Any) -> list[dict[str, Any]]:
    """The models in a `/models` answer; entries that are not objects are left out."""
    models = listing.get("data") if isinstance(listing, dict) else None
    return [m for m in models if isinstance(m, dict)] if isinstance(models, list) else []


def _entity_endpoint(documents: Documents, model: str) -> dict[str, Any] | None:
    """The `api_endpoint` of an Entity Store model of this name, when it has one."""
    namespace, _, name = model.partition("/")
    try:
        # The Entity Store's own answer would have a mask in place of the key.
        entity = documents.get(MODEL, namespace, name)
    except NotFound:
        return None
    endpoint = entity.get("api_endpoint")
    return endpoint if isinstance(endpoint, dict) else None
