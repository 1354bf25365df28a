"""The plan of a training: all its hyperparameters, complete and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

DEFAULT_WARMUP_STEPS = 200

FinetuningType = Literal[
    "lora",  # the output is an adapter
    "lora_merged",  # an adapter is trained; the output is a whole checkpoint with it merged in
    "all_weights",  # every weight is trained; the output is a whole checkpoint
]
TrainingType = Literal[
    "sft",  # cross entropy of the answers
    "dpo",  # preferred answers over others
    "distillation",  # a teacher's token distributions in the answers
]


@dataclass(frozen=True)
class Dpo:
    """Settings of preference training (DPO).

    The defaults are those of the real Customizer's job compiler.
    Source: https://github.com/NVIDIA-NeMo/nemo-platform
    """

    ref_policy_kl_penalty: float = 0.05
    """Beta of the DPO paper: how strongly the model is held to the one it started as."""
    preference_loss_weight: float = 1.0
    sft_loss_weight: float = 0.0
    """Weight of the chosen answers' negative log-likelihood."""
    preference_average_log_probs: bool = False
    """Whether an answer's log-probability is the mean over its tokens instead of the sum."""
    sft_average_log_probs: bool = False
    max_grad_norm: float = 1.0


@dataclass(frozen=True)
class Plan:
    """The hyperparameters of a training, every default filled in."""

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
    """Where the warm-up starts and the cosine ends."""
    warmup_steps: int | None = None
    """Steps from the minimum to the full rate; None = 200, or a tenth of a shorter run."""
    weight_decay: float = 0.01
    optimizer: str = "adamw_with_cosine_annealing"
    adam_beta1: float = 0.9
    adam_beta2: float = 0.99
    seed: int = 42
    max_steps: int | None = None
    """Stop after this many steps; None = after the epochs."""
    log_every_n_steps: int = 10
    val_check_interval: float | None = None
    """Up to 1.0 a fraction of an epoch, above it steps; None = after each epoch."""
    adapter_dim: int = 8
    adapter_dropout: float = 0.0
    alpha: int = 16
    attention_dropout: float | None = None
    """Dropout of attention weights; None = as the checkpoint says."""
    hidden_dropout: float | None = None
    """Dropout of what each block adds to the hidden states; None = none."""
    pack_sequences: bool = False
    """Whether several sequences share a row."""
    dpo: Dpo = Dpo()

    @property
    def makes_adapter(self) -> bool:
        """Whether the output is an adapter, and not a whole checkpoint."""
        return self.finetuning_type == "lora"

    @property
    def output_folder(self) -> str:
        """Name of the output's folder in the job's folder."""
        return "adapter" if self.makes_adapter else "model"

    @property
    def is_flat(self) -> bool:
        """Whether the learning rate is constant."""
        return self.optimizer.endswith("flat_lr")

    @property
    def needs_masks(self) -> bool:
        """Whether attention must do more than be causal (packed sequences, attention dropout)."""
        return self.pack_sequences or bool(self.attention_dropout)

    def as_json(self) -> dict[str, Any]:
        """The plan in JSON types, as the stored job keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """The plan from what `as_json` returned."""
        modules, dpo = tuple(value["target_modules"]), Dpo(**value["dpo"])
        return cls(**{**value, "target_modules": modules, "dpo": dpo})

    def total_steps(self, sequences: int) -> int:
        """Optimiser steps of the whole run over this many sequences."""
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
        """Warm-up steps of a run with this many steps in all."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return min(DEFAULT_WARMUP_STEPS, total_steps // 10)


def steps_per_epoch(sequences: int, batch_size: int) -> int:
    """Optimiser steps that take in each sequence once: steps_per_epoch(3500, 16) -> 219"""
    return -(-sequences // batch_size)
