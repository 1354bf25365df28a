"""What a run does when it is told to end, when memory runs out, and when the disk is full."""

import errno
import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch

from nemo_local.customizer.progress import (
    DISK_FULL,
    ProgressWriter,
    Stopped,
    TrainingFailed,
    read_all,
)
from nemo_local.customizer.training.memory import is_out_of_memory
from nemo_local.customizer.training.train import main, reason_of
from nemo_local.processes import wait_until
from tests.nemo_local.customizer.test_trackers import scalars
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES


class After(Event):
    """Set once a run has come so far."""

    def __init__(self, job_dir, count):
        super().__init__()
        self._job_dir, self._count = job_dir, count


class AfterLogs(After):
    """Set once a run has logged so many losses."""

    def is_set(self):
        return len(read_all(self._job_dir).train_loss) >= self._count


class AfterSteps(After):
    """Set once a run has reported so many steps; those before a validation are."""

    def is_set(self):
        return read_all(self._job_dir).steps >= self._count


class AfterAsking(Event):
    """Set once it was asked for, as a run does before its first step."""

    asked = False

    def is_set(self):
        before, self.asked = self.asked, True
        return before


def train_without_output(job, job_dir, monkeypatch):
    """Train to the last step, and be killed there; returns what was reported."""
    from nemo_local.customizer.training import trainer

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainer, "finish", killed)
        train_job(job, job_dir)
    return read_all(job_dir)


def losses(progress):
    return [(point["step"], pytest.approx(point["value"], abs=1e-5)) for point in progress]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"finetuning_type": "all_weights", "sft": {"hidden_dropout": 0.1}},
        {"sequence_packing_enabled": True, "lora": {"adapter_dropout": 0.1}},
    ],
    ids=["lora", "all weights with dropout", "packed"],
)
def test_a_run_that_was_told_to_end_goes_on_as_if_nothing_had_been(
    checkpoint, job_dir, tmp_path, changed
):
    job, whole = make_job(checkpoint, **changed), tmp_path / "whole"
    shutil.copytree(job_dir / "data", whole / "data")
    expected = train_job(job, whole)
    with pytest.raises(Stopped):
        train_job(job, job_dir, AfterLogs(job_dir, 2))
    assert sorted(path.name for path in (job_dir / "checkpoints").iterdir()) == ["checkpoint-7"]
    progress = train_job(job, job_dir)
    assert progress.prepared["resumed_from"] == 7
    assert losses(expected.train_loss) == [(p["step"], p["value"]) for p in progress.train_loss]
    assert losses(expected.val_loss) == [(p["step"], p["value"]) for p in progress.val_loss]


