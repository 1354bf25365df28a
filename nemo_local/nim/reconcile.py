"""What is served follows what the platform wants (see `wanted`).

The platform stays the only memory. Without it we keep what we have; before it ever answered we
serve every base model of the catalogue.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from nemo_local.catalog import Catalog
from nemo_local.core.client import Client, UpstreamError
from nemo_local.nim.errors import Busy
from nemo_local.nim.failures import Failures
from nemo_local.nim.hub import Hub
from nemo_local.nim.lora import Unservable
from nemo_local.nim.models import Registry
from nemo_local.nim.stored import Stored, WantedAdapter, WantedCheckpoint
from nemo_local.nim.wanted import Wanted, WantedBase, read_wanted

logger = logging.getLogger(__name__)
T = TypeVar("T", bound=Stored)

POLL_S = 2.0
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", *TOKENIZER_FILES)
CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt")


class Reconciler:
    """Loads and unloads until what is served is what the platform wants."""

    def __init__(
        self,
        models: Registry,
        catalog: Catalog,
        platform: Client,
        hub: Hub,
        models_dir: Path | None = None,
        poll_s: float = POLL_S,
        fixed: bool = False,
    ) -> None:
        self._models = models
        self._catalog = catalog
        self._platform = platform
        self._hub = hub
        self._models_dir = models_dir
        self._poll_s = poll_s
        self._fixed = fixed  # every model of the catalogue is served, whatever is deployed
        self._lock = threading.Lock()
        self._loaded: dict[str, Stored] = {}
        self._failures = Failures()
        self._loaded_bases: dict[str, WantedBase] = {}
        self._broken_bases: dict[str, tuple[WantedBase, str]] = {}
        self._failed: dict[str, str] = {}
        self._known: Wanted | None = None
        self._staying: set[str] = set()
        self._trouble = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nim-reconcile", daemon=True)
        self.settled = threading.Event()
        """Set once the first pass is through: from then on /health/ready tells the truth."""

    def start(self) -> None:
        """Begin to poll."""
        self._hub.clear()
        self._thread.start()

    def stop(self) -> None:
        """End polling; a pass under way is finished first."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def refresh(self, hurry: bool = True) -> dict[str, Any]:
        """One pass now. Returns what is served, and what could not be and why.

        {"models": ["meta/llama-3.2-1b-instruct"], "failed": {"ns/a@v1": "no adapter_config.json"},
         "tried_again": []}

        What failed and may succeed later is in `tried_again`; in a `hurry`, it and base models are
        tried now.
        """
        with self._lock:
            if hurry:
                self._failures.hurry()
                self._broken_bases.clear()
            wanted = self._wanted()
            self._staying = wanted.ids.intersection(self._models.ids())
            self._models.forget_replaced()
            self._models.forget_lost()
            self._unload(wanted)
            self._load_bases(wanted)
            self._load_stored(wanted)
            self._load_adapters(wanted)
            self._staying = set()
            broken = {model_id: why for model_id, (_, why) in self._broken_bases.items()}
            failed = {**wanted.unusable, **broken, **self._failures.reasons()}
            self._failed = failed
            again = [*wanted.coming, *self._failures.tried_again()]
        self.settled.set()
        return {"models": self._models.ids(), "failed": failed, "tried_again": again}

    def why_not_served(self, model_id: str) -> str:
        """Why a model could not be loaded; empty when nothing is known."""
        entry = self._catalog.models.get(model_id)
        absent = entry.why if entry is not None and entry.path is None else ""
        return self._failed.get(model_id) or absent

    def is_loading(self, model_id: str) -> bool:
        """Whether a model that is not served may be before long: a pass is still to load it."""
        return not self.settled.is_set() or model_id in self._staying

    @property
    def nothing_to_come(self) -> bool:
        """Whether each model that the platform wants has failed, so that none is waited for."""
        known = self._known
        return known is not None and {*known.bases, *known.stored} <= self._failed.keys()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.refresh(hurry=False)
            except Exception:
                logger.exception("a pass of loading and unloading failed; trying again")
            self._stopping.wait(self._poll_s)

    def _wanted(self) -> Wanted:
        models = self._catalog.models.values() if self._fixed else self._catalog.servable()
        everything = {one.id: WantedBase(one, with_adapters=True) for one in models}
        fixed = everything if self._fixed else None
        try:
            self._known = read_wanted(self._platform, self._catalog, self._models_dir, fixed)
        except UpstreamError as error:
            if self._trouble != str(error):
                logger.warning("no list of what to serve, keeping what is served: %s", error)
                self._trouble = str(error)
            if self._known is None:
                return Wanted(everything)
        else:
            self._trouble = ""
        assert self._known is not None
        return self._known

    def _unload(self, wanted: Wanted) -> None:
        for one in self._models.all():
            from_store = wanted.adapters.get(one.id) or wanted.stored.get(one.id)
            # Another version is put in its place once that is downloaded.
            loaded = self._loaded.get(one.id)
            stays = bool(from_store and loaded and from_store.beside == loaded.beside)
            stays = stays or (one.folder is None and self._is_loaded(wanted.bases.get(one.id)))
            if not stays and one.id in self._models.ids():
                self._models.unload(one.id)
        served = set(self._models.ids())
        for model_id in [known for known in self._loaded if known not in served]:
            self._hub.delete(self._loaded.pop(model_id))
        for model_id in self._loaded_bases.keys() - served:
            del self._loaded_bases[model_id]
        self._failures.keep({**wanted.adapters, **wanted.stored})

    def _is_loaded(self, base: WantedBase | None) -> bool:
        loaded = self._loaded_bases.get(base.entry.id) if base else None
        return base is not None and loaded is not None and loaded.weights == base.weights

    def _load_bases(self, wanted: Wanted) -> None:
        served = set(self._models.ids())
        self._broken_bases = {
            model_id: (base, why)
            for model_id, (base, why) in self._broken_bases.items()
            if model_id in wanted.bases and wanted.bases[model_id].weights == base.weights
        }
        for model_id, base in wanted.bases.items():
            if model_id in served or model_id in self._broken_bases:
                continue
            try:
                self._models.load_base(base.entry)
                self._loaded_bases[model_id] = base
            except Busy:
                raise
            except Exception as error:  # whatever it is, the others are served
                foreign = not isinstance(error, Unservable)
                logger.error("%s cannot be served: %s", model_id, error, exc_info=foreign)
                self._broken_bases[model_id] = base, f"{base.entry.path}: {error}"

    def _load_stored(self, wanted: Wanted) -> None:
        def load(one: WantedCheckpoint, folder: Path) -> None:
            if one.model_id in self._models.ids():
                self._models.unload(one.model_id)  # two versions may be too much for the memory
            try:
                self._models.load_base(one.entry(folder))
            except Unservable as error:
                raise Unservable(f"{one.files_url}: {error}") from error

        self._fetch_and_load(wanted.stored.values(), CHECKPOINT_FILES, load)

    def _load_adapters(self, wanted: Wanted) -> None:
        def load(one: WantedAdapter, folder: Path) -> None:
            self._models.load_adapter(one.model_id, one.base_id, folder, one.files_url)

        served = set(self._models.ids())
        with_base = [one for one in wanted.adapters.values() if one.base_id in served]
        self._fetch_and_load(with_base, ADAPTER_FILES, load)

    def _fetch_and_load(
        self, wanted: Iterable[T], files: tuple[str, ...], load: Callable[[T, Path], None]
    ) -> None:
        served = set(self._models.ids())
        for one in wanted:
            before = self._loaded.get(one.model_id) if one.model_id in served else None
            stays = before and before.source == one.source and before.has_revision
            if stays or self._failures.is_too_early(one):
                continue
            try:
                one = replace(one, commit=self._hub.commit_of(one.files_url))
                if self._failures.is_refused(one):
                    continue
                if before is None or before.key != one.key:
                    load(one, self._hub.fetch(one, files))
                    self._replace(one)
                self._failures.forget(one.model_id)
                continue
            except Unservable as error:
                self._refuse(one, str(error))
            except (UpstreamError, OSError, Busy) as error:
                self._failures.put_off(one, error)
            except Exception as error:  # whatever a broken file leads to, the others are served
                logger.exception("%s broke the loading", one.model_id)
                self._refuse(one, f"{type(error).__name__}: {error}")
            self._hub.delete(one)

    def _replace(self, one: Stored) -> None:
        """Note that a model is loaded, and delete the files of the version before."""
        before = self._loaded.get(one.model_id)
        self._loaded[one.model_id] = one
        if before and before.key != one.key:
            self._hub.delete(before)

    def _refuse(self, one: Stored, reason: str) -> None:
        self._failures.refuse(one, reason)
        if one.model_id in self._loaded and one.model_id in self._models.ids():
            self._models.unload(one.model_id)  # its name means the version that cannot be served
