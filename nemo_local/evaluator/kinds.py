"""The kinds of documents that the Evaluator stores, and the types that show them."""

from __future__ import annotations

from nemo_microservices.types import EvaluationConfig, EvaluationTarget
from nemo_microservices.types.evaluation import EvaluationJob
from pydantic import BaseModel

from nemo_local.evaluator.schemas import EvaluationResult

CONFIG, TARGET = "evaluation_config", "evaluation_target"
RESULT, JOB = "evaluation_result", "evaluation_job"
MODEL = "model"
"""The kind that the Entity Store gives its models; the Evaluator only reads them."""
PREFIXES = {CONFIG: "eval-config", TARGET: "eval-target", RESULT: "evaluation_result", JOB: "eval"}
"""The prefix of each kind's ids."""
SHOWN_AS: dict[str, type[BaseModel]] = {
    CONFIG: EvaluationConfig,
    TARGET: EvaluationTarget,
    RESULT: EvaluationResult,
    JOB: EvaluationJob,
}
