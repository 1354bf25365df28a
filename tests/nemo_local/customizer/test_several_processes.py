"""Trainings on two processes of one CPU, started as the platform starts them."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.util import find_spec

import psutil
import pytest

from nemo_local.customizer.parallelism import WantedProcesses
from nemo_local.customizer.processes import TrainingProcesses, end_process
from nemo_local.customizer.progress import STOPPED, read_all
from nemo_local.customizer.training.launch import cause
from nemo_local.processes import wait_until
from tests.conftest import free_port, running_control_plane
from tests.nemo_local.customizer.conftest import ROWS, job_body, make_settings, serving, upload
from tests.nemo_local.customizer.test_jobs import JOBS, details_of, wait_for
from tests.nemo_local.customizer.test_special_tokens import chatml_job
from tests.nemo_local.customizer.tiny_llama import call_row, write_rows
from tests.nemo_local.customizer.training import OF_THE_LIBRARIES, make_job, train_job

pytestmark = OF_THE_LIBRARIES
NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)


def in_two(job, parallelism="ddp"):
    return replace(job, parallel=WantedProcesses(cpu_processes=2, parallelism=parallelism))


@contextmanager
def training(job, folder):
    """The process that the platform holds of a training that is under way."""
    job.write(folder)
    with (
        (folder / "train.log").open("ab") as log,
        closing(TrainingProcesses(threads=1)) as processes,
    ):
        process = processes.start(folder, log)
        try:
            yield process
        finally:
            end_process(process, 0)


def train_in_two(job, folder, parallelism="ddp"):
    with training(in_two(job, parallelism), folder) as process:
        process.wait(240)
    progress = read_all(folder)
    assert process.returncode == 0 and progress.finished, (folder / "train.log").read_text()
    return progress


def members(folder):
    """The processes that train this folder's job, the launcher not counted."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "nemo_local.customizer.training.rank" in command and str(folder) in command:
            found.append(process)
    return found


def series(progress):
    return [
        (point["step"], pytest.approx(point["value"], abs=2e-5))
        for point in [*progress.train_loss, *progress.val_loss]
    ]


def outputs_differ_by(one, other):
    """The largest difference between the weights that two jobs left."""
    from safetensors.numpy import load_file

    (a,), (b,) = (
        [path for name in ("adapter", "model") for path in folder.glob(f"{name}/*.safetensors")]
        for folder in (one, other)
    )
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    return max(abs(first[key] - second[key]).max() for key in first)


def stop_soon(job, folder):
    """Begin to train, and let the training end by itself once it has reported a step."""
    with training(job, folder) as process:
        wait_until(lambda: read_all(folder).steps > 0, 240, "it trains")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == STOPPED, (folder / "train.log").read_text()
    assert members(folder) == []


