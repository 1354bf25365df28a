"""Training runs in this process without a platform around them, and processes that train."""

import psutil
import pytest

from nemo_local.customizer.batches import read_rows
from nemo_local.customizer.hyperparameters import make_plan
from nemo_local.customizer.modules import linear_modules
from nemo_local.customizer.progress import ProgressWriter, read_all
from nemo_local.processes import wait_until

OF_THE_LIBRARIES = [
    # Warnings of the training libraries among themselves.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def make_job(checkpoint, **hyperparameters):
    """What a training process is told: two epochs at a rate at which a tiny model learns."""
    given = {
        "finetuning_type": "lora",
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 0.01,
        "min_learning_rate": 0.001,
        "log_every_n_steps": 3,
        "lora": {"adapter_dim": 4},
        **hyperparameters,
    }
    return {
        "plan": make_plan(given, linear_modules(checkpoint), 1).as_json(),
        "model_path": str(checkpoint),
        "base_model": "meta/tiny",
        "dataset": "hf://datasets/ns/d",
        "limit": None,
        "tools": [],
        "prompt_template": "{prompt} {completion}",
        "chat_prompt_template": None,
        "max_seq_length": 256,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
    }


def train_job(job, job_dir, stop=None):
    """Train to the end, or until `stop`; returns what was reported."""
    from nemo_local.customizer.trainer import train

    progress = ProgressWriter(job_dir)
    try:
        train(job, read_rows(job, job_dir / "data"), job_dir, progress, stop)
    finally:
        progress.close()
    return read_all(job_dir)


def spares(parent=None):
    """The training processes that were started without a job."""
    return [
        process
        for process in (parent or psutil.Process()).children()
        if process.status() != psutil.STATUS_ZOMBIE
        and "nemo_local.customizer.spare" in process.cmdline()
    ]


def wait_for_spare(parent=None):
    """The only spare, once it is there."""
    wait_until(lambda: len(spares(parent)) == 1, 60, "a spare waits")
    return spares(parent)[0]
