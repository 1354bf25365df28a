"""One control plane, started and stopped by several commands, signals and clocks.

With inference elsewhere there is one process to start, and none that loads a model.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from nemo_local.cli import _say_models, _stay
from nemo_local.doctor import checks
from nemo_local.environment import child_environment
from nemo_local.home import HOME_VARIABLE, LOCK, ProcessRecord, locked, read_records, write_records
from nemo_local.ports import cannot_listen
from nemo_local.processes import (
    LOG_BYTES,
    READY_WITHIN_S,
    StartFailed,
    _wait_ready,
    family,
    is_answering,
    start_platform,
    stop_platform,
    wait_until,
)
from tests.running_nim import running_nim
from tests.scripted_model import scripted_model, serving


@pytest.fixture
def alone(terminal) -> Iterator:
    """A terminal whose `up` starts the control plane alone."""
    terminal.environment |= {
        "NEMO_LOCAL_NIM_URL": "http://127.0.0.1:9",
        "NEMO_LOCAL_DATASET_ROWS": "0",
        "NEMO_LOCAL_SPARE_TRAINING": "0",
    }
    return terminal


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_up_stops_what_it_started(alone, ending):
    watching = alone.start("up")
    alone.until_it_says(watching, "Ctrl-C stops it")
    watching.send_signal(ending)
    output, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0 and output.endswith("Stopped.\n")
    assert read_records(alone.settings.home) == {} and family(alone.settings.home) == []


def test_a_terminal_that_closes_leaves_no_platform_behind(alone):
    watching = alone.start("up")
    alone.until_it_says(watching, "Ctrl-C stops it")
    watching.stdout.close()
    watching.send_signal(signal.SIGHUP)
    watching.wait(timeout=60)
    assert family(alone.settings.home) == []


def test_two_ups_at_once_give_one_platform_that_both_see(alone):
    ups = [alone.start("up", "--detach") for _ in range(2)]
    outputs = [up.communicate(timeout=120)[0] for up in ups]
    assert [up.returncode for up in ups] == [0, 0], outputs
    assert sum("already running" in output for output in outputs) == 1, outputs
    assert sum("waiting for it" in output for output in outputs) == 1, outputs
    assert is_answering(alone.settings.platform_url)


def test_up_waits_for_a_platform_that_is_busy_and_keeps_it(alone):
    assert alone.run("up", "--detach").returncode == 0
    (record,) = read_records(alone.settings.home).values()
    os.kill(record.pid, signal.SIGSTOP)  # as busy as can be
    second = alone.start("up", "--detach")
    # Its readiness has been asked for once in vain when the time-out of that question is over.
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=8)
    os.kill(record.pid, signal.SIGCONT)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0 and "already running" in output
    assert [r.pid for r in read_records(alone.settings.home).values()] == [record.pid]


def test_a_platform_on_a_machine_that_is_slow_to_load_it_has_not_ended(settings, monkeypatch):
    read, readings = psutil.Process.environ, Counter[int]()

    def late(process: psutil.Process) -> dict[str, str]:
        """Nothing at first, as until the kernel has loaded the program."""
        readings[process.pid] += 1
        return read(process) if readings[process.pid] > 3 else {}

    there = replace(settings, remote_nim_url="http://127.0.0.1:9", dataset_rows=0)
    with monkeypatch.context() as patched:
        patched.setattr(psutil.Process, "environ", late)
        assert start_platform(there) == {"control plane": True}
    assert stop_platform(settings.home) == ["control plane"]


def test_an_up_that_fails_leaves_what_ran_before(alone):
    assert alone.run("up", "--detach").returncode == 0
    (record,) = read_records(alone.settings.home).values()
    with socket.socket() as other:
        other.bind(("127.0.0.1", alone.settings.nim_port))
        other.listen()
        done = alone.run("up", "--detach", NEMO_LOCAL_NIM_URL="")
    assert done.returncode == 1 and "taken by another program" in done.stderr
    assert record.process() is not None and is_answering(record.url)


def test_an_up_that_cannot_move_leaves_what_ran_where_it_was(alone):
    assert alone.run("up", "--detach").returncode == 0
    (record,) = read_records(alone.settings.home).values()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = alone.run("up", "--detach", "--port", str(other.getsockname()[1]))
    assert done.returncode == 1 and "taken by another program" in done.stderr
    assert record.process() is not None and is_answering(record.url)


def test_a_platform_can_listen_on_every_address_of_the_sixth_protocol(alone):
    if cannot_listen("::", alone.settings.port):
        pytest.skip("this machine has no such addresses")
    done = alone.run("up", "--detach", "--host", "::", NEMO_LOCAL_TOKEN="secret")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def child(tmp_path) -> Iterator[Callable[[], tuple[subprocess.Popen, ProcessRecord]]]:
    """Starts a process of the home `tmp_path` that does nothing."""
    with ExitStack() as closing:

        def start() -> tuple[subprocess.Popen, ProcessRecord]:
            process = subprocess.Popen(
                [sys.executable, "-c", "input()"],
                env={**os.environ, HOME_VARIABLE: str(tmp_path)},
                stdin=subprocess.PIPE,
            )
            closing.enter_context(process)
            closing.callback(process.kill)
            record = ProcessRecord(process.pid, str(tmp_path), "http://x:1", "/none")
            wait_until(lambda: record.process() is not None, 10, "it has its environment")
            return process, record

        yield start


def test_an_up_that_watches_leaves_a_platform_alone_that_another_up_started_anew(
    tmp_path, settings, child, capsys
):
    (first, old), (second, new) = child(), child()
    write_records(tmp_path, {"control plane": old})
    watched = replace(settings, home=tmp_path)

    def move() -> None:
        with locked(tmp_path, print):
            first.communicate(b"\n")
            write_records(tmp_path, {"control plane": new})

    moving = threading.Timer(0, move)
    moving.start()
    _stay(watched)
    moving.join()
    assert "Another `up` has restarted this platform" in capsys.readouterr().out
    assert stop_platform(tmp_path, only=old) == [] and second.poll() is None


def test_a_home_that_cannot_be_written_is_named_and_nothing_stays_there(settings):
    (settings.home / "processes.json").mkdir(parents=True)
    with pytest.raises(StartFailed, match=rf"cannot be started in {settings.home}: .*json"):
        start_platform(settings)
    assert family(settings.home) == []


def test_a_platform_ends_although_its_home_can_no_longer_be_written(tmp_path, child):
    child()
    (tmp_path / "processes.json").mkdir()
    (tmp_path / LOCK).symlink_to(sys.executable)  # Linux opens no program that runs for writing
    (tmp_path / "platform.db").touch()
    stop_platform(tmp_path)
    assert family(tmp_path) == []


def test_a_file_in_place_of_a_home_has_no_platform_to_stop(tmp_path):
    (tmp_path / "file").touch()
    assert stop_platform(tmp_path / "file") == []


def test_a_long_log_is_set_aside_at_the_next_start(settings):
    (settings.home / "processes.json").mkdir(parents=True)  # so that the start ends soon
    log = settings.home / "logs" / "control-plane.log"
    log.parent.mkdir()
    with log.open("wb") as file:
        file.truncate(LOG_BYTES + 1)
    with pytest.raises(StartFailed):
        start_platform(settings)
    assert log.stat().st_size < LOG_BYTES < log.with_suffix(".old.log").stat().st_size


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "corp.example"}, "corp.example,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "other", "no_proxy": "corp"}, "corp,127.0.0.1,localhost,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
    ids=["none", "one", "both", "all"],
)
def test_a_shell_that_is_offline_or_has_a_proxy_keeps_no_process_from_the_platform_itself(
    settings, monkeypatch, given, hosts
):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    for name, value in (offline | given).items():
        monkeypatch.setenv(name, value)
    environment = child_environment(settings)
    assert not offline.keys() & environment.keys()
    assert (environment["NO_PROXY"], environment["no_proxy"]) == (hosts, hosts)


def test_a_process_is_found_again_after_the_clock_was_set(tmp_path, monkeypatch, child):
    process, record = child()
    write_records(tmp_path, {"x": record})
    # What psutil says of a start is counted from the boot, whose time moves with the clock.
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 0.0)
    assert read_records(tmp_path)["x"].process() is not None
    process.communicate(b"\n")
    assert read_records(tmp_path)["x"].process() is None


def test_a_reused_pid_is_not_ours(alone):
    home = alone.settings.home
    home.mkdir()
    record = {"pid": os.getpid(), "home": str(home), "url": "http://x:1", "log": "/none"}
    (home / "processes.json").write_text(json.dumps({"control plane": record}))
    assert "ended; pid was" in alone.run("status").stdout
    assert "Nothing was running" in alone.run("down").stdout


def test_commands_find_a_platform_that_listens_on_another_address(alone):
    alone.environment["NEMO_LOCAL_TOKEN"] = "secret"
    assert alone.run("up", "--detach", "--host", "127.0.0.2").returncode == 0
    status = alone.run("status").stdout
    assert "running" in status and "customization jobs: unknown" not in status
    assert f"port {alone.settings.port}: this platform listens there" in alone.run("doctor").stdout


def test_a_platform_with_a_token_says_which_setting_a_command_lacks(alone, tmp_path):
    assert alone.run("up", "--detach", NEMO_LOCAL_TOKEN="secret").returncode == 0
    for given in ("", "other"):
        status = alone.run("status", NEMO_LOCAL_TOKEN=given).stdout
        assert "jobs: unknown" in status and "set NEMO_LOCAL_TOKEN to the one" in status
    other = alone.run("up", "--detach", "--home", str(tmp_path / "other"))
    assert f"is taken by the platform of {alone.settings.home}" in other.stderr


def test_an_up_with_another_key_for_inference_elsewhere_leaves_no_process_with_the_old_one(alone):
    home, pids = alone.settings.home, []
    for key in ("key-one", "key-two", "key-two"):
        done = alone.run("up", "--detach", NEMO_LOCAL_NIM_KEY=key)
        assert done.returncode == 0, done.stderr
        pids.append(read_records(home)["control plane"].pid)
    assert pids[0] != pids[1] == pids[2]
    files = [path.read_text() for path in (home / "processes.json", *home.glob("logs/*"))]
    assert not any(key in text for key in ("key-one", "key-two") for text in files)


def test_an_inference_with_a_token_says_which_setting_doctor_and_up_lack(terminal, settings):
    there = replace(settings, token="secret")
    with running_nim(there):
        elsewhere = {"NEMO_LOCAL_NIM_URL": settings.nim_url, "NEMO_LOCAL_DATASET_ROWS": "0"}
        assert "set NEMO_LOCAL_NIM_KEY to" in terminal.run("doctor", **elsewhere).stdout
        assert "set NEMO_LOCAL_NIM_KEY to" in terminal.run("up", "--detach", **elsewhere).stdout


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "the server at NEMO_LOCAL_ENGINE_URL answered 401: check NEMO_LOCAL_ENGINE_KEY"),
        (404, "the server at NEMO_LOCAL_ENGINE_URL answered 404: check http"),
    ],
)
def test_an_engine_that_will_never_answer_ends_up_at_once_with_the_setting(
    terminal, status, reason
):
    app = FastAPI()
    app.get("/v1/models")(lambda: Response(status_code=status))
    with serving(app) as url:
        there = {"NEMO_LOCAL_ENGINE_URL": url, "NEMO_LOCAL_ENGINE_MODELS": "acme/a=a"}
        done = terminal.run("up", "--detach", **there, NEMO_LOCAL_ENGINE_KEY="wrong")
    assert done.returncode == 1 and f"the inference could not start: {reason}" in done.stderr


def test_an_up_that_waits_in_vain_for_an_engine_says_why(child, monkeypatch):
    monkeypatch.setitem(READY_WITHIN_S, "inference", 0.0)
    app = FastAPI()
    body = {"status": "starting", "reason": "http://gpu does not answer"}
    app.get("/v1/health/ready")(lambda: JSONResponse(body, 503))
    _, record = child()
    with serving(app) as url, pytest.raises(StartFailed, match="0 s: http://gpu does not answer"):
        _wait_ready("inference", replace(record, url=url))


def test_doctor_says_what_inference_says_about_its_engine(settings, child):
    _, record = child()
    app = FastAPI()
    body = {"status": "failed", "reason": "check NEMO_LOCAL_ENGINE_KEY"}
    app.get("/v1/health/ready")(lambda: JSONResponse(body, 503))
    with serving(app, settings.nim_port) as url:
        there = replace(settings, home=Path(record.home))
        write_records(there.home, {"inference": replace(record, url=url)})
        *_, last = checks(there)
    assert (last.verdict, last.finding) == ("fail", "check NEMO_LOCAL_ENGINE_KEY")


@pytest.mark.parametrize("listing", ["<html>", {"models": []}, {"data": ["m"]}, None])
def test_an_inference_elsewhere_that_lists_no_models_is_named(settings, listing, capsys):
    with scripted_model() as model:
        model.listing = listing
        there = replace(settings, remote_nim_url=model.url)
        _say_models(there)
    assert f"unknown: {model.url}/v1/models returned no list of models" in (capsys.readouterr().out)


def test_doctor_names_an_inference_elsewhere_that_answers_nonsense(settings):
    app = FastAPI()  # which knows no health check of NIM's, as vLLM does not
    app.get("/v1/models")(lambda: {"data": [{"id": "m"}]})
    app.post("/v1/chat/completions")(lambda: "<html>")
    with serving(app) as url:
        *_, last = checks(replace(settings, remote_nim_url=url))
    assert (last.verdict, last.finding) == ("fail", "m did not return a chat completion")


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_not_called_taken(alone, host):
    done = alone.run("up", "--detach", "--host", host, NEMO_LOCAL_TOKEN="secret")
    assert done.returncode == 1 and "taken" not in done.stderr
    assert f"of {host}, for the control plane, cannot be listened on (" in done.stderr
    assert "--host" in done.stderr and "--port" in done.stderr
