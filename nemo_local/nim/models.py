"""What is served now: base models and adapters by the id clients ask for."""

import logging
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nemo_local.catalog import CatalogModel, near_names
from nemo_local.nim.checkpoint import Checkpoint, load_checkpoint
from nemo_local.nim.engine import Engine
from nemo_local.nim.errors import UnknownModel
from nemo_local.nim.lora import read_adapter
from nemo_local.nim.tool_formats import ToolFormat

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """One id clients may ask for."""

    id: str
    entry: CatalogModel
    """Catalogue entry of the base model."""
    checkpoint: Checkpoint
    root: str
    """Where the weights come from: the id itself, or `hf://namespace/name@version`."""
    adapter: str | None = None
    """Name in the checkpoint's adapter set; None for the base model itself."""
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
            "parent": self.entry.id if self.adapter else None,
            "max_model_len": None if self.adapter else self.checkpoint.context,
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


class Models:
    """The served models; loading and unloading go through the engine between two steps."""

    def __init__(
        self,
        engine: Engine,
        device: str,
        tool_formats: Mapping[str, ToolFormat] = MappingProxyType({}),
    ) -> None:
        self._engine = engine
        self._device = device
        self._tool_formats = tool_formats
        self._lock = threading.Lock()
        self._served: dict[str, Served] = {}

    def all(self) -> list[Served]:
        """Everything served, base models first."""
        with self._lock:
            return sorted(self._served.values(), key=lambda one: one.adapter is not None)

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
            near = near_names(model_id, known) or known
            hint = f" Did you mean: {', '.join(near)}?" if near else " No model is loaded."
            raise UnknownModel(f"The model `{model_id}` does not exist.{hint}", "model")
        return served

    def load_base(self, entry: CatalogModel) -> None:
        """Serve a base model. Raises OSError or ValueError when its folder cannot be loaded."""
        checkpoint = load_checkpoint(entry, self._device, self._tool_formats.get(entry.id))
        self._engine.add(checkpoint)
        self._put(Served(entry.id, entry, checkpoint, root=entry.id))

    def load_adapter(self, model_id: str, base_id: str, folder: Path, root: str) -> None:
        """Serve the adapter in `folder` under `model_id`.

        Raises:
            UnservableAdapter: it is not a plain LoRA adapter for this base model.
        """
        base = self.get(base_id)
        self._engine.add_adapter(base_id, model_id, read_adapter(folder))
        self._put(Served(model_id, base.entry, base.checkpoint, root=root, adapter=model_id))
        logger.info("serving adapter %s beside %s", model_id, base_id)

    def unload(self, model_id: str) -> None:
        """Stop to serve a model, and with a base model every adapter on it."""
        with self._lock:
            gone = self._served.pop(model_id)
            if gone.adapter is None:
                self._served = {
                    key: one for key, one in self._served.items() if one.entry.id != gone.id
                }
        if gone.adapter is None:
            self._engine.remove(gone.id)
        else:
            self._engine.remove_adapter(gone.entry.id, gone.adapter)
        logger.info("unloaded %s", model_id)

    def _put(self, served: Served) -> None:
        with self._lock:
            self._served[served.id] = served
