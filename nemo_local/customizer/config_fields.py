"""The fields of a config: their defaults, its training options, and checks of both."""

from __future__ import annotations

from typing import Any

from nemo_local.core.documents import Document
from nemo_local.core.errors import Invalid
from nemo_local.customizer.rows import InvalidRow, parse_template

DEFAULT_PROMPT_TEMPLATE = "{prompt} {completion}"


def schema_of(template: str) -> Document:
    """The JSON Schema of the rows that a prompt template reads."""
    keys = list(dict.fromkeys(key for _, key in parse_template(template)))
    return {
        "type": "object",
        "properties": {key: {"type": "string"} for key in keys},
        "required": keys,
    }


CONFIG_DEFAULTS: Document = {
    "prompt_template": DEFAULT_PROMPT_TEMPLATE,
    "chat_prompt_template": None,
    "training_precision": "bf16-mixed",
    "custom_fields": {},
}
"""Values of the config fields that a user leaves out or sets to null."""
OPTION_DEFAULTS: Document = {
    "num_nodes": 1,
    "data_parallel_size": 1,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "use_sequence_parallel": False,
}
SEEDED_OPTIONS: list[Document] = [
    {
        "training_type": training_type,
        "finetuning_type": finetuning_type,
        "num_gpus": 1,
        "micro_batch_size": 1,
        **OPTION_DEFAULTS,
    }
    for training_type in ("sft", "dpo", "distillation")
    for finetuning_type in ("lora", "lora_merged", "all_weights")
]
PRECISIONS = ("bf16-mixed", "bf16", "fp32")
NUMBERS = (
    *("num_gpus", "micro_batch_size", "num_nodes", "data_parallel_size"),
    *("tensor_parallel_size", "pipeline_parallel_size", "expert_model_parallel_size"),
)
"""Numbers of a training option, each at least 1."""


def check(config: Document) -> None:
    """Raise Invalid for a config that no job could train with."""
    if config["max_seq_length"] < 1:
        raise Invalid(f"max_seq_length must be at least 1, not {config['max_seq_length']}")
    try:
        parse_template(config["prompt_template"])
    except InvalidRow as error:
        raise Invalid(str(error)) from None


def complete_option(option: Document) -> Document:
    """A training option with its defaults. Raises Invalid for a number below 1."""
    for name in NUMBERS:
        if option.get(name) is not None and option[name] < 1:
            raise Invalid(f"training_options: {name} must be at least 1, not {option[name]}")
    return {**OPTION_DEFAULTS, **{key: value for key, value in option.items() if value is not None}}


def complete_options(options: list[Document]) -> list[Document]:
    """Training options with their defaults; of several with the same types, the last."""
    return [complete_option(option) for option in {types_of(o): o for o in options}.values()]


def change_options(
    options: list[Document], adding: list[Document], removing: list[Document]
) -> tuple[list[Document], list[tuple[Any, Any]]]:
    """The options after some were removed and added, and the types to remove that were not there.

    An added option replaces the one with the same types. Raises Invalid when none would be left.
    """
    gone = list(map(types_of, removing))
    missing = [types for types in gone if types not in map(types_of, options)]
    replaced = {*map(types_of, adding), *gone}
    kept = [option for option in options if types_of(option) not in replaced]
    changed = complete_options([*kept, *adding])
    if not changed:
        raise Invalid("a config needs at least one training option; none would be left")
    return changed, missing


def option_for(config: Document, given: Document) -> Document:
    """The config's training option for a job's training and finetuning type. Raises Invalid."""
    wanted = given.get("training_type") or "sft", given["finetuning_type"]
    options: list[Document] = config["training_options"]
    offered = {types_of(option): option for option in options}
    if wanted not in offered:
        available = ", ".join(map("/".join, offered))
        raise Invalid(
            f"hyperparameters: {'/'.join(wanted)} is not offered by this config; "
            f"available (training_type/finetuning_type): {available}"
        )
    if config["training_precision"] not in PRECISIONS:
        raise Invalid(
            f"training_precision {config['training_precision']!r} of the config is not supported "
            f"here; use one of {', '.join(PRECISIONS)}"
        )
    return offered[wanted]


def types_of(option: Document) -> tuple[Any, Any]:
    """The training and finetuning type of an option, which tell a config's options apart."""
    return option["training_type"], option["finetuning_type"]
