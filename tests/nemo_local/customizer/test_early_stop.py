"""A training that no longer improves ends by itself."""

import pytest
from torch import nn
from transformers import TrainerControl, TrainerState

from nemo_local.customizer.progress import Progress, ProgressWriter, Stopped
from nemo_local.customizer.training import arguments
from nemo_local.customizer.training.reporting import EARLY_STOP_EPOCHS, LossWindow, Reporter
from tests.nemo_local.customizer.test_robustness import AfterSteps, train_without_output
from tests.nemo_local.customizer.tiny_llama import call_row, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES

STEPS_PER_EPOCH = 2


class Model(nn.Linear):
    """Has weights to save, and counts how often they are."""

    saved = 0

    def __init__(self):
        super().__init__(1, 1)

    def save_pretrained(self, folder):
        self.saved += 1
        (folder / "weights").write_text("")


@pytest.fixture
def ended_after(tmp_path):
    """How many validations, one an epoch, a run with these losses lives through; and its model."""

    def ended_after(losses, earlier=()):
        prepared = {"steps_per_epoch": STEPS_PER_EPOCH, "resumed_from": 0}
        points = [{"step": step, "value": value} for step, value in earlier]
        progress, model = ProgressWriter(tmp_path), Model()
        so_far = Progress(prepared=prepared, val_loss=points)
        reporter = Reporter(progress, so_far, tmp_path / "best", LossWindow())
        first = points[-1]["step"] + 1 if points else 0
        for epoch, loss in enumerate(losses, 1):
            control = TrainerControl()
            state = TrainerState(global_step=first + epoch * STEPS_PER_EPOCH)
            reporter.on_evaluate(None, state, control, metrics={"eval_loss": loss}, model=model)
            if control.should_training_stop:
                break
        progress.close()
        return epoch, model

    return ended_after


def test_ten_epochs_without_an_improvement_worth_the_name_end_a_run(ended_after):
    creeping = [2 - 0.00009 * epoch for epoch in range(40)]
    epochs, model = ended_after(creeping)
    assert epochs == 1 + EARLY_STOP_EPOCHS
    assert model.saved == epochs  # the best weights are kept, however little better


def test_an_improvement_gives_a_run_ten_more_epochs(ended_after):
    epochs, model = ended_after([2.0] * 8 + [1.9] + [2.1] * 40)
    assert epochs == 9 + EARLY_STOP_EPOCHS and model.saved == 2


def test_a_run_that_improves_goes_on(ended_after):
    assert ended_after([3 - 0.01 * epoch for epoch in range(40)])[0] == 40


def test_small_improvements_add_up(ended_after):
    assert ended_after([2 - 0.0009 * epoch for epoch in range(40)])[0] == 40


def test_a_resumed_run_counts_the_epochs_before(ended_after):
    earlier = [(1, 2.0), (3, 2.0), (5, 2.0), (7, 2.0)]
    epochs, model = ended_after([2.0] * 40, earlier)
    assert epochs == EARLY_STOP_EPOCHS - 3 and model.saved == 0


def test_a_run_that_stops_before_its_first_log_has_a_loss(checkpoint, job_dir):
    write_rows(job_dir / "data/training/a.jsonl", [call_row(i) for i in range(4)])
    job = make_job(
        checkpoint, epochs=40, learning_rate=1e-8, min_learning_rate=0, log_every_n_steps=99
    )
    progress = train_job(job, job_dir)
    assert progress.finished and progress.steps == 1 + EARLY_STOP_EPOCHS
    assert [point["step"] for point in progress.train_loss] == [EARLY_STOP_EPOCHS]


@pytest.mark.parametrize("kept", ["amid its last validation", "after it"])
def test_a_run_that_stopped_early_and_resumes_from_its_last_step_takes_no_step_more(
    checkpoint, job_dir, monkeypatch, kept
):
    steps = 1 + EARLY_STOP_EPOCHS
    write_rows(job_dir / "data/training/a.jsonl", [call_row(i) for i in range(4)])
    job = make_job(checkpoint, epochs=40, learning_rate=1e-8, min_learning_rate=0)
    if kept == "after it":
        monkeypatch.setattr(arguments, "CHECKPOINT_EVERY_STEPS", steps)
    else:
        with pytest.raises(Stopped):
            train_job(job, job_dir, AfterSteps(job_dir, steps))
    assert not train_without_output(job, job_dir, monkeypatch).finished
    progress = train_job(job, job_dir)
    assert progress.finished and progress.steps == progress.prepared["resumed_from"] == steps
    assert [point["step"] for point in progress.val_loss] == list(range(steps))
