"""LoRA adapters beside one base model, so that rows of one batch may use different ones.

    y = W x + scaling * B A x        per row, with the row's own A and B

PEFT trains the adapters; its mixed batches serve them through hooks that cost as much as a small
model itself, so this module does the addition alone. A test holds it to PEFT's numbers.
Source: https://arxiv.org/abs/2106.09685 (LoRA), https://arxiv.org/abs/2310.18547 (many in a batch)
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nemo_local.nim.lora_linear import STACKED_BYTES, Group, LoraLinear, Mixture
from nemo_local.nim.token_rows import EVERY, Chosen, TokenEmbedding, TokenRows

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_ROWS_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.token_adapter\.trainable_tokens_delta")
_BASE_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.base_layer\.weight")
_PLAIN: dict[str, tuple[Any, ...]] = {
    # Values of an adapter_config.json that leave the base as it is, and add nothing to A and B.
    "peft_type": ("LORA", None),
    "bias": ("none", None),
    "init_lora_weights": (None, True, False, "gaussian", "orthogonal", "eva", "mica"),
}
_UNSET: tuple[Any, ...] = (None, False, "", [], {})
_HARMLESS = frozenset(
    # What the tensors show themselves, what is read here, and what is of no matter once trained.
    (
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"),
        *("trainable_token_indices", "target_modules", "exclude_modules", "target_parameters"),
        *("layers_to_transform", "layers_pattern", "ensure_weight_tying", "inference_mode"),
        *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("lora_dropout", "qalora_group_size", "megatron_config", "megatron_core"),
        *("runtime_config", "library_name", "torch_dtype", "transformers_version"),
        *("eva_config", "loftq_config", "corda_config", "lora_ga_config"),
    )
)
_HOW = {
    "init_lora_weights": ": adapters that begin so may change the base model as well, which others "
    "share; PEFT converts some with save_pretrained(..., path_initial_model_for_weight_conversion)"
}


class Unservable(Exception):
    """A model or adapter that cannot be served as it is; the message names the reason."""


@dataclass(frozen=True)
class Adapter:
    """The matrices of one adapter, by the name of the linear layer they belong to."""

    pairs: dict[str, tuple[Tensor, Tensor]]
    """Per layer (A, B): A is [rank, d_in], B is [d_out, rank] and already scaled."""
    token_ids: list[int] = field(default_factory=list)
    """Tokens whose rows are the adapter's own, ascending."""
    token_rows: dict[str, Tensor] = field(default_factory=dict)
    """Rows [K, E] of these tokens, by the name of the embedding or output head."""
    base_weights: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the base that PEFT stores with adapters of an output head, by its name."""

    def size(self, dtype: torch.dtype) -> int:
        """Bytes of the matrices once they have this type."""
        matrices = [
            *self.token_rows.values(),
            *(one for pair in self.pairs.values() for one in pair),
        ]
        return sum(matrix.numel() for matrix in matrices) * dtype.itemsize


def read_adapter(folder: Path) -> Adapter:
    """The adapter stored in `folder` (adapter_config.json, adapter_model.safetensors).

    Raises:
        Unservable: a file is missing, or the adapter is more than LoRA and rows of tokens.
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
    if not isinstance(config, dict):
        raise Unservable("adapter_config.json is not a JSON object")
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise Unservable(f"tensor {key!r} holds numbers that are not finite")
    for key, value in config.items():
        if key not in _HARMLESS and value not in _PLAIN.get(key, _UNSET):
            raise Unservable(f"{key}={value!r} is not supported{_HOW.get(key, '')}")
    sides: dict[str, dict[str, Tensor]] = {}
    token_ids, token_rows = _take_token_rows(config, tensors)
    base_weights = _taken(tensors, _BASE_KEY)
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None:
            raise Unservable(f"tensor {key!r} is not a LoRA matrix of a linear layer")
        sides.setdefault(found["module"], {})[found["side"]] = tensor
    pairs = {}
    for module, pair in sides.items():
        if set(pair) != {"A", "B"}:
            raise Unservable(f"{module} has only one of lora_A and lora_B")
        a, b = pair["A"], pair["B"]
        if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
            shapes = f"{list(a.shape)} and {list(b.shape)}"
            raise Unservable(f"lora_A and lora_B of {module} do not fit each other: {shapes}")
        pairs[module] = (a, b.float() * _scaling(config, module))
    return Adapter(pairs, token_ids, token_rows, base_weights)


