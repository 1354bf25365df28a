"""Downloads the weights of targets whose `model_uri` is `hf://namespace/name@revision`.

Each download is a process of its own, which can be ended at once. Its state is in the target:
pending, downloading, then ready or failed, with the reason in `custom_fields.why`. A download that
the platform's end cut off resumes at the next start.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_local.core.client import check_url
from nemo_local.core.documents import Document, Documents
from nemo_local.core.errors import Conflict, Invalid, NotFound
from nemo_local.core.jobs import FINISHED
from nemo_local.core.urls import refuse_password, same_server
from nemo_local.customizer.download import Wanted, split_model_uri
from nemo_local.customizer.processes import Process, end_process, training_environment
from nemo_local.customizer.records import KIND as JOB
from nemo_local.customizer.task import Task
from nemo_local.settings import Settings

logger = logging.getLogger(__name__)

TARGET = "customization_target"
HUGGING_FACE = "https://huggingface.co"
AT_ONCE = 2
"""Downloads that run at the same time; others are pending."""
LOADING = ("pending", "downloading")
"""States of a target whose download has not ended."""


@dataclass(eq=False)
class _Download:
    """One download of a target; another begins when the target is changed."""

    target: Document
    process: Process | None = None
    """None while the download waits for its turn."""


def hub_of(target: Document) -> tuple[str | None, ...]:
    """The repository (`model_uri`) and the Hub that a target's weights are downloaded from."""
    return target.get("model_uri"), target.get("hf_endpoint")


def source_of(target: Document) -> tuple[str | None, ...]:
    """Where a target's weights come from: repository and Hub, and a folder."""
    return *hub_of(target), target.get("model_path") or None


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
        self._running: dict[str, _Download] = {}
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._stopping = False

    def check(self, target: Document) -> None:
        """Raise Invalid when the target names a Hub or repository that cannot exist."""
        if is_downloaded(target):
            split_model_uri(target["model_uri"])
            if endpoint := target.get("hf_endpoint"):
                _check_endpoint(endpoint)

    def check_unused(self, target: Document) -> None:
        """Raise Conflict while an unfinished job uses the target's downloaded weights."""
        folder = self.folder_of(target["id"])
        for job in self._documents.all(JOB):
            task = Task.from_json(job["run"]["task"])
            used = folder in (task.model_path, task.teacher_path)
            if used and job["status"] not in FINISHED:
                raise Conflict(
                    f"Target {target['namespace']}/{target['name']} is used by job {job['id']}; "
                    "cancel that first, or wait until it has ended"
                )

    def folder_of(self, target_id: str) -> Path:
        """Where the weights of a target are once they are downloaded."""
        return self._folder / target_id

    def resume(self) -> None:
        """Resume the downloads that an earlier platform process left unfinished."""
        for target in self._documents.all(TARGET):
            if target["status"] in LOADING:
                self.begin(target)

    def begin(self, target: Document) -> None:
        """Download the weights of a stored target; returns at once."""
        download = _Download(target)
        with self._lock:
            self._running[target["id"]] = download
        threading.Thread(
            target=self._run, args=(download,), name=f"download {target['id']}", daemon=True
        ).start()

    def follow(self, before: Document, after: Document) -> None:
        """After a target changed, end the download it no longer needs and begin the one it does."""
        loading = before["status"] in LOADING
        moved = source_of(after) != source_of(before)
        if moved and (loading or hub_of(after) != hub_of(before)):
            self.forget(after["id"])
        if after["status"] == "pending" and (moved or not loading):
            self.begin(after)

    def forget(self, target_id: str) -> None:
        """End a target's download, and remove its files."""
        with self._lock:
            download = self._running.pop(target_id, None)
        if download is not None and download.process is not None:
            end_process(download.process, 0)
        folder = self.folder_of(target_id)
        for path in (folder, folder.with_name(f"{target_id}.partial")):
            shutil.rmtree(path, ignore_errors=True)

    def stop(self) -> None:
        """End all downloads; the next start resumes them."""
        with self._lock:
            self._stopping = True
            running, self._running = self._running, {}
        for download in running.values():
            if download.process is not None:
                end_process(download.process, 0)

    def _run(self, download: _Download) -> None:
        target_id = download.target["id"]
        with self._slots:
            wanted = self._wanted(download.target)
            process = self._start(download)
            if process is None:
                return
            self._tell(download, "downloading", f"downloading from {wanted.endpoint}")
            answer = _answer(process, wanted)
        with self._lock:
            if self._stopping or self._running.get(target_id) is not download:
                return  # ended on purpose
            del self._running[target_id]
        try:
            reason = json.loads(answer)["error"]
        except (ValueError, KeyError):
            reason = f"the download ended with status {process.returncode}"
        if reason is None:
            why = f"weights of {download.target['model_uri']} from {wanted.endpoint}"
            self._tell(download, "ready", why, model_path=wanted.folder)
        else:
            self._tell(download, "failed", reason)

    def _wanted(self, target: Document) -> Wanted:
        repository, revision = split_model_uri(target["model_uri"])
        own = f"{self._settings.platform_url}/v1/hf"
        endpoint = (target.get("hf_endpoint") or self._settings.hf_endpoint or own).rstrip("/")
        # Each token goes only to the server it is for.
        token = self._settings.token if same_server(endpoint, own) else None
        if endpoint in (HUGGING_FACE, (self._settings.hf_endpoint or "").rstrip("/")):
            token = self._settings.hf_token
        return Wanted(repository, revision, endpoint, token, str(self.folder_of(target["id"])))

    def _start(self, download: _Download) -> Process | None:
        """Start the download's process; None when the download is no longer wanted."""
        self._folder.mkdir(parents=True, exist_ok=True)
        environment = training_environment()
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            del environment[name]
        with self._lock:
            if self._stopping or self._running.get(download.target["id"]) is not download:
                return None
            download.process = subprocess.Popen(
                [sys.executable, "-m", "nemo_local.customizer.download"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        return download.process

    def _tell(self, download: _Download, status: str, why: str, **changes: Any) -> None:
        target_id = download.target["id"]

        def change(target: Document) -> Document:
            if source_of(target) != source_of(download.target):  # changed a moment ago
                return {}
            fields = {**(target.get("custom_fields") or {}), "why": why}
            return {"status": status, "custom_fields": fields, **changes}

        try:
            self._documents.update(TARGET, target_id, change)
        except NotFound:  # deleted a moment ago
            self.forget(target_id)
        logger.info("target %s is %s: %s", target_id, status, why)


def _check_endpoint(endpoint: str) -> None:
    try:
        refuse_password(endpoint, "set NEMO_LOCAL_HF_ENDPOINT and NEMO_LOCAL_HF_TOKEN instead")
        if not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"{endpoint!r} is not a URL of http or https")
        check_url(endpoint)
    except ValueError as error:
        raise Invalid(f"hf_endpoint: {error}") from None


def _answer(process: Process, wanted: Wanted) -> bytes:
    """The line that the process prints at its end; its standard input stays open until then."""
    assert process.stdin is not None and process.stdout is not None, "they are pipes"
    with process.stdin, process.stdout:
        with suppress(BrokenPipeError):
            process.stdin.write(wanted.line())
            process.stdin.flush()
        answer = process.stdout.read()
    process.wait()
    return answer
