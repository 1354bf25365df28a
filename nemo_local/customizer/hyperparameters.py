"""Checks a job's hyperparameters and makes a training plan of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from nemo_microservices.types.customization.distillation_parameters_param import (
    DistillationParametersParam,
)
from nemo_microservices.types.customization.dpo_parameters_param import DpoParametersParam
from nemo_microservices.types.customization.hyperparameters_param import HyperparametersParam
from nemo_microservices.types.customization.lora_parameters_param import LoraParametersParam
from nemo_microservices.types.customization.sft_parameters_param import SftParametersParam

from nemo_local.core.errors import Invalid
from nemo_local.core.near import did_you_mean, near_names
from nemo_local.customizer.modules import resolve_modules
from nemo_local.customizer.plan import Dpo, Plan, TrainingType

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

MAX_SEED = 2**32 - 1
"""The largest seed that numpy takes."""
MAX_ALPHA = 2**31 - 1
"""The largest alpha that fits the 32 bits programs which read adapters have for it."""

DEFAULTS_OF_TYPE = {"dpo": {"epochs": 1, "batch_size": 16, "learning_rate": 9e-6}}
NOT_SUPPORTED = {
    "p_tuning": "virtual tokens are served nowhere here; use finetuning_type 'lora'",
    "grpo": "there are no reward environments here; use training_type 'sft'",
}


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """Raise Invalid for an unknown hyperparameter or an unsupported type; the message names it."""
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
                hint = did_you_mean(map(repr, near_names(name, known)))
                hint = hint or f" Known are: {', '.join(known)}."
                raise Invalid(f"Unknown hyperparameter '{prefix}{name}'.{hint}")


def make_plan(
    given: Mapping[str, Any],
    modules: Collection[str],
    parallel_rows: int,
    can_pack: bool = True,
) -> Plan:
    """The plan for the hyperparameters that a job asked for.

    `modules` are the linear layers of the base model; `parallel_rows` (micro batch size ×
    data-parallel size) must divide the batch size; `can_pack` = sequences may share rows.

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
            resolve_modules(
                lora.get("target_modules"), modules, merged=finetuning_type == "lora_merged"
            )
            if trains_adapter
            else ()
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
        min_learning_rate=(
            asked.get("min_learning_rate")
            or 0.1 * asked.get("learning_rate", Plan.learning_rate)
        ),
    )  # fmt: skip
    if not plan.is_flat and plan.min_learning_rate >= plan.learning_rate:
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
    """The hyperparameters as a job shows them: the user's values, and a few defaults."""
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


def warnings(
    given: Mapping[str, Any], option: Mapping[str, Any], unpacked: str
) -> list[dict[str, Any]]:
    """Warnings for hyperparameters that have no effect with a job's training option.

    `unpacked` is why the job's sequences cannot share rows, empty when they can.
    """
    said = []
    kinds = f"{option['training_type']}/{option['finetuning_type']}"
    for name, used in (
        ("lora", option["finetuning_type"] != "all_weights"),
        ("sft", option["training_type"] != "dpo"),
        ("dpo", option["training_type"] == "dpo"),
        ("distillation", option["training_type"] == "distillation"),
    ):
        if given.get(name) and not used:
            said.append((f"hyperparameters.{name} is not used", f"it has no part in {kinds}"))
    if given.get("sequence_packing_enabled") and unpacked:
        said.append(("Sequence packing is off", unpacked))
    return [{"message": message, "explanation": why} for message, why in said]


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
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(name, "a finite number", values)
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
    for name, most in (("seed", MAX_SEED), ("lora.alpha", MAX_ALPHA)):
        if values.get(name, most) > most:
            _refuse(name, f"at most {most}", values)
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
