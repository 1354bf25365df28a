"""The rules of deployments: the wanted models are stored, NIM loads them, and the outcome is
stored as the deployment's status."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from nemo_microservices.types import DeploymentConfig
from nemo_microservices.types.deployment import ModelDeployment

from nemo_local.catalog import Catalog
from nemo_local.core.client import Client
from nemo_local.core.documents import Document, Documents
from nemo_local.core.errors import Conflict, NotFound, invalid_field
from nemo_local.core.ids import new_id
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.secrets import masked, restored
from nemo_local.core.web import ENTITY_NAME, check_name, check_namespace, deleted, showable
from nemo_local.deployment.activation import (
    DEPLOYMENT,
    LOOK_EVERY_S,
    WAITING,
    Activations,
    status,
)

logger = logging.getLogger(__name__)

CONFIG, SEED = "deployment_config", "deployment_seed"
ACTIVATE_WITHIN_S = 300.0
"""Seconds that NIM may take to load a model, or to start, before the deployment has failed."""
_DEPLOYMENT_FIELDS = ("description", "project", "custom_fields", "ownership", "async_enabled")
_CONFIG_FIELDS = (
    "description", "project", "custom_fields", "ownership", "model", "nim_deployment",
)  # fmt: skip
_DEFAULTS: dict[str, Any] = {"custom_fields": {}, "async_enabled": False}
"""Values for fields that are absent or null."""
_TAKEN = "config_taken"
"""Hidden field of a deployment: a copy of the configuration it names, as it was at that time."""


class DeploymentService:
    """Model deployments and deployment configurations."""

    def __init__(
        self,
        documents: Documents,
        nim: Client,
        catalog: Catalog,
        platform: Client,
        activate_within_s: float = ACTIVATE_WITHIN_S,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._documents = documents
        self._catalog = catalog
        self._activations = Activations(
            documents, nim, catalog, platform, activate_within_s, look_every_s
        )

    def start(self) -> None:
        """Seed a deployment for each model that can be served, and begin to follow them all.

        A deployment is seeded once: if it is deleted, it stays deleted. One that failed is tried
        again: what it lacked may be there now.
        """
        for entry in self._catalog.servable():
            if self._documents.all(SEED, name=entry.id):
                continue
            self._documents.create(SEED, "", entry.id, {})
            namespace, _, name = entry.id.partition("/")
            nim = {"image_name": "nemo-local/nim", "image_tag": "embedded", "gpu": 0}
            body = {
                "namespace": namespace,
                "name": name,
                "description": "in the catalogue at the first start",
                "config": {"model": entry.id, "nim_deployment": nim},
            }
            try:
                self._store(body)
            except Conflict:
                logger.info("deployment %s exists; not seeded", entry.id)
        for deployment in self._documents.all(DEPLOYMENT):
            if deployment["status_details"]["status"] == "failed":
                waiting = status("pending", WAITING)
                deployment = self._documents.update(DEPLOYMENT, deployment["id"], waiting)
            self._activate_soon(deployment)

    def stop(self) -> None:
        """Stop following deployments; the next start resumes."""
        self._activations.stop()

    def create(self, body: Document) -> Document:
        """The new deployment, still pending; NIM loads its models in the background.

        Raises:
            Conflict: the name is taken. NotFound: the configuration it names does not exist.
            Invalid: the configuration cannot be served here.
        """
        return _shown(self._activate_soon(self._store(body)))

    def get(self, namespace: str, name: str) -> Document:
        return _shown(self._documents.get(DEPLOYMENT, namespace, name))

    def find(self, query: ListQuery, expand_config: bool = False) -> Page:
        """Deployments; `filter[status]` means `status_details.status`.

        Each shows its configuration as it was sent or, with `expand_config`, the contents that it
        had when the deployment named it.
        """
        wanted = dict(query.filter)
        if "status" in wanted:
            wanted["status_details"] = {"status": wanted.pop("status")}
        found = self._documents.find(DEPLOYMENT, replace(query, filter=wanted))
        if expand_config:
            found = found.map(lambda one: {**one, "config": self._config_of(one)})
        return found.map(_shown)

    def update(self, namespace: str, name: str, body: Document) -> Document:
        """The deployment after a shallow merge; NIM loads new models and unloads old ones."""
        found = self._documents.get(DEPLOYMENT, namespace, name)
        changes = _sent(body, _DEPLOYMENT_FIELDS)
        moves = body.get("config") is not None or body.get("models") is not None
        if moves:
            changes |= self._moved(found, body.get("config"), body.get("models"))
            changes |= status("pending", WAITING)

        def merge(deployment: Document) -> Document:
            return showable(ModelDeployment, {**deployment, **restored(changes, deployment)})

        changed = self._documents.update(DEPLOYMENT, found["id"], merge)
        return _shown(self._activate_soon(changed) if moves else changed)

    def delete(self, namespace: str, name: str) -> Document:
        """Delete a deployment and wait until NIM has unloaded models that no other one wants."""
        found = self._documents.get(DEPLOYMENT, namespace, name)
        self._activations.drop(found["id"])
        self._documents.delete(DEPLOYMENT, found["id"])
        logger.info("deployment %s/%s deleted", namespace, name)
        trouble = self._activations.ask_nim().trouble
        if trouble:
            logger.warning("NIM was not told of the deletion; it will notice later: %s", trouble)
        return deleted(found, self._documents.now())

    def create_config(self, body: Document) -> Document:
        """The new configuration. Raises Conflict when the name is taken, Invalid as `create`."""
        _check_config(body)
        namespace = check_namespace(body.get("namespace") or "default")
        name = check_name(body["name"]) if body.get("name") else None
        document = {
            **_sent({**dict.fromkeys(_CONFIG_FIELDS), **body}, _CONFIG_FIELDS),
            "external_endpoint": None,
            "schema_version": "1.0",
        }
        return masked(self._documents.create(CONFIG, namespace, name, document))

    def get_config(self, namespace: str, name: str) -> Document:
        return masked(self._documents.get(CONFIG, namespace, name))

    def find_configs(self, query: ListQuery) -> Page:
        return self._documents.find(CONFIG, query).map(masked)

    def update_config(self, namespace: str, name: str, body: Document) -> Document:
        """The configuration after a shallow merge; deployments made from it do not change."""
        found = self._documents.get(CONFIG, namespace, name)
        changes = _sent(body, _CONFIG_FIELDS)
        _check_config({**found, **changes, "external_endpoint": body.get("external_endpoint")})

        def merge(config: Document) -> Document:
            return showable(DeploymentConfig, {**config, **restored(changes, config)})

        return masked(self._documents.update(CONFIG, found["id"], merge))

    def delete_config(self, namespace: str, name: str) -> Document:
        found = self._documents.get(CONFIG, namespace, name)
        self._documents.delete(CONFIG, found["id"])
        return deleted(found, self._documents.now())

    def _store(self, body: Document) -> Document:
        namespace = check_namespace(body.get("namespace") or "default")
        deployment_id = new_id("deployment")
        name = check_name(body["name"]) if body.get("name") else deployment_id
        document = {
            **_sent({**dict.fromkeys(_DEPLOYMENT_FIELDS), **body}, _DEPLOYMENT_FIELDS),
            **self._configured(body["config"], body.get("models")),
            "schema_version": "1.0",
            **status("pending", WAITING),
        }
        try:
            return self._documents.create(DEPLOYMENT, namespace, name, document, id=deployment_id)
        except Conflict:
            raise Conflict(f"model deployment already exists: {namespace}/{name}") from None

    def _configured(self, config: str | Document, given: list[str] | None) -> Document:
        """The fields of a deployment that follow from a configuration and the models given.

        Raises NotFound, or Invalid.
        """
        taken = None
        if isinstance(config, str):
            namespace, _, name = config.partition("/")
            if not namespace or not name or "/" in name:
                raise invalid_field(
                    "body", "config", "name a configuration as namespace/name", config
                )
            stored = self._documents.get(CONFIG, namespace, name)
            taken = {key: stored[key] for key in ("model", "nim_deployment")}
        said = config if isinstance(config, dict) else taken or {}
        _check_config(said)
        return {"config": config, _TAKEN: taken, "models": _checked(given or _models_in(said))}

    def _moved(
        self, found: Document, config: str | Document | None, models: list[str] | None
    ) -> Document:
        """The fields that change with a new configuration or new models.

        Models that were given apart from the old configuration stay until others are given.
        """
        if models and config is None:
            return {"models": _checked(models)}
        if models is None and found["models"] != _models_in(self._config_of(found)):
            models = found["models"]
        try:
            return self._configured(config or found["config"], models)
        except NotFound:
            if models and config == found["config"]:  # it was deleted since
                return {"models": _checked(models)}
            raise

    def _config_of(self, deployment: Document) -> Document:
        """A deployment's configuration, as it was when the deployment named it."""
        config = deployment["config"]
        said: Document = config if isinstance(config, dict) else deployment[_TAKEN]
        return said

    def _activate_soon(self, deployment: Document) -> Document:
        self._activations.add(deployment["id"])
        return deployment


