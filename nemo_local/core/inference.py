"""Where an inference URL given by a user really leads."""

from urllib.parse import urlsplit

NIM_HOSTS = ("nim.test", "nemo-nim-proxy", "nim-proxy")
"""Host names of tutorial clusters that mean "the platform's own NIM"."""

_ENDINGS = ("/chat/completions", "/completions")


def inference_root(url: str, nim_url: str) -> str:
    """The `…/v1` address under which an endpoint serves chat and completions.

        inference_root("http://nim.test/v1/completions", "http://127.0.0.1:8000")
        -> "http://127.0.0.1:8000/v1"

    Published payloads give the root, the completions or the chat address, and use all of them
    with chat tasks. A cluster's own NIM name leads to ours.

    Raises:
        ValueError: not an http or https URL, or one with a password in it, which answers show.
    """
    parts = urlsplit(url.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http or https URL")
    if "@" in parts.netloc:
        raise ValueError("the URL holds a user name or password; send it as api_key instead")
    path = parts.path
    for ending in _ENDINGS:
        path = path.removesuffix(ending)
    if _is_nim(parts.hostname):
        return f"{nim_url}{path if path.endswith('/v1') else '/v1'}"
    return f"{parts.scheme}://{parts.netloc}{path}"


def _is_nim(host: str) -> bool:
    return host in NIM_HOSTS or any(
        host.startswith(f"{name}.") and host.endswith(".svc.cluster.local") for name in NIM_HOSTS
    )
