"""The hyperparameters of a job: what was asked, checked, and what the trainer is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nemo_microservices.types.customization.distillation_parameters_param import (
    DistillationParametersParam,
)
from nemo_microservices.types.customization.dpo_parameters_param import DpoParametersParam
from nemo_microservices.types.customization.hyperparameters_param import HyperparametersParam
from nemo_microservices.types.customization.lora_parameters_param import LoraParametersParam
from nemo_microservices.types.customization.sft_parameters_param import SftParametersParam

from nemo_local.core.errors import Invalid
from nemo_local.customizer.modules import did_you_mean, resolve_modules

KNOWN = (*HyperparametersParam.__annotations__, "p_tuning")
KNOWN_LORA = tuple(LoraParametersParam.__annotations__)
KNOWN_INSIDE = {
    "lora": KNOWN_LORA,
    "sft": tuple(SftParametersParam.__annotations__),
    "dpo": tuple(DpoParametersParam.__annotations__),
    "distillation": tuple(DistillationParametersParam.__annotations__),
}

SHOWN = (
    "training_type", "finetuning_type", "epochs", "batch_size", "learning_rate",
    "log_every_n_steps", "val_check_interval", "weight_decay", "sequence_packing_enabled",
    "sft", "distillation", "p_tuning",
)  # fmt: skip
"""Fields that a job always shows, null when they were not given."""

DEFAULT_WARMUP_STEPS = 200
MAX_SEED = 2**32 - 1
"""numpy takes no larger one."""

FinetuningType = Literal[
    "lora",  # the output is an adapter
    "lora_merged",  # an adapter is trained; the output is a whole checkpoint with it merged in
    "all_weights",  # every weight is trained; the output is a whole checkpoint
]
TrainingType = Literal[
    "sft",  # cross entropy of the answers
    "dpo",  # preferred answers over others
    "distillation",  # the answers' distributions of a teacher
]
DEFAULTS_OF_TYPE = {"dpo": {"epochs": 1, "batch_size": 16, "learning_rate": 9e-6}}
NOT_SUPPORTED = {
    "p_tuning": "virtual tokens are served nowhere here; use finetuning_type 'lora'",
    "grpo": "there are no reward environments here; use training_type 'sft'",
}


@dataclass(frozen=True)
class Dpo:
    """What weighs how much in preference training.

    The defaults are those of the real Customizer's job compiler.
    Source: https://github.com/NVIDIA-NeMo/nemo-platform
    """

    ref_policy_kl_penalty: float = 0.05
    """Beta of the DPO paper: how strongly the model is held to what it was."""
    preference_loss_weight: float = 1.0
    sft_loss_weight: float = 0.0
    """Weight of the chosen answers' negative log-likelihood."""
    preference_average_log_probs: bool = False
    """Whether answers count by their mean log-probability, not by the sum."""
    sft_average_log_probs: bool = False
    max_grad_norm: float = 1.0


@dataclass(frozen=True)
class Plan:
    """What the trainer does: every default filled in."""

    target_modules: tuple[str, ...]
    """Names, or endings of names, of the linear layers that get an adapter; none when all weights
    are trained."""
    finetuning_type: FinetuningType = "lora"
    training_type: TrainingType = "sft"
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
    attention_dropout: float | None = None
    """Of attention weights; None = as the checkpoint says."""
    hidden_dropout: float | None = None
    """Of what each block adds to the hidden states; None = none."""
    pack_sequences: bool = False
    """Whether several sequences share a row."""
    dpo: Dpo = Dpo()

    @property
    def makes_adapter(self) -> bool:
        """Whether the output is an adapter, and not a whole checkpoint."""
        return self.finetuning_type == "lora"

    @property
    def output_folder(self) -> str:
        """Where the output is left in the job's folder."""
        return "adapter" if self.makes_adapter else "model"

    @property
    def needs_masks(self) -> bool:
        """Whether attention must do more than look back (packed sequences, dropped weights)."""
        return self.pack_sequences or bool(self.attention_dropout)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        modules, dpo = tuple(value["target_modules"]), Dpo(**value.get("dpo", {}))
        return cls(**{**value, "target_modules": modules, "dpo": dpo})

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
    """Raise Invalid, naming it, for a hyperparameter that does not exist or a type we lack."""
    for key in ("finetuning_type", "training_type"):
        reason = NOT_SUPPORTED.get(str(given.get(key)))
        if reason:
            raise Invalid(f"hyperparameters.{key} {given[key]!r} is not supported: {reason}")
    for name, reason in NOT_SUPPORTED.items():
        if given.get(name) is not None:
            raise Invalid(f"hyperparameters.{name} is not supported: {reason}")
    inside = [
        (f"{key}.", given[key], known)
        for key, known in KNOWN_INSIDE.items()
        if isinstance(given.get(key), Mapping)
    ]
    for prefix, values, known in [("", given, KNOWN), *inside]:
        for name in values:
            if name not in known:
                raise Invalid(
                    f"Unknown hyperparameter '{prefix}{name}'. "
                    + (did_you_mean(name, known) or f"Known are: {', '.join(known)}.")
                )


