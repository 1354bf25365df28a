"""The hyperparameters of a job: what was asked, checked, and what the trainer is told."""

from __future__ import annotations

import fnmatch
import json
import struct
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nemo_microservices.types.customization.hyperparameters_param import HyperparametersParam
from nemo_microservices.types.customization.lora_parameters_param import LoraParametersParam

from nemo_local.catalog import near_names
from nemo_local.core.errors import Invalid

KNOWN = (*HyperparametersParam.__annotations__, "p_tuning")
KNOWN_LORA = tuple(LoraParametersParam.__annotations__)

SHOWN = (
    "training_type", "finetuning_type", "epochs", "batch_size", "learning_rate",
    "log_every_n_steps", "val_check_interval", "weight_decay", "sequence_packing_enabled",
    "sft", "distillation", "p_tuning",
)  # fmt: skip
"""Fields that a job always shows, null when they were not given."""

NEMO_MODULES = {
    "linear_qkv": ("q_proj", "k_proj", "v_proj", "qkv_proj"),
    "linear_proj": ("o_proj",),
    "linear_fc1": ("gate_proj", "up_proj", "gate_up_proj"),
    "linear_fc2": ("down_proj",),
}
"""NeMo's names of the linear layers, and what Hugging Face checkpoints call them."""

DEFAULT_WARMUP_STEPS = 200


@dataclass(frozen=True)
class Plan:
    """What the trainer does: every default filled in."""

    target_modules: tuple[str, ...]
    """Names, or endings of names, of the linear layers that get an adapter."""
    epochs: int = 50
    batch_size: int = 8
    """Rows of one optimiser step."""
    learning_rate: float = 1e-4
    min_learning_rate: float = 1e-5
    """Where the cosine starts and ends."""
    warmup_steps: int | None = None
    """Steps from the minimum to the full rate; None = 200, or a tenth of a shorter run."""
    weight_decay: float = 0.01
    optimizer: str = "adamw_with_cosine_annealing"
    adam_beta1: float = 0.9
    adam_beta2: float = 0.99
    seed: int = 42
    max_steps: int | None = None
    """Stop after so many steps; None = after the epochs."""
    log_every_n_steps: int = 10
    val_check_interval: float | None = None
    """Up to 1.0 a fraction of an epoch, above it steps; None = after each epoch."""
    adapter_dim: int = 8
    adapter_dropout: float = 0.0
    alpha: int = 16

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        return cls(**{**value, "target_modules": tuple(value["target_modules"])})

    def total_steps(self, sequences: int) -> int:
        """Optimiser steps of the whole run over so many sequences."""
        steps = self.epochs * steps_per_epoch(sequences, self.batch_size)
        return min(steps, self.max_steps) if self.max_steps else steps

    def validation_interval(self, sequences: int) -> int:
        """Optimiser steps from one validation to the next."""
        epoch = steps_per_epoch(sequences, self.batch_size)
        wanted = self.val_check_interval
        steps = epoch if not wanted else int(wanted * epoch) if wanted <= 1 else int(wanted)
        if self.max_steps and steps > self.max_steps:
            steps = self.max_steps - 1
        return max(1, min(steps, epoch))

    def warmup(self, total_steps: int) -> int:
        """Warm-up steps of a run of so many steps."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return min(DEFAULT_WARMUP_STEPS, total_steps // 10)


def steps_per_epoch(sequences: int, batch_size: int) -> int:
    """steps_per_epoch(3500, 16) -> 219"""
    return -(-sequences // batch_size)


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """Raise Invalid, naming it and its near names, for a hyperparameter that does not exist."""
    lora = given.get("lora")
    nested = (("lora.", lora, KNOWN_LORA),) if isinstance(lora, Mapping) else ()
    for prefix, values, known in (("", given, KNOWN), *nested):
        for name in values:
            if name not in known:
                raise Invalid(
                    f"Unknown hyperparameter '{prefix}{name}'. "
                    + (_did_you_mean(name, known) or f"Known are: {', '.join(known)}.")
                )


def make_plan(given: Mapping[str, Any], modules: Collection[str], parallel_rows: int) -> Plan:
    """The plan for what a job asked.

    `modules` are the linear layers of the base model; `parallel_rows` divides every batch
    (micro batch size × data-parallel size).

    Raises:
        Invalid: a value is out of bounds, or names what we do not support; a sentence says which.
    """
    asked = {key: value for key, value in given.items() if value is not None}
    lora = {key: value for key, value in (asked.get("lora") or {}).items() if value is not None}
    for name in ("p_tuning", "dpo", "grpo", "distillation"):
        if name in asked:
            raise Invalid(f"hyperparameters.{name} is not supported here; train with sft/lora")
    for name in ("attention_dropout", "hidden_dropout"):
        if (asked.get("sft") or {}).get(name):
            raise Invalid(f"hyperparameters.sft.{name} is not supported here; leave it out or 0")
    _check_bounds({**asked, **{f"lora.{key}": value for key, value in lora.items()}})
    plan = Plan(
        target_modules=resolve_modules(lora.get("target_modules"), modules),
        **_present(asked, (
            "epochs", "batch_size", "learning_rate", "warmup_steps", "weight_decay", "optimizer",
            "adam_beta1", "adam_beta2", "seed", "log_every_n_steps",
        )),
        **_present(lora, ("adapter_dim", "adapter_dropout", "alpha")),
        max_steps=asked.get("max_steps") if asked.get("max_steps", -1) > 0 else None,
        val_check_interval=asked.get("val_check_interval") or None,
        min_learning_rate=asked.get("min_learning_rate")
        or 0.1 * asked.get("learning_rate", Plan.learning_rate),
    )  # fmt: skip
    if plan.min_learning_rate >= plan.learning_rate:
        raise Invalid(
            f"hyperparameters.min_learning_rate ({plan.min_learning_rate}) must be lower than "
            f"learning_rate ({plan.learning_rate})"
        )
    if plan.batch_size % parallel_rows:
        raise Invalid(
            f"hyperparameters.batch_size ({plan.batch_size}) must be a multiple of "
            f"micro_batch_size x data_parallel_size ({parallel_rows}) of the training option"
        )
    return plan


def shown(given: Mapping[str, Any], training_type: str, plan: Plan) -> dict[str, Any]:
    """The hyperparameters as a job shows them: the user's values, and few defaults."""
    lora = {**dict.fromkeys(KNOWN_LORA), **(given.get("lora") or {})}
    return {
        **dict.fromkeys(SHOWN),
        **given,
        "training_type": training_type,
        "sequence_packing_enabled": bool(given.get("sequence_packing_enabled")),
        "lora": {**lora, "alpha": plan.alpha},
    }


