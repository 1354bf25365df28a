"""Fine-tuning of one job with TRL's trainers and PEFT."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    set_seed,
)

from nemo_local.customizer import attention
from nemo_local.customizer.batches import make_tokens
from nemo_local.customizer.call_accuracy import CallAccuracy
from nemo_local.customizer.dropout import add_hidden_dropout
from nemo_local.customizer.hyperparameters import Plan, steps_per_epoch
from nemo_local.customizer.lora_forward import merge_in_forward
from nemo_local.customizer.memory import is_out_of_memory, longest_that_fits, release
from nemo_local.customizer.objectives import make_trainer
from nemo_local.customizer.optimization import make_optimizer, make_schedule
from nemo_local.customizer.packing import PackingCollator
from nemo_local.customizer.progress import ProgressWriter, Stopped, TrainingFailed, read_all
from nemo_local.customizer.reporting import LossWindow, Pace, Reporter, StopAt, last_checkpoint
from nemo_local.customizer.row_files import Rows
from nemo_local.customizer.saving import finish
from nemo_local.customizer.special_tokens import NO_TOKENS, SpecialTokens, load_tokenizer
from nemo_local.customizer.token_files import TokenFile
from nemo_local.customizer.token_rows import add_rows, rows_to_train
from nemo_local.customizer.trackers import Trackers

CHECKPOINT_EVERY_STEPS = 25
TOKENS_PER_PASS = 8192
"""Tokens of one forward pass (padding included); a larger batch is accumulated."""
FP32_UP_TO_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Run:
    """The training of one job: what is trained on what, and who is told of it."""

    job: dict[str, Any]
    plan: Plan
    folder: Path
    device: torch.device
    tokenizer: Any
    special: SpecialTokens
    training: TokenFile
    validation: TokenFile
    progress: ProgressWriter
    stop: Event
    trackers: Trackers
    call_accuracy: CallAccuracy | None

    @property
    def longest(self) -> int:
        """Tokens of the longest row that is trained on."""
        return max(self.training.lengths)


def train(
    job: dict[str, Any],
    rows: tuple[Rows, Rows],
    job_dir: Path,
    progress: ProgressWriter,
    stop: Event | None = None,
) -> None:
    """Train a job on (training, validation) rows; the output is left where `output_folder` says.

    Goes on from the last whole checkpoint in the folder, when there is one. Once `stop` is set, the
    run leaves a checkpoint after the step under way and ends.

    Raises:
        Stopped: it was told to end before the last step.
        TrainingFailed, InvalidRow, UntrainableData: with the reason, as a sentence.
    """
    plan, stop = Plan.from_json(job["plan"]), stop or Event()
    checkpoint = Path(job["model_path"])
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    device = _device(job["device"])
    tokenizer, special = load_tokenizer(job)
    training, validation = make_tokens(job, rows, tokenizer, job_dir / "tokens")
    asked = None
    if plan.training_type != "dpo":
        asked = CallAccuracy.of(rows[1], tokenizer, checkpoint, job["max_seq_length"])
    with Trackers(job, job_dir) as trackers:
        _train_what_fits(
            Run(
                job=job,
                plan=plan,
                folder=job_dir,
                device=device,
                tokenizer=tokenizer,
                special=special,
                training=training,
                validation=validation,
                progress=progress,
                stop=stop,
                trackers=trackers,
                call_accuracy=asked,
            )
        )


def _train_what_fits(run: Run) -> None:
    """Train with as many rows a pass as memory holds."""
    plan, longest = run.plan, run.longest
    size, halved = _pass_size(plan, longest), ""
    while True:
        try:
            return _train(run, size, halved)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            what = str(error).split("\n", 1)[0]
            print(f"out of memory at {size} rows a pass: {what}")
        # Out here, where the error no longer holds what the run had allocated.
        release()
        if size == 1:
            model = _model(Path(run.job["model_path"]), plan, run.device, longest, run.special)
            fits = longest_that_fits(model, longest, _sequences_a_row(plan))
            raise TrainingFailed(_what_fits(longest, fits))
        size = _pass_size(plan, longest, at_most=size // 2)
        halved = ", halved because memory ran out"


def _train(run: Run, size: int, halved: str) -> None:
    """Train with `size` rows a pass, from the last checkpoint to the end."""
    job, plan, job_dir, device = run.job, run.plan, run.folder, run.device
    training, validation, progress = run.training, run.validation, run.progress
    set_seed(plan.seed)
    model = _model(Path(job["model_path"]), plan, device, run.longest, run.special)
    accumulation = plan.batch_size // size
    resume_from = last_checkpoint(job_dir / "checkpoints")
    done = int(resume_from.name.rsplit("-", 1)[1]) if resume_from else 0
    rows_count = len(training.lengths)
    total = plan.total_steps(rows_count)
    precision, why = _precision(job["precision"], device)
    note = f"{device.type}, {precision} ({why}), {size} x {accumulation} rows a step{halved}"
    progress.write(
        "prepared",
        rows=rows_count,
        validation_rows=len(validation.lengths),
        dropped=training.dropped + validation.dropped,
        truncated=training.truncated + validation.truncated,
        steps_per_epoch=steps_per_epoch(rows_count, plan.batch_size),
        total_steps=total,
        resumed_from=done,
        note=note,
        trackers=run.trackers.where,
    )
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    print("\n".join([str(plan), note, f"{trained:,} weights are trained", *run.trackers.where]))
    optimizer, window, pace = make_optimizer(model, plan), LossWindow.of(resume_from), Pace()
    trainer = make_trainer(
        plan,
        arguments=dict(
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
            eval_strategy="steps" if validation.lengths else "no",
            eval_steps=plan.validation_interval(rows_count),
            save_steps=CHECKPOINT_EVERY_STEPS,
            save_total_limit=2,
            seed=plan.seed,
            max_length=None,
            report_to=[],  # trackers come after our own callbacks, which complete the logs
            run_name=job_dir.name,
            disable_tqdm=True,
        ),
        model=model,
        processing_class=run.tokenizer,
        train_dataset=training.dataset(),
        eval_dataset=validation.dataset() if validation.lengths else None,
        optimizers=(optimizer, make_schedule(optimizer, plan, total)),
        callbacks=[
            window,
            pace,
            Reporter(progress, read_all(job_dir), job_dir / "best", plan, window),
            StopAt(run.stop),
            *run.trackers.callbacks(done),
        ],
        **_packed(plan, run.tokenizer, run.longest),
    )
    # Rows of one length have their place in an epoch by chance alone.
    lengths = [0] * rows_count if plan.pack_sequences else sorted(training.lengths)
    trainer.lengths = array("i", lengths)
    trainer.window, trainer.pace, trainer.call_accuracy = window, pace, run.call_accuracy
    if plan.training_type == "distillation":
        trainer.teacher = _teacher(job, run.tokenizer, model)
    trainer.remove_callback(PrinterCallback)
    if run.stop.is_set():
        raise Stopped
    started, started_cpu = time.monotonic(), time.process_time()
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    print(
        f"{trainer.state.global_step - done} steps of {sum(training.lengths):,} tokens "
        f"an epoch in {time.monotonic() - started:.1f} s "
        f"({time.process_time() - started_cpu:.1f} CPU s)"
    )
    if run.stop.is_set() and trainer.state.global_step < total:
        raise Stopped
    finish(trainer, job, job_dir, progress)


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


def _model(
    checkpoint: Path,
    plan: Plan,
    device: torch.device,
    longest: int,
    special: SpecialTokens = NO_TOKENS,
) -> Any:
    size = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    # Steps smaller than half a bf16 unit would be lost on weights that are trained themselves.
    whole = plan.finetuning_type == "all_weights"
    row_by_row = not plan.needs_masks and attention.suits(config, device, longest)
    model: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32 if whole or size <= FP32_UP_TO_BYTES else torch.bfloat16,
        attn_implementation=attention.NAME if row_by_row else None,
        **({"attention_dropout": plan.attention_dropout} if plan.attention_dropout else {}),
    )
    add_rows(model, special)
    model.to(device)
    if plan.hidden_dropout:
        add_hidden_dropout(model, plan.hidden_dropout)
    if whole:
        return model
    adapted = get_peft_model(
        model,
        LoraConfig(
            r=plan.adapter_dim,
            lora_alpha=plan.alpha,
            lora_dropout=plan.adapter_dropout,
            target_modules=list(plan.target_modules),
            trainable_token_indices=rows_to_train(model, special),
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
    # With a name to look up, PEFT would put the whole embedding into every checkpoint once it grew.
    adapted.peft_config["default"].base_model_name_or_path = ""
    merge_in_forward(adapted)
    return adapted


def _teacher(job: dict[str, Any], tokenizer: Any, student: Any) -> Any:
    """The frozen model whose distributions are learnt, where the student is."""
    path, name = Path(job["teacher_path"]), job["teacher"]
    own = AutoTokenizer.from_pretrained(path, local_files_only=True)
    if own.get_vocab() != tokenizer.get_vocab():
        raise TrainingFailed(
            f"the teacher {name} does not have the tokenizer of the base model ({len(own)} and "
            f"{len(tokenizer)} tokens); distillation compares token by token and needs one for both"
        )
    teacher: Any = AutoModelForCausalLM.from_pretrained(
        path, local_files_only=True, use_safetensors=True, dtype=student.dtype
    )
    return teacher.to(student.device).eval().requires_grad_(False)


def _packed(plan: Plan, tokenizer: Any, longest: int) -> dict[str, Any]:
    """What a trainer of packed rows gets besides; no row is longer than the longest sequence."""
    if not plan.pack_sequences:
        return {}
    return {"data_collator": PackingCollator(tokenizer.pad_token_id, longest)}


def _what_fits(longest: int, fits: int) -> str:
    words = f"memory ran out with one row of {longest} tokens at a time; "
    if fits:
        words += f"rows of {fits} tokens fit: lower the config's max_seq_length to that, or "
    return words + "train fewer weights (lora, a smaller adapter_dim), or take a smaller model"


def _sequences_a_row(plan: Plan) -> int:
    return 2 if plan.training_type == "dpo" else 1


def _pass_size(plan: Plan, longest: int, at_most: int | None = None) -> int:
    """Rows of one forward pass; it divides the batch."""
    batch_size, tokens = plan.batch_size, longest * _sequences_a_row(plan)
    return max(
        size
        for size in range(1, (at_most or batch_size) + 1)
        if batch_size % size == 0 and (size == 1 or size * tokens <= TOKENS_PER_PASS)
    )
