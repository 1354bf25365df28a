"""Keeps the status of deployments: polls NIM until it serves their models or fails to, and then
now and again for changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from nemo_local.catalog import Catalog, has_own_weights
from nemo_local.core.client import Client, UpstreamError
from nemo_local.core.documents import Document, Documents
from nemo_local.core.errors import NotFound

logger = logging.getLogger(__name__)

DEPLOYMENT = "model_deployment"
ASK_AGAIN_S = 0.25
LOOK_EVERY_S = 5.0
"""Seconds between polls of NIM about deployments that are ready, failed or being retried by it."""
REFRESH_TIMEOUT_S = 30.0
LISTED_WITHIN_S = 5.0
WAITING = "waiting for NIM"


@dataclass(frozen=True)
class NimState:
    """NIM's report on its models."""

    served: Mapping[str, str] = field(default_factory=dict)
    """The name of what really answers, by served model; "" where NIM does not say."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """The reason, by model that it could not load."""
    tried_again: frozenset[str] = frozenset()
    """The failed models that it may still load later."""
    trouble: str = ""
    """What is wrong with NIM itself; if set, nothing else is known."""


class Activations:
    """Updates the status of all deployments; one thread polls NIM for them.

    A status follows NIM: a deployment that has failed becomes ready once NIM serves its models.
    """

    def __init__(
        self,
        documents: Documents,
        nim: Client,
        catalog: Catalog,
        platform: Client,
        within_s: float,
        look_every_s: float,
    ) -> None:
        self._documents = documents
        self._nim = nim
        self._catalog = catalog
        self._platform = platform
        self._within_s = within_s
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._deadlines: dict[str, float] = {}
        """When each waiting deployment, by its id, counts as failed: monotonic seconds."""
        self._in_hurry = False
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, deployment_id: str) -> None:
        """Follow the deployment from now on; its time limit starts now."""
        with self._lock:
            self._deadlines[deployment_id] = time.monotonic() + self._within_s
            self._in_hurry = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deployments", daemon=True)
                self._thread.start()
        self._wake.set()

    def drop(self, deployment_id: str) -> None:
        """Stop waiting for the deployment."""
        with self._lock:
            self._deadlines.pop(deployment_id, None)

    def stop(self) -> None:
        """Stop polling; the next start continues."""
        self._stopping.set()
        self._wake.set()
        if self._thread:
            self._thread.join()

    def ask_nim(self, hurry: bool = True) -> NimState:
        """NIM's state after it has looked for new models; with `hurry` it retries all at once."""
        failed, tried_again = {}, frozenset[str]()
        try:
            state = self._nim.post(
                "/internal/refresh", params={"hurry": hurry}, timeout=REFRESH_TIMEOUT_S
            )
            failed, tried_again = dict(state["failed"]), frozenset(state["tried_again"])
        except UpstreamError as error:
            if error.status not in (404, 405):
                return NimState(trouble=str(error))
            # A NIM that is not ours has no such call: its model list is all there is.
        except (TypeError, LookupError, ValueError):
            pass
        return replace(self._listed(), failed=failed, tried_again=tried_again)

    def _listed(self) -> NimState:
        try:
            models = self._nim.get("/v1/models", timeout=LISTED_WITHIN_S)["data"]
            return NimState({one["id"]: str(one.get("answered_by") or "") for one in models})
        except UpstreamError as error:
            return NimState(trouble=str(error))
        except (TypeError, LookupError):
            return NimState(trouble=f"{self._nim.base_url}/v1/models returned no list of models")

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            pause_s = ASK_AGAIN_S
            try:
                pause_s = self._look()
            except Exception:
                logger.exception("deployments could not be checked; trying again")
            self._wake.wait(pause_s)

    def _look(self) -> float:
        """Store the status of all deployments. Returns the seconds until the next look."""
        with self._lock:
            hurry, self._in_hurry = self._in_hurry, False
        deployments = self._documents.all(DEPLOYMENT)
        settled = not hurry and all(one["deployed"] for one in deployments)
        nim = self._listed() if settled else self.ask_nim(hurry)
        soon = False
        for deployment in deployments:
            if self._stopping.is_set():
                break
            try:
                soon |= self._follow(deployment, nim)
            except NotFound:
                logger.info("deployment %s was deleted before it was ready", deployment["id"])
        return ASK_AGAIN_S if soon else self._look_every_s

    def _follow(self, deployment: Document, nim: NimState) -> bool:
        """Store the deployment's status. Returns whether it may change in a moment."""
        deployment_id, trouble = deployment["id"], nim.trouble
        deadline = self._deadlines.get(deployment_id)
        if trouble and deadline is None:
            return False
        try:
            name, why = self._outcome(deployment["models"], nim)
        except UpstreamError as error:  # of the Entity Store
            name, why, trouble = "pending", "", str(error)
        if name != "pending":
            with self._lock:
                # A deployment that was changed meanwhile has a later deadline, and still waits.
                if self._deadlines.get(deployment_id) == deadline:
                    self._deadlines.pop(deployment_id, None)
            self._store(deployment, status(name, why, self._nim.base_url))
            return False
        if deadline is None and trouble:
            return False
        now = time.monotonic()
        with self._lock:
            deadline = self._deadlines.setdefault(deployment_id, now + self._within_s)
        if now >= deadline:
            late = f"NIM does not serve it within {self._within_s:g} s"
            self._store(deployment, status("failed", trouble or why or late))
            return False
        if not trouble:
            self._store(deployment, status("pending", why or WAITING))
        return not why

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

    def _outcome(self, models: list[str], nim: NimState) -> tuple[str, str]:
        """The status, `pending` while NIM may still load the models, and its explanation."""
        missing = self._missing(models, nim)
        if not missing:
            return "ready", self._who_answers(models, nim)
        failed = nim.failed
        reasons = {
            model: failed.get(model) or failed.get(self._known_as(model)) or self._absent(model)
            for model in missing
        }
        known = {model: reason for model, reason in reasons.items() if reason}
        name = "pending" if known.keys() <= nim.tried_again else "failed"
        return name, "; ".join(known.values())

    def _missing(self, models: list[str], nim: NimState) -> list[str]:
        return [model for model in models if not self._is_served(model, nim)]

    def _is_served(self, model_id: str, nim: NimState) -> bool:
        """Whether NIM serves a model, perhaps under the catalogue's id of a target's version."""
        if model_id in nim.served:
            return True
        return self._known_as(model_id) in nim.served and not self._has_own_weights(model_id)

    def _known_as(self, model_id: str) -> str:
        """The catalogue's own id of the model, such as without `@v1.0.0+80GB`."""
        entry = self._catalog.get(model_id)
        return entry.id if entry else model_id

    def _absent(self, model_id: str) -> str | None:
        """Why a model cannot be loaded here, or None when it can."""
        entry = self._catalog.get(model_id)
        is_here = entry is not None and entry.id == model_id and entry.path is not None
        if not is_here and self._has_own_weights(model_id):
            return None
        if entry is None:
            near = self._catalog.near(model_id) or list(self._catalog.models)
            return f"unknown model {model_id!r}; known are, for example: {', '.join(near)}"
        return entry.why if entry.path is None else None

    def _has_own_weights(self, model_id: str) -> bool:
        """Whether a model is in the Entity Store, or is a target with weights of its own.

        If so, NIM fetches it or reports why it cannot.
        """
        if self._platform.find(f"/v1/models/{quote(model_id)}") is not None:
            return True
        target = self._platform.find(f"/v1/customization/targets/{quote(model_id)}")
        return target is not None and has_own_weights(target)

    def _who_answers(self, models: list[str], nim: NimState) -> str:
        served_as = [one if one in nim.served else self._known_as(one) for one in models]
        known = [f"{one} answered by {nim.served[one]}" for one in served_as if nim.served[one]]
        return "; ".join(["ready", *known])


def status(name: str, description: str, url: str = "") -> dict[str, Any]:
    """The status fields of a deployment; the URL is set only when it is ready."""
    return {
        "status_details": {"status": name, "description": description},
        "deployed": name == "ready",
        "url": url if name == "ready" else "",
    }
