"""Fine-tuning of one job with TRL's trainers and PEFT."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Event

import torch
from transformers import PrinterCallback, set_seed

from nemo_local.customizer.plan import steps_per_epoch
from nemo_local.customizer.progress import (
    OutOfMemory,
    ProgressWriter,
    Stopped,
    TrainingFailed,
    read_all,
)
from nemo_local.customizer.row_files import Rows
from nemo_local.customizer.special_tokens import load_tokenizer
from nemo_local.customizer.task import Task
from nemo_local.customizer.training.arguments import arguments, packed, padded_to
from nemo_local.customizer.training.batches import LengthBuckets, make_tokens
from nemo_local.customizer.training.call_accuracy import CallAccuracy
from nemo_local.customizer.training.choices import Choices, choose, with_less_memory
from nemo_local.customizer.training.facts import Facts
from nemo_local.customizer.training.gather import gather
from nemo_local.customizer.training.memory import (
    is_out_of_memory,
    longest_that_fits,
    release,
    what_fits,
    what_several_may_do,
)
from nemo_local.customizer.training.networks import load_model, load_teacher
from nemo_local.customizer.training.objectives import make_trainer
from nemo_local.customizer.training.passes import rows_of_each, sequences_a_row
from nemo_local.customizer.training.ranks import Ranks
from nemo_local.customizer.training.reporting import (
    LossWindow,
    Pace,
    Reporter,
    SavePace,
    StopAt,
    last_checkpoint,
)
from nemo_local.customizer.training.row_threads import RowThreads
from nemo_local.customizer.training.run import Run
from nemo_local.customizer.training.saving import finish, trained_weights
from nemo_local.customizer.training.token_files import TokenFile
from nemo_local.customizer.training.trackers import Trackers

STATES_OF_A_WEIGHT = 2
"""Values that Adam keeps for each weight, in float32."""


def train(
    task: Task,
    rows: tuple[Rows, Rows] | None,
    job_dir: Path,
    progress: ProgressWriter,
    stop: Event | None = None,
    rows_refused: int | None = None,
) -> None:
    """Train on (training, validation) rows; the output is left in `plan.output_folder`.

    Resumes from the last complete checkpoint in the folder, if there is one. Once `stop` is set,
    the run ends after the current step, with a checkpoint. Every one of several processes must
    call this, the first with the rows, the others with None. `rows_refused` is the number of rows
    a pass had when memory ran out in one of several processes.

    Raises:
        Stopped: `stop` was set before the last step.
        OutOfMemory: in one of several processes, which may all begin again with less.
        TrainingFailed, InvalidRow, UntrainableData: with the reason, as a sentence.
    """
    stop = stop or Event()
    ranks = Ranks.join(_device(task.device), task.parallel.parallelism)
    # Softmax leaves denormal numbers, which Intel's processors compute at a tenth of their speed.
    torch.set_flush_denormal(True)
    if task.threads and ranks.count == 1:  # else the launcher has shared them out
        torch.set_num_threads(task.threads)
    tokenizer, special = load_tokenizer(task)
    if special.ids and ranks.sharded:
        raise TrainingFailed(
            f"{ranks.parallelism} splits the rows of the target's special tokens and cannot train "
            "them; set NEMO_LOCAL_PARALLELISM to ddp or zero2"
        )

    def tokens() -> tuple[tuple[TokenFile, TokenFile], str]:
        assert rows is not None, "the first process has them"
        # In this order: the tokenizer may get a token to pad with when it renders.
        made = make_tokens(task, rows, tokenizer, job_dir / "tokens", special)
        return made, tokenizer.pad_token

    (training, validation), tokenizer.pad_token = ranks.from_first(tokens)
    asked = None
    # To ask a model that is split up, all processes would have to answer.
    if rows is not None and task.plan.training_type != "dpo" and not ranks.sharded:
        asked = CallAccuracy.of(rows[1], tokenizer, task.model_path, task.max_seq_length)
    with Trackers(task, job_dir) if ranks.first else nullcontext() as trackers:
        _train_what_fits(
            Run(
                task=task,
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
            rows_refused,
        )


def _train_what_fits(run: Run, refused: int | None) -> None:
    """Train with as many rows a pass as fit into memory, if need be with activation checkpointing.

    Raises:
        OutOfMemory: in one of several processes, and something is left to try.
        TrainingFailed: nothing is.
    """
    task, plan, ranks = run.task, run.plan, run.ranks
    facts = gather(
        task.model_path,
        plan,
        ranks,
        run.training.lengths,
        run.training.most_learnt,
        longest_validated=max(run.validation.lengths, default=0),
        precision=task.precision,
        device_asked=task.device,
        teacher=task.teacher_path if plan.training_type == "distillation" else None,
    )
    if refused is not None:
        facts = replace(facts, refused=refused)
    while True:
        choices = choose(facts)
        size = choices.rows_of_a_pass
        try:
            return _train(run, choices, ", ".join(_in_words(run, facts, choices)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            what = str(error).split("\n", 1)[0]
        print(f"out of memory at {size} rows a pass: {what}")
        # Out here, where the error no longer holds what the run had allocated.
        release()
        less = with_less_memory(facts, choices)
        if ranks.count > 1 and (less is not None or ranks.sharded):
            # The others have begun to wait for this one, so nothing can be tried with them.
            reason = what_several_may_do(ranks, size, run.longest_of_all, what)
            raise OutOfMemory(reason, size) if less is not None else TrainingFailed(reason)
        if less is None:
            fits = _longest_that_fits(run, choices)
            raise TrainingFailed(what_fits(run.longest_of_all, fits, choices.checkpointing.on))
        facts = less


def _longest_that_fits(run: Run, choices: Choices) -> int:
    """Tokens of the longest row that could be trained on; 0 where not even the weights fit."""
    plan, device = run.plan, run.device
    try:
        model = load_model(run.task.model_path, plan, run.ranks, choices, run.special)
        held = [
            weight.new_empty(weight.shape, dtype=torch.float32)
            for weight in trained_weights(model).values()
            for _ in range(STATES_OF_A_WEIGHT)
        ]
        if plan.training_type == "distillation":
            held.append(load_teacher(run.task, run.tokenizer, choices, device))
        return longest_that_fits(model, run.longest_of_all, sequences_a_row(plan), choices)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return 0


def _in_words(run: Run, facts: Facts, choices: Choices) -> Iterator[str]:
    """Phrases on how the run is computed, for the job's status; first on which device."""
    size = choices.rows_of_a_pass
    yield choices.note()
    shared = f" in each of {facts.processes} processes ({facts.parallelism})"
    yield (
        f"{size} x {rows_of_each(run.plan, facts.processes) // size} rows a step"
        f"{shared if facts.processes > 1 else ''}"
    )
    if facts.refused is not None and size < facts.pass_sizes[0]:
        yield "halved because memory ran out"


