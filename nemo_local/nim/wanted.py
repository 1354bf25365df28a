"""What the platform wants served: deployments name base models, whole models of the Data Store and
targets of the Customizer; entities name adapters."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nemo_local.catalog import (
    Catalog,
    CatalogModel,
    checkpoint_in,
    has_own_weights,
    weight_files,
    why_unreadable,
)
from nemo_local.core.client import Client
from nemo_local.nim.stored import WantedAdapter, WantedCheckpoint

NOT_THERE = (
    "another server computes (NEMO_LOCAL_ENGINE_URL), and NEMO_LOCAL_ENGINE_MODELS does not name it"
)


@dataclass(frozen=True)
class WantedBase:
    """A model whose weights are in a folder here."""

    entry: CatalogModel
    with_adapters: bool
    """Whether adapters may be served beside it."""
    written_ns: int = 0
    """When a target's weights were written, as the same folder may come to hold others."""

    @property
    def weights(self) -> tuple[CatalogModel, int]:
        """Differs between any two that are not served alike."""
        return self.entry, self.written_ns


@dataclass(frozen=True)
class Wanted:
    """What should be served, and what cannot be."""

    bases: dict[str, WantedBase]
    adapters: dict[str, WantedAdapter] = field(default_factory=dict)
    stored: dict[str, WantedCheckpoint] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    """Why others, which are wanted, too, cannot be served."""
    coming: frozenset[str] = frozenset()
    """Those of the unusable that are being uploaded or downloaded."""

    @property
    def ids(self) -> set[str]:
        """All that should be served."""
        return {*self.bases, *self.adapters, *self.stored}


def read_wanted(
    platform: Client,
    catalog: Catalog,
    models_dir: Path | None,
    fixed: dict[str, WantedBase] | None = None,
) -> Wanted:
    """What the deployments and entities of the platform say.

    Relative paths of targets begin in `models_dir`. Where the base models are `fixed`, another
    server computes, and no deployment adds one.

    Raises:
        UpstreamError: the platform does not answer, or not as it should.
    """
    path, expanded = "/v1/deployment/model-deployments", {"expand": "config"}
    deployments = list(_pages(platform, path, expanded))
    targets = _pages(platform, "/v1/customization/targets", {})
    reading = _Reading(platform, catalog, models_dir, fixed, targets)
    for deployment in deployments:
        reading.add_deployment(deployment)
    for entity in _pages(platform, "/v1/models", {"filter[peft]": "true"}):
        reading.add_adapter(entity)
    return Wanted(
        reading.bases,
        reading.adapters,
        reading.stored,
        reading.unusable,
        frozenset(reading.coming),
    )


