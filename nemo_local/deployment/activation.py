"""What becomes of deployments: NIM is asked until it serves their models, or will not."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any
from urllib.parse import quote

from nemo_local.catalog import Catalog
from nemo_local.core.client import Client, UpstreamError
from nemo_local.core.documents import Document, Documents
from nemo_local.core.errors import NotFound

logger = logging.getLogger(__name__)

DEPLOYMENT = "model_deployment"
ASK_AGAIN_S = 0.25
REFRESH_TIMEOUT_S = 30.0


class Activations:
    """The deployments that wait for NIM; one thread asks for all of them at once."""

    def __init__(
        self,
        documents: Documents,
        nim: Client,
        catalog: Catalog,
        platform: Client,
        within_s: float,
    ) -> None:
        self._documents = documents
        self._nim = nim
        self._catalog = catalog
        self._platform = platform
        self._within_s = within_s
        self._lock = threading.Lock()
        self._deadlines: dict[str, float] = {}
        """Of each deployment that waits, by its id: monotonic seconds."""
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, deployment_id: str) -> None:
        """Write down soon what becomes of the deployment; its time begins now."""
        with self._lock:
            self._deadlines[deployment_id] = time.monotonic() + self._within_s
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deployments", daemon=True)
                self._thread.start()
        self._wake.set()

    def drop(self, deployment_id: str) -> None:
        """Forget the deployment."""
        with self._lock:
            self._deadlines.pop(deployment_id, None)

    def stop(self) -> None:
        """Forget all of them; they are taken up at the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread:
            self._thread.join()

    def ask_nim(self) -> tuple[list[str], dict[str, str], str]:
        """What NIM serves after it looked at the platform, what it could not load and why, and
        what is wrong with NIM itself."""
        try:
            state = self._nim.post("/internal/refresh", timeout=REFRESH_TIMEOUT_S)
            return list(state["models"]), dict(state["failed"]), ""
        except UpstreamError as error:
            if error.status not in (404, 405):
                return [], {}, str(error)
        except (TypeError, LookupError, ValueError):
            pass
        # A NIM that is not ours cannot be told; it serves what it serves.
        try:
            return [model["id"] for model in self._nim.get("/v1/models")["data"]], {}, ""
        except UpstreamError as error:
            return [], {}, str(error)
        except (TypeError, LookupError):
            return [], {}, f"{self._nim.base_url}/v1/models is no list of models"

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._settle()
            except Exception:
                logger.exception("deployments could not be looked at; trying again")
            self._wake.wait(ASK_AGAIN_S if self._deadlines else None)

    def _settle(self) -> None:
        with self._lock:
            deadlines = dict(self._deadlines)
        if not deadlines:
            return
        served, failed, trouble = self.ask_nim()
        for deployment_id, deadline in deadlines.items():
            if self._stopping.is_set():
                return
            try:
                deployment = self._documents.get_by_id(DEPLOYMENT, deployment_id)
                outcome = self._outcome(deployment["models"], served, failed)
                if outcome is None and time.monotonic() >= deadline:
                    why = trouble or f"NIM does not serve it within {self._within_s:g} s"
                    outcome = status("failed", why)
                if outcome is None:
                    continue
                self._store(deployment, outcome)
            except NotFound:
                logger.info("deployment %s was deleted before it was ready", deployment_id)
            with self._lock:
                # One that was changed meanwhile has a later deadline, and waits on.
                if self._deadlines.get(deployment_id) == deadline:
                    del self._deadlines[deployment_id]

    def _store(self, deployment: Document, outcome: Document) -> None:
        if all(deployment[key] == value for key, value in outcome.items()):
            return
        models = deployment["models"]
        self._documents.update(
            DEPLOYMENT,
            deployment["id"],
            lambda present: outcome if present["models"] == models else {},
        )
        logger.info("deployment %s is %s", deployment["id"], outcome["status_details"])

    def _outcome(
        self, models: list[str], served: list[str], failed: dict[str, str]
    ) -> Document | None:
        """The status to store; None while NIM may come to serve the models."""
        missing = [model for model in models if not self._is_served(model, served)]
        if not missing:
            return status("ready", self._who_answers(models), self._nim.base_url)
        reasons = [
            failed.get(model) or failed.get(self._known_as(model)) or self._absent(model)
            for model in missing
        ]
        known = [reason for reason in reasons if reason]
        return status("failed", "; ".join(known)) if known else None

    def _is_served(self, model_id: str, served: list[str]) -> bool:
        """Whether NIM serves it, be it as a target's version of a model of the catalogue."""
        if model_id in served:
            return True
        return self._known_as(model_id) in served and not self._is_stored(model_id)

    def _known_as(self, model_id: str) -> str:
        """The catalogue's own id of the model, such as without `@v1.0.0+80GB`."""
        entry = self._catalog.get(model_id)
        return entry.id if entry else model_id

    def _absent(self, model_id: str) -> str | None:
        """Why a model cannot be loaded here, or None when it can."""
        entry = self._catalog.get(model_id)
        if entry is None and self._is_stored(model_id):
            return None
        if entry is None:
            near = self._catalog.near(model_id) or list(self._catalog.models)
            return f"unknown model {model_id!r}; known are, for example: {', '.join(near)}"
        return entry.why if entry.path is None else None

    def _is_stored(self, model_id: str) -> bool:
        """Whether it may be in the Entity Store; then NIM fetches it, or says why it cannot."""
        namespace, _, name = model_id.partition("/")
        try:
            self._platform.get(f"/v1/models/{quote(namespace)}/{quote(name)}")
        except UpstreamError as error:
            return error.status != 404
        return True

    def _who_answers(self, models: list[str]) -> str:
        entries = [self._catalog.get(model) for model in models]
        known = [entry for entry in entries if entry and entry.answered_by]
        return "; ".join(["ready", *(f"{e.id} answered by {e.answered_by}" for e in known)])


def status(name: str, description: str, url: str = "") -> dict[str, Any]:
    """The fields of a deployment that say how it is."""
    return {
        "status_details": {"status": name, "description": description},
        "deployed": name == "ready",
        "url": url,
    }