def _train(run: Run, choices: Choices, note: str) -> None:
    """Train with these choices, from the last checkpoint to the end."""
    task, plan, job_dir, ranks = run.task, run.plan, run.folder, run.ranks
    training, validation, progress, device = run.training, run.validation, run.progress, run.device
    set_seed(plan.seed)
    torch.backends.cuda.enable_cudnn_sdp(choices.cudnn.on)
    if choices.compile.on:
        # What cannot be compiled is computed as it would have been.
        torch._dynamo.config.suppress_errors = True
    model = load_model(task.model_path, plan, ranks, choices, run.special)
    resume_from = ranks.from_first(lambda: last_checkpoint(job_dir / "checkpoints"))
    done = int(resume_from.name.rsplit("-", 1)[1]) if resume_from else 0
    rows_count = len(training.lengths)
    total = plan.total_steps(rows_count)
    where = run.trackers.where if run.trackers else []
    progress.write(
        "prepared",
        rows=rows_count,
        validation_rows=len(validation.lengths),
        validation_dropped=validation.dropped,
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
    print("\n".join(map(str, choices)))
    window, pace, stop_at = LossWindow.of(resume_from), Pace(ranks), StopAt(run.stop, ranks)
    window.ranks, saves = ranks, SavePace(ranks)
    so_far = ranks.from_first(lambda: read_all(job_dir))
    # Before the trainer: ZeRO-3 would split it.
    teacher = None
    if plan.training_type == "distillation":
        teacher = load_teacher(task, run.tokenizer, choices, device)
    trainer = make_trainer(
        plan,
        arguments=arguments(run, choices),
        padded_to=padded_to(run, choices),
        model=model,
        processing_class=run.tokenizer,
        train_dataset=training.dataset(),
        eval_dataset=validation.dataset() if validation.lengths else None,
        callbacks=[
            window,
            pace,
            saves,
            stop_at,
            Reporter(progress, so_far, job_dir / "best", window),  # checks losses before saves
            *(run.trackers.callbacks(done) if run.trackers else []),
        ],
        **packed(run, choices),
    )
    # Packed rows count as of one length, so that their order is random alone.
    lengths = [0] * rows_count if choices.packing.on else sorted(training.lengths)
    trainer.order = LengthBuckets(array("i", lengths), plan.batch_size, plan.seed)
    trainer.plan, trainer.ranks, trainer.total_steps = plan, ranks, total
    trainer.args.save_only_model = False
    trainer.window, trainer.pace, trainer.saves = window, pace, saves
    trainer.call_accuracy, trainer.teacher = run.call_accuracy, teacher
    if choices.fused.on and device.type == "cpu":
        trainer.threads = RowThreads(torch.get_num_threads())
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
    finish(trainer, task, job_dir, progress)


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainingFailed(
            "NEMO_LOCAL_DEVICE is 'cuda', but no CUDA device is visible; use 'auto' or 'cpu'"
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
