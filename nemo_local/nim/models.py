"""What is served now: base models and adapters by the id clients ask for.

Served does not mean in memory: under a memory limit, weights are loaded when a request needs them.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nemo_local.catalog import CatalogModel
from nemo_local.core.near import did_you_mean, near_names
from nemo_local.core.tool_formats import ToolFormat
from nemo_local.nim.checkpoint import (
    Checkpoint,
    beside,
    give_back_memory,
    load_checkpoint,
    weight_bytes,
)
from nemo_local.nim.engine import Engine
from nemo_local.nim.errors import BadValue, NimError, UnknownModel
from nemo_local.nim.kv_cache import capacity
from nemo_local.nim.lora import Unservable, read_adapter
from nemo_local.nim.residents import Resident, Residents

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """One id clients may ask for."""

    id: str
    entry: CatalogModel
    """Catalogue entry of the base model."""
    root: str
    """Where the weights come from: the id itself, or `hf://namespace/name@version`."""
    folder: Path | None = None
    """Files of the adapter, kept while it is served; None for a base model."""
    name: str = ""
    """What the engine calls this version of the adapter; empty for a base model."""
    created: int = field(default_factory=lambda: int(time.time()))
    permission: str = field(default_factory=lambda: f"modelperm-{uuid.uuid4().hex}")

    def listing(self) -> dict[str, Any]:
        """The OpenAI model object, with who really answers."""
        return {
            "id": self.id,
            "object": "model",
            "created": self.created,
            "owned_by": "system",
            "root": self.root,
            "parent": self.entry.id if self.folder else None,
            "max_model_len": None if self.folder else self.entry.max_model_len or None,
            "permission": [
                {
                    "id": self.permission,
                    "object": "model_permission",
                    "created": self.created,
                    "allow_create_engine": False,
                    "allow_sampling": True,
                    "allow_logprobs": True,
                    "allow_search_indices": False,
                    "allow_view": True,
                    "allow_fine_tuning": False,
                    "organization": "*",
                    "group": None,
                    "is_blocking": False,
                }
            ],
            "answered_by": self.entry.answered_by,
            "stand_in": self.entry.stand_in,
        }


@dataclass(frozen=True)
class Lease:
    """A model in memory, which stays there until its request is queued or given up."""

    checkpoint: Checkpoint
    """The base model, as the adapter has it."""
    adapter: str | None
    """Name in the checkpoint's adapter set; None for the base model itself."""
    residents: list[Resident]


class Registry:
    """The ids that are served, whoever computes."""

    load_base: Callable[[CatalogModel], None]
    load_adapter: Callable[[str, str, Path, str], None]
    unload: Callable[[str], None]

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served: dict[str, Served] = {}

    def all(self) -> list[Served]:
        """Everything served, base models first."""
        with self._lock:
            return sorted(self._served.values(), key=lambda one: one.folder is not None)

    def ids(self) -> list[str]:
        """The ids of everything served."""
        return [one.id for one in self.all()]

    def get(self, model_id: str) -> Served:
        """The model of this id.

        Raises:
            UnknownModel: it is not served; the message offers the ids most like it.
        """
        with self._lock:
            served, known = self._served.get(model_id), list(self._served)
        if served is None:
            hint = did_you_mean(near_names(model_id, known) or known) or " No model is loaded."
            raise UnknownModel(f"The model `{model_id}` does not exist.{hint}", "model")
        return served

    def _put(self, served: Served) -> None:
        with self._lock:
            self._served[served.id] = served

    def _pop(self, model_id: str) -> list[Served]:
        """Forget a model, and with a base model every adapter on it. Returns what is gone."""
        with self._lock:
            one = self._served[model_id]
            gone = [
                other
                for other in self._served.values()
                if other is one or (one.folder is None and other.entry.id == one.id)
            ]
            for other in gone:
                del self._served[other.id]
            return gone

    def forget_replaced(self) -> None:
        """Unload versions of adapters whose place others took, unless they are still answering."""
        return None

    def forget_lost(self) -> None:
        """Stop serving what the server that computes has lost, so that it is loaded again."""
        return None