@pytest.mark.parametrize("steps", [8, 16], ids=["on the way", "the last"])
def test_a_run_that_is_told_to_end_amid_a_validation_keeps_its_steps_and_validates_once(
    checkpoint, job_dir, tmp_path, steps
):
    job, whole = make_job(checkpoint, lora={"adapter_dropout": 0.1}), tmp_path / "whole"
    shutil.copytree(job_dir / "data", whole / "data")
    expected = train_job(job, whole)
    with pytest.raises(Stopped):
        train_job(job, job_dir, AfterSteps(job_dir, steps))
    stopped = read_all(job_dir)
    assert stopped.steps == steps
    assert [point["step"] for point in stopped.val_loss] == [7][: steps // 8 - 1]
    with pytest.raises(Stopped):
        train_job(job, job_dir, AfterAsking())  # amid the same
    shutil.copytree(job_dir / "checkpoints", tmp_path / "amid")
    for _ in range(2):
        progress = train_job(job, job_dir)
        assert progress.prepared["resumed_from"] == steps and progress.finished
        assert losses(expected.train_loss) == [(p["step"], p["value"]) for p in progress.train_loss]
        assert losses(expected.val_loss) == [(p["step"], p["value"]) for p in progress.val_loss]
        assert [p["step"] for p in progress.tool_calls] == [7, 15]
        assert [step for step, _ in scalars(job_dir / "tensorboard")["eval/loss"]] == [8, 16]
        # As a process leaves it that was killed before its next checkpoint.
        shutil.rmtree(job_dir / "checkpoints")
        shutil.copytree(tmp_path / "amid", job_dir / "checkpoints")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_memory_that_ran_out_is_known_whoever_tells(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


@pytest.fixture
def memory(monkeypatch):
    """Lets a pass fail that has more tokens than the memory holds: plain, and checkpointed."""
    from nemo_local.customizer.training import objectives

    inner, limit = objectives.answer_logits, [0, 0]

    def within(model, inputs, places):
        most = limit[model.is_gradient_checkpointing]
        if torch.is_grad_enabled() and inputs["input_ids"].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return inner(model, inputs, places)

    monkeypatch.setattr(objectives, "answer_logits", within)
    return limit


def test_a_batch_that_does_not_fit_is_halved_until_it_does(checkpoint, job_dir, memory):
    job = make_job(checkpoint, batch_size=8)
    memory[0] = 3 * 75  # two rows of about 70 tokens, and no four
    progress = train_job(job, job_dir)
    note = progress.prepared["note"]
    assert "2 x 4 rows a step, halved because memory ran out" in note
    assert progress.finished and progress.steps == 8


def test_a_validation_that_does_not_fit_is_halved_until_it_does(checkpoint, job_dir, monkeypatch):
    from nemo_local.customizer.training import objectives

    inner = objectives.answer_logits

    def within(model, inputs, places):
        if not torch.is_grad_enabled() and len(inputs["input_ids"]) > 4:
            raise torch.AcceleratorError("CUDA error: out of memory")
        return inner(model, inputs, places)

    monkeypatch.setattr(objectives, "answer_logits", within)
    progress = train_job(make_job(checkpoint), job_dir)
    assert "2 x 2 rows a step, halved because memory ran out" in progress.prepared["note"]
    assert progress.finished and progress.val_loss


def test_a_row_that_does_not_fit_is_tried_once_more_with_activations_computed_twice(
    checkpoint, job_dir, memory, capsys
):
    memory[:] = 40, 75
    progress = train_job(make_job(checkpoint, batch_size=8, max_steps=2), job_dir)
    note = progress.prepared["note"]
    assert note.endswith(
        "activation checkpointing, 1 x 8 rows a step, halved because memory ran out"
    )
    assert progress.finished and progress.steps == 2
    log = capsys.readouterr().out.splitlines()
    assert [line for line in log if line.startswith("activation checkpointing: ")] == [
        *["activation checkpointing: off (on a CPU only once memory runs out)"] * 4,
        "activation checkpointing: on (memory ran out with 1 row a pass)",
    ]


def test_a_row_that_does_not_fit_fails_the_run_with_what_would(checkpoint, job_dir, memory):
    memory[:] = 20, 40
    with pytest.raises(TrainingFailed) as failure:
        train_job(make_job(checkpoint), job_dir)
    assert "with one row of " in str(failure.value)
    # Of at most 61 tokens; with checkpointing, which the run had turned on by then.
    assert "rows of 30 tokens fit: lower the config's max_seq_length to that" in str(failure.value)
    memory[:] = 0, 0
    with pytest.raises(TrainingFailed, match="at a time and activation checkpointing; train fewer"):
        train_job(make_job(checkpoint), job_dir)


def test_what_several_processes_may_do_depends_on_how_they_share():
    from nemo_local.customizer.training.memory import what_several_may_do
    from nemo_local.customizer.training.ranks import Ranks

    whole, split = (
        what_several_may_do(Ranks(1, 2, parallelism), 1, 70, "CUDA out of memory")
        for parallelism in ("ddp", "fsdp")
    )
    begin = "memory ran out in process 1 of 2 with 1 row of up to 70 tokens at a time (CUDA out of"
    assert whole.startswith(begin) and split.startswith(begin)
    assert whole.endswith("split the weights up (NEMO_LOCAL_PARALLELISM fsdp or zero3)")
    assert split.endswith("use more processes")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:862] . PytorchStreamWriter failed writ"),
    ],
)
def test_a_full_disk_is_told_as_that(error, tmp_path):
    reason = reason_of(error, tmp_path)
    assert reason.startswith("the disk is full (") and "make room" in reason


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is full")
@pytest.mark.parametrize("numbers", [1, 100_000], ids=["few", "many"])
def test_a_checkpoint_that_a_full_disk_does_not_take_is_told_as_that(tmp_path, numbers):
    with pytest.raises(RuntimeError) as error:
        torch.save(torch.ones(numbers), "/dev/full")
    assert reason_of(error.value, tmp_path).startswith("the disk is full (")


