"""A terminal on a home of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nemo_local.core.client import Client
from nemo_local.processes import family


class Terminal:
    """Runs commands on one home."""

    def __init__(self, settings) -> None:
        self.settings = settings
        self.environment = {
            **os.environ,
            "NEMO_LOCAL_HOME": str(settings.home),
            "NEMO_LOCAL_PORT": str(settings.port),
            "NEMO_LOCAL_NIM_PORT": str(settings.nim_port),
            "NEMO_LOCAL_DATASET_ROWS": "20",
            "NEMO_LOCAL_THREADS": "1",
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nemo_local", *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "nemo_local", *arguments],
            env={**self.environment, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # These tests may run under nohup, where a terminal that closes is not heard of.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )

    @staticmethod
    def until_it_says(process: subprocess.Popen[str], words: str) -> list[str]:
        """The lines up to the one with these words."""
        assert process.stdout
        lines: list[str] = []
        while words not in "".join(lines):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        return lines

    @contextmanager
    def client(self) -> Iterator[Client]:
        client = Client(self.settings.platform_url)
        yield client
        client.close()


@pytest.fixture
def terminal(settings) -> Iterator[Terminal]:
    terminal = Terminal(settings)
    yield terminal
    terminal.run("down")
    assert family(settings.home) == []
