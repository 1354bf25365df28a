"""Training processes without a platform: who gets a job, what it is told, when it ends."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import closing

import psutil
import pytest

from nemo_local.customizer.parent import PARENT_GONE
from nemo_local.customizer.processes import TrainingProcesses, end_process
from nemo_local.customizer.progress import STOPPED, read_all
from nemo_local.customizer.temporary import TemporaryFolder
from nemo_local.customizer.training.spare import LOWEST_PRIORITY, get_ready_at_leisure
from nemo_local.processes import wait_until
from tests.nemo_local.customizer.training import make_job, spares, wait_for_spare


@pytest.fixture
def processes():
    """Training processes with a spare, which ends with the test."""
    made = TrainingProcesses(threads=1, with_spare=True)
    yield made
    made.close()


@pytest.fixture
def run_job(checkpoint, job_dir):
    """Hands a job to training processes and waits for its end; returns its process."""

    def run_job(processes, environment=None):
        make_job(checkpoint, max_steps=2).write(job_dir)
        with (job_dir / "train.log").open("ab") as log:
            process = processes.start(job_dir, log, environment)
            try:
                process.wait(120)
            finally:
                end_process(process, 0)
        return process

    return run_job


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """The system's temporary folder, a fresh one."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_spare_ends_when_nobody_holds_its_input(processes):
    processes.prepare()
    process = processes._spare
    process.stdin.close()
    assert process.wait(10) == PARENT_GONE


def test_what_a_job_brings_along_is_seen_by_its_process_only(processes, run_job, job_dir):
    processes.prepare()
    spare = wait_for_spare()
    run_job(processes, {"WANDB_API_KEY": "secret", "TRANSFORMERS_VERBOSITY": "info"})
    assert read_all(job_dir).finished
    assert "secret" not in (job_dir / "train.log").read_text()
    assert "secret" not in " ".join(spare.cmdline())


def test_a_spare_trains_one_job_after_the_other(processes, run_job, job_dir):
    processes.prepare()
    spare = wait_for_spare()
    pids, losses = {spare.pid}, set()
    for _ in range(3):
        for name in ("checkpoints", "adapter", "best"):
            shutil.rmtree(job_dir / name, ignore_errors=True)
        (job_dir / "progress.jsonl").unlink(missing_ok=True)
        process = run_job(processes)
        assert process.returncode == 0
        pids.add(process.pid)
        losses.add(read_all(job_dir).train_loss[-1]["value"])
    assert len(pids) == 4 and len(losses) == 1
    assert spare.is_running() and spare.children() == []


def test_without_a_spare_a_job_starts_its_own_process(run_job, job_dir, temporary):
    with closing(TrainingProcesses(threads=1)) as processes:
        process = run_job(processes)
        left = list(temporary.rglob("*wandb*"))
    assert process.returncode == 0
    assert read_all(job_dir).finished and spares() == []
    assert left and list(temporary.iterdir()) == [], "temporary folders outlive a training"


KILLED = """
import os, signal
from nemo_local.customizer.temporary import TemporaryFolder

(TemporaryFolder().path / "left").write_text("")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_that_a_killed_platform_left_goes_with_the_next(temporary):
    environment = {**os.environ, "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
    (left,) = temporary.iterdir()
    assert (left / "left").exists()
    (temporary / "nemo-trainings-link").symlink_to(temporary.parent)
    with closing(TemporaryFolder()) as first, closing(TemporaryFolder()) as second:
        assert not left.exists() and first.path.exists() and second.path.exists()
    first.close()
    assert [path.name for path in temporary.iterdir()] == ["nemo-trainings-link"]


def test_a_spare_that_died_is_no_loss(processes, run_job):
    processes.prepare()
    spare = wait_for_spare()
    spare.kill()
    # A process that is still ending has no command line any more, and takes what it is told.
    wait_until(lambda: spare.status() == psutil.STATUS_ZOMBIE, 10, "it has died")
    process = run_job(processes)
    assert process.pid != spare.pid and process.returncode == 0
    processes.prepare()
    assert wait_for_spare().pid != spare.pid
    processes.close()
    processes.prepare()
    assert spares() == []


@pytest.fixture
def training(processes, checkpoint, job_dir):
    """A spare, and the process in which it trains without end."""
    make_job(checkpoint, epochs=400).write(job_dir)
    processes.prepare()
    with (job_dir / "train.log").open("ab") as log:
        process = processes.start(job_dir, log)
        try:
            wait_until(lambda: read_all(job_dir).steps > 0, 120, "it trains")
            yield wait_for_spare(), process
        finally:
            end_process(process, 0)


def test_a_training_that_is_killed_leaves_the_spare(training):
    spare, process = training
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    assert spare.is_running() and spare.children() == []


def test_a_training_ends_with_its_spare(training):
    spare, process = training
    trains = psutil.Process(process.pid)
    spare.kill()
    assert process.wait(10) == -signal.SIGKILL
    trains.wait(10)


def test_a_training_of_a_spare_leaves_a_checkpoint_when_it_is_told_to_end(training, job_dir):
    _, process = training
    end_process(process, 60)
    assert process.returncode == STOPPED and list((job_dir / "checkpoints").iterdir())


@pytest.fixture
def begins_with(tmp_path, monkeypatch):
    """Has Python processes begin with this code."""

    def begins_with(code):
        (tmp_path / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    return begins_with


def test_a_spare_that_cannot_be_copied_trains_itself(processes, run_job, job_dir, begins_with):
    begins_with("import errno, os\ndef no(): raise OSError(errno.ENOMEM, '')\nos.fork = no")
    processes.prepare()
    spare = wait_for_spare()
    process = run_job(processes)
    assert process.pid == spare.pid and process.returncode == 0
    assert read_all(job_dir).finished and not spare.is_running()
    processes.prepare()
    assert wait_for_spare().pid != spare.pid


def test_a_library_that_cannot_be_imported_is_the_reason_of_a_job(
    processes, run_job, job_dir, begins_with
):
    begins_with("import sys\nsys.modules['peft'] = None")
    processes.prepare()
    assert run_job(processes).returncode == 1
    message = read_all(job_dir).failure["message"]
    assert message.startswith("ModuleNotFoundError: ") and "peft" in message


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_only_the_thread_that_gets_ready_gives_way_to_others():
    def priority():
        return os.getpriority(os.PRIO_PROCESS, 0)

    before, seen, taken = priority(), [], threading.Event()
    taken.set()  # so that nothing is imported

    def run():
        get_ready_at_leisure(taken)
        seen.append(priority())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [LOWEST_PRIORITY] and priority() == before