def _shown(deployment: Document) -> Document:
    return masked({key: value for key, value in deployment.items() if key != _TAKEN})


def _sent(body: Document, fields: tuple[str, ...]) -> Document:
    """Those of `fields` that the body has, with the default in place of a null."""
    return {
        key: _DEFAULTS.get(key) if body[key] is None else body[key] for key in fields if key in body
    }


def _models_in(config: Document) -> list[str]:
    """The model that a configuration names, as a list of one or none."""
    model = config.get("model")
    if isinstance(model, dict):
        named = model.get("name")
        model = named and f"{model.get('namespace') or 'default'}/{named}"
    return [model] if model else []


def _checked(models: list[str]) -> list[str]:
    """Each model id once. Raises Invalid when there is none, or one that no model can have."""
    if not models:
        raise invalid_field("body", "models", "name a model here or in config.model", models)
    for model in models:
        namespace, _, name = model.partition("/")
        if not (ENTITY_NAME.fullmatch(namespace) and ENTITY_NAME.fullmatch(name)):
            raise invalid_field("body", "models", "name each model as namespace/name", model)
    return list(dict.fromkeys(models))


def _check_config(config: Document) -> None:
    """Raise Invalid for a configuration that cannot be served here."""
    if config.get("external_endpoint"):
        raise invalid_field(
            "body",
            "external_endpoint",
            "external endpoints are not supported; start the platform with NEMO_LOCAL_NIM_URL set "
            "to the endpoint instead",
            masked(config["external_endpoint"]),
        )
    if not config.get("nim_deployment"):
        raise invalid_field("body", "nim_deployment", "nim_deployment is missing", None)
