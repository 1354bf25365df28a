"""The training option that a job chooses, and what it asks for in vain."""

from __future__ import annotations

from nemo_local.core.documents import Document
from nemo_local.core.errors import Invalid

PRECISIONS = ("bf16-mixed", "bf16", "fp32")


def option_for(config: Document, given: Document) -> Document:
    """The training option that the job's types choose. Raises Invalid."""
    wanted = (given.get("training_type") or "sft", given["finetuning_type"])
    pairs = [(o["training_type"], o["finetuning_type"]) for o in config["training_options"]]
    if wanted not in pairs:
        available = ", ".join("/".join(pair) for pair in pairs)
        raise Invalid(
            f"hyperparameters: {'/'.join(wanted)} is not offered by this config; "
            f"available (training_type/finetuning_type): {available}"
        )
    if config["training_precision"] not in PRECISIONS:
        raise Invalid(
            f"training_precision {config['training_precision']!r} of the config is not supported "
            f"here; use one of {', '.join(PRECISIONS)}"
        )
    option: Document = config["training_options"][pairs.index(wanted)]
    return option


def warnings_of(
    body: Document, option: Document, unpacked: str, wandb: Document | None
) -> list[Document]:
    """What of the job's request has no effect, each with the reason.

    `unpacked` is why its sequences cannot share rows, empty when they can.
    """
    warnings = []
    given = body["hyperparameters"]
    kinds = f"{option['training_type']}/{option['finetuning_type']}"
    for name, used in (
        ("lora", option["finetuning_type"] != "all_weights"),
        ("sft", option["training_type"] != "dpo"),
        ("dpo", option["training_type"] == "dpo"),
        ("distillation", option["training_type"] == "distillation"),
    ):
        if given.get(name) and not used:
            warnings.append((f"hyperparameters.{name} is not used", f"it has no part in {kinds}"))
    if given.get("sequence_packing_enabled") and unpacked:
        warnings.append(("Sequence packing is off", unpacked))
    if wandb and not wandb["keyed"]:
        why = "no wandb-api-key came with the job; its run is in the job's folder, for `wandb sync`"
        warnings.append(("Weights & Biases runs offline", why))
    return [{"message": message, "explanation": why} for message, why in warnings]
