"""Resolves and compares the URLs that users give for inference servers."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from nemo_local.core.client import check_url

NIM_HOSTS = ("nim.test", "nemo-nim-proxy", "nim-proxy")
"""Host names of tutorial clusters that mean "the platform's own NIM"."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ENDINGS = ("/chat/completions", "/completions")


def inference_root(url: str, nim_url: str) -> str:
    """The `…/v1` address under which an endpoint serves chat and completions.

        inference_root("http://nim.test/v1/completions", "http://127.0.0.1:8000")
        -> "http://127.0.0.1:8000/v1"

    Published payloads give the root, the completions or the chat address, and use all of them
    with chat tasks. A cluster's own NIM name leads to ours.

    Raises:
        ValueError: not an http or https URL that a request can be sent to, or one with a password
            in it, which answers show.
    """
    refuse_password(url, "send it as api_key instead")
    check_url(url)
    parts = urlsplit(url.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http or https URL")
    path = parts.path
    for ending in _ENDINGS:
        path = path.removesuffix(ending)
    if _is_nim(parts.hostname):
        return f"{nim_url}{path if path.endswith('/v1') else '/v1'}"
    return f"{parts.scheme}://{parts.netloc}{path}"


def refuse_password(url: str, instead: str) -> None:
    """Raise ValueError, which does not show it, for a URL with a user name or password in it."""
    if re.match(r"[^/?#]*//[^/?#]*@", url):
        raise ValueError(f"the URL holds a user name or password; {instead}")


def same_address(url: str, other: str) -> bool:
    """Whether two URLs lead to the same place; all loopback names count as one.

    same_address("http://localhost:8000/v1/", "http://127.0.0.1:8000/v1") -> True
    """
    return _same(_address, url, other)


def same_server(url: str, other: str) -> bool:
    """Whether two URLs lead to the same server, whatever their paths; loopback names are one.

    same_server("http://localhost:8000/v1/hf", "http://127.0.0.1:8000") -> True
    """
    return _same(_server, url, other)


def _same(part: Callable[[str], object], url: str, other: str) -> bool:
    try:
        return part(url) == part(other)
    except ValueError:  # an invalid port
        return False


def _is_nim(host: str) -> bool:
    return host in NIM_HOSTS or any(
        host.startswith(f"{name}.") and host.endswith(".svc.cluster.local") for name in NIM_HOSTS
    )


def _address(url: str) -> tuple[str, str | None, int | None, str]:
    return *_server(url), urlsplit(url).path.rstrip("/")


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    host = "localhost" if parts.hostname in _LOOPBACK else parts.hostname
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, host, port
