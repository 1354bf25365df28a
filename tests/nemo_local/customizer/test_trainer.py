"""The trainer on a tiny random Llama."""

import json
import shutil

import pytest

from nemo_local.customizer.batches import read_rows
from nemo_local.customizer.hyperparameters import Plan, linear_modules, resolve_modules
from nemo_local.customizer.progress import ProgressWriter, read_all
from tests.nemo_local.customizer.tiny_llama import call_row, make_checkpoint, write_rows


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def job(checkpoint):
    plan = Plan(
        target_modules=resolve_modules(None, linear_modules(checkpoint)),
        epochs=2,
        batch_size=4,
        learning_rate=0.01,
        min_learning_rate=0.001,
        log_every_n_steps=3,
        adapter_dim=4,
    )
    return {
        "plan": plan.as_json(),
        "model_path": str(checkpoint),
        "base_model": "meta/tiny",
        "dataset": "hf://datasets/ns/d",
        "limit": None,
        "tools": [],
        "prompt_template": "{prompt} {completion}",
        "chat_prompt_template": None,
        "max_seq_length": 256,
        "precision": "bf16-mixed",
        "device": "cpu",
        "threads": 1,
    }


pytestmark = [
    # Of the training libraries among themselves.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def run(job, job_dir):
    from nemo_local.customizer.trainer import train

    progress = ProgressWriter(job_dir)
    train(job, read_rows(job, job_dir / "data"), job_dir, progress)
    progress.close()
    return read_all(job_dir)


@pytest.fixture
def job_dir(tmp_path):
    write_rows(tmp_path / "data/training/a.jsonl", [call_row(i) for i in range(30)])
    write_rows(tmp_path / "data/validation/a.jsonl", [call_row(i) for i in range(30, 36)])
    return tmp_path


def test_a_run_learns_and_reports_what_the_contract_shows(job, job_dir):
    progress = run(job, job_dir)
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


def test_a_run_that_was_killed_goes_on_from_its_checkpoint_to_the_same_adapter(
    job, job_dir, tmp_path, monkeypatch
):
    from safetensors.numpy import load_file

    from nemo_local.customizer import trainer

    job["plan"]["epochs"] = 4
    whole = tmp_path / "whole"
    shutil.copytree(job_dir / "data", whole / "data")
    run(job, whole)

    # 32 steps: the checkpoint at 25 is what a process killed after it leaves behind.
    run(job, job_dir)
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copytree(job_dir / "data", killed / "data")
    shutil.copytree(
        job_dir / "checkpoints" / f"checkpoint-{trainer.CHECKPOINT_EVERY_STEPS}",
        killed / "checkpoints/checkpoint-25",
    )
    lines = (job_dir / "progress.jsonl").read_text().splitlines()
    keep = next(i for i, line in enumerate(lines) if '"step": 29' in line)
    (killed / "progress.jsonl").write_text("\n".join([*lines[:keep], '{"event": "tr']))
    progress = run(job, killed)

    assert progress.prepared["resumed_from"] == 25
    assert [p["step"] for p in progress.train_loss] == list(range(2, 32, 3))
    expected = load_file(whole / "adapter/adapter_model.safetensors")
    resumed = load_file(killed / "adapter/adapter_model.safetensors")
    assert all(abs(expected[key] - resumed[key]).max() < 1e-5 for key in expected)
