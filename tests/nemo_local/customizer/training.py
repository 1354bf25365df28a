"""Training runs in this process without a platform around them, and processes that train."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nemo_local.customizer.hyperparameters import make_plan
from nemo_local.customizer.modules import linear_modules
from nemo_local.customizer.plan import Plan
from nemo_local.customizer.progress import ProgressWriter, read_all
from nemo_local.customizer.task import Task
from nemo_local.customizer.training.batches import read_rows
from nemo_local.processes import wait_until

OF_THE_LIBRARIES = [
    # Warnings of the training libraries among themselves.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TASK = Task(
    plan=Plan(target_modules=()),
    base_model="meta/tiny",
    model_path=Path("nowhere"),
    dataset="hf://datasets/ns/d",
    prompt_template="{prompt} {completion}",
    max_seq_length=256,
    precision="fp32",
    device="cpu",
    threads=1,
)


def make_job(checkpoint, **hyperparameters):
    """The task of a training: two epochs at a rate at which a tiny model learns."""
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
    plan = make_plan(given, linear_modules(checkpoint), 1)
    return replace(TASK, plan=plan, model_path=Path(checkpoint))


def train_job(job, job_dir, stop=None):
    """Train to the end, or until `stop`; returns what was reported."""
    from nemo_local.customizer.training.trainer import train

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
        and "nemo_local.customizer.training.spare" in process.cmdline()
    ]


def wait_for_spare(parent=None):
    """The only spare, once it is there."""
    wait_until(lambda: len(spares(parent)) == 1, 60, "a spare waits")
    return spares(parent)[0]
