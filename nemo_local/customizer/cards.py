"""The model card of a job's output."""

from __future__ import annotations

from nemo_local.core.documents import Document
from nemo_local.customizer.plan import Plan
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
    own = _own_tokenizer(job["config_snapshot"], plan)
    return f"""---
base_model: {base}
library_name: {"peft" if plan.makes_adapter else "transformers"}
---
# {output}

{what}, trained by job `{job["id"]}` on `{job["dataset"]}`.

- weights it was trained on: {job["run"]["answered_by"]}
{own}- steps: {details["steps_completed"]}, best epoch: {details["best_epoch"]}
- lowest training loss: {details["train_loss"]}, lowest validation loss: {details["val_loss"]}
"""


def _own_tokenizer(snapshot: Document, plan: Plan) -> str:
    """Lines of the card on how the output's tokenizer differs from the base's."""
    tokens = (snapshot["tokenizer"] or {}).get("additional_special_tokens") or []
    lines = ""
    if snapshot["chat_prompt_template"]:
        lines += "- chat template: its own, `chat_template.jinja`\n"
    if tokens:
        lines += f"- special tokens that were trained: {', '.join(f'`{t}`' for t in tokens)}\n"
    if tokens and plan.makes_adapter:
        lines += (
            "- to load it elsewhere: `model.resize_token_embeddings(len(tokenizer))` with this "
            "tokenizer, if the model has fewer rows, then `PeftModel.from_pretrained`\n"
        )
    return lines