def resolve_modules(wanted: Collection[str] | None, modules: Collection[str]) -> tuple[str, ...]:
    """The layers that get adapters, as names or endings of names; all linear ones by default.

        resolve_modules(["linear_qkv"], modules_of_a_llama) -> ("q_proj", "k_proj", "v_proj")

    Raises:
        Invalid: a name or pattern matches no layer of the model.
    """
    leaves = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in modules))
    chosen: dict[str, None] = {}
    for pattern in wanted or leaves:
        parts = NEMO_MODULES.get(pattern, (pattern,))
        found = [leaf for part in parts for leaf in leaves if fnmatch.fnmatchcase(leaf, part)]
        found = found or [name for name in modules if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            known = [*NEMO_MODULES, *leaves]
            raise Invalid(
                f"hyperparameters.lora.target_modules: {pattern!r} is no linear layer of the base "
                f"model. {_did_you_mean(pattern, known)} Known are: {', '.join(known)}."
            )
        chosen.update(dict.fromkeys(found))
    return tuple(chosen)


def linear_modules(checkpoint: Path) -> list[str]:
    """Names of the linear layers of a checkpoint, without the output head.

    Read from the headers of its safetensors files: a matrix that is no embedding is a layer.
    """
    names = []
    for path in sorted(checkpoint.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for key, tensor in header.items():
            name = key.removesuffix(".weight")
            leaf = name.rsplit(".", 1)[-1]
            if key.endswith(".weight") and len(tensor["shape"]) == 2:
                if leaf not in ("lm_head", "wte", "wpe") and "embed" not in leaf:
                    names.append(name)
    return names


_AT_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "log_every_n_steps": 1,
    "warmup_steps": 0,
    "weight_decay": 0,
    "lora.alpha": 1,
    "seed": 0,
    "min_learning_rate": 0,
    "val_check_interval": 0,
}


def _check_bounds(values: Mapping[str, Any]) -> None:
    for name, least in _AT_LEAST.items():
        if values.get(name, least) < least:
            _refuse(name, f"at least {least}", values)
    if values.get("learning_rate", 1) <= 0:
        _refuse("learning_rate", "greater than 0", values)
    for name in ("adam_beta1", "adam_beta2"):
        if not 0 <= values.get(name, 0) < 1:
            _refuse(name, "at least 0 and below 1", values)
    dim = values.get("lora.adapter_dim", 8)
    if not 1 <= dim <= 256 or dim & (dim - 1):
        _refuse("lora.adapter_dim", "a power of 2 from 1 to 256", values)
    if not 0 <= values.get("lora.adapter_dropout", 0) < 1:
        _refuse("lora.adapter_dropout", "at least 0 and below 1", values)
    interval = values.get("val_check_interval") or 1
    if interval < 0.1 or (interval > 1 and interval != int(interval)):
        _refuse("val_check_interval", "a fraction from 0.1 to 1.0, or whole steps", values)


def _refuse(name: str, bounds: str, values: Mapping[str, Any]) -> None:
    raise Invalid(f"hyperparameters.{name} must be {bounds}, not {values[name]!r}")


def _present(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _did_you_mean(name: str, known: Collection[str]) -> str:
    near = near_names(name, list(known))
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
