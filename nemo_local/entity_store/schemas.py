"""Wire types of models, wider than the newest SDK's.

Earlier SDKs also know p-tuning; a guardrails configuration may be named instead of written out.
"""

from typing import Annotated, Any, Literal, get_args

from nemo_microservices import types
from nemo_microservices.types.shared import GuardrailConfig, ParameterEfficientFinetuningData
from pydantic import RootModel, WrapValidator

FinetuningType = Literal["lora", "lora_merged", "all_weights", "p_tuning"]
FINETUNING_TYPES: tuple[str, ...] = get_args(FinetuningType)


class Peft(ParameterEfficientFinetuningData):
    """How a model was tuned."""

    finetuning_type: FinetuningType  # type: ignore[assignment]


def _named_or_held(value: Any, _: object) -> str | GuardrailConfig:
    if value == "":
        raise ValueError("the name of a guardrails configuration is missing: write namespace/name")
    return value if isinstance(value, str) else GuardrailConfig.model_validate(value)


# The union alone would tell an error inside the object as one of the text first.
class Guardrails(RootModel[Annotated[str | GuardrailConfig, WrapValidator(_named_or_held)]]):
    """`namespace/name` of a configuration, or the configuration itself."""


class Model(types.Model):
    """A model as it is shown."""

    peft: Peft | None = None
    guardrails: Guardrails | None = None  # type: ignore[assignment]