class Models(Registry):
    """The served models; loading and unloading go through the engine between two steps."""

    def __init__(
        self,
        engine: Engine,
        device: str,
        tool_formats: Mapping[str, ToolFormat] = MappingProxyType({}),
        memory_bytes: int | None = None,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._device = device
        self._tool_formats = tool_formats
        self._loading = threading.RLock()  # one load or unload at a time
        self._residents = Residents(engine, memory_bytes)

    def lease(self, model_id: str) -> Lease | None:
        """The model if it is in memory, else None: then `load` brings it. Never waits.

        Raises:
            UnknownModel: it is not served.
        """
        served = self.get(model_id)
        adapter = [] if served.folder is None else [served.name]
        residents = self._residents.pin([served.entry.id, *adapter])
        if residents is None:
            return None
        return Lease(residents[-1].checkpoint, residents[-1].adapter, residents)

    def load(self, model_id: str) -> Lease:
        """The model, loaded first where needed; may take seconds.

        Raises:
            UnknownModel: it is not served (any more).
            Busy: the memory is full of models that are answering.
            BadValue: its files cannot be loaded any more.
            NimError: anything else went wrong; the log has it.
        """
        while (lease := self.lease(model_id)) is None:
            with self._loading:
                served = self.get(model_id)
                try:
                    self._bring(served)
                except NimError:
                    raise
                except Unservable as error:
                    raise BadValue(f"{model_id} cannot be loaded: {error}", "model") from error
                except Exception as error:
                    logger.exception("loading %s failed", model_id)
                    reason = f"{type(error).__name__}: {error}"
                    raise NimError(f"{model_id} cannot be loaded: {reason}") from error
        return lease

    def release(self, lease: Lease) -> None:
        """Let the model be unloaded again when nothing is written with it."""
        self._residents.unpin(lease.residents)

    def longest(self, lease: Lease) -> int | None:
        """Tokens, prompt included, of the longest reply that memory holds; None = no limit."""
        if self._residents.limit is None:
            return None
        left = self._residents.limit - sum(one.size for one in lease.residents)
        columns = 0
        while _cache_bytes(lease, columns + 1) <= left:
            _, columns = capacity(1, columns + 1)
        return columns

    def make_cache_room(self, lease: Lease, tokens: int) -> None:
        """Unload what is idle until a reply of so many tokens, prompt included, can be begun.

        Raises:
            BadValue: it does not fit beside its model alone.
            Busy: the memory is full of models that are answering.
        """
        longest = self.longest(lease)
        if longest is None:
            return
        if tokens > longest:
            raise BadValue(
                f"prompt and reply of {tokens} tokens do not fit into memory beside the model; "
                f"{longest} do. Lower max_tokens, or raise NEMO_LOCAL_NIM_MEMORY",
                "max_tokens",
            )
        size = _cache_bytes(lease, tokens)
        if self._residents.cache_room() >= size:  # do not wait for the load of another model
            return
        with self._loading:
            self._residents.make_cache_room(size)

    def load_base(self, entry: CatalogModel) -> None:
        """Serve a base model; it is loaded now if it fits beside the others.

        Raises:
            Unservable: its folder cannot be loaded, or it exceeds the memory limit alone.
        """
        served = Served(entry.id, entry, root=entry.id)
        limit = self._residents.limit
        if limit is not None and weight_bytes(entry) > limit:
            raise Unservable(
                f"{weight_bytes(entry) // 2**20} MB of weights exceed the limit of {limit // 2**20}"
                " MB; raise NEMO_LOCAL_NIM_MEMORY"
            )
        with self._loading:
            if self._residents.fits(weight_bytes(entry)):
                self._bring(served)
            self._put(served)

    def load_adapter(self, model_id: str, base_id: str, folder: Path, root: str) -> None:
        """Serve the adapter in `folder`, which must stay, under `model_id`.

        A version that is served under this id already answers until this one is loaded, and what
        it has begun to write it finishes.

        Raises:
            Unservable: it is not a LoRA adapter for this base model, or too large.
            Busy: the memory is full of models that are answering.
        """
        entry = self.get(base_id).entry
        with self._loading:
            name = self._residents.free_name(model_id)
            served = Served(model_id, entry, root=root, folder=folder, name=name)
            self._bring(served)
            self._put(served)
            self.forget_replaced()
        logger.info("serving adapter %s beside %s", model_id, base_id)

    def unload(self, model_id: str) -> None:
        """Stop serving a model, and with a base model every adapter on it."""
        with self._loading:
            gone = next(one for one in self._pop(model_id) if one.id == model_id)
            resident = self._residents.drop(gone.name or gone.id)
            if resident is not None and resident.adapter is None:
                self._engine.remove(gone.id)
            elif resident is not None:
                self._engine.remove_adapter(gone.entry.id, gone.name)
        del gone, resident
        give_back_memory()
        logger.info("unloaded %s", model_id)

    def forget_replaced(self) -> None:
        with self._loading:
            self._residents.unload_others({one.name or one.id for one in self.all()})

    def _bring(self, served: Served) -> None:
        """Load what is missing of a model and its base; the caller holds `_loading`."""
        entry = served.entry
        if entry.id not in self._residents:
            with self._residents.loading(weight_bytes(entry)):
                checkpoint = load_checkpoint(entry, self._device, self._tool_formats.get(entry.id))
                self._engine.add(checkpoint)
                self._residents.add(entry.id, Resident(checkpoint, None, weight_bytes(entry)))
        if served.folder is None or served.name in self._residents:
            return
        pinned = self._residents.pin([entry.id])
        assert pinned is not None, "just loaded, and only we unload"
        try:
            base = pinned[0]
            adapter = read_adapter(served.folder)
            base.checkpoint.adapters.check(adapter)
            form = self._tool_formats.get(served.id)
            checkpoint = beside(base.checkpoint, adapter, served.folder, form)
            size = adapter.size(base.checkpoint.model.dtype)
            limit = self._residents.limit
            if limit is not None and base.size + size > limit:
                raise Unservable(
                    f"with its base it needs {(base.size + size) // 2**20} MB of weights, more "
                    f"than the limit of {limit // 2**20} MB; raise NEMO_LOCAL_NIM_MEMORY"
                )
            with self._residents.loading(size):
                self._engine.add_adapter(entry.id, served.name, adapter)
                self._residents.add(served.name, Resident(checkpoint, served.name, size))
        finally:
            self._residents.unpin(pinned)


def _cache_bytes(lease: Lease, tokens: int) -> int:
    """Bytes of the keys and values of one reply."""
    rows, columns = capacity(1, tokens)
    return lease.checkpoint.token_bytes * rows * columns
