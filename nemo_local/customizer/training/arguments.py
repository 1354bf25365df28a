"""The arguments that TRL's and transformers' trainers get for a run."""

from __future__ import annotations

from typing import Any

from nemo_local.customizer.training.choices import Choices
from nemo_local.customizer.training.facts import FLASH
from nemo_local.customizer.training.memory import WAY_BACK
from nemo_local.customizer.training.packing import PackingCollator
from nemo_local.customizer.training.passes import rows_of_each
from nemo_local.customizer.training.run import Run

CHECKPOINT_EVERY_STEPS = 25
"""Steps between checkpoints, while writing them stays within its share of time; see SavePace."""
PADDED_TO = 8
"""Row lengths are padded to a multiple of it: in bfloat16 on a CPU, oneDNN takes 1 to 3 ms to build
a kernel for every new shape of a product, and a new length means 28 of them (docs/log.md)."""


def arguments(run: Run, choices: Choices) -> dict[str, Any]:
    """The arguments of transformers' Trainer for this run."""
    plan, ranks, device, size = run.plan, run.ranks, run.device, choices.rows_of_a_pass
    zero = ranks.parallelism.startswith("zero")
    return dict(
        output_dir=str(run.folder / "checkpoints"),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=rows_of_each(plan, ranks.count) // size,
        per_device_eval_batch_size=_validated_at_once(run, size),
        num_train_epochs=plan.epochs,
        max_steps=plan.total_steps(len(run.training.lengths)) if plan.max_steps else -1,
        use_cpu=device.type == "cpu" and not zero,
        ddp_backend="gloo" if device.type == "cpu" and zero else None,
        ddp_find_unused_parameters=False,
        bf16=choices.bf16,
        tf32=choices.tf32.on if device.type == "cuda" else None,
        gradient_checkpointing=choices.checkpointing.on,
        gradient_checkpointing_kwargs=dict(WAY_BACK) if choices.checkpointing.on else None,
        torch_compile=choices.compile.on,
        dataloader_num_workers=0,
        dataloader_pin_memory=device.type == "cuda",
        accelerator_config={"non_blocking": device.type == "cuda"},
        logging_steps=plan.log_every_n_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if run.validation.lengths else "no",
        eval_steps=plan.validation_interval(len(run.training.lengths)),
        save_steps=CHECKPOINT_EVERY_STEPS,
        save_total_limit=2,
        # The Trainer cannot save the optimiser of a split model; Together can.
        save_only_model=ranks.parallelism == "fsdp",
        seed=plan.seed,
        report_to=[],  # trackers come after our own callbacks, which complete the logs
        run_name=run.folder.name,
        disable_tqdm=True,
    )


def _validated_at_once(run: Run, size: int) -> int:
    """Rows of a validation pass, where training passes have `size` rows.

    It has as many tokens as a training pass, which was estimated to fit; on a CPU, where nothing is
    kept for a backward pass, twice as many.
    """
    most = size if run.device.type == "cuda" else 2 * size
    return max(1, most * run.longest // run.longest_of_all)


def padded_to(run: Run, choices: Choices) -> int | None:
    """Rows are padded to a multiple of this many tokens; None means no padding."""
    return PADDED_TO if run.device.type == "cpu" and choices.bf16 else None


def packed(run: Run, choices: Choices) -> dict[str, Any]:
    """Further arguments of a trainer of packed rows; empty without packing.

    FlashAttention keeps sequences apart in a single row only, and computes nothing between them;
    otherwise no row is longer than the longest sequence.
    """
    if not choices.packing.on:
        return {}
    pad_id = run.tokenizer.pad_token_id
    if choices.attention.value == FLASH:
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

        return {"data_collator": DataCollatorForLanguageModeling(pad_id, padding_free=True)}
    return {"data_collator": PackingCollator(pad_id, run.longest)}