def test_other_errors_keep_their_type_and_words(tmp_path):
    assert reason_of(TrainingFailed("so"), tmp_path) == "so"
    assert reason_of(ValueError("so"), tmp_path) == "ValueError: so"


def test_weights_that_are_gone_are_told_as_that(job_dir, job):
    replace(job, model_path=job_dir / "gone").write(job_dir)
    assert main(job_dir, Event()) == 1
    failure = read_all(job_dir).failure
    assert failure is not None and failure["message"] == f"the weights in {job_dir}/gone are gone"


def test_dropouts_act_in_training_only_and_are_not_stored(checkpoint, job_dir):

    from nemo_local.customizer.layers.dropout import add_hidden_dropout
    from tests.nemo_local.customizer.test_outputs import load

    model, ids = load(checkpoint), torch.tensor([[0, 4, 70, 71, 72, 1]])
    before = model.eval()(ids).logits
    add_hidden_dropout(model, 0.5)
    torch.testing.assert_close(model.eval()(ids).logits, before)
    assert (model.train()(ids).logits - before).abs().max() > 0.1
    with pytest.raises(TrainingFailed, match="Linear has no layers of one block named self_attn"):
        add_hidden_dropout(torch.nn.Linear(2, 2), 0.5)

    seen = []
    for sft in ({}, {"attention_dropout": 0.5}, {"hidden_dropout": 0.5}):
        job = make_job(
            checkpoint, max_steps=2, log_every_n_steps=1, finetuning_type="all_weights", sft=sft
        )
        shutil.rmtree(job_dir / "checkpoints", ignore_errors=True)
        seen.append(train_job(job, job_dir).train_loss[0]["value"])
        stored = json.loads((job_dir / "model/config.json").read_text())
        assert stored["attention_dropout"] == 0.0
    assert len(set(seen)) == 3


def test_sigterm_lets_the_process_end_its_step_and_leave_a_checkpoint(checkpoint, job_dir):
    from nemo_local.customizer.processes import TrainingProcesses, end_process
    from nemo_local.customizer.progress import STOPPED
    from nemo_local.customizer.training.reporting import last_checkpoint

    job = make_job(checkpoint, epochs=400, log_every_n_steps=1)
    job.write(job_dir)
    with (
        (job_dir / "train.log").open("wb") as log,
        closing(TrainingProcesses(threads=1)) as processes,
    ):
        process = processes.start(job_dir, log)
        try:
            wait_until(lambda: len(read_all(job_dir).train_loss) > 3, 120, "it trains")
        finally:
            end_process(process, within_s=60)
    steps = len(read_all(job_dir).train_loss)
    assert process.returncode == STOPPED and read_all(job_dir).failure is None
    kept = last_checkpoint(job_dir / "checkpoints")
    assert kept is not None
    assert kept.name in (f"checkpoint-{steps}", f"checkpoint-{steps + 1}")


def test_a_run_that_ended_before_its_output_was_written_takes_no_step_more(
    checkpoint, job_dir, monkeypatch
):
    job = make_job(checkpoint, max_steps=5, log_every_n_steps=1)  # of 8 an epoch
    before = train_without_output(job, job_dir, monkeypatch)
    progress = train_job(job, job_dir)
    assert progress.finished and progress.steps == progress.prepared["resumed_from"] == 5
    assert losses(progress.train_loss) == [(p["step"], p["value"]) for p in before.train_loss]
    assert losses(progress.val_loss) == [(p["step"], p["value"]) for p in before.val_loss]


def test_max_steps_beyond_the_epochs_change_nothing(checkpoint, job_dir):
    job = make_job(checkpoint, epochs=1, max_steps=20, log_every_n_steps=4)
    progress = train_job(job, job_dir)
    assert progress.steps == progress.prepared["total_steps"] == 8
    assert progress.details()["percentage_done"] == 100.0


