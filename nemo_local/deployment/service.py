"""The rules of deployments: what is wanted is stored here, NIM follows, and we write down how it
went."""

from __future__ import annotations

import logging

from nemo_microservices.types import DeploymentConfig
from nemo_microservices.types.deployment import ModelDeployment

from nemo_local.catalog import Catalog
from nemo_local.core.client import Client
from nemo_local.core.documents import Document, Documents
from nemo_local.core.errors import Conflict, invalid_field
from nemo_local.core.ids import new_id
from nemo_local.core.query import ListQuery, Page
from nemo_local.core.secrets import masked, restored
from nemo_local.core.web import check_name, check_namespace, deleted, showable
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
"""How long NIM may take to load a model, or to come up, before the deployment counts as failed."""
_DEPLOYMENT_FIELDS = ("description", "project", "custom_fields", "ownership", "async_enabled")
_CONFIG_FIELDS = (
    "description", "project", "custom_fields", "ownership", "model", "nim_deployment",
)  # fmt: skip


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
        """Seed a deployment for each model that can be served, and see what NIM serves.

        A seed is made once: a deployment that was deleted stays deleted. One that failed is tried
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
        """Forget activations under way; they are taken up at the next start."""
        self._activations.stop()

    def create(self, body: Document) -> Document:
        """The new deployment, still pending; NIM loads its models in the background.

        Raises:
            Conflict: the name is taken. NotFound: the configuration it names does not exist.
            Invalid: the configuration cannot be served here.
        """
        return masked(self._activate_soon(self._store(body)))

    def get(self, namespace: str, name: str) -> Document:
        return masked(self._documents.get(DEPLOYMENT, namespace, name))

    def find(self, query: ListQuery) -> Page:
        """Deployments; `filter[status]` means `status_details.status`."""
        wanted = dict(query.filter)
        if "status" in wanted:
            wanted["status_details"] = {"status": wanted.pop("status")}
        found = self._documents.find(DEPLOYMENT, ListQuery(**{**vars(query), "filter": wanted}))
        return found.map(masked)

    def update(self, namespace: str, name: str, body: Document) -> Document:
        """The deployment after a shallow merge; new models are loaded, others unloaded."""
        found = self._documents.get(DEPLOYMENT, namespace, name)
        changes = {key: body[key] for key in _DEPLOYMENT_FIELDS if key in body}
        moves = body.get("config") is not None or body.get("models") is not None
        if moves:
            config, models = body.get("config") or found["config"], body.get("models")
            if config != found["config"] or not models:  # the same one may be deleted by now
                models = self._models_of(config, models)
            changes |= {"config": config, "models": list(models)}
            changes |= status("pending", WAITING)

        def merge(deployment: Document) -> Document:
            return showable(ModelDeployment, {**deployment, **restored(changes, deployment)})

        changed = self._documents.update(DEPLOYMENT, found["id"], merge)
        return masked(self._activate_soon(changed) if moves else changed)

    def delete(self, namespace: str, name: str) -> Document:
        """Delete a deployment and wait until NIM has unloaded what only it wanted."""
        found = self._documents.get(DEPLOYMENT, namespace, name)
        self._activations.drop(found["id"])
        self._documents.delete(DEPLOYMENT, found["id"])
        logger.info("deployment %s/%s deleted", namespace, name)
        trouble = self._activations.ask_nim().trouble
        if trouble:
            logger.warning("NIM was not told of the deletion; it will see for itself: %s", trouble)
        return deleted(found, self._documents.now())

    def create_config(self, body: Document) -> Document:
        """The new configuration. Raises Conflict when the name is taken, Invalid as `create`."""
        _check_config(body)
        namespace = check_namespace(body.get("namespace") or "default")
        name = check_name(body["name"]) if body.get("name") else None
        document = {
            **dict.fromkeys(_CONFIG_FIELDS),
            **{key: body[key] for key in _CONFIG_FIELDS if key in body},
            "external_endpoint": None,
            "schema_version": "1.0",
        }
        document["custom_fields"] = document["custom_fields"] or {}
        return masked(self._documents.create(CONFIG, namespace, name, document))

    def get_config(self, namespace: str, name: str) -> Document:
        return masked(self._documents.get(CONFIG, namespace, name))

    def find_configs(self, query: ListQuery) -> Page:
        return self._documents.find(CONFIG, query).map(masked)

    def update_config(self, namespace: str, name: str, body: Document) -> Document:
        """The configuration after a shallow merge; deployments made from it do not change."""
        found = self._documents.get(CONFIG, namespace, name)
        changes = {key: body[key] for key in _CONFIG_FIELDS if key in body}
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
            **dict.fromkeys(_DEPLOYMENT_FIELDS),
            **{key: body[key] for key in _DEPLOYMENT_FIELDS if key in body},
            "config": body["config"],
            "models": self._models_of(body["config"], body.get("models")),
            "schema_version": "1.0",
            **status("pending", WAITING),
        }
        document["custom_fields"] = document["custom_fields"] or {}
        document["async_enabled"] = bool(document["async_enabled"])
        try:
            return self._documents.create(DEPLOYMENT, namespace, name, document, id=deployment_id)
        except Conflict:
            raise Conflict(f"model deployment already exists: {namespace}/{name}") from None

    def _models_of(self, config: str | Document, given: list[str] | None) -> list[str]:
        """The model ids of a deployment: as given, else the one its configuration names."""
        if isinstance(config, str):
            namespace, _, name = config.partition("/")
            if not namespace or not name or "/" in name:
                raise invalid_field(
                    "body", "config", "name a configuration as namespace/name", config
                )
            config = self._documents.get(CONFIG, namespace, name)
        _check_config(config)
        if given:
            return list(given)
        model = config.get("model")
        if isinstance(model, dict):
            named = model.get("name")
            model = named and f"{model.get('namespace') or 'default'}/{named}"
        if not model:
            raise invalid_field("body", "models", "name a model here or in config.model", given)
        return [model]

    def _activate_soon(self, deployment: Document) -> Document:
        self._activations.add(deployment["id"])
        return deployment


def _check_config(config: Document) -> None:
    """Raise Invalid for a configuration that nothing here can follow."""
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
