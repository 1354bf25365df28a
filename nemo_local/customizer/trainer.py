"""LoRA fine-tuning of one job with TRL's SFTTrainer and PEFT."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from nemo_local.customizer import attention
from nemo_local.customizer.batches import LengthBuckets, make_tokens
from nemo_local.customizer.hyperparameters import Plan, steps_per_epoch
from nemo_local.customizer.lora_forward import merge_in_forward
from nemo_local.customizer.progress import Progress, ProgressWriter, TrainingFailed, read_all
from nemo_local.customizer.rendering import IGNORED, Tokens
from nemo_local.customizer.rows import Row

CHECKPOINT_EVERY_STEPS = 25
STEP_REPORT_EVERY_S = 0.5
TOKENS_PER_PASS = 8192
"""Tokens of one forward pass (padding included); a larger batch is accumulated."""
FP32_UP_TO_BYTES = 1_000_000_000
EARLY_STOP_EPOCHS = 10
EARLY_STOP_DELTA = 0.001


def train(
    job: dict[str, Any],
    rows: tuple[list[Row], list[Row]],
    job_dir: Path,
    progress: ProgressWriter,
) -> None:
    """Train the adapter of a job on (training, validation) rows and leave it in `job_dir/adapter`.

    Goes on from the last whole checkpoint in the folder, when there is one.

    Raises:
        TrainingFailed, InvalidRow, UntrainableData: with the reason, as a sentence.
    """
    plan = Plan.from_json(job["plan"])
    checkpoint = Path(job["model_path"])
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    device = _device(job["device"])
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    if job["chat_prompt_template"]:
        tokenizer.chat_template = job["chat_prompt_template"]
    training, validation = make_tokens(job, rows, tokenizer)

    set_seed(plan.seed)
    longest = max(map(len, training.input_ids))
    model = _model(checkpoint, plan, device, longest)
    merge_in_forward(model)
    size, accumulation = _pass_size(plan.batch_size, longest)
    resume_from = last_checkpoint(job_dir / "checkpoints")
    done = int(resume_from.name.rsplit("-", 1)[1]) if resume_from else 0
    total = plan.total_steps(len(training.input_ids))
    precision, why = _precision(job["precision"], device)
    note = f"{device.type}, {precision} ({why}), {size} x {accumulation} rows a step"
    progress.write(
        "prepared",
        rows=len(training.input_ids),
        validation_rows=len(validation.input_ids),
        dropped=training.dropped + validation.dropped,
        truncated=training.truncated + validation.truncated,
        steps_per_epoch=steps_per_epoch(len(training.input_ids), plan.batch_size),
        total_steps=total,
        resumed_from=done,
        note=note,
    )
    print(f"{plan}\n{note}\n{model.get_nb_trainable_parameters()[0]:,} weights are trained")
    optimizer = _optimizer(model, plan)
    trainer = _Trainer(
        model=model,
        processing_class=tokenizer,
        args=SFTConfig(
            output_dir=str(job_dir / "checkpoints"),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            per_device_eval_batch_size=2 * size,
            num_train_epochs=plan.epochs,
            max_steps=plan.max_steps or -1,
            use_cpu=device.type == "cpu",
            bf16=precision == "bf16",
            gradient_checkpointing=False,
            dataloader_num_workers=0,
            dataloader_pin_memory=device.type == "cuda",
            logging_steps=plan.log_every_n_steps,
            logging_nan_inf_filter=False,
            eval_strategy="steps" if validation.input_ids else "no",
            eval_steps=plan.validation_interval(len(training.input_ids)),
            save_steps=CHECKPOINT_EVERY_STEPS,
            save_total_limit=2,
            seed=plan.seed,
            max_length=None,
            report_to=[],
            disable_tqdm=True,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=_dataset(training),
        eval_dataset=_dataset(validation) if validation.input_ids else None,
        optimizers=(optimizer, _schedule(optimizer, plan, total)),
        callbacks=[_Reporter(progress, read_all(job_dir), job_dir / "best", plan)],
    )
    trainer.remove_callback(PrinterCallback)
    started, started_cpu = time.monotonic(), time.process_time()
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    print(
        f"{trainer.state.global_step - done} steps of {sum(map(len, training.input_ids)):,} tokens "
        f"an epoch in {time.monotonic() - started:.1f} s "
        f"({time.process_time() - started_cpu:.1f} CPU s)"
    )
    _finish(trainer, job, job_dir, progress)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; others are removed."""
    for path in sorted(
        folder.glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]), reverse=True
    ):
        try:
            # Written last, so its presence says that the rest is there.
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            return path
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return None