@pytest.fixture
def no_number(monkeypatch):
    """The numbers of steps, or "validation", whose loss is NaN."""
    from nemo_local.customizer.training.objectives import AnswerTrainer

    inner = AnswerTrainer.compute_loss

    def broken(trainer, model, inputs, **given):
        loss = inner(trainer, model, inputs, **given)
        at = trainer.state.global_step if model.training else "validation"
        return loss * float("nan") if at in broken_at else loss

    broken_at = []
    monkeypatch.setattr(AnswerTrainer, "compute_loss", broken)
    return broken_at


@pytest.mark.parametrize("found", ["at a log", "at a validation", "at the end"])
def test_a_loss_that_is_no_number_stops_the_run_and_names_its_step(
    checkpoint, job_dir, no_number, found
):
    no_number.append(3)
    changed = {"log_every_n_steps": 6 if found == "at a log" else 100}
    if found == "at the end":  # of five epochs of one row, from which none can be split off
        shutil.rmtree(job_dir / "data/validation")
        rows = job_dir / "data/training/a.jsonl"
        rows.write_text(rows.read_text().splitlines()[0])
        changed["epochs"] = 5
    with pytest.raises(TrainingFailed, match=r"the training loss became nan at step 3; try"):
        train_job(make_job(checkpoint, **changed), job_dir)
    assert not (job_dir / "adapter").exists() and not (job_dir / "best").exists()


def test_a_run_that_is_told_to_end_leaves_no_checkpoint_of_a_loss_that_is_no_number(
    checkpoint, job_dir, no_number
):
    no_number.append(2)
    with pytest.raises(TrainingFailed, match="the training loss became nan at step 2; try"):
        train_job(make_job(checkpoint, log_every_n_steps=2), job_dir, AfterLogs(job_dir, 1))
    assert not list((job_dir / "checkpoints").glob("checkpoint-*"))


def test_a_validation_loss_that_is_no_number_stops_the_run(checkpoint, job_dir, no_number):
    no_number.append("validation")
    with pytest.raises(TrainingFailed, match=r"the validation loss became nan at step 7; try"):
        train_job(make_job(checkpoint), job_dir)
    assert read_all(job_dir).val_loss == []


def test_weights_that_the_last_step_made_no_numbers_fail_a_run_without_validation(
    checkpoint, job_dir
):
    shutil.rmtree(job_dir / "data/validation")
    rows = job_dir / "data/training/a.jsonl"
    rows.write_text(rows.read_text().splitlines()[0])
    job = make_job(checkpoint, epochs=1, learning_rate=1e39, optimizer="adamw_with_flat_lr")
    with pytest.raises(TrainingFailed, match="the last step left non-finite weights"):
        train_job(job, job_dir)
    assert not (job_dir / "adapter").exists() and not (job_dir / "best").exists()


def test_weights_that_do_not_fit_fail_the_run_with_what_to_do(
    checkpoint, job_dir, memory, monkeypatch
):
    from nemo_local.customizer.training import trainer

    def no_room(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(trainer, "load_model", no_room)
    with pytest.raises(TrainingFailed, match="memory ran out with one row of .* smaller model"):
        train_job(make_job(checkpoint), job_dir)


def test_a_disk_that_takes_not_even_the_log_leaves_the_reason(job_dir, job, monkeypatch):
    from nemo_local.customizer.training import train

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    (job_dir / "tokens").mkdir()
    job.write(job_dir)
    monkeypatch.setattr(train, "read_rows", full)
    monkeypatch.setattr("traceback.print_exc", full)
    assert train.main(job_dir, Event()) == 1
    assert not (job_dir / "tokens").exists()
    failure = read_all(job_dir).failure
    assert failure is not None and failure["message"].startswith("the disk is full")
    # Not even the reason.
    monkeypatch.setattr(ProgressWriter, "write", full)
    monkeypatch.setattr(ProgressWriter, "close", full)
    assert train.main(job_dir, Event()) == DISK_FULL
