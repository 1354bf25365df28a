"""The description of a job for its training process: `job.json` in the job's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nemo_local.customizer.parallelism import WantedProcesses
from nemo_local.customizer.plan import Plan

FILE = "job.json"


@dataclass(frozen=True)
class Task:
    """One training: which weights, on which rows, on which devices."""

    plan: Plan
    base_model: str
    """The name under which the weights are known."""
    model_path: Path
    """Folder of the weights."""
    dataset: str
    """The dataset as its job shows it; the files are in the job's folder."""
    prompt_template: str
    max_seq_length: int
    precision: str
    """The precision that the config asks for: bf16-mixed, bf16 or fp32."""
    chat_prompt_template: str | None = None
    """Jinja chat template; None = the checkpoint's own."""
    tokenizer: Mapping[str, Any] | None = None
    """The target's changes to the checkpoint's tokenizer, see special_tokens.py."""
    limit: int | None = None
    """How many rows to train on, from the first; None = all."""
    tools: Sequence[dict[str, Any]] = ()
    """Tools of chat rows that name none."""
    device: str = "auto"
    threads: int | None = None
    """CPU threads; None = all."""
    parallel: WantedProcesses = WantedProcesses()
    wandb: Mapping[str, Any] | None = None
    """Settings of Weights & Biases (integrations.asked_of_wandb); None = not asked for."""
    teacher: str | None = None
    """The target that a distillation learns from."""
    teacher_path: Path | None = None
    """Folder of the teacher's weights."""

    def as_json(self) -> dict[str, Any]:
        """The task in JSON types, as the stored job keeps it."""
        values = asdict(self).items()
        return {name: str(value) if isinstance(value, Path) else value for name, value in values}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        """The task from what `as_json` returned."""
        teacher = value.get("teacher_path")
        return cls(**{
            **value,
            "plan": Plan.from_json(value["plan"]),
            "model_path": Path(value["model_path"]),
            "parallel": WantedProcesses(**value["parallel"]),
            "teacher_path": Path(teacher) if teacher else None,
        })  # fmt: skip

    def write(self, job_dir: Path) -> None:
        """Write the task into a job's folder, for its training process."""
        (job_dir / FILE).write_text(json.dumps(self.as_json(), indent=2), encoding="utf-8")

    @classmethod
    def read(cls, job_dir: Path) -> Task:
        """The task in a job's folder. Raises OSError, ValueError."""
        return cls.from_json(json.loads((job_dir / FILE).read_text(encoding="utf-8")))
