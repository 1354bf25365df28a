"""The trainer on a tiny random Llama."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.nemo_local.customizer.tiny_llama import call_row, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES


def test_a_run_learns_and_reports_what_the_contract_shows(job, job_dir):
    progress = train_job(job, job_dir)
    details = progress.details()
    assert [p["step"] for p in progress.train_loss] == [2, 5, 8, 11, 14]
    assert [p["step"] for p in progress.val_loss] == [7, 15]
    assert details["steps_completed"] == 16 and details["steps_per_epoch"] == 8
    assert details["percentage_done"] == 100.0 and details["epochs_completed"] == 2
    assert details["best_epoch"] == 2
    assert progress.val_loss[1]["value"] < progress.val_loss[0]["value"]
    assert progress.train_loss[-1]["value"] < progress.train_loss[0]["value"] - 0.1
    assert progress.finished
    files = sorted(path.name for path in (job_dir / "adapter").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((job_dir / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "meta/tiny"
    assert (config["r"], config["lora_alpha"]) == (4, 16)


@pytest.mark.parametrize(
    ("device", "bf16", "expected"),
    [("cpu", True, 8), ("cpu", False, None), ("cuda", True, None)],
    ids=["bfloat16", "float32", "GPU"],
)
def test_rows_are_padded_to_few_lengths_where_each_new_one_costs_time(device, bf16, expected):
    from nemo_local.customizer.training.arguments import padded_to

    run, choices = SimpleNamespace(device=torch.device(device)), SimpleNamespace(bf16=bf16)
    assert padded_to(run, choices) == expected


def test_a_run_takes_denormal_numbers_for_zero(job, job_dir):
    assert torch.set_flush_denormal(False)
    tiny = torch.tensor([1e-30])
    assert (tiny * 1e-10).item() > 0
    train_job(job, job_dir)
    assert (tiny * 1e-10).item() == 0


def test_a_run_that_was_killed_goes_on_from_its_checkpoint_to_the_same_adapter(
    job, job_dir, tmp_path, monkeypatch
):
    from safetensors.numpy import load_file

    from nemo_local.customizer.training.arguments import CHECKPOINT_EVERY_STEPS

    job = replace(job, plan=replace(job.plan, epochs=4))
    whole = tmp_path / "whole"
    shutil.copytree(job_dir / "data", whole / "data")
    train_job(job, whole)

    # 32 steps: the checkpoint at 25 is what a process killed after it leaves behind.
    train_job(job, job_dir)
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copytree(job_dir / "data", killed / "data")
    shutil.copytree(
        job_dir / "checkpoints" / f"checkpoint-{CHECKPOINT_EVERY_STEPS}",
        killed / "checkpoints/checkpoint-25",
    )
    lines = (job_dir / "progress.jsonl").read_text().splitlines()
    keep = next(i for i, line in enumerate(lines) if '"step": 29' in line)
    (killed / "progress.jsonl").write_text("\n".join([*lines[:keep], '{"event": "tr']))
    progress = train_job(job, killed)

    assert progress.prepared["resumed_from"] == 25
    assert [p["step"] for p in progress.train_loss] == list(range(2, 32, 3))
    expected = load_file(whole / "adapter/adapter_model.safetensors")
    resumed = load_file(killed / "adapter/adapter_model.safetensors")
    assert all(abs(expected[key] - resumed[key]).max() < 1e-5 for key in expected)


def test_rows_that_are_too_long_are_cut_or_dropped_and_counted(job, job_dir):
    long_call = call_row(1)
    long_call["messages"][1]["tool_calls"][0]["function"]["arguments"]["a"] = "9" * 300
    long_text = {"prompt": "a", "completion": "b" * 300}
    write_rows(job_dir / "data/training/b.jsonl", [long_call, long_text, long_call])
    write_rows(job_dir / "data/validation/b.jsonl", [long_call, long_text])
    prepared = train_job(job, job_dir).prepared
    assert (prepared["rows"], prepared["validation_rows"]) == (31, 7)
    assert (prepared["dropped"], prepared["truncated"]) == (3, 2)


@pytest.mark.parametrize("kind", ["sft", "packed"])
def test_a_validation_loss_is_the_same_whatever_passes_it_is_in(
    checkpoint, job_dir, tmp_path, monkeypatch, kind
):
    from nemo_local.customizer.training import passes

    rows = [{"prompt": "a", "completion": "b" * size} for size in (3, 40, 9, 120, 60)]
    write_rows(job_dir / "data/validation/a.jsonl", rows)
    losses = []
    for tokens in (1, 130, 8192):
        folder = tmp_path / str(tokens)
        shutil.copytree(job_dir / "data", folder / "data")
        monkeypatch.setitem(passes.TOKENS_PER_PASS, "cpu", tokens)
        job = make_job(checkpoint, sequence_packing_enabled=kind == "packed")
        losses.append([point["value"] for point in train_job(job, folder).val_loss])
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-5)


def test_long_rows_of_validation_get_passes_that_are_no_larger_than_those_of_training(
    checkpoint, job_dir, layer_calls
):
    rows = [{"prompt": "a", "completion": "b" * 240} for _ in range(8)]
    write_rows(job_dir / "data/validation/a.jsonl", rows)
    train_job(make_job(checkpoint), job_dir)
    training, validation = (
        max(n for t, _, n in layer_calls if t is kind) for kind in (True, False)
    )
    assert validation <= 2 * training


def test_a_run_that_is_shorter_than_the_steps_between_two_logs_has_a_loss(checkpoint, job_dir):
    progress = train_job(make_job(checkpoint, max_steps=2, log_every_n_steps=10), job_dir)
    assert [point["step"] for point in progress.train_loss] == [1]


def test_a_dropout_of_nothing_takes_the_place_of_the_checkpoints(checkpoint, tmp_path):
    from nemo_local.customizer.training.choices import choose
    from nemo_local.customizer.training.gather import gather
    from nemo_local.customizer.training.networks import load_model
    from nemo_local.customizer.training.ranks import Ranks

    folder = tmp_path / "with dropout"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.1}))
    for asked, expected in ((None, 0.1), (0.0, 0.0)):
        sft = {} if asked is None else {"sft": {"attention_dropout": asked}}
        plan = make_job(folder, **sft).plan
        model = load_model(folder, plan, Ranks(), choose(gather(folder, plan, Ranks(), [64], 9)))
        assert model.config.attention_dropout == expected


@pytest.mark.parametrize("finetuning_type", ["lora", "all_weights"])
def test_every_layer_knows_when_it_trains_and_when_it_is_validated(
    checkpoint, job_dir, layer_calls, finetuning_type
):
    train_job(make_job(checkpoint, finetuning_type=finetuning_type), job_dir)
    assert {(trains, learns) for trains, learns, _ in layer_calls} == {(True, True), (False, False)}


def test_checkpoints_that_take_long_are_written_less_often():
    from types import SimpleNamespace

    from nemo_local.customizer.training.ranks import Ranks
    from nemo_local.customizer.training.reporting import SavePace

    now = [0.0]
    pace, written = SavePace(Ranks(), clock=lambda: now[0]), []
    pace.on_train_begin(None, None, None)
    for step in range(1, 21):  # of a second each, and a checkpoint of 0.3 s is due after each
        now[0] += 1
        control = SimpleNamespace(should_save=True)
        pace.on_step_end(None, None, control)
        if control.should_save:
            written.append(step)
            with pace.writing():
                now[0] += 0.3
    assert written == [1, 6, 12, 18]
    undue = SimpleNamespace(should_save=False)
    pace.on_step_end(None, None, undue)
    assert not undue.should_save
