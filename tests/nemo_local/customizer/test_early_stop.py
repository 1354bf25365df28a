"""A training that no longer improves ends by itself."""

import pytest
from torch import nn
from transformers import TrainerControl, TrainerState

from nemo_local.customizer.progress import Progress, ProgressWriter
from nemo_local.customizer.reporting import EARLY_STOP_EPOCHS, LossWindow, Reporter

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
