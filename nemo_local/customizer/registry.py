"""Configs and targets: what can be trained here, and with which options."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from nemo_microservices.types import CustomizationConfig, CustomizationTarget

from nemo_local.catalog import DEFAULT_MODEL, Catalog, why_unreadable
from nemo_local.core.documents import Document, Documents, without_columns
from nemo_local.core.errors import Conflict, Invalid, NotFound
from nemo_local.core.near import did_you_mean, near_names
from nemo_local.core.web import check_name, check_namespace, deleted, showable
from nemo_local.customizer.config_fields import (
    CONFIG_DEFAULTS,
    change_options,
    check,
    complete_options,
    schema_of,
)
from nemo_local.customizer.downloads import (
    LOADING,
    TARGET,
    Downloads,
    hub_of,
    is_downloaded,
    source_of,
)
from nemo_local.customizer.references import split_name
from nemo_local.customizer.special_tokens import check_tokenizer

CONFIG = "customization_config"
WEIGHTS = {"base_model", "model_path", "model_uri", "hf_endpoint"}
"""Fields of a target that say which weights it means."""


class Registry:
    """The configs and targets, those of the catalogue and those that users add."""

    def __init__(
        self,
        documents: Documents,
        catalog: Catalog,
        models_dir: Path | None,
        downloads: Downloads,
    ) -> None:
        self._documents = documents
        self._catalog = catalog
        self._models_dir = models_dir
        self._downloads = downloads
        self._changing = threading.Lock()  # a target and its download change together

    def create_target(self, body: Document) -> Document:
        """The new target; its download begins, if it needs one. Raises Conflict, Invalid."""
        namespace, name = _names(body)
        self._check_target(body)
        document = {
            "base_model": f"{namespace}/{name}" if name else None,
            "enabled": True,
            "custom_fields": {},
            **{key: value for key, value in without_columns(body).items() if value is not None},
        }
        document |= self._state_of(document)
        target = self._documents.create(TARGET, namespace, name, document)
        if target["status"] == "pending":
            self._downloads.begin(target)
        return target

    def create_config(self, body: Document) -> Document:
        """The new config. Raises Conflict, Invalid; NotFound for an unknown target."""
        namespace, name = _names(body)
        return self.shown_config(
            self._documents.create(CONFIG, namespace, name, self._complete(without_columns(body)))
        )

    def get(self, kind: str, namespace: str, name: str) -> Document:
        """The stored TARGET or CONFIG. Raises NotFound, which suggests similar names."""
        try:
            return self._documents.get(kind, namespace, name)
        except NotFound:
            reference, what = f"{namespace}/{name}", "Config" if kind == CONFIG else "Target"
            near = near_names(reference, self._names_of(kind))
            raise NotFound(f"{what} {reference} not found.{did_you_mean(near)}") from None

    def update_target(self, namespace: str, name: str, body: Document) -> Document:
        """The target after a shallow merge, with a `warning_message`.

        Raises Invalid; Conflict when it would remove downloaded weights that a job needs.
        """
        found = self.get(TARGET, namespace, name)
        defaults = {
            "base_model": f"{namespace}/{name}",
            "enabled": True,
            "custom_fields": {},
            "model_path": "",
        }
        changes = {
            key: defaults.get(key) if value is None else value
            for key, value in without_columns(body).items()
        }
        self._check_target({**found, **changes})
        with self._changing:
            # Outside the transaction, where all writers would wait for the disk. A download ending
            # meanwhile writes fields that this keeps, or fetched weights no longer wanted.
            before = self._documents.get_by_id(TARGET, found["id"])
            merged = {**before, **changes}
            if hub_of(merged) != hub_of(before):
                self._downloads.check_unused(before)
                if merged["model_path"] == str(self._downloads.folder_of(before["id"])):
                    merged["model_path"] = ""
            moved = source_of(merged) != source_of(before)
            if WEIGHTS & changes.keys() and (moved or before["status"] not in LOADING):
                changes |= self._state_of(merged)
            showable(CustomizationTarget, {**before, **changes})
            target = self._documents.update(TARGET, found["id"], changes)
            self._downloads.follow(before, target)
        return {**target, "warning_message": None}

    def update_config(self, namespace: str, name: str, body: Document) -> Document:
        """The config after a shallow merge and changes of options, with a `warning_message`.

        Raises Invalid when the result could not be shown, or no job could train with it.
        """
        found = self.get(CONFIG, namespace, name)
        adding = body.pop("add_training_options", None) or []
        removing = body.pop("remove_training_options", None) or []
        changes = {
            key: CONFIG_DEFAULTS.get(key) if value is None else value
            for key, value in without_columns(body).items()
        }
        if changes.get("training_options") is None:
            changes.pop("training_options", None)
        missing: list[tuple[Any, Any]] = []

        def merge(config: Document) -> Document:
            nonlocal missing
            merged = {**config, **changes}
            if adding or removing or "training_options" in changes:
                options = merged["training_options"]
                merged["training_options"], missing = change_options(options, adding, removing)
            check(showable(CustomizationConfig, merged))
            if merged["dataset_schemas"] in (None, [schema_of(config["prompt_template"])]):
                merged["dataset_schemas"] = [schema_of(merged["prompt_template"])]
            return merged

        config = self.shown_config(self._documents.update(CONFIG, found["id"], merge))
        absent = ", ".join("/".join(pair) for pair in missing)
        warning = f"Training options to remove were not there: {absent}" if missing else None
        return {**config, "warning_message": warning}

    def delete(self, kind: str, namespace: str, name: str) -> Document:
        """Delete a TARGET or CONFIG; returns the reply. Raises Conflict for a target in use."""
        found = self.get(kind, namespace, name)
        if kind == TARGET:
            reference = f"{namespace}/{name}"
            users = self._documents.all(CONFIG, target=reference)
            if users:
                raise Conflict(
                    f"Target {reference} is used by config {users[0]['namespace']}/"
                    f"{users[0]['name']}; delete that first"
                )
            self._downloads.check_unused(found)
            self._downloads.forget(found["id"])
        return deleted(self._documents.delete(kind, found["id"]), self._documents.now())

    def shown_config(self, config: Document) -> Document:
        """The config with its target in full."""
        return {**config, "target": self.target_of(config)}

    def target_of(self, config: Document) -> Document | None:
        """The target of a config; None when it was deleted or never given."""
        target = config.get("target")
        if not isinstance(target, str):
            return target
        try:
            return self._documents.get(TARGET, *split_name(target, "Target"))
        except NotFound:
            return None

    def resolve(self, given: str | Document) -> tuple[Document, Path]:
        """The config of a job with its target in full, and the folder of the target's weights.

        Raises:
            Invalid: no version in the name, or no trainable target behind it.
            NotFound: no such config; the message suggests similar names.
        """
        if isinstance(given, str):
            config = self._named(given)
            shown = f"Config {given}"
        else:
            config, shown = self._complete(given), "The inline config"
        target = self.target_of(config)
        if target is None:
            raise Invalid(f"{shown} has no target; name one, such as {DEFAULT_MODEL}@2.0")
        if not target.get("base_model"):
            if not target.get("name"):
                raise Invalid(f"The target of {shown} needs a base_model, or a name")
            target = {**target, "base_model": f"{target['namespace']}/{target['name']}"}
        return {**config, "target": target}, self._trainable(target, shown)

    def trainable(self, reference: str, shown: str) -> Path:
        """Folder of an enabled target's weights. Raises NotFound, Invalid."""
        return self._trainable(self.get(TARGET, *split_name(reference, "Target")), shown)

    def _checkpoint(self, target: Document) -> tuple[Path | None, str]:
        """Folder of the target's weights, and where they come from or why there are none."""
        if target.get("model_path"):
            path = Path(target["model_path"])
            if not path.is_absolute():
                path = (self._models_dir or Path.cwd()) / path
            why = why_unreadable(path)
            return (None, why) if why else (path, f"weights found in {path}")
        if is_downloaded(target):
            told = (target.get("custom_fields") or {}).get("why")
            return None, told or "only targets that are created first are downloaded"
        model = self._catalog.get(target.get("base_model") or "")
        if model is not None:
            why = why_unreadable(model.path) if model.path else ""
            return (None, why) if why else (model.path, model.why)
        return None, (
            "checkpoints are downloaded from hf://namespace/name only; put others into the "
            "models folder (NEMO_LOCAL_MODELS) and give their folder as model_path"
        )

    def _trainable(self, target: Document, shown: str) -> Path:
        reference = f"{target.get('namespace')}/{target.get('name')}"
        checkpoint, reason = self._checkpoint(target)
        if not target.get("enabled"):
            reason = "someone disabled it" if checkpoint else reason
            raise Invalid(f"Target {reference} of {shown} is not enabled: {reason}")
        if target.get("status") != "ready":
            raise Invalid(
                f"Target {reference} of {shown} is {target.get('status')}, not ready: {reason}"
            )
        if checkpoint is None:  # removed since
            raise Invalid(f"Target {reference} of {shown} has no weights any more: {reason}")
        return checkpoint

    def _named(self, reference: str) -> Document:
        namespace, name = split_name(reference, "Config")
        try:
            return self.get(CONFIG, namespace, name)
        except NotFound:
            if "@" in name:
                raise
        known = self._names_of(CONFIG)
        near = [full for full in known if full.startswith(f"{reference}@")]
        hint = did_you_mean(near[:3] or near_names(reference, known))
        reference += "." if hint else ""
        raise Invalid(f"Version is not specified in the config URN: {reference}{hint}")

    def _complete(self, body: Document) -> Document:
        config = {
            **CONFIG_DEFAULTS,
            **{key: value for key, value in body.items() if value is not None},
        }
        config["training_options"] = complete_options(config["training_options"])
        if not config["training_options"]:
            raise Invalid("training_options must hold at least one option")
        check(config)
        if config.get("dataset_schemas") is None:
            config["dataset_schemas"] = [schema_of(config["prompt_template"])]
        target = config.get("target")
        if isinstance(target, str):
            self.get(TARGET, *split_name(target, "Target"))
        elif target is not None:
            namespace, name = _names(target)
            self._check_target(target)
            full = {"namespace": namespace, "name": name, "enabled": True, **target}
            config["target"] = full | self._state_of(full, stored=False)
        return config

    def _check_target(self, target: Document) -> None:
        check_tokenizer(target.get("tokenizer"))
        self._downloads.check(target)

    def _state_of(self, target: Document, stored: bool = True) -> Document:
        """The fields of a target that tell whether its weights are here."""
        path, reason = self._checkpoint(target)
        without = "pending" if stored and is_downloaded(target) else "failed"
        status = "ready" if path else without
        fields = target.get("custom_fields") or {}
        if "why" in fields or status == "failed":
            fields = {**fields, "why": reason}
        return {
            "model_path": target.get("model_path") or "",
            "model_type": "hf",
            "status": status,
            "custom_fields": fields,
        }

    def _names_of(self, kind: str) -> list[str]:
        return [f"{entity['namespace']}/{entity['name']}" for entity in self._documents.all(kind)]


def _names(body: Document) -> tuple[str, str | None]:
    namespace, name = body.get("namespace") or "default", body.get("name")
    check_namespace(namespace)
    return namespace, check_name(name) if name else None
