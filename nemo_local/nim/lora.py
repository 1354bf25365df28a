"""LoRA adapters beside one base model, so that rows of one batch may use different ones.

    y = W x + scaling * B A x        per row, with the row's own A and B

PEFT trains the adapters; its mixed batches serve them through hooks that cost as much as a small
model itself, so this module does the addition alone. A test holds it to PEFT's numbers.
Source: https://arxiv.org/abs/2106.09685 (LoRA), https://arxiv.org/abs/2310.18547 (many in a batch)
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_PLAIN = {
    # What else an adapter_config.json may ask for, and the values that mean "nothing of it".
    "use_dora": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, [], {}),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "layer_replication": (None, []),
}


class Unservable(Exception):
    """A model or adapter that cannot be served as it is; the message names the reason."""


@dataclass(frozen=True)
class Adapter:
    """The matrices of one adapter, by the name of the linear layer they belong to."""

    pairs: dict[str, tuple[Tensor, Tensor]]
    """Per layer (A, B): A is [rank, d_in], B is [d_out, rank] and already scaled."""

    def size(self, dtype: torch.dtype) -> int:
        """Bytes of the matrices once they have this type."""
        return sum(a.numel() + b.numel() for a, b in self.pairs.values()) * dtype.itemsize


@dataclass(frozen=True)
class Group:
    """The rows of a batch that use one adapter."""

    adapter: str
    rows: Tensor | None
    """Row numbers; None when every row of the batch uses this adapter."""


def read_adapter(folder: Path) -> Adapter:
    """The adapter stored in `folder` (adapter_config.json, adapter_model.safetensors).

    Raises:
        Unservable: a file is missing, or the adapter is more than plain LoRA.
    """
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise Unservable("no adapter_model.safetensors (other formats are not loaded)")
    if not (folder / "adapter_config.json").is_file():
        raise Unservable("no adapter_config.json")
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(weights)
    except Exception as error:  # safetensors raises its own type, derived from Exception only
        raise Unservable(f"cannot be read: {error}") from error
    for key, plain in _PLAIN.items():
        if config.get(key) not in plain:
            raise Unservable(f"{key}={config[key]!r} is not supported")
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None:
            raise Unservable(f"tensor {key!r} is not a LoRA matrix of a linear layer")
        sides.setdefault(found["module"], {})[found["side"]] = tensor
    pairs = {}
    for module, pair in sides.items():
        if set(pair) != {"A", "B"}:
            raise Unservable(f"{module} has only one of lora_A and lora_B")
        pairs[module] = (pair["A"], pair["B"] * _scaling(config, module))
    return Adapter(pairs)


def _scaling(config: dict[str, object], module: str) -> float:
    def of(key: str, pattern_key: str) -> float:
        patterns = config.get(pattern_key)
        for pattern, value in (patterns if isinstance(patterns, dict) else {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return float(value)
        return float(str(config[key]))

    rank, alpha = of("r", "rank_pattern"), of("lora_alpha", "alpha_pattern")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


class AdapterSet:
    """The adapters of one base model; `groups` says which rows of the next pass use which."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers: dict[str, LoraLinear] = {}
        self._names: set[str] = set()
        self.changes = 0
        """Counts additions and removals, for whoever keeps something derived from the adapters."""
        self.groups: list[Group] = []

    def check(self, adapter: Adapter) -> None:
        """Raise Unservable when a layer does not exist here or has another size."""
        for name, (a, b) in adapter.pairs.items():
            layer = self._layers.get(name) or self._find(name)
            if layer is None:
                raise Unservable(f"the base model has no linear layer {name!r}")
            base = layer.base if isinstance(layer, LoraLinear) else layer
            if (a.shape[1], b.shape[0]) != (base.in_features, base.out_features):
                raise Unservable(f"{name} is made for a base model of another size")

    def add(self, name: str, adapter: Adapter) -> None:
        """Make the adapter available to rows under this name."""
        for module, (a, b) in adapter.pairs.items():
            layer = self._layers.get(module)
            if layer is None:
                base = self._find(module)
                assert base is not None, "check() passed"
                layer = self._layers[module] = LoraLinear(base, self)
                self._model.set_submodule(module, layer)
            weight = layer.base.weight
            layer.pairs[name] = (a.to(weight).contiguous(), b.to(weight).contiguous())
        self._names.add(name)
        self.changes += 1

    def remove(self, name: str) -> None:
        """Forget the adapter, and every trace of adapters with the last one."""
        self._names.discard(name)
        self.changes += 1
        for module, layer in list(self._layers.items()):
            layer.pairs.pop(name, None)
            if not layer.pairs:
                self._model.set_submodule(module, layer.base)
                del self._layers[module]

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def pairs_of(self, name: str) -> dict[str, tuple[Tensor, Tensor]]:
        """The matrices of an adapter by linear layer, in the model's type and place."""
        return {m: layer.pairs[name] for m, layer in self._layers.items() if name in layer.pairs}

    def select(self, rows: list[str | None]) -> None:
        """Set the adapter of each row of the next pass; None is the base model itself."""
        self.groups = []
        for name in dict.fromkeys(rows):
            if name is not None:
                chosen = [i for i, row in enumerate(rows) if row == name]
                every = len(chosen) == len(rows)
                device = next(self._model.parameters()).device
                self.groups.append(
                    Group(name, None if every else torch.tensor(chosen, device=device))
                )

    def _find(self, name: str) -> nn.Linear | None:
        try:
            module = self._model.get_submodule(name)
        except AttributeError:
            return None
        return module if isinstance(module, nn.Linear) else None


class LoraLinear(nn.Module):
    """A linear layer with adapters beside it."""

    def __init__(self, base: nn.Linear, adapters: AdapterSet) -> None:
        super().__init__()
        self.base = base
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        # In a tuple, so that the set (which knows the whole model) is not taken for a child.
        self._adapters = (adapters,)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, T, d_in] to [B, T, d_out]."""
        y: Tensor = self.base(x)
        for group in self._adapters[0].groups:
            pair = self.pairs.get(group.adapter)
            if pair is None:
                continue
            a, b = pair
            if group.rows is None:
                y = y + x @ a.T @ b.T
            else:
                y = y.index_add(0, group.rows, x[group.rows] @ a.T @ b.T)
        return y