def _taken(tensors: dict[str, Tensor], key: re.Pattern[str]) -> dict[str, Tensor]:
    """The tensors of such keys by module, which are taken out of `tensors`."""
    found = {name: match["module"] for name in tensors if (match := key.fullmatch(name))}
    return {module: tensors.pop(name) for name, module in found.items()}


def _take_token_rows(
    config: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[list[int], dict[str, Tensor]]:
    """The tokens and their rows by module, which are taken out of `tensors`."""
    given = config.get("trainable_token_indices") or []
    listed = list(given.values()) if isinstance(given, dict) else [given]
    ids = listed[0] if listed else []
    if any(other != ids for other in listed) or len(set(ids)) != len(ids):
        raise Unservable("trainable_token_indices must name the same tokens everywhere, each once")
    rows = _taken(tensors, _ROWS_KEY)
    if bool(ids) != bool(rows) or any(len(one) != len(ids) for one in rows.values()):
        counts = ", ".join(f"{len(one)} of {name}" for name, one in rows.items()) or "none"
        raise Unservable(f"trainable_token_indices names {len(ids)} tokens; rows stored: {counts}")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return sorted(ids), {name: one[order] for name, one in rows.items()}


def _scaling(config: dict[str, object], module: str) -> float:
    def of(key: str, pattern_key: str) -> float:
        patterns = config.get(pattern_key)
        for pattern, value in (patterns if isinstance(patterns, dict) else {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return float(value)
        return float(str(config[key]))

    try:
        rank, alpha = of("r", "rank_pattern"), of("lora_alpha", "alpha_pattern")
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, re.error) as error:
        reason = f"{type(error).__name__}: {error}"
        raise Unservable(f"r and lora_alpha of its configuration give no scale: {reason}") from None


class AdapterSet:
    """The adapters of one base model; `groups` says which rows of the next pass use which."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._embedding = _name_of(model, "get_input_embeddings")
        self._head = _name_of(model, "get_output_embeddings")
        self._layers: dict[str, LoraLinear] = {}
        self._names: set[str] = set()
        self.tokens: dict[str, TokenRows] = {}
        """Tokens that adapters have rows of their own for, by adapter."""
        self.changes = 0
        """Counts additions and removals, for whoever keeps something derived from the adapters."""
        self.rows = 0
        """Rows of the next pass."""
        self.groups: list[Group] = []
        self.mixture: Mixture | None = None
        """How rows of the next pass mix, if they have several adapters that may be stacked."""
        self.stacked: tuple[str, ...] = ()
        """Adapters whose matrices lie in one tensor for each layer: those of mixtures so far."""
        self._bytes: dict[str, int] = {}

    def check(self, adapter: Adapter) -> None:
        """Raise Unservable when a layer does not exist here, or is not as the adapter needs it."""
        for name, (a, b) in adapter.pairs.items():
            base = self._base(name)
            if (a.shape[1], b.shape[0]) != (base.in_features, base.out_features):
                raise Unservable(f"{name} is made for a base model of another size")
        for name, stored in adapter.base_weights.items():
            weight = self._base(name).weight
            if not torch.equal(stored.to(weight), weight):
                raise Unservable(f"it was trained beside other weights of {name} than the base has")
        if adapter.token_ids:
            self._check_tokens(adapter)

    def add(self, name: str, adapter: Adapter) -> None:
        """Make the adapter available to rows under this name."""
        for module, (a, b) in adapter.pairs.items():
            layer = self._wrapped(module)
            weight = layer.base.weight
            layer.pairs[name] = (a.to(weight).contiguous(), b.to(weight).contiguous())
        if adapter.token_ids:
            self._add_tokens(name, adapter)
        self._names.add(name)
        self._bytes[name] = adapter.size(next(self._model.parameters()).dtype)
        self.changes += 1

    def remove(self, name: str) -> None:
        """Forget the adapter, and every trace of adapters with the last one."""
        self._names.discard(name)
        self._bytes.pop(name, None)
        self.stacked = tuple(other for other in self.stacked if other != name)
        self.changes += 1
        if self.tokens.pop(name, None) is not None and not self.tokens:
            embedding: Any = self._model.get_submodule(self._embedding)
            self._model.set_submodule(self._embedding, embedding.base)
        for module, layer in list(self._layers.items()):
            layer.forget(name)
            if not layer.pairs and not (self.tokens and module == self._head):
                self._model.set_submodule(module, layer.base)
                del self._layers[module]

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def pairs_of(self, name: str) -> dict[str, tuple[Tensor, Tensor]]:
        """The matrices of an adapter by linear layer, in the model's type and place."""
        return {m: layer.pairs[name] for m, layer in self._layers.items() if name in layer.pairs}

    def chosen(self) -> Chosen:
        """Which rows of the next pass have which tokens of their own."""
        return [
            (self.tokens[group.adapter], EVERY if group.rows is None else group.rows)
            for group in self.groups
            if group.adapter in self.tokens
        ]

    def select(self, rows: list[str | None]) -> None:
        """Set the adapter of each row of the next pass; None is the base model itself."""
        self.rows = len(rows)
        device = next(self._model.parameters()).device
        names = dict.fromkeys(name for name in rows if name is not None)
        chosen = {name: [i for i, row in enumerate(rows) if row == name] for name in names}
        self.groups = [
            Group(name, None if len(own) == len(rows) else torch.tensor(own, device=device))
            for name, own in chosen.items()
        ]
        several = len(chosen) > 1 and self._stack([*names])
        self.mixture = Mixture.of(chosen, self.stacked, device) if several else None

    def _stack(self, names: list[str]) -> bool:
        """Stack these adapters, too; False when they are too large."""
        new = [name for name in names if name not in self.stacked]
        for wanted in ((*self.stacked, *new), tuple(names)):
            if sum(self._bytes[name] for name in wanted) <= STACKED_BYTES:
                self.stacked = wanted
                return True
        return False

    def _base(self, name: str) -> nn.Linear:
        """The base's linear layer of this name, with adapters beside it or not."""
        layer = self._layers.get(name) or self._find(name)
        if layer is None:
            raise Unservable(f"the base model has no linear layer {name!r}")
        return layer.base if isinstance(layer, LoraLinear) else layer

    def _find(self, name: str) -> nn.Linear | None:
        try:
            module = self._model.get_submodule(name)
        except AttributeError:
            return None
        return module if isinstance(module, nn.Linear) else None

    def _wrapped(self, name: str) -> LoraLinear:
        """The linear layer of this name, with room for adapters beside it."""
        layer = self._layers.get(name)
        if layer is None:
            base = self._find(name)
            assert base is not None, "check() passed"
            layer = self._layers[name] = LoraLinear(base, self, is_head=name == self._head)
            self._model.set_submodule(name, layer)
        return layer

    def _check_tokens(self, adapter: Adapter) -> None:
        ids, rows = adapter.token_ids, adapter.token_rows
        embedding: Any = self._model.get_submodule(self._embedding)
        base = embedding.base if isinstance(embedding, TokenEmbedding) else embedding
        vocabulary, size = base.weight.shape
        elsewhere = sorted(set(rows) - {self._embedding, self._head})
        if elsewhere or self._embedding not in rows or self._head in adapter.pairs:
            raise Unservable(
                f"rows of tokens of {', '.join(rows)}: only those of the embedding, or of it and "
                "of an output head without LoRA, can be served"
            )
        if any(one.shape[1] != size for one in rows.values()):
            raise Unservable("its rows of tokens are made for a base model of another size")
        new = [token for token in ids if token >= vocabulary]
        if new and new != list(range(vocabulary, vocabulary + len(new))):
            raise Unservable(f"it has no rows for some tokens from {vocabulary} to {new[-1]}")
        if new and self._head not in rows and not self._tied:
            raise Unservable(f"it has no rows of the output head for the new tokens {new}")

    def _add_tokens(self, name: str, adapter: Adapter) -> None:
        inputs = adapter.token_rows[self._embedding]
        outputs = adapter.token_rows.get(self._head, inputs if self._tied else None)
        embedding: Any = self._model.get_submodule(self._embedding)
        if not isinstance(embedding, TokenEmbedding):
            self._model.set_submodule(self._embedding, TokenEmbedding(embedding, self.chosen))
        weight = self._wrapped(self._head).base.weight
        self.tokens[name] = TokenRows(torch.tensor(adapter.token_ids), inputs, outputs).to(weight)

    @property
    def _tied(self) -> bool:
        config: Any = self._model.config
        return bool(config.tie_word_embeddings)


def _name_of(model: nn.Module, getter: str) -> str:
    """The name of the module that this method of a model returns; empty when it has none."""
    module = getattr(model, getter)() if hasattr(model, getter) else None
    return next((name for name, other in model.named_modules() if other is module), "")
