"""The experiment trackers of a job: Weights & Biases and MLflow.

A Weights & Biases key comes with the POST of a job and is handed to its training process in the
environment. It is in no file, database row or argument, so a job that another platform process
resumes has none.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from nemo_local.core.errors import Invalid

KEY = "WANDB_API_KEY"
TRACKING_URI = "MLFLOW_TRACKING_URI"

PROJECT = "nvidia-nemo-customizer"
"""Where the real service logs a run that names no project."""
LONGEST_PROJECT = 128
_NO_PROJECT = frozenset("/\\#?%:")
WANDB_FIELDS = ("project", "entity", "notes", "tags")
_DATABASES = ("mysql", "mssql", "postgresql", "sqlite")


def asked_of_wandb(
    integrations: list[dict[str, Any]] | None, key: str | None
) -> dict[str, Any] | None:
    """Weights & Biases settings for the training process; None when nobody asked for it.

        asked_of_wandb([{"type": "wandb", "wandb": {"project": "p"}}], None)
        -> {"project": "p", "entity": None, "notes": None, "tags": None, "keyed": False}

    A key alone asks for it too, as at the real service.

    Raises:
        Invalid: there are two integrations, or a project whose name W&B refuses.
    """
    given = integrations or []
    if len(given) > 1:
        raise Invalid(f"integrations: a job is followed in one W&B run, not in {len(given)}")
    if not given and not key:
        return None
    fields = given[0]["wandb"] if given else {}
    asked: dict[str, Any] = {name: fields.get(name) for name in WANDB_FIELDS}
    project = asked["project"] or ""
    if not _NO_PROJECT.isdisjoint(project) or len(project) > LONGEST_PROJECT:
        raise Invalid(
            f"integrations: {project!r} cannot be the name of a W&B project: at most "
            f"{LONGEST_PROJECT} characters, and none of {' '.join(sorted(_NO_PROJECT))}"
        )
    return {**asked, "project": asked["project"] or PROJECT, "keyed": bool(key)}


def warnings(asked: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The warning of a job whose Weights & Biases run has no key."""
    if asked is None or asked["keyed"]:
        return []
    why = "no wandb-api-key came with the job; its run is in the job's folder, for `wandb sync`"
    return [{"message": "Weights & Biases runs offline", "explanation": why}]


def check_mlflow(tracking_uri: str | None) -> None:
    """Raise Invalid when MLflow is asked for but not installed, or only without databases."""
    if not tracking_uri:
        return
    if find_spec("mlflow") is None:
        raise Invalid(
            f"{TRACKING_URI} is set for this platform, but MLflow is not installed: "
            "pip install mlflow-skinny, or start the platform without it"
        )
    kind = urlsplit(tracking_uri).scheme.partition("+")[0]
    if kind in _DATABASES and find_spec("alembic") is None:
        raise Invalid(
            f"{TRACKING_URI} names a database ({kind}), which mlflow-skinny cannot write to: "
            "pip install mlflow, or set it to a server or a folder"
        )


def environment(key: str | None, tracking_uri: str | None) -> dict[str, str]:
    """The trackers' variables, which a training process gets in its environment only."""
    return {**({KEY: key} if key else {}), **(_mlflow(tracking_uri) if tracking_uri else {})}


def _mlflow(uri: str) -> dict[str, str]:
    """MLflow's variables; user and password leave the URI, which MLflow's messages show.

    _mlflow("http://me:word@host:5000")
    -> {"MLFLOW_TRACKING_URI": "http://host:5000", "MLFLOW_TRACKING_USERNAME": "me", ...}
    """
    if ":" not in uri:  # a folder; absolute, as the process works in another one
        return {TRACKING_URI: str(Path(uri).resolve())}
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return {TRACKING_URI: uri}
    return {
        TRACKING_URI: parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        "MLFLOW_TRACKING_USERNAME": unquote(parts.username),
        "MLFLOW_TRACKING_PASSWORD": unquote(parts.password or ""),
    }
