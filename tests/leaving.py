"""Clients that speak HTTP by hand: one sees how an answer is cut up, or hangs up before it."""

import json
import socket
import threading
from typing import Any
from urllib.parse import urlsplit


def ask(url: str, body: dict[str, Any]) -> socket.socket:
    """The connection to which the body was posted."""
    parts, content = urlsplit(url), json.dumps(body)
    assert parts.hostname and parts.port
    lines = (
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    )
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.sendall("\r\n".join([*lines, "", content]).encode())
    return connection


def ask_and_leave(url: str, body: dict[str, Any], begun: threading.Event) -> None:
    """POST the body, and hang up once `begun` is set."""
    with ask(url, body):
        assert begun.wait(30), f"nobody began to answer {url}"
