"""A platform that keeps a training process waiting, and inference that must be told of adapters."""

import fcntl
import os
import signal
import sys
import termios
from array import array

import psutil
import pytest

from nemo_local.processes import wait_until
from tests.conftest import running_control_plane
from tests.nemo_local.customizer.conftest import ROWS, job_body, make_settings, upload
from tests.nemo_local.customizer.test_jobs import (
    JOBS,
    served_by_a_process,
    wait_for,
    wait_for_steps,
)
from tests.nemo_local.customizer.training import spares, wait_for_spare
from tests.running_nim import running_nim

NEVER_S = 3600.0


@pytest.fixture(scope="module")
def running(tmp_path_factory, models_dir):
    """A control plane with a spare, and inference that looks at it only when it is told to."""
    settings = make_settings(tmp_path_factory.mktemp("home"), models_dir, spare_training=1)
    with running_control_plane(settings) as running, running_nim(settings, NEVER_S):
        upload(running, tmp_path_factory.mktemp("rows"), {"training/a.jsonl": ROWS}, "ns/d")
        yield running


@pytest.fixture
def client(running):
    return running.client()


def create(client, dataset="ns/d", **changed):
    return client.post(JOBS, json=job_body(dataset=f"hf://datasets/{dataset}", **changed))


def test_a_job_of_the_spare_ends_when_its_adapter_answers(running, client):
    spare = wait_for_spare()
    job = create(client, output_model="ns/quick@v1", hyperparameters={"log_every_n_steps": 1})
    job = wait_for(client, job["id"], "completed")
    # At once, although inference would not look by itself: no wait here.
    with running.openai() as openai:
        answer = openai.chat.completions.create(
            model="ns/quick@v1", messages=[{"role": "user", "content": "add 3"}], max_tokens=4
        )
    assert answer.usage.completion_tokens > 0
    assert job["status"] == "completed"
    assert job["status_details"]["steps_completed"] == 3
    logs = client.get(f"{JOBS}/{job['id']}/container-logs")["entries"]
    assert "step 2: train_loss" in next(iter(logs.values()))["logs"]["main"]
    assert spare.is_running() and spares() == [spare]


def test_a_job_that_fails_leaves_the_spare(running, client, tmp_path):
    files = {"training/a.jsonl": ROWS, "training/b.jsonl": '{"messages": []}\n'}
    upload(running, tmp_path, files, "ns/broken")
    spare = wait_for_spare()
    job = wait_for(client, create(client, "ns/broken")["id"], "completed")
    assert job["status"] == "failed"
    assert spare.is_running() and spare.children() == []


def waiting_bytes(process):
    """Bytes in the standard input of a process that it has not read."""
    count = array("i", [0])
    with open(f"/proc/{process.pid}/fd/0", "rb", buffering=0) as pipe:
        fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into a pipe through /proc")
def test_a_job_whose_spare_is_killed_as_it_gets_it_starts_another_process(client):
    spare = wait_for_spare()
    os.kill(spare.pid, signal.SIGSTOP)  # so that it cannot have begun
    job = create(client, hyperparameters={"max_steps": 1})
    wait_until(lambda: waiting_bytes(spare) > 0, 30, "the job was told to the spare")
    os.kill(spare.pid, signal.SIGKILL)
    job = wait_for(client, job["id"], "completed")
    assert job["status"] == "completed" and job["status_details"]["steps_completed"] == 1


def test_a_cancelled_job_ends_and_leaves_the_spare(client):
    spare = wait_for_spare()
    job = create(client, hyperparameters={"epochs": 400})
    wait_for_steps(client, job["id"], 1)
    (training,) = spare.children()
    assert spares() == [spare]
    client.post(f"{JOBS}/{job['id']}/cancel")
    assert wait_for(client, job["id"], "cancelled")["status"] == "cancelled"
    assert not training.is_running() and spare.is_running()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_spare_never_outlives_its_platform(tmp_path, models_dir, number):
    settings = make_settings(tmp_path / "home", models_dir, spare_training=1)
    with served_by_a_process(settings) as (_, process):
        spare = wait_for_spare(psutil.Process(process.pid))
        os.kill(process.pid, number)
        spare.wait(10)
        process.wait(30)  # what it has begun to import it imports to the end
