"""A client that hangs up before it is answered."""

import json
import socket
import threading
from typing import Any
from urllib.parse import urlsplit


def ask_and_leave(url: str, body: dict[str, Any], begun: threading.Event) -> None:
    """POST the body, and hang up once `begun` is set."""
    parts, content = urlsplit(url), json.dumps(body)
    assert parts.hostname and parts.port
    lines = (
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    )
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall("\r\n".join([*lines, "", content]).encode())
        assert begun.wait(30), f"nobody began to answer {url}"