def test_two_processes_learn_what_one_learns_and_only_one_reports(checkpoint, job_dir, alone):
    # Steps of 64 rows in several passes, and of one row: nothing is left for one of the two.
    long = call_row(64)
    long["messages"][0]["content"] = "add " * 100
    write_rows(job_dir / "data/training/a.jsonl", [*map(call_row, range(64)), long])
    shutil.copytree(job_dir / "data", alone / "data", dirs_exist_ok=True)
    job = replace(make_job(checkpoint, batch_size=64, epochs=4), max_seq_length=500)
    expected = train_job(job, alone)
    progress = train_in_two(job, job_dir)
    assert series(progress) == series(expected) != []
    note = "16 x 2 rows a step in each of 2 processes (ddp)"
    assert progress.steps == 8 and note in progress.prepared["note"]
    assert outputs_differ_by(alone, job_dir) < 1e-4
    events = [json.loads(line) for line in (job_dir / "progress.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events].count("prepared") == 1
    assert [event["event"] for event in events].count("val_loss") == 4
    assert (job_dir / "train.log").read_text().count("step 7: val_loss") == 1
    assert len(list((job_dir / "tensorboard").iterdir())) == 1


WAYS = [
    pytest.param("fsdp", {}, id="fsdp, lora"),
    pytest.param("fsdp", {"finetuning_type": "all_weights"}, id="fsdp, all weights"),
    pytest.param("zero2", {}, id="zero2, lora", marks=NEEDS_DEEPSPEED),
    pytest.param("zero3", {}, id="zero3, lora", marks=NEEDS_DEEPSPEED),
    pytest.param(
        "zero3",
        {"finetuning_type": "all_weights"},
        id="zero3, all weights",
        marks=NEEDS_DEEPSPEED,
    ),
]


@pytest.mark.parametrize(("parallelism", "changed"), WAYS)
def test_split_weights_learn_the_same_and_go_on_after_a_stop(
    checkpoint, job_dir, alone, parallelism, changed
):
    job = make_job(checkpoint, batch_size=8, epochs=8, **changed)
    expected = train_job(job, alone)
    stop_soon(in_two(job, parallelism), job_dir)
    progress = train_in_two(job, job_dir, parallelism)
    assert 0 < progress.prepared["resumed_from"] < 32
    assert series(progress) == series(expected)
    assert outputs_differ_by(alone, job_dir) < 1e-3


def test_special_tokens_are_trained_in_two_and_refused_where_weights_are_split(
    checkpoint, job_dir, alone
):
    job = chatml_job(checkpoint, epochs=1)
    expected = train_job(job, alone)
    assert series(train_in_two(job, job_dir)) == series(expected)
    assert outputs_differ_by(alone, job_dir) < 1e-4
    with training(in_two(job, "fsdp"), alone) as process:
        assert process.wait(240) == 1
    failed = read_all(alone).failure["message"]
    assert "fsdp splits the rows of the target's special tokens" in failed


def test_a_stop_reaches_every_process_and_leaves_one_checkpoint(checkpoint, job_dir, alone):
    job = make_job(checkpoint, batch_size=8, epochs=6)
    expected = train_job(job, alone)
    stop_soon(in_two(job), job_dir)
    (kept,) = (job_dir / "checkpoints").iterdir()
    progress = train_in_two(job, job_dir)
    assert kept.name == f"checkpoint-{progress.prepared['resumed_from']}"
    assert series(progress) == series(expected)
    assert outputs_differ_by(alone, job_dir) < 1e-3


def test_a_process_that_is_killed_fails_the_job_and_takes_the_others_along(checkpoint, job_dir):
    with training(in_two(make_job(checkpoint, epochs=400)), job_dir) as process:
        wait_until(lambda: read_all(job_dir).steps > 0, 120, "it trains")
        second = next(p for p in members(job_dir) if p.environ()["RANK"] == "1")
        second.kill()
        assert process.wait(60) == 1
    failure = read_all(job_dir).failure
    assert failure["message"].startswith("training process 1 of 2 was ended by SIGKILL (most often")
    assert members(job_dir) == []


LITTLE_MEMORY = """
import os
from pathlib import Path

if os.environ.get("RANK") == "1":
    import torch
    from nemo_local.customizer.training import objectives

    inner = objectives.answer_logits

    def within(model, inputs, places):
        full = Path("{folder}").exists() and inputs["input_ids"].numel() > {tokens}
        if torch.is_grad_enabled() and full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return inner(model, inputs, places)

    objectives.answer_logits = within
"""


@pytest.fixture
def little_memory(tmp_path_factory, monkeypatch):
    """Lets passes of more tokens fail in the second process, once a folder of the job is there."""
    folder = tmp_path_factory.mktemp("little")

    def set_to(tokens, once_there):
        code = LITTLE_MEMORY.format(tokens=tokens, folder=once_there)
        (folder / "sitecustomize.py").write_text(code)  # every Python process begins with it
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    return set_to


def test_when_memory_runs_out_in_one_process_all_go_on_with_half_the_rows(
    checkpoint, job_dir, alone, little_memory
):
    job = make_job(checkpoint, batch_size=8, epochs=8)
    expected = train_job(job, alone)
    little_memory(2 * 75, "checkpoints/checkpoint-25")  # two rows of about 70 tokens, and no four
    progress = train_in_two(job, job_dir)
    note = progress.prepared["note"]
    assert "2 x 2 rows a step in each of 2 processes (ddp), halved because memory ran out" in note
    assert (progress.prepared["resumed_from"], progress.steps) == (25, 32)
    assert series(progress) == series(expected)
    log = (job_dir / "train.log").read_text()
    assert re.search(r"memory ran out in process 1 of 2 with 4 rows of up to \d\d tokens", log)
    assert log.count("; all begin again with fewer rows a pass") == 1


def test_when_one_row_is_too_much_for_a_process_the_reason_says_what_fits(
    checkpoint, job_dir, little_memory
):
    little_memory(40, "data")
    with training(in_two(make_job(checkpoint)), job_dir) as process:
        assert process.wait(240) == 1
    log = (job_dir / "train.log").read_text()
    assert log.count("; all begin again with fewer rows a pass") == 1
    assert log.count("; all begin again with activation checkpointing") == 1
    reason = read_all(job_dir).failure["message"]
    assert re.match(r"memory ran out with one row of \d\d tokens at a time and activation ", reason)
    assert "; rows of 3" in reason
    assert members(job_dir) == []


def test_no_process_outlives_the_platform(checkpoint, job_dir):
    with training(in_two(make_job(checkpoint, epochs=400)), job_dir) as process:
        wait_until(lambda: read_all(job_dir).steps > 0, 120, "it trains")
        ranks = members(job_dir)
        assert len(ranks) == 2
        process.stdin.close()  # which is what the end of its parent does
        process.wait(5)
        psutil.wait_procs(ranks, 5)
        assert members(job_dir) == []


def test_a_cancelled_training_ends_at_once(checkpoint, job_dir):
    with training(in_two(make_job(checkpoint, epochs=400)), job_dir) as process:
        wait_until(lambda: read_all(job_dir).steps > 0, 120, "it trains")
        ranks = members(job_dir)
        end_process(process, 0)
        _, alive = psutil.wait_procs(ranks, 5)
        assert alive == []


def test_a_job_of_the_platform_trains_in_the_processes_it_may_have(tmp_path, models_dir):
    settings = make_settings(tmp_path / "home", models_dir, spare_training=1)
    settings = replace(settings, training_processes=2)
    with serving(settings) as serves, running_control_plane(settings) as running:
        client = running.client()
        upload(running, tmp_path, {"training/a.jsonl": ROWS})
        serves.append("ns/two@v1")
        body = job_body(dataset="hf://datasets/ns/d", output_model="ns/two@v1")
        job = wait_for(client, client.post(JOBS, json=body)["id"], "completed")
        assert job["status"] == "completed", job["status_details"]["status_logs"][-1]
        assert "4 x 1 rows a step in each of 2 processes (ddp)" in details_of(
            job, "TrainingJobRunning"
        )
        assert job["status_details"]["steps_completed"] == 3


def test_another_machine_joins_with_the_command_that_the_log_names(checkpoint, job_dir, alone):
    job = make_job(checkpoint, batch_size=8)
    expected = train_job(job, alone)
    several = WantedProcesses(machines=2, address=f"127.0.0.1:{free_port()}")
    log, found = job_dir / "train.log", re.compile(r"^on machine 1: accelerate (launch .+)$", re.M)
    with training(replace(job, parallel=several), job_dir) as process:
        wait_until(lambda: bool(found.search(log.read_text())), 120, "the log names the command")
        words = shlex.split(found.findall(log.read_text())[0])
        start = [sys.executable, "-m", "accelerate.commands.accelerate_cli", *words]
        with (job_dir / "other.log").open("wb") as output:
            other = subprocess.Popen(start, stdout=output, stderr=output)
            try:
                assert process.wait(240) == 0, log.read_text()
                assert other.wait(30) == 0, (job_dir / "other.log").read_text()
            finally:
                other.kill()
    assert series(read_all(job_dir)) == series(expected)


def failure(exitcode, at=None, noticed=100):
    """A failed process as PyTorch's launcher describes it."""
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    made = ProcessFailure(local_rank=0, pid=1, exitcode=exitcode, error_file="")
    made.timestamp = noticed
    if at is not None:
        extra = {"py_callstack": "Traceback", "timestamp": str(int(at))}
        made.error_file_data = {
            "message": {"message": f"reason at {at}", "extraInfo": extra},
            "exception_type": "TrainingFailed",
            "at": at,
        }
    return made


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ({0: failure(1, 99.6), 1: failure(1, 99.4)}, "reason at 99.4"),
        ({0: failure(1, 99.6), 1: failure(-9)}, "training process 1 of 2 was ended by SIGKILL"),
        ({0: failure(-9, noticed=131), 1: failure(1, 99.4)}, "reason at 99.4"),
        ({0: failure(143), 1: failure(1, 99.4)}, "reason at 99.4"),
        ({0: failure(3), 1: failure(3)}, "the training processes ended with status 3, 3"),
    ],
    ids=[
        "the first error counts",
        "a killed process makes others fail",
        "one that hangs is killed later",
        "one that was told to end",
        "nobody said why",
    ],
)
def test_the_reason_of_a_failure_is_what_failed_first(failures, expected):
    assert cause(failures)["message"].startswith(expected)
