"""Fine-tuning of one job with TRL's trainers and PEFT."""

from __future__ import annotations

import time
from array import array
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
from transformers import PrinterCallback, set_seed

from nemo_local.customizer.batches import LengthBuckets, make_tokens
from nemo_local.customizer.call_accuracy import CallAccuracy
from nemo_local.customizer.hyperparameters import Plan, steps_per_epoch
from nemo_local.customizer.memory import is_out_of_memory, longest_that_fits, release
from nemo_local.customizer.networks import load_model, load_teacher
from nemo_local.customizer.objectives import make_trainer
from nemo_local.customizer.packing import PackingCollator
from nemo_local.customizer.passes import (
    pass_size,
    rows_of_each,
    sequences_a_row,
    what_fits,
    what_several_may_do,
)
from nemo_local.customizer.progress import (
    OutOfMemory,
    ProgressWriter,
    Stopped,
    TrainingFailed,
    read_all,
)
from nemo_local.customizer.ranks import Ranks
from nemo_local.customizer.reporting import LossWindow, Pace, Reporter, StopAt, last_checkpoint
from nemo_local.customizer.row_files import Rows
from nemo_local.customizer.saving import finish
from nemo_local.customizer.special_tokens import SpecialTokens, load_tokenizer
from nemo_local.customizer.token_files import TokenFile
from nemo_local.customizer.trackers import Trackers

CHECKPOINT_EVERY_STEPS = 25


@dataclass(frozen=True)
class Run:
    """The training of one job: what is trained on what, and who is told of it."""

    job: dict[str, Any]
    plan: Plan
    folder: Path
    ranks: Ranks
    tokenizer: Any
    special: SpecialTokens
    training: TokenFile
    validation: TokenFile
    progress: ProgressWriter
    stop: Event
    trackers: Trackers | None
    """None in a process that does not report."""
    call_accuracy: CallAccuracy | None

    @property
    def longest(self) -> int:
        """Tokens of the longest row that is trained on."""
        return max(self.training.lengths)

    @property
    def device(self) -> torch.device:
        return self.ranks.device


def train(
    job: dict[str, Any],
    rows: tuple[Rows, Rows] | None,
    job_dir: Path,
    progress: ProgressWriter,
    stop: Event | None = None,
    rows_at_most: int | None = None,
) -> None:
    """Train a job on (training, validation) rows; the output is left where `output_folder` says.

    Goes on from the last whole checkpoint in the folder, when there is one. Once `stop` is set, the
    run leaves a checkpoint after the step under way and ends. Of several processes the first needs
    the rows, the others have None; each of them must call this. `rows_at_most` are the rows of a
    pass after memory ran out in one of several processes.

    Raises:
        Stopped: it was told to end before the last step.
        OutOfMemory: in one of several processes, which may all begin again with fewer rows a pass.
        TrainingFailed, InvalidRow, UntrainableData: with the reason, as a sentence.
    """
    plan, stop = Plan.from_json(job["plan"]), stop or Event()
    checkpoint = Path(job["model_path"])
    wanted = job.get("parallel") or {}
    ranks = Ranks.join(_device(job["device"]), wanted.get("parallelism", "ddp"))
    if job["threads"] and ranks.count == 1:  # else the launcher has shared them out
        torch.set_num_threads(job["threads"])
    tokenizer, special = load_tokenizer(job)
    if special.ids and ranks.sharded:
        raise TrainingFailed(
            f"{ranks.parallelism} splits the rows of the target's special tokens and cannot train "
            "them; set NEMO_LOCAL_PARALLELISM to ddp or zero2"
        )

    def tokens() -> tuple[tuple[TokenFile, TokenFile], str]:
        assert rows is not None, "the first process has them"
        # In this order: the tokenizer may get a token to pad with when it renders.
        return make_tokens(job, rows, tokenizer, job_dir / "tokens"), tokenizer.pad_token

    (training, validation), tokenizer.pad_token = ranks.from_first(tokens)
    asked = None
    # To ask a model that is split up, all processes would have to answer.
    if rows is not None and plan.training_type != "dpo" and not ranks.sharded:
        asked = CallAccuracy.of(rows[1], tokenizer, checkpoint, job["max_seq_length"])
    with Trackers(job, job_dir) if ranks.first else nullcontext() as trackers:
        _train_what_fits(
            Run(
                job=job,
                plan=plan,
                folder=job_dir,
                ranks=ranks,
                tokenizer=tokenizer,
                special=special,
                training=training,
                validation=validation,
                progress=progress,
                stop=stop,
                trackers=trackers,
                call_accuracy=asked,
            ),
            rows_at_most,
        )


def _train_what_fits(run: Run, at_most: int | None) -> None:
    """Train with as many rows a pass as memory holds, `at_most` if it ran out before."""
    plan, longest, ranks = run.plan, run.longest, run.ranks
    while True:
        size = pass_size(plan, longest, ranks.count, at_most=at_most)
        try:
            return _train(run, size, ", halved because memory ran out" if at_most else "")
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            what = str(error).split("\n", 1)[0]
        print(f"out of memory at {size} rows a pass: {what}")
        # Out here, where the error no longer holds what the run had allocated.
        release()
        if ranks.count > 1 and (size > 1 or ranks.sharded):
            # The others have begun to wait for this one, so nothing can be tried with them.
            raise OutOfMemory(what_several_may_do(ranks, size, longest, what), size)
        if size == 1:
            model = load_model(Path(run.job["model_path"]), plan, ranks, longest, run.special)
            fits = longest_that_fits(model, longest, sequences_a_row(plan))
            raise TrainingFailed(what_fits(longest, fits))
        at_most = size // 2