class _Trainer(SFTTrainer):
    """SFTTrainer whose output head runs where something is learnt, which halves a CPU step."""

    @property
    def _unmasked(self) -> bool:
        return bool(self.model.config._attn_implementation == attention.NAME)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        assert not return_outputs, "only losses are asked for"
        labels = inputs["labels"][:, 1:]
        learnt = labels != IGNORED
        columns = learnt.any(0).nonzero().squeeze(1)
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=None if self._unmasked else inputs["attention_mask"],
            logits_to_keep=columns,
            use_cache=False,
        ).logits
        loss = functional.cross_entropy(
            logits[learnt[:, columns]].float(), labels[learnt], reduction="sum"
        )
        count = learnt.sum() if num_items_in_batch is None else num_items_in_batch
        return loss / count

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset: Any = train_dataset if train_dataset is not None else self.train_dataset
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return LengthBuckets(list(map(len, dataset["input_ids"])), batch, self.args.seed)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Checkpoints need no card; the adapter gets its own."""


class _Reporter(TrainerCallback):
    """Reports steps and losses, keeps the best adapter, and stops when nothing improves."""

    def __init__(
        self, progress: ProgressWriter, so_far: Progress, best_dir: Path, plan: Plan
    ) -> None:
        self._progress = progress
        self._best_dir = best_dir
        self._plan = plan
        self._reported_at = 0.0
        self._per_epoch = so_far.prepared["steps_per_epoch"]
        self._best = math.inf
        self._improved_at_step = so_far.prepared["resumed_from"]
        for point in so_far.val_loss:
            self._is_best(point["value"], point["step"])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        if now - self._reported_at >= STEP_REPORT_EVERY_S:
            self._reported_at = now
            self._progress.write("step", steps=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        logs, step = given["logs"], state.global_step - 1
        if "loss" in logs:
            loss = float(logs["loss"])
            print(f"step {step}: train_loss {loss:.4f}, lr {float(logs['learning_rate']):.2e}")
            if not math.isfinite(loss):
                raise TrainingFailed(
                    f"the training loss became {loss} at step {step}; "
                    "try a lower learning_rate or a longer warm-up"
                )
            self._progress.write("train_loss", step=step, value=loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        step, loss = state.global_step - 1, float(given["metrics"]["eval_loss"])
        print(f"step {step}: val_loss {loss:.4f}")
        if self._is_best(loss, step):
            save_adapter(given["model"], self._best_dir)
        self._progress.write("val_loss", step=step, value=loss)
        waited = (step - self._improved_at_step) / self._per_epoch
        if waited >= EARLY_STOP_EPOCHS:
            print(f"no improvement above {EARLY_STOP_DELTA} for {EARLY_STOP_EPOCHS} epochs: stop")
            control.should_training_stop = True

    def _is_best(self, loss: float, step: int) -> bool:
        if loss < self._best - EARLY_STOP_DELTA:
            self._improved_at_step = step
        better = loss < self._best
        self._best = min(loss, self._best)
        return better


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter alone, as `adapter_model.safetensors` and `adapter_config.json`."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"]
    training, config.inference_mode = config.inference_mode, True
    config.save_pretrained(partial)
    config.inference_mode = training
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _finish(
    trainer: _Trainer, job: dict[str, Any], job_dir: Path, progress: ProgressWriter
) -> None:
    steps = trainer.state.global_step
    best, adapter = job_dir / "best", job_dir / "adapter"
    if not best.is_dir():
        save_adapter(trainer.model, best)
    shutil.rmtree(adapter, ignore_errors=True)
    shutil.copytree(best, adapter)
    config_path = adapter / "adapter_config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    # The folder's name would mean nothing elsewhere, and tells where this machine keeps models.
    config["base_model_name_or_path"] = job["base_model"]
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    progress.write("finished", steps=steps, best_epoch=read_all(job_dir).best_epoch)


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainingFailed(
            "NEMO_LOCAL_DEVICE is 'cuda', but no CUDA device is visible; use 'auto' or 'cpu'"
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """`bf16` (autocast over the frozen weights) or `fp32`, and why."""
    if wanted == "fp32":
        return "fp32", "asked for"
    if device.type == "cuda":
        return ("bf16", wanted) if torch.cuda.is_bf16_supported() else ("fp32", "no bf16 here")
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512" and torch.cpu._is_avx512_bf16_supported():
        return "bf16", wanted
    return "fp32", f"{wanted} asked for, but bf16 is slower than fp32 on a CPU with {capability}"


def _model(checkpoint: Path, plan: Plan, device: torch.device, longest: int) -> Any:
    size = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32 if size <= FP32_UP_TO_BYTES else torch.bfloat16,
        attn_implementation=attention.NAME if attention.suits(config, device, longest) else None,
    )
    return get_peft_model(
        model.to(device),
        LoraConfig(
            r=plan.adapter_dim,
            lora_alpha=plan.alpha,
            lora_dropout=plan.adapter_dropout,
            target_modules=list(plan.target_modules),
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )


def _pass_size(batch_size: int, longest: int) -> tuple[int, int]:
    """Rows of one forward pass, and how many passes make a step."""
    rows = max(
        size
        for size in range(1, batch_size + 1)
        if batch_size % size == 0 and (size == 1 or size * longest <= TOKENS_PER_PASS)
    )
    return rows, batch_size // rows


def _optimizer(model: Any, plan: Plan) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if plan.optimizer.startswith("adamw") else torch.optim.Adam
    return kind(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=plan.learning_rate,
        betas=(plan.adam_beta1, plan.adam_beta2),
        weight_decay=plan.weight_decay,
        fused=True,
    )


def _schedule(optimizer: torch.optim.Optimizer, plan: Plan, total_steps: int) -> LambdaLR:
    """Flat, or: from the minimum up over the warm-up, then down a cosine to the minimum."""
    warmup = plan.warmup(total_steps)
    lowest = plan.min_learning_rate / plan.learning_rate

    def factor(step: int) -> float:
        if plan.optimizer.endswith("flat_lr"):
            return 1.0
        if step < warmup:
            return lowest + (1 - lowest) * step / warmup
        done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)


def _dataset(tokens: Tokens) -> Dataset:
    """Rows by length, so that validation batches hold little padding."""
    rows = sorted(zip(tokens.input_ids, tokens.labels, strict=True), key=lambda row: len(row[0]))
    return Dataset.from_dict(
        {"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]}
    )
