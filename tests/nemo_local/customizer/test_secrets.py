"""What a training process does not get to know."""

import psutil
import pytest

from nemo_local.customizer.processes import TrainingProcesses
from nemo_local.processes import wait_until

SECRETS = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "MLFLOW_TRACKING_URI",
    "NEMO_LOCAL_DATABASE_URL",
    "NEMO_LOCAL_ENGINE_KEY",
    "NEMO_LOCAL_HF_TOKEN",
    "NEMO_LOCAL_NIM_KEY",
    "NEMO_LOCAL_TOKEN",
    "NIM_ENDPOINT_API_KEY",
    "NVIDIA_API_KEY",
    "OPENAI_API_KEY",
    "WANDB_API_KEY",
]


@pytest.fixture
def environment(monkeypatch):
    """That of a training process, started by a platform that was given every secret."""
    for name in SECRETS:
        monkeypatch.setenv(name, "a-secret")
    monkeypatch.setenv("NO_SECRET", "seen")
    processes = TrainingProcesses(with_spare=True)
    processes.prepare()
    assert processes._spare is not None
    process = psutil.Process(processes._spare.pid)
    wait_until(lambda: bool(process.environ()), 10, "it has its environment")  # exec has begun
    yield process.environ()
    processes.close()


def test_a_training_process_inherits_no_secret_of_the_platform(environment):
    assert environment["NO_SECRET"] == "seen"
    assert {name for name, value in environment.items() if "a-secret" in value} == set()
