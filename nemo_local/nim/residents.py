"""The weights in memory: under a limit, the least recently used make room for others.

Beside them the limit counts the keys and values of replies, each as long as it may become, and
those kept of past prompts. Not counted are the passes themselves, and a cache while it grows: then
the old one and the new one are there together.
"""

import itertools
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nemo_local.nim.checkpoint import Checkpoint, give_back_memory
from nemo_local.nim.engine import Engine
from nemo_local.nim.errors import Busy

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Resident:
    """A base model or an adapter whose weights the engine holds."""

    checkpoint: Checkpoint
    """The base model; for an adapter, its base as the adapter's users see it."""
    adapter: str | None
    """The adapter's name in the checkpoint's set; None for the base model itself."""
    size: int
    """Bytes of weights."""
    pins: int = 0
    """Requests between being accepted and being queued."""


class Residents:
    """What is in memory, least recently used first. Sizes are bytes; None = no limit.

    Base models go by their id, adapters by the name that the engine has for them.
    """

    def __init__(self, engine: Engine, limit: int | None) -> None:
        self.limit = limit
        self._engine = engine
        self._lock = threading.Lock()
        self._all: OrderedDict[str, Resident] = OrderedDict()
        self._coming = 0
        """Bytes that are being loaded."""
        engine.cache_room = self.cache_room

    def __contains__(self, model_id: str) -> bool:
        return model_id in self._all

    @property
    def size(self) -> int:
        """Bytes of all weights in memory."""
        with self._lock:
            return sum(one.size for one in self._all.values())

    def free_name(self, model_id: str) -> str:
        """A name for a version of an adapter that no other version in memory has."""
        more = (f"{model_id} (version {number})" for number in itertools.count(2))
        with self._lock:
            return next(name for name in itertools.chain([model_id], more) if name not in self._all)

    def fits(self, size: int) -> bool:
        """Whether that many bytes of weights fit beside what is in memory."""
        return self.limit is None or self.size + self._engine.cache_bytes + size <= self.limit

    def cache_room(self) -> float:
        """Bytes that the weights leave for caches."""
        return math.inf if self.limit is None else self.limit - self.size - self._coming

    def pin(self, model_ids: list[str]) -> list[Resident] | None:
        """These residents, kept from being unloaded until `unpin`; None when one is missing."""
        with self._lock:
            if not all(model_id in self._all for model_id in model_ids):
                return None
            for model_id in model_ids:
                self._all[model_id].pins += 1
                self._all.move_to_end(model_id)
            return [self._all[model_id] for model_id in model_ids]

    def unpin(self, residents: list[Resident]) -> None:
        """Let these residents be unloaded again."""
        with self._lock:
            for resident in residents:
                resident.pins -= 1

    def add(self, model_id: str, resident: Resident) -> None:
        """Take note of weights that the engine holds now."""
        with self._lock:
            self._all[model_id] = resident

    def drop(self, model_id: str) -> Resident | None:
        """Forget weights, with a base model those of its adapters; the caller unloads them."""
        with self._lock:
            return self._pop(model_id).get(model_id)

    @contextmanager
    def loading(self, size: int) -> Iterator[None]:
        """Room for that many bytes of weights, kept free within; one thread at a time loads.

        Raises:
            Busy: everything that could go is answering at the moment.
        """
        self._coming = size
        try:
            if not self.fits(size):
                self._engine.forget_caches()
            self._make_room(lambda: self.fits(size))
            yield
        finally:
            self._coming = 0

    def unload_others(self, names: set[str]) -> None:
        """Unload all but these, except what is answering or about to."""
        with self._lock:
            others = [name for name in self._all if name not in names]
        for name in others:
            self._unload(name)
        if others:
            give_back_memory()

    def make_cache_room(self, size: int) -> None:
        """Unload until the weights leave that many bytes. Raises Busy as `loading` does."""
        self._make_room(lambda: self.cache_room() >= size)

    def _make_room(self, enough: Callable[[], bool]) -> None:
        passed: set[str] = set()
        while not enough():
            with self._lock:
                left = [k for k in self._all if k not in passed]
            if not left:
                raise Busy(
                    f"the {(self.limit or 0) // 2**20} MB for models are taken by those that are "
                    "answering; try again, or raise NEMO_LOCAL_NIM_MEMORY"
                )
            passed.add(left[0])
            self._unload(left[0])
            give_back_memory()

    def _unload(self, model_id: str) -> None:
        """Unload a model, unless it is answering or about to."""
        with self._lock:
            resident = self._all[model_id]
            if resident.pins:
                return
            # Out of the list first: from now on a request for it waits to load it again.
            popped = self._pop(model_id)
        base_id = resident.checkpoint.id
        if resident.adapter is None:
            gone = self._engine.remove(base_id, only_idle=True)
        else:
            gone = self._engine.remove_adapter(base_id, resident.adapter, only_idle=True)
        if gone:
            logger.info("unloaded %s, which is idle", model_id)
            return
        with self._lock:
            self._all.update(popped)

    def _pop(self, model_id: str) -> dict[str, Resident]:
        """Forget a model, if it is there, and with a base model its adapters; under the lock."""
        one = self._all.get(model_id)
        gone = {
            other_id: other
            for other_id, other in self._all.items()
            if other is one
            or (one and not one.adapter and other.checkpoint.id == one.checkpoint.id)
        }
        for name in gone:
            del self._all[name]
        return gone
