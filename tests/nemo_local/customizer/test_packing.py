"""Sequences that share rows."""

import pytest
import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from nemo_local.customizer.modules import why_not_packed
from nemo_local.customizer.plan import Plan
from nemo_local.customizer.training.gather import gather
from nemo_local.customizer.training.packing import PackingCollator, first_fit, padding_shares
from nemo_local.customizer.training.ranks import Ranks
from nemo_local.customizer.training.rendering import IGNORED
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES


def test_each_sequence_goes_into_the_first_row_with_room_the_longest_first():
    assert first_fit([3, 5, 2, 4], 7) == [[1, 2], [3, 0]]
    assert first_fit([9, 1], 5) == [[0], [1]]  # one that is too long has a row of its own


def test_positions_start_anew_and_no_first_token_is_learnt():
    batch = PackingCollator(pad_id=0, capacity=6)(
        [
            {"input_ids": [5, 6], "labels": [5, 6]},
            {"input_ids": [7, 8, 9, 10], "labels": [IGNORED, IGNORED, 9, 10]},
            {"input_ids": [11, 12, 13], "labels": [11, 12, 13]},
        ]
    )
    assert batch["input_ids"].tolist() == [[7, 8, 9, 10, 5, 6], [11, 12, 13, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 2]]
    assert batch["labels"].tolist() == [
        [IGNORED, IGNORED, 9, 10, IGNORED, 6],
        [IGNORED, 12, 13, IGNORED, IGNORED, IGNORED],
    ]
    assert all(values.dtype == torch.long for values in batch.values())


def test_the_padding_that_packing_saves_is_counted():
    plan = Plan(target_modules=(), batch_size=4)
    # One batch of four: 4 x 8 tokens for 8 + 4 + 2 + 2, or two rows of 8.
    assert padding_shares([2, 8, 4, 2], plan, size=4) == (0.5, 0.0)
    # In passes of two, whatever their order, no row has room for another.
    assert padding_shares([6, 6, 6, 6], plan, size=2) == (0.0, 0.0)


def test_a_packed_run_takes_the_same_steps_and_learns_as_well(checkpoint, job_dir, tmp_path):
    progress = train_job(make_job(checkpoint, sequence_packing_enabled=True, epochs=3), job_dir)
    assert (progress.steps, progress.prepared["steps_per_epoch"]) == (24, 8)
    assert progress.val_loss[-1]["value"] < progress.val_loss[0]["value"]
    assert progress.train_loss[-1]["value"] < progress.train_loss[0]["value"] - 0.1


def test_packing_is_off_where_nobody_tested_it(checkpoint, tmp_path):
    assert why_not_packed(checkpoint, "sft") == ""
    assert "two answers" in why_not_packed(checkpoint, "dpo")
    longrope = '{"model_type": "llama", "rope_scaling": {"type": "longrope"}}'
    (tmp_path / "config.json").write_text(longrope)
    assert "longrope positions depend on" in why_not_packed(tmp_path, "sft")
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert why_not_packed(tmp_path, "sft").startswith("not tested for 'mamba', only for llama, ")


def test_packing_is_off_where_the_teacher_would_mix_the_rows(checkpoint, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bloom"}')
    plan = Plan(target_modules=(), training_type="distillation")
    facts = gather(checkpoint, plan, Ranks(), lengths=[9], most_learnt=9, teacher=tmp_path)
    expected = "not tested for 'bloom' of the teacher, only for llama, mistral, qwen2, gemma2"
    assert facts.why_not_packed == why_not_packed(checkpoint, "distillation", tmp_path) == expected
    assert why_not_packed(checkpoint, "distillation", checkpoint) == ""


@pytest.mark.parametrize(
    "collator",
    [PackingCollator(2, capacity=60), DataCollatorForLanguageModeling(2, padding_free=True)],
    ids=["rows", "one row"],
)
@pytest.mark.parametrize("finetuning_type", ["lora", "all_weights"])
def test_the_model_that_trains_computes_the_loss_of_sequences_in_rows_of_their_own(
    checkpoint, finetuning_type, collator
):
    from nemo_local.customizer.training.choices import choose
    from nemo_local.customizer.training.networks import load_model
    from nemo_local.customizer.training.objectives import answer_logits, places_before

    job = make_job(checkpoint, sequence_packing_enabled=True, finetuning_type=finetuning_type)
    plan = job.plan
    choices = choose(gather(checkpoint, plan, Ranks(), lengths=[30, 60], most_learnt=9))
    model = load_model(checkpoint, plan, Ranks(), choices)
    generator = torch.Generator().manual_seed(0)
    sequences = [
        torch.randint(7, 264, (length,), generator=generator).tolist() for length in (30, 22, 40)
    ]

    def loss(rows):
        batch = collator([{"input_ids": ids, "labels": [IGNORED] * 5 + ids[5:]} for ids in rows])
        places = places_before(batch["labels"] != IGNORED)
        logits = answer_logits(model.eval(), batch, places)
        targets = batch["labels"].flatten()[places + 1]
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")

    with torch.no_grad():
        together, alone = loss(sequences), sum(loss([ids]) for ids in sequences)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)