class _Reading:
    """One look at the platform."""

    def __init__(
        self,
        platform: Client,
        catalog: Catalog,
        models_dir: Path | None,
        fixed: dict[str, WantedBase] | None,
        targets: Iterable[dict[str, Any]],
    ) -> None:
        self._platform = platform
        self._catalog = catalog
        self._models_dir = models_dir
        self._fixed = fixed is not None
        self._targets = {
            f"{one['namespace']}/{one['name']}": one for one in targets if has_own_weights(one)
        }
        self.bases = dict(fixed or {})
        self.adapters: dict[str, WantedAdapter] = {}
        self.stored: dict[str, WantedCheckpoint] = {}
        self.unusable: dict[str, str] = {}
        self.coming: set[str] = set()

    def add_deployment(self, deployment: dict[str, Any]) -> None:
        """The models that a deployment names."""
        nim = deployment["config"].get("nim_deployment") or {}
        for model_id in deployment.get("models") or []:
            self._add_model(model_id, with_adapters=not nim.get("disable_lora_support"))

    def _add_model(self, model_id: str, with_adapters: bool) -> None:
        """The catalogue's own, a target's or a stored one.

        Where a target has no weights of its own, the catalogue's model of that name is meant.
        """
        known, target = self._catalog.models.get(model_id), self._targets.get(model_id)
        if self._fixed:
            if known is None and (target or self._catalog.get(model_id) is None):
                self.unusable[model_id] = NOT_THERE
        elif known is not None and known.path is not None:
            self._add_base(WantedBase(known, with_adapters))
        elif target is not None and target["status"] == "ready":
            self._add_target(model_id, target, with_adapters)
        elif (entity := self._platform.find(f"/v1/models/{quote(model_id)}")) is not None:
            self._add_stored(model_id, entity, with_adapters)
        elif target is not None:
            self._add_target(model_id, target, with_adapters)
        else:
            meant = self._catalog.get(model_id)
            if meant is not None and meant.path is not None:
                self._add_base(WantedBase(meant, with_adapters))

    def _add_base(self, base: WantedBase) -> None:
        before = self.bases.get(base.entry.id)
        either = base.with_adapters or (before is not None and before.with_adapters)
        self.bases[base.entry.id] = replace(base, with_adapters=either)

    def add_adapter(self, entity: dict[str, Any]) -> None:
        """An entity that is an adapter, if its base model is wanted and its files are there."""
        model_id = f"{entity['namespace']}/{entity['name']}"
        base_id = _name_of(entity.get("base_model"))
        if base_id not in {*self.stored, *self.bases, *self._targets}:
            entry = self._catalog.get(base_id)
            base_id = entry.id if entry is not None else base_id
        carrier = self.stored.get(base_id) or self.bases.get(base_id)
        artifact = entity.get("artifact") or {}
        if model_id in {*self.stored, *self.bases}:
            self.unusable[model_id] = (
                "it is an adapter with the id of a deployed model; register it under another name"
            )
        elif artifact.get("status") == "upload_completed" and carrier and carrier.with_adapters:
            self.adapters[model_id] = WantedAdapter(
                model_id, entity["id"], artifact["files_url"], base_id
            )

    def _add_stored(self, model_id: str, entity: dict[str, Any], with_adapters: bool) -> None:
        artifact = entity.get("artifact") or {}
        base = _name_of(entity.get("base_model"))
        if entity.get("peft"):
            self.unusable[model_id] = f"it is an adapter, served while {base} is deployed"
        elif artifact.get("status") != "upload_completed":
            self.unusable[model_id] = f"its artifact is {artifact.get('status')!r}"
            if artifact.get("status") == "created":
                self.coming.add(model_id)
        else:
            base_entry, before = self._catalog.get(base), self.stored.get(model_id)
            self.stored[model_id] = WantedCheckpoint(
                model_id,
                entity["id"],
                artifact["files_url"],
                stand_in=base_entry is not None and base_entry.stand_in,
                with_adapters=with_adapters or (before is not None and before.with_adapters),
            )

    def _add_target(self, model_id: str, target: dict[str, Any], with_adapters: bool) -> None:
        """The weights that the Customizer trains under this name, once they are here."""
        if target["status"] != "ready":
            told = (target.get("custom_fields") or {}).get("why")
            self.unusable[model_id] = f"its target is {target['status']}: {told}"
            if target["status"] != "failed":
                self.coming.add(model_id)
            return
        folder = (self._models_dir or Path.cwd()) / target["model_path"]
        why = why_unreadable(folder)
        if why:
            self.unusable[model_id] = why
            return
        source = f"weights of {target.get('model_uri') or folder}"
        try:
            entry = checkpoint_in(folder, model_id, source)
            written_ns = max(path.stat().st_mtime_ns for path in weight_files(folder))
        except (OSError, ValueError) as error:
            self.unusable[model_id] = (
                f"the weights in {folder} changed while they were read: {error}"
            )
            return
        self._add_base(WantedBase(entry, with_adapters, written_ns))


def _pages(platform: Client, path: str, params: dict[str, str]) -> Iterator[dict[str, Any]]:
    page, pages = 1, 1
    while page <= pages:
        body = platform.get(path, params={**params, "page": str(page), "page_size": "1000"})
        yield from body["data"]
        pages = body["pagination"]["total_pages"]
        page += 1


def _name_of(base_model: Any) -> str:
    """`namespace/name` of a base model given as text or as an embedded entity."""
    if isinstance(base_model, dict):
        return f"{base_model.get('namespace', 'default')}/{base_model.get('name', '')}"
    return str(base_model or "")
