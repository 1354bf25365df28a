"""The downloads of targets whose `model_uri` is `hf://namespace/name@revision`.

Each is a process of its own, which can be ended at once. The state is in the target: pending,
downloading, then ready or failed with the reason in `custom_fields.why`. A download that the
platform's end cut off goes on at its next start.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from nemo_local.core.documents import Document, Documents
from nemo_local.core.errors import Invalid, NotFound
from nemo_local.core.inference import same_server
from nemo_local.customizer.download import Wanted, split_model_uri
from nemo_local.customizer.processes import Process, child_environment, end_process
from nemo_local.settings import Settings

logger = logging.getLogger(__name__)

TARGET = "customization_target"
HUGGING_FACE = "https://huggingface.co"
AT_ONCE = 2
"""Downloads that run at the same time; others are pending."""


def is_downloaded(target: Document) -> bool:
    """Whether the weights of this target come from a Hub."""
    return str(target.get("model_uri") or "").startswith("hf://")


class Downloads:
    """The downloads of one platform."""

    def __init__(self, documents: Documents, settings: Settings) -> None:
        self._documents = documents
        self._settings = settings
        self._folder = settings.home / "models"
        self._lock = threading.Lock()
        self._running: dict[str, Process | None] = {}
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._stopping = False

    def check(self, target: Document) -> None:
        """Raise Invalid when the target names a Hub or repository that cannot exist."""
        if is_downloaded(target):
            split_model_uri(target["model_uri"])
            endpoint = target.get("hf_endpoint")
            if endpoint and not str(endpoint).startswith(("http://", "https://")):
                raise Invalid(f"hf_endpoint {endpoint!r} is not a URL of http or https")

    def resume(self) -> None:
        """Go on with what an earlier platform left."""
        for target in self._documents.all(TARGET):
            if target["status"] in ("pending", "downloading"):
                self.begin(target)

    def begin(self, target: Document) -> None:
        """Download the weights of a stored target; returns at once."""
        with self._lock:
            self._running[target["id"]] = None
        threading.Thread(
            target=self._run, args=(target,), name=f"download {target['id']}", daemon=True
        ).start()

    def forget(self, target_id: str) -> None:
        """End a download, and remove what it brought."""
        with self._lock:
            process = self._running.pop(target_id, None)
        if process is not None:
            end_process(process, 0)
        for suffix in ("", ".partial"):
            shutil.rmtree(self._folder / f"{target_id}{suffix}", ignore_errors=True)

    def stop(self) -> None:
        """End every download; the next start goes on with it."""
        with self._lock:
            self._stopping = True
            running, self._running = self._running, {}
        for process in running.values():
            if process is not None:
                end_process(process, 0)

    def _run(self, target: Document) -> None:
        target_id = target["id"]
        with self._slots:
            wanted = self._wanted(target)
            process = self._start(target_id)
            if process is None:
                return
            self._tell(target_id, "downloading", f"downloading from {wanted.endpoint}")
            answer = _answer(process, wanted)
        with self._lock:
            if self._stopping or self._running.get(target_id) is not process:
                return  # ended on purpose
            del self._running[target_id]
        try:
            reason = json.loads(answer)["error"]
        except (ValueError, KeyError):
            reason = f"the download ended with status {process.returncode}"
        if reason is None:
            why = f"weights of {target['model_uri']} from {wanted.endpoint}"
            self._tell(target_id, "ready", why, model_path=wanted.folder)
        else:
            self._tell(target_id, "failed", reason)

    def _wanted(self, target: Document) -> Wanted:
        repository, revision = split_model_uri(target["model_uri"])
        own = f"{self._settings.platform_url}/v1/hf"
        endpoint = (target.get("hf_endpoint") or self._settings.hf_endpoint or own).rstrip("/")
        # Each token only where it belongs.
        token = self._settings.token if same_server(endpoint, own) else None
        if endpoint in (HUGGING_FACE, (self._settings.hf_endpoint or "").rstrip("/")):
            token = self._settings.hf_token
        return Wanted(repository, revision, endpoint, token, str(self._folder / target["id"]))

    def _start(self, target_id: str) -> Process | None:
        """The process, or None when nobody wants it any more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        environment = child_environment()
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            del environment[name]
        with self._lock:
            if self._stopping or target_id not in self._running:
                return None
            process = subprocess.Popen(
                [sys.executable, "-m", "nemo_local.customizer.download"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
            self._running[target_id] = process
        return process

    def _tell(self, target_id: str, status: str, why: str, **changes: Any) -> None:
        def change(target: Document) -> Document:
            fields = {**(target.get("custom_fields") or {}), "why": why}
            return {"status": status, "custom_fields": fields, **changes}

        try:
            self._documents.update(TARGET, target_id, change)
        except NotFound:  # deleted a moment ago
            self.forget(target_id)
        logger.info("target %s is %s: %s", target_id, status, why)


def _answer(process: Process, wanted: Wanted) -> bytes:
    """What the process says in the end; its input stays open until then."""
    assert process.stdin is not None and process.stdout is not None, "they are pipes"
    with process.stdin, process.stdout:
        with suppress(BrokenPipeError):
            process.stdin.write(wanted.line())
            process.stdin.flush()
        answer = process.stdout.read()
    process.wait()
    return answer
