"""The commands, as a person in a terminal meets them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from nemo_local.core.client import Client, UpstreamError
from nemo_local.home import read_records
from nemo_local.pocket_dataset import REPO
from nemo_local.processes import family, wait_until
from tests.conftest import free_port

ROOT = Path(__file__).parents[3]


def test_help_needs_no_training_library():
    code = (
        "import sys; from nemo_local import app, cli; heavy = {'torch', 'transformers', 'peft'}; "
        "sys.exit(str((heavy | {'trl', 'nemoguardrails'}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


def test_a_taken_port_is_named_with_its_option(terminal):
    with socket.socket() as other:
        other.bind(("127.0.0.1", terminal.settings.port))
        other.listen()
        done = terminal.run("up", "--detach")
    assert done.returncode == 1
    assert f"port {terminal.settings.port} " in done.stderr and "--port" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_public_address_without_a_token_is_refused(terminal):
    done = terminal.run("up", "--host", "0.0.0.0")
    assert done.returncode == 1 and "NEMO_LOCAL_TOKEN" in done.stderr


def test_a_process_that_cannot_start_shows_its_log(terminal):
    done = terminal.run("up", "--detach", NEMO_LOCAL_DATABASE_URL="sqlite:////proc/no/where.db")
    assert done.returncode == 1
    assert "the control plane ended while starting" in done.stderr and "/proc" in done.stderr


def test_a_platform_can_be_stopped_whatever_became_of_its_settings(terminal):
    for variable in ("NEMO_LOCAL_MODELS", "NEMO_LOCAL_NIM_PORT"):
        value = "/gone" if variable == "NEMO_LOCAL_MODELS" else str(terminal.settings.port)
        done = terminal.run("down", **{variable: value})
        assert done.returncode == 0 and "Nothing was running" in done.stdout
        assert "not running" in terminal.run("status", **{variable: value}).stdout
    for variable, value in (("NEMO_LOCAL_PORT", "eighty"), ("NEMO_LOCAL_HOST", "0.0.0.0")):
        assert "Nothing was running" in terminal.run("down", **{variable: value}).stdout


def test_commands_on_a_platform_that_is_not_there(terminal, tmp_path):
    assert "Nothing was running" in terminal.run("down").stdout
    assert "not running" in terminal.run("status").stdout
    assert "nothing in" in terminal.run("reset", "--yes").stdout
    (tmp_path / "thesis.txt").write_text("years of work")
    done = terminal.run("reset", "--yes", "--home", str(tmp_path))
    assert done.returncode == 1 and (tmp_path / "thesis.txt").exists()


@pytest.mark.contract
def test_a_platform_lives_is_killed_comes_back_and_is_removed(terminal, tmp_path):
    settings = terminal.settings
    done = terminal.run("up", "--detach")
    assert done.returncode == 0, done.stderr
    assert settings.platform_url in done.stdout and settings.nim_url in done.stdout
    assert re.search(r"meta/llama-3.2-1b-instruct +<- answered by a stand-in", done.stdout)
    assert "already running" in terminal.run("up", "--detach").stdout

    done = terminal.run("status")
    assert done.returncode == 0 and done.stdout.count("running") == 2

    done = terminal.run("doctor")
    assert done.returncode == 0, done.stdout
    assert "called get_weather(" in done.stdout
    stranger = terminal.run("doctor", "--home", str(tmp_path / "other"))
    assert stranger.returncode == 1 and "called get_weather(" not in stranger.stdout
    taken = f"port {settings.nim_port}: is taken by the platform of {settings.home}"
    assert taken in stranger.stdout

    with terminal.client() as client:
        client.post("/v1/datasets", json={"name": "kept", "files_url": "hf://datasets/a/b"})

    records = read_records(settings.home)
    os.kill(records["control plane"].pid, signal.SIGKILL)
    wait_until(lambda: not records["control plane"].process(), 10, "it is gone")
    done = terminal.run("status")
    assert done.returncode == 1 and "ended" in done.stdout

    watching = terminal.start("up")
    terminal.until_it_says(watching, "Ctrl-C stops it")
    assert read_records(settings.home)["inference"].pid == records["inference"].pid
    with terminal.client() as client:
        assert client.get("/v1/datasets/default/kept")["name"] == "kept"
        info = client.get(f"/v1/hf/api/datasets/{REPO}")
        assert [file["rfilename"] for file in info["siblings"]] == [
            ".gitattributes",
            "README.md",
            "data/train.jsonl",
        ]

    os.kill(records["inference"].pid, signal.SIGKILL)
    lines = terminal.until_it_says(watching, "The rest runs on")
    assert any("The inference ended. Its log says:" in line for line in lines)
    assert "Stopped: control plane." in terminal.run("down").stdout
    output, _ = watching.communicate(timeout=30)
    assert watching.returncode == 0 and output == "Stopped by `down`.\n"
    assert family(settings.home) == []
    assert "Removed" in terminal.run("reset", "--yes").stdout
    assert not settings.home.exists()


@pytest.mark.contract
def test_a_platform_that_moves_tells_both_of_its_processes(terminal):
    first, port, nim_port = terminal.settings, free_port(), free_port()
    assert terminal.run("up", "--detach").returncode == 0
    assert terminal.run("up", "--detach", "--port", str(port)).returncode == 0
    with (
        closing(Client(f"http://127.0.0.1:{port}")) as client,
        closing(Client(first.nim_url)) as nim,
    ):
        client.delete("/v1/deployment/model-deployments/meta/llama-3.2-1b-instruct")
        (served,) = nim.get("/v1/models")["data"]
        moved = ("--port", str(port), "--nim-port", str(nim_port))
        assert terminal.run("up", "--detach", *moved).returncode == 0
        messages = [{"role": "user", "content": "hi"}]
        question = {"model": served["id"], "messages": messages, "max_tokens": 1}
        assert client.post("/v1/chat/completions", json=question)["model"] == served["id"]


@pytest.mark.contract
def test_an_up_with_other_settings_leaves_no_process_with_the_old_ones(terminal):
    home, url = terminal.settings.home, terminal.settings.platform_url
    assert terminal.run("up", "--detach").returncode == 0
    inference = read_records(home)["inference"]
    os.kill(inference.pid, signal.SIGKILL)
    wait_until(lambda: not inference.process(), 10, "it is gone")
    protected = {"NEMO_LOCAL_TOKEN": "secret"}
    assert terminal.run("up", "--detach", **protected).returncode == 0
    with closing(Client(url)) as stranger, pytest.raises(UpstreamError, match="needs a token"):
        stranger.get("/v1/models")
    assert "secret" not in (home / "processes.json").read_text()

    inference = read_records(home)["inference"]
    elsewhere = {"NEMO_LOCAL_NIM_URL": "http://127.0.0.1:9"}
    assert terminal.run("up", "--detach", **protected, **elsewhere).returncode == 0
    assert list(read_records(home)) == ["control plane"] and not inference.process()
    assert "already running" in terminal.run("up", "--detach", **protected, **elsewhere).stdout


def test_a_child_of_a_killed_platform_is_found_and_ended(terminal):
    home = terminal.settings.home
    home.mkdir()
    (home / "processes.json").write_text(json.dumps({}))
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={**os.environ, "NEMO_LOCAL_RUN_HOME": str(home)},
        start_new_session=True,
    )
    wait_until(lambda: [p.pid for p in family(home)] == [orphan.pid], 10, "it is found")
    shutil.rmtree(home)
    assert "has 1 unrecorded process(es); `down`" in terminal.run("status").stdout
    assert "Stopped: 1 unrecorded process(es)" in terminal.run("down").stdout
    assert orphan.wait(timeout=10) == -signal.SIGTERM


def test_settings_that_cannot_work_are_told_before_anything_starts(terminal, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for options, words in (
        (("--device", "tpu"), "NEMO_LOCAL_DEVICE must be one of auto, cpu, cuda"),
        (("--home", str(tmp_path / "file")), "cannot be started in"),
    ):
        done = terminal.run("up", "--detach", *options)
        assert done.returncode == 1 and words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("home", "words"),
    [("x" * 300, "NEMO_LOCAL_HOME cannot be the folder"), ("", "--home or --models is empty")],
    ids=["too long", "empty"],
)
@pytest.mark.parametrize("command", ["up", "down", "status", "doctor", "reset"])
def test_a_home_that_no_system_could_have_is_told_in_one_sentence_by_every_command(
    terminal, command, home, words
):
    done = terminal.run(command, "--home", home)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr


@pytest.mark.parametrize("command", ["up", "doctor"])
def test_a_port_that_no_machine_has_is_named_by_its_option(terminal, command):
    done = terminal.run(command, "--nim-port", "99999")
    assert done.returncode == 2 and "--nim-port" in done.stderr and "65535" in done.stderr


def test_doctor_names_a_setting_that_cannot_work(terminal):
    done = terminal.run("doctor", NEMO_LOCAL_PORT="99999")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("fail")]
    assert line == "fail  settings: NEMO_LOCAL_PORT must be from 1 to 65535, not 99999"


def test_a_python_without_the_packages_is_told_in_one_sentence(terminal):
    command = [sys.executable, "-S", "-m", "nemo_local", "status"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "typer" in done.stderr and "use .venv/bin/python -m nemo_local" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_start_with_a_device_that_is_not_there_fails_and_breaks_no_later_one(terminal):
    done = terminal.run("up", "--detach", "--device", "cuda")
    assert done.returncode == 1 and "no CUDA device is visible" in done.stderr
    done = terminal.run("up", "--detach")
    assert done.returncode == 0 and "model      meta/llama-3.2-1b-instruct" in done.stdout


def test_doctor_names_weights_that_cannot_be_read(terminal, tmp_path):
    folder = tmp_path / "models" / "meta" / "llama-3.2-1b-instruct"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"max_position_embeddings": 2048}')
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    done = terminal.run("doctor", NEMO_LOCAL_MODELS=str(tmp_path / "models"))
    (line,) = [line for line in done.stdout.splitlines() if "meta/llama-3.2-1b-instruct" in line]
    assert done.returncode == 1
    assert line.startswith("fail") and "Git LFS pointer" in line and str(folder) in line


def test_doctor_leaves_the_port_of_an_inference_elsewhere_alone(terminal):
    with socket.socket() as other:
        other.bind(("127.0.0.1", terminal.settings.nim_port))
        other.listen()
        here = terminal.run("doctor")
        elsewhere = terminal.run("doctor", NEMO_LOCAL_NIM_URL="http://127.0.0.1:9")
    words = f"port {terminal.settings.nim_port}: is taken by another program"
    assert words in here.stdout and here.returncode == 1
    assert words not in elsewhere.stdout
    assert "fail  tool call: http://127.0.0.1:9/v1/models does not answer" in elsewhere.stdout
