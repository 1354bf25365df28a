"""The one HTTP client of the platform: services reach each other, and the world, through it."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from nemo_local.core.errors import PlatformError
from nemo_local.core.secrets import usable_key

CONNECT_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 256
"""Connections of one client; a request beyond them waits for a free one, up to its timeout."""
PASSED_ON = ("retry-after", "x-should-retry")
"""Headers of an error response that are passed on to our own caller."""


class UpstreamError(PlatformError):
    """Another service refused or failed; if unhandled, our caller gets its status and body."""

    def __init__(
        self, status: int, body: Any, url: str, headers: Mapping[str, str] | None = None
    ) -> None:
        detail = body.get("detail", body) if isinstance(body, dict) else body
        super().__init__(detail, headers)
        self.status = status
        self.response_body = body
        self.url = url

    def body(self) -> dict[str, Any]:
        """The other service's JSON object, or what else it sent as `detail`."""
        body = self.response_body
        return body if isinstance(body, dict) else {"detail": body}

    def __str__(self) -> str:
        return f"{self.url} answered {self.status}: {self.detail}"


class Unreachable(UpstreamError):
    """Another service did not answer, or its answer was not valid HTTP."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(503, f"{url} does not answer ({reason}); is it running?", url)

    def __str__(self) -> str:
        return str(self.detail)


class Client:
    """Calls one base URL; returns decoded JSON and raises UpstreamError on status 400 and above.

    Client("http://127.0.0.1:8080").get("/v1/models", params={"filter[peft]": "true"})

    A token that no header can carry is a ValueError.
    """

    def __init__(self, base_url: str, token: str | None = None, timeout_s: float = 60.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.Client(**_options(self.base_url, token, timeout_s))

    def get(self, path: str, **options: Any) -> Any:
        return self.call("GET", path, **options)

    def find(self, path: str, **options: Any) -> Any:
        """The decoded body of a GET, or None when the service answers 404."""
        try:
            return self.get(path, **options)
        except UpstreamError as error:
            if error.status != 404:
                raise
            return None

    def post(self, path: str, **options: Any) -> Any:
        return self.call("POST", path, **options)

    def patch(self, path: str, **options: Any) -> Any:
        return self.call("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self.call("DELETE", path, **options)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The decoded body, None when empty; options (`json`, `params`, …) as httpx takes them."""
        return _decoded(self.raw(method, path, **options))

    def raw(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The whole response, for bytes and headers."""
        try:
            return _checked(self._http.request(method, path, **options))
        except httpx.RequestError as error:
            raise Unreachable(self.base_url + path, _reason(error)) from error

    @contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """The response before its body is read."""
        try:
            with self._http.stream(method, path, **options) as response:
                if response.is_error:
                    response.read()
                yield _checked(response)
        except httpx.RequestError as error:
            raise Unreachable(self.base_url + path, _reason(error)) from error

    def close(self) -> None:
        self._http.close()


class AsyncClient:
    """The asynchronous Client; a `timeout_s` of None sets no limit."""

    def __init__(
        self, base_url: str, token: str | None = None, timeout_s: float | None = 60.0
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(**_options(self.base_url, token, timeout_s))

    async def get(self, path: str, **options: Any) -> Any:
        return await self.call("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Any:
        return await self.call("POST", path, **options)

    async def call(self, method: str, path: str, **options: Any) -> Any:
        return _decoded(await self.raw(method, path, **options))

    async def raw(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return _checked(await self._http.request(method, path, **options))
        except httpx.RequestError as error:
            raise Unreachable(self.base_url + path, _reason(error)) from error

    @asynccontextmanager
    async def stream(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream(method, path, **options) as response:
                if response.is_error:
                    await response.aread()
                yield _checked(response)
        except httpx.RequestError as error:
            raise Unreachable(self.base_url + path, _reason(error)) from error

    @property
    def http(self) -> httpx.AsyncClient:
        """The underlying httpx client, for a library that makes its own requests."""
        return self._http

    async def close(self) -> None:
        await self._http.aclose()


def _options(base_url: str, token: str | None, timeout_s: float | None) -> dict[str, Any]:
    key = usable_key(token)
    headers: Mapping[str, str] = {"authorization": f"Bearer {key}"} if key else {}
    # Loopback traffic must not go through a proxy that the environment names.
    trust_env = not base_url.startswith(("http://127.", "http://localhost", "http://[::1]"))
    return {
        "base_url": base_url,
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
        "limits": httpx.Limits(max_connections=MAX_CONNECTIONS),
        "follow_redirects": True,
        "trust_env": trust_env,
        "verify": _certificates(trust_env),
    }


def check_url(url: str) -> None:
    """Raise ValueError, naming the URL, when no request could be sent to it."""
    try:
        urlsplit(url).port  # noqa: B018 - raises
        if re.search(r"\s", urlsplit(url).netloc):  # which httpx would quote
            raise ValueError("its host contains white space")
        httpx.Request("GET", url).url.raw_host.decode().encode("idna")
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{url!r} is not a usable URL ({error})") from None


@cache
def _certificates(trust_env: bool) -> ssl.SSLContext:
    """The TLS context, loaded once: doing so for each client would take 40 ms."""
    return httpx.create_ssl_context(trust_env=trust_env)


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        passed_on = {name: response.headers[name] for name in PASSED_ON if name in response.headers}
        raise UpstreamError(response.status_code, _body(response), str(response.url), passed_on)
    return response


def _decoded(response: httpx.Response) -> Any:
    return _body(response) if response.content else None


def _body(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.LocalProtocolError):  # its text quotes headers, and so keys
        return "the request cannot be sent as HTTP"
    return str(error) or type(error).__name__
