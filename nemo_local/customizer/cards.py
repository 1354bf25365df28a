"""The model card of a job's output."""

from __future__ import annotations

from nemo_local.core.documents import Document
from nemo_local.customizer.hyperparameters import Plan
from nemo_local.customizer.references import OutputModel


def model_card(job: Document, plan: Plan, output: OutputModel) -> str:
    """README.md of the output: what it is, what it was made from, and how far it got."""
    details, base = job["status_details"], job["config_snapshot"]["base_model"]
    adapter = f"LoRA adapter (rank {plan.adapter_dim}, alpha {plan.alpha})"
    what = {
        "lora": f"A {adapter} for `{base}`",
        "lora_merged": f"`{base}` with a {adapter} merged into its weights",
        "all_weights": f"`{base}` with all weights fine-tuned",
    }[plan.finetuning_type]
    return f"""---
base_model: {base}
library_name: {"peft" if plan.makes_adapter else "transformers"}
---
# {output}

{what}, trained by job `{job["id"]}` on `{job["dataset"]}`.

- weights it was trained on: {job["run"]["answered_by"]}
- steps: {details["steps_completed"]}, best epoch: {details["best_epoch"]}
- lowest training loss: {details["train_loss"]}, lowest validation loss: {details["val_loss"]}
"""
