"""The types of models, wider than those of the newest SDK: earlier ones know p-tuning, too."""

from typing import Literal, get_args

from nemo_microservices import types
from nemo_microservices.types.shared import ParameterEfficientFinetuningData

FinetuningType = Literal["lora", "lora_merged", "all_weights", "p_tuning"]
FINETUNING_TYPES: tuple[str, ...] = get_args(FinetuningType)


class Peft(ParameterEfficientFinetuningData):
    """How a model was tuned."""

    finetuning_type: FinetuningType  # type: ignore[assignment]


class Model(types.Model):
    """A model as it is shown."""

    peft: Peft | None = None