def _train(run: Run, size: int, halved: str) -> None:
    """Train with `size` rows a pass, from the last checkpoint to the end."""
    job, plan, job_dir, ranks = run.job, run.plan, run.folder, run.ranks
    training, validation, progress, device = run.training, run.validation, run.progress, run.device
    set_seed(plan.seed)
    model = load_model(Path(job["model_path"]), plan, ranks, run.longest, run.special)
    accumulation = rows_of_each(plan, ranks.count) // size
    resume_from = ranks.from_first(lambda: last_checkpoint(job_dir / "checkpoints"))
    done = int(resume_from.name.rsplit("-", 1)[1]) if resume_from else 0
    rows_count = len(training.lengths)
    total = plan.total_steps(rows_count)
    precision, why = _precision(job["precision"], device, ranks)
    note = f"{device.type}, {precision} ({why}), {size} x {accumulation} rows a step"
    if ranks.count > 1:
        note += f" in each of {ranks.count} processes ({ranks.parallelism})"
    note += halved
    where = run.trackers.where if run.trackers else []
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
        trackers=where,
    )
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    print("\n".join([str(plan), note, f"{trained:,} weights are trained", *where]))
    window, pace, stop_at = LossWindow.of(resume_from), Pace(ranks), StopAt(run.stop, ranks)
    window.ranks = ranks
    so_far = ranks.from_first(lambda: read_all(job_dir))
    # Before the trainer: ZeRO-3 would split it.
    teacher = None
    if plan.training_type == "distillation":
        teacher = load_teacher(job, run.tokenizer, model.dtype, device)
    trainer = make_trainer(
        plan,
        arguments=_arguments(run, size, precision),
        model=model,
        processing_class=run.tokenizer,
        train_dataset=training.dataset(),
        eval_dataset=validation.dataset() if validation.lengths else None,
        callbacks=[
            window,
            pace,
            Reporter(progress, so_far, job_dir / "best", plan, window),
            stop_at,
            *(run.trackers.callbacks(done) if run.trackers else []),
        ],
        **_packed(plan, run.tokenizer, run.longest),
    )
    # Rows of one length have their place in an epoch by chance alone.
    lengths = [0] * rows_count if plan.pack_sequences else sorted(training.lengths)
    trainer.order = LengthBuckets(array("i", lengths), plan.batch_size, plan.seed)
    trainer.plan, trainer.ranks, trainer.total_steps = plan, ranks, total
    trainer.args.save_only_model = False
    trainer.window, trainer.pace, trainer.call_accuracy = window, pace, run.call_accuracy
    trainer.teacher = teacher
    trainer.remove_callback(PrinterCallback)
    if plan.training_type == "dpo":
        trainer.remember_reference()
    if run.stop.is_set():
        raise Stopped
    started, started_cpu = time.monotonic(), time.process_time()
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    print(
        f"{trainer.state.global_step - done} steps of {sum(training.lengths):,} tokens "
        f"an epoch in {time.monotonic() - started:.1f} s "
        f"({time.process_time() - started_cpu:.1f} CPU s)"
    )
    if stop_at.stopped and trainer.state.global_step < total:
        raise Stopped
    finish(trainer, job, job_dir, progress)


def _arguments(run: Run, size: int, precision: str) -> dict[str, Any]:
    """What transformers' Trainer is told about a run with `size` rows a pass."""
    plan, ranks, device = run.plan, run.ranks, run.device
    zero = ranks.parallelism.startswith("zero")
    # As one process has them, whatever the share of each.
    at_once = size if ranks.count == 1 else pass_size(plan, run.longest)
    return dict(
        output_dir=str(run.folder / "checkpoints"),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=rows_of_each(plan, ranks.count) // size,
        per_device_eval_batch_size=2 * at_once,
        num_train_epochs=plan.epochs,
        max_steps=plan.max_steps or -1,
        use_cpu=device.type == "cpu" and not zero,
        ddp_backend="gloo" if device.type == "cpu" and zero else None,
        ddp_find_unused_parameters=False,
        bf16=precision == "bf16",
        gradient_checkpointing=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=device.type == "cuda",
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


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainingFailed(
            "NEMO_LOCAL_DEVICE is 'cuda', but no CUDA device is visible; use 'auto' or 'cpu'"
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _precision(wanted: str, device: torch.device, ranks: Ranks) -> tuple[str, str]:
    """`bf16` (autocast over the frozen weights) or `fp32`, and why."""
    if wanted == "fp32":
        return "fp32", "asked for"
    if device.type == "cpu" and ranks.parallelism.startswith("zero"):
        return "fp32", "DeepSpeed on a CPU"
    if device.type == "cuda":
        return ("bf16", wanted) if torch.cuda.is_bf16_supported() else ("fp32", "no bf16 here")
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512" and torch.cpu._is_avx512_bf16_supported():
        return "bf16", wanted
    return "fp32", f"{wanted} asked for, but bf16 is slower than fp32 on a CPU with {capability}"


def _packed(plan: Plan, tokenizer: Any, longest: int) -> dict[str, Any]:
    """What a trainer of packed rows gets besides; no row is longer than the longest sequence."""
    if not plan.pack_sequences:
        return {}
    return {"data_collator": PackingCollator(tokenizer.pad_token_id, longest)}
