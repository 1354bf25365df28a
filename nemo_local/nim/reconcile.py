"""What is served follows what the platform says: deployments name base models, entities adapters.

The platform stays the only memory. Without it we keep what we have; before it ever answered we
serve every base model of the catalogue.
"""

import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from nemo_local.catalog import Catalog, CatalogModel
from nemo_local.core.client import Client, UpstreamError
from nemo_local.nim.errors import Busy
from nemo_local.nim.lora import UnservableAdapter
from nemo_local.nim.models import Served

logger = logging.getLogger(__name__)

POLL_S = 2.0
WANTED_STATES = ("created", "pending", "ready")


@dataclass(frozen=True)
class WantedAdapter:
    """An adapter the Entity Store lists as uploaded."""

    model_id: str
    base_id: str
    entity_id: str
    files_url: str

    @property
    def key(self) -> tuple[str, str]:
        """Changes when the same name comes to mean other weights."""
        return (self.entity_id, self.files_url)


@dataclass(frozen=True)
class Wanted:
    """What should be served."""

    bases: dict[str, bool]
    """Base model id -> whether adapters may be served beside it."""
    adapters: dict[str, WantedAdapter]


class Servable(Protocol):
    """An engine's models, as far as loading and unloading them goes."""

    def all(self) -> list[Served]: ...
    def ids(self) -> list[str]: ...
    def load_base(self, entry: CatalogModel) -> None: ...
    def load_adapter(self, model_id: str, base_id: str, folder: Path, root: str) -> None: ...
    def unload(self, model_id: str) -> None: ...


