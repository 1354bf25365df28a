"""Preference training on two processes of one CPU."""

import pytest

from tests.nemo_local.customizer.test_objectives import pair_row
from tests.nemo_local.customizer.test_several_processes import (
    in_two,
    outputs_differ_by,
    series,
    stop_soon,
    train_in_two,
)
from tests.nemo_local.customizer.tiny_llama import write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES

WAYS = [
    pytest.param("ddp", {}, id="ddp, lora"),
    pytest.param("ddp", {"finetuning_type": "all_weights"}, id="ddp, all weights"),
    pytest.param("fsdp", {}, id="fsdp, lora"),
    pytest.param("fsdp", {"finetuning_type": "all_weights"}, id="fsdp, all weights"),
]


@pytest.mark.parametrize(("parallelism", "changed"), WAYS)
def test_two_processes_learn_the_preferences_of_one_and_go_on_after_a_stop(
    checkpoint, job_dir, alone, parallelism, changed
):
    # 25 pairs in steps of 8: the last of an epoch has one, and one process none. Of 5 pairs that
    # are validated, one process has as many batches as the other, and one of them is empty.
    for part, pairs in (("training", range(25)), ("validation", range(25, 30))):
        for folder in (job_dir, alone):
            write_rows(folder / "data" / part / "a.jsonl", map(pair_row, pairs))
    job = make_job(
        checkpoint, training_type="dpo", batch_size=8, epochs=10,
        dpo={"ref_policy_kl_penalty": 0.5, "sft_loss_weight": 0.01}, **changed,
    )  # fmt: skip
    expected = train_job(job, alone)
    stop_soon(in_two(job, parallelism), job_dir)
    progress = train_in_two(job, job_dir, parallelism)
    assert 0 < progress.prepared["resumed_from"] < progress.steps == 40
    assert f"in each of 2 processes ({parallelism})" in progress.prepared["note"]
    assert series(progress) == series(expected)
    assert progress.val_loss[-1]["value"] < 0.8 * progress.val_loss[0]["value"]
    assert outputs_differ_by(alone, job_dir) < 1e-3
    assert rewards(job_dir) == pytest.approx(rewards(alone), abs=1e-4)


def rewards(folder):
    """What the last log of a training and of a validation said of rewards, in TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    names = [name for name in events.Tags()["scalars"] if "rewards/" in name]
    assert len(names) == 8
    return {name: events.Scalars(name)[-1].value for name in names}