def make_plan(
    given: Mapping[str, Any],
    modules: Collection[str],
    parallel_rows: int,
    can_pack: bool = True,
) -> Plan:
    """The plan for what a job asked.

    `modules` are the linear layers of the base model; `parallel_rows` divides every batch
    (micro batch size × data-parallel size); `can_pack` is whether its sequences may share rows.

    Raises:
        Invalid: a value is out of bounds, or names what we do not support; a sentence says which.
    """
    training_type: TrainingType = given.get("training_type") or "sft"
    asked = {**DEFAULTS_OF_TYPE.get(training_type, {}), **_given(given)}
    lora, dpo = _given(asked.get("lora")), _given(asked.get("dpo"))
    sft = _given(asked.get("sft")) if training_type != "dpo" else {}
    if training_type == "distillation" and not _given(asked.get("distillation")).get("teacher"):
        raise Invalid("hyperparameters.distillation.teacher is missing: name a target, ns/name@v")
    finetuning_type = asked.get("finetuning_type", "lora")
    trains_adapter = finetuning_type != "all_weights"
    inside = {"lora": lora, "dpo": dpo, "sft": sft}
    named = {f"{name}.{key}": value for name, part in inside.items() for key, value in part.items()}
    _check_bounds({**asked, **named})
    plan = Plan(
        target_modules=(
            resolve_modules(lora.get("target_modules"), modules) if trains_adapter else ()
        ),
        finetuning_type=finetuning_type,
        training_type=training_type,
        dpo=Dpo(**dpo),
        **_present(asked, (
            "epochs", "batch_size", "learning_rate", "warmup_steps", "weight_decay", "optimizer",
            "adam_beta1", "adam_beta2", "seed", "log_every_n_steps",
        )),
        **_present(lora, ("adapter_dim", "adapter_dropout", "alpha")),
        **_present(sft, ("attention_dropout", "hidden_dropout")),
        pack_sequences=bool(asked.get("sequence_packing_enabled")) and can_pack,
        max_steps=asked.get("max_steps") if asked.get("max_steps", -1) > 0 else None,
        val_check_interval=asked.get("val_check_interval") or None,
        min_learning_rate=asked.get(
            "min_learning_rate", 0.1 * asked.get("learning_rate", Plan.learning_rate)
        ),
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


def shown(given: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The hyperparameters as a job shows them: the user's values, and few defaults."""
    values = {
        **dict.fromkeys(SHOWN),
        **given,
        "training_type": plan.training_type,
        "sequence_packing_enabled": bool(given.get("sequence_packing_enabled")),
    }
    if plan.finetuning_type != "all_weights":
        lora = {**dict.fromkeys(KNOWN_LORA), **(given.get("lora") or {})}
        values["lora"] = {**lora, "alpha": plan.alpha}
    return values


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
    "dpo.ref_policy_kl_penalty": 0,
    "dpo.preference_loss_weight": 0,
    "dpo.sft_loss_weight": 0,
}


def _check_bounds(values: Mapping[str, Any]) -> None:
    for name, least in _AT_LEAST.items():
        if values.get(name, least) < least:
            _refuse(name, f"at least {least}", values)
    for name in ("learning_rate", "dpo.max_grad_norm"):
        if values.get(name, 1) <= 0:
            _refuse(name, "greater than 0", values)
    for name in (
        *("adam_beta1", "adam_beta2", "lora.adapter_dropout"),
        *("sft.attention_dropout", "sft.hidden_dropout"),
    ):
        if not 0 <= values.get(name, 0) < 1:
            _refuse(name, "at least 0 and below 1", values)
    if values.get("seed", 0) > MAX_SEED:
        _refuse("seed", f"at most {MAX_SEED}", values)
    dim = values.get("lora.adapter_dim", 8)
    if not 1 <= dim <= 256 or dim & (dim - 1):
        _refuse("lora.adapter_dim", "a power of 2 from 1 to 256", values)
    interval = values.get("val_check_interval") or 1
    if interval < 0.1 or (interval > 1 and interval != int(interval)):
        _refuse("val_check_interval", "a fraction from 0.1 to 1.0, or whole steps", values)


def _refuse(name: str, bounds: str, values: Mapping[str, Any]) -> None:
    raise Invalid(f"hyperparameters.{name} must be {bounds}, not {values[name]!r}")


def _given(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (values or {}).items() if value is not None}


def _present(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}