class Reconciler:
    """Loads and unloads until what is served is what the platform wants."""

    def __init__(
        self,
        models: Servable,
        catalog: Catalog,
        platform: Client,
        hub_url: str,
        token: str | None,
        folder: Path,
        poll_s: float = POLL_S,
        fixed: bool = False,
    ) -> None:
        self._models = models
        self._catalog = catalog
        self._platform = platform
        self._hub_url = hub_url
        self._token = token
        self._folder = folder
        self._poll_s = poll_s
        self._fixed = fixed  # every model of the catalogue is served, whatever is deployed
        self._lock = threading.Lock()
        self._loaded: dict[str, tuple[str, str]] = {}
        self._refused: dict[str, tuple[tuple[str, str], str]] = {}
        self._retrying: dict[str, str] = {}
        self._known: Wanted | None = None
        self._trouble = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nim-reconcile", daemon=True)
        self.settled = threading.Event()
        """Set once the first pass is through: from then on /health/ready tells the truth."""

    def start(self) -> None:
        """Begin to poll."""
        shutil.rmtree(self._folder, ignore_errors=True)  # of a process that was killed
        self._thread.start()

    def stop(self) -> None:
        """End polling; a pass under way is finished first."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def refresh(self) -> dict[str, Any]:
        """One pass now. Returns what is served, and what could not be and why.

        {"models": ["meta/llama-3.2-1b-instruct"], "failed": {"ns/a@v1": "no adapter_config.json"}}
        """
        with self._lock:
            wanted = self._wanted()
            self._unload(wanted)
            self._load_bases(wanted)
            self._load_adapters(wanted)
            refused = {model_id: reason for model_id, (_, reason) in self._refused.items()}
            failed = {**self._retrying, **refused}
        self.settled.set()
        return {"models": self._models.ids(), "failed": failed}

    @property
    def nothing_wanted(self) -> bool:
        """Whether the platform wants no model at all, so that there is nothing to wait for."""
        return self._known is not None and not self._known.bases

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.refresh()
            except Exception:
                logger.exception("a pass of loading and unloading failed; trying again")
            self._stopping.wait(self._poll_s)

    def _wanted(self) -> Wanted:
        try:
            bases = self._wanted_bases()
            self._known = Wanted(bases, self._wanted_adapters(bases))
        except UpstreamError as error:
            if self._trouble != str(error):
                logger.warning("no list of what to serve, keeping what is served: %s", error)
                self._trouble = str(error)
            if self._known is None:
                known = self._catalog.models.values()
                return Wanted({e.id: True for e in known if self._fixed or e.path is not None}, {})
        else:
            self._trouble = ""
        assert self._known is not None
        return self._known

    def _wanted_bases(self) -> dict[str, bool]:
        if self._fixed:
            return dict.fromkeys(self._catalog.models, True)
        bases: dict[str, bool] = {}
        for deployment in self._pages("/v1/deployment/model-deployments", {}):
            if deployment["status_details"]["status"] not in WANTED_STATES:
                continue
            nim = self._config_of(deployment).get("nim_deployment") or {}
            with_adapters = not nim.get("disable_lora_support")
            for model_id in deployment.get("models") or []:
                entry = self._catalog.get(model_id)
                if entry is not None and entry.path is not None:
                    bases[entry.id] = bases.get(entry.id, False) or with_adapters
        return bases

    def _config_of(self, deployment: dict[str, Any]) -> dict[str, Any]:
        config = deployment["config"]
        if not isinstance(config, str):
            return dict(config)
        try:
            return dict(self._platform.get(f"/v1/deployment/configs/{config}"))
        except UpstreamError as error:
            if error.status != 404:
                raise
            return {}  # deleted since; the deployment itself stands

    def _wanted_adapters(self, bases: dict[str, bool]) -> dict[str, WantedAdapter]:
        adapters = {}
        for entity in self._pages("/v1/models", {"filter[peft]": "true"}):
            artifact = entity.get("artifact") or {}
            entry = self._catalog.get(_name_of(entity.get("base_model")))
            uploaded = artifact.get("status") == "upload_completed"
            if uploaded and entry is not None and bases.get(entry.id):
                model_id = f"{entity['namespace']}/{entity['name']}"
                adapters[model_id] = WantedAdapter(
                    model_id, entry.id, entity["id"], artifact["files_url"]
                )
        return adapters

    def _pages(self, path: str, params: dict[str, str]) -> Iterator[dict[str, Any]]:
        page, pages = 1, 1
        while page <= pages:
            query = {**params, "page": str(page), "page_size": "1000"}
            body = self._platform.get(path, params=query)
            yield from body["data"]
            pages = body["pagination"]["total_pages"]
            page += 1

    def _unload(self, wanted: Wanted) -> None:
        for one in self._models.all():
            if one.folder is None:
                stays = one.id in wanted.bases
            else:
                adapter = wanted.adapters.get(one.id)
                stays = adapter is not None and adapter.key == self._loaded.get(one.id)
            if not stays and one.id in self._models.ids():
                self._models.unload(one.id)
        served = set(self._models.ids())
        for model_id in [known for known in self._loaded if known not in served]:
            entity_id, _ = self._loaded.pop(model_id)
            shutil.rmtree(self._folder / entity_id, ignore_errors=True)
        for model_id, (key, _) in list(self._refused.items()):
            current = wanted.adapters.get(model_id)
            same = current.key == key if current else model_id in wanted.bases
            if not same:
                del self._refused[model_id]

    def _load_bases(self, wanted: Wanted) -> None:
        served = set(self._models.ids())
        for model_id in wanted.bases:
            if model_id in served or model_id in self._refused:
                continue
            entry = self._catalog.models[model_id]
            try:
                self._models.load_base(entry)
            except (OSError, ValueError, RuntimeError, KeyError) as error:
                self._refuse(model_id, ("", str(entry.path)), f"{entry.path}: {error}")

    def _load_adapters(self, wanted: Wanted) -> None:
        served = set(self._models.ids())
        retrying: dict[str, str] = {}
        for adapter in wanted.adapters.values():
            id_ = adapter.model_id
            if id_ in served or id_ in self._refused or adapter.base_id not in served:
                continue
            folder = self._folder / adapter.entity_id
            try:
                self._download(adapter, folder)
                self._models.load_adapter(id_, adapter.base_id, folder, adapter.files_url)
                self._loaded[id_] = adapter.key
                continue
            except UnservableAdapter as error:
                self._refuse(id_, adapter.key, str(error))
            except (HfHubHTTPError, OSError, Busy) as error:
                retrying[id_] = f"{type(error).__name__}: {error}"
                if self._retrying.get(id_) != retrying[id_]:
                    logger.warning("adapter %s not loaded, trying again: %s", id_, error)
            shutil.rmtree(folder, ignore_errors=True)
        self._retrying = retrying

    def _refuse(self, model_id: str, key: tuple[str, str], reason: str) -> None:
        logger.error("%s cannot be served: %s", model_id, reason)
        self._refused[model_id] = (key, reason)

    def _download(self, adapter: WantedAdapter, folder: Path) -> None:
        """Fetch the adapter's files into `folder`; only data is fetched, never a pickle."""
        namespace, name, revision = split_files_url(adapter.files_url)
        snapshot_download(
            f"{namespace}/{name}",
            revision=revision,
            endpoint=self._hub_url,
            # The platform's own token or none; never the user's Hub token.
            token=self._token or False,
            local_dir=folder,
            allow_patterns=["adapter_config.json", "adapter_model.safetensors"],
        )


def split_files_url(url: str) -> tuple[str, str, str | None]:
    """Namespace, repository and revision of a model URL.

        "hf://ns/name@cust-1" -> ("ns", "name", "cust-1")
        "hf://models/ns/name" -> ("ns", "name", None)

    Raises:
        UnservableAdapter: it is not a model in the Data Store.
    """
    path = url.removeprefix("hf://").removeprefix("nds://").removeprefix("models/")
    namespace, _, rest = path.partition("/")
    name, _, revision = rest.strip("/").partition("@")
    if path == url or not namespace or not name or "/" in name:
        raise UnservableAdapter(f"files_url {url!r} does not have the form hf://namespace/name")
    return namespace, name, revision or None


def _name_of(base_model: Any) -> str:
    """`namespace/name` of a base model given as text or as an embedded entity."""
    if isinstance(base_model, dict):
        return f"{base_model.get('namespace', 'default')}/{base_model.get('name', '')}"
    return str(base_model or "")
