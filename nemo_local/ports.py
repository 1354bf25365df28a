"""Tells whether we can listen on a port, and if not, who does."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from nemo_local.home import home_of, read_records


def cannot_listen(host: str, port: int) -> str:
    """Why we cannot listen on a port, as the end of a sentence; empty when we can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                home = _home_on(port)
                return f"is taken by {f'the platform of {home}' if home else 'another program'}"
            return f"cannot be listened on ({error.strerror})"
    return ""


def _home_on(port: int) -> str | None:
    """The home of the running platform that uses this port; None when there is none."""
    for home in {home for process in psutil.process_iter() if (home := home_of(process))}:
        for record in read_records(Path(home)).values():
            if urlsplit(record.url).port == port and record.process():
                return home
    return None
