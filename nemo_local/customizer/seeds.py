"""Stores the catalogue's targets and configs, anew at each start."""

from __future__ import annotations

from nemo_local.catalog import DEFAULT_MODEL, Catalog, CatalogModel
from nemo_local.core.documents import Document, Documents
from nemo_local.core.errors import NotFound
from nemo_local.customizer.config_fields import SEEDED_OPTIONS
from nemo_local.customizer.downloads import TARGET
from nemo_local.customizer.registry import CONFIG, Registry

TARGET_VERSION, CONFIG_VERSION = "2.0", "v1.0.0"
HARDWARE = {DEFAULT_MODEL: ("80GB", "A100", "L40")}
"""Hardware suffixes of a model's seeded configs; the other models' end in +80GB only."""
MAX_SEQ_LENGTH = 4096


class Seeds:
    """Stores every chat model of the catalogue as a target with its configs."""

    def __init__(self, documents: Documents, catalog: Catalog, registry: Registry) -> None:
        self._documents = documents
        self._catalog = catalog
        self._registry = registry

    def offer(self) -> None:
        """Store what is new or has changed; a model without readable weights is disabled."""
        for model in self._catalog.models.values():
            if model.role == "chat":
                weights_changed = self._offer_target(model)
                for hardware in HARDWARE.get(model.id, ("80GB",)):
                    self._offer_config(model, hardware, weights_changed)

    def _offer_target(self, model: CatalogModel) -> bool | None:
        """Store a model's target; whether its weights changed since last time, None = unknown."""
        namespace, name = f"{model.id}@{TARGET_VERSION}".split("/", 1)
        there = model.path is not None
        fields = {
            "answered_by": model.answered_by,
            "stand_in": str(model.stand_in).lower(),
            "why": model.why,
        }
        state: Document = {"status": "ready" if there else "created", "custom_fields": fields}
        try:
            found = self._documents.get(TARGET, namespace, name)
        except NotFound:
            document = {
                "base_model": model.id,
                "enabled": there,
                "num_parameters": model.num_parameters,
                "precision": "bf16-mixed",
                "model_type": "hf",
                "model_path": "",
                "model_uri": None,
                **state,
            }
            self._documents.create(TARGET, namespace, name, document)
            return True
        if found.get("model_path") or found.get("model_uri"):  # a user gave it other weights
            return None
        if found["status"] != state["status"]:
            state["enabled"] = there  # weights came or went
        if not model.broken:
            state["num_parameters"] = model.num_parameters
        state["custom_fields"] = {**(found.get("custom_fields") or {}), **fields}
        self._documents.update(TARGET, found["id"], state)
        return None if model.broken else bool(found["num_parameters"] != model.num_parameters)

    def _offer_config(
        self, model: CatalogModel, hardware: str, weights_changed: bool | None
    ) -> None:
        namespace, name = f"{model.id}@{CONFIG_VERSION}+{hardware}".split("/", 1)
        length = MAX_SEQ_LENGTH if model.broken else min(MAX_SEQ_LENGTH, model.max_model_len)
        try:
            found = self._documents.get(CONFIG, namespace, name)
        except NotFound:
            body = {
                "namespace": namespace,
                "name": name,
                "target": f"{model.id}@{TARGET_VERSION}",
                "max_seq_length": length,
                "training_options": SEEDED_OPTIONS,
            }
            self._registry.create_config(body)
            return
        too_long = weights_changed is False and found["max_seq_length"] > model.max_model_len
        if weights_changed or too_long:
            self._documents.update(CONFIG, found["id"], {"max_seq_length": length})
