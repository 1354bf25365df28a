"""The optimiser of a run and its learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from nemo_local.customizer.plan import Plan


def make_optimizer(model: Any, plan: Plan) -> torch.optim.Optimizer:
    """Adam or AdamW over the trained weights; vectors (norms, biases) get no weight decay."""
    kind = torch.optim.AdamW if plan.optimizer.startswith("adamw") else torch.optim.Adam
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    vectors = [weight for weight in trained if weight.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": [w for w in trained if w.ndim >= 2]}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    return kind(
        groups,
        lr=plan.learning_rate,
        betas=(plan.adam_beta1, plan.adam_beta2),
        weight_decay=plan.weight_decay,
        fused=True,
    )


def make_schedule(optimizer: torch.optim.Optimizer, plan: Plan, total_steps: int) -> LambdaLR:
    """A flat learning rate, or a linear warm-up from the minimum and a cosine back to it."""
    warmup = plan.warmup(total_steps)
    lowest = plan.min_learning_rate / plan.learning_rate

    def factor(step: int) -> float:
        if plan.is_flat:
            return 1.0
        if step < warmup:
            return lowest + (1 - lowest) * step / warmup
        done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)
