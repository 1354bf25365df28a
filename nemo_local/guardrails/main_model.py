"""The model whose answers are guarded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from nemo_local.core.client import AsyncClient, Unreachable, UpstreamError
from nemo_local.core.errors import NO_RETRY, PlatformError


class ModelFailed(PlatformError):
    """A model that gives no answer: its own status, and what it said as the detail."""

    def __init__(self, status: int, detail: Any, headers: Mapping[str, str] = NO_RETRY) -> None:
        super().__init__(detail, headers)
        self.status = status


@dataclass(frozen=True)
class MainModel:
    """An OpenAI-compatible endpoint and its key; every call may raise ModelFailed."""

    url: str
    """Its `…/v1`."""
    key: str | None
    timeout_s: float | None
    """How long it may say nothing; None = for ever."""

    async def models(self, authorization: str | None) -> Any:
        """The endpoint's model list."""
        own = authorization if authorization and not self.key else ""
        headers = {"authorization": own.encode("latin-1")} if own else {}
        async with self._client() as client:
            return await client.get("/models", headers=headers)

    async def complete(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        """A whole completion."""
        async with self._client() as client:
            response = await client.post(path, json=request)
        choices = response.get("choices") if isinstance(response, dict) else None
        if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
            raise ModelFailed(502, f"the model's reply is no completion: {str(response)[:200]!r}")
        return dict(response)

    @asynccontextmanager
    async def stream(self, path: str, request: dict[str, Any]) -> AsyncIterator[Any]:
        """A completion while it is written, as server-sent events: an httpx response to read."""
        body = {**request, "stream": True}
        async with self._client() as client, client.stream("POST", path, json=body) as response:
            yield response

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[AsyncClient]:
        client = AsyncClient(self.url, self.key, self.timeout_s)
        try:
            yield client
        except Unreachable as error:
            raise ModelFailed(504, error.detail) from None
        except UpstreamError as error:
            raise ModelFailed(error.status, error.response_body, error.headers) from None
        finally:
            await client.close()
