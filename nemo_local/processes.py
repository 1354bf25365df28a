"""The two processes of a platform: started, found again, waited for and stopped."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

from nemo_local.core.client import Client, UpstreamError
from nemo_local.settings import Settings, SettingsError

Role = Literal[
    "control plane",  # every service but inference
    "inference",  # NIM
]

READY_WITHIN_S = {"control plane": 90.0, "inference": 300.0}
STOPPED_WITHIN_S = 15.0
POLL_S = 0.1
LOG_LINES = 15

HOME_VARIABLE = "NEMO_LOCAL_RUN_HOME"
"""Set for both processes, so for all their children: it finds those whose parent was killed."""

LOCAL_PROFILE = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "NEMO_GUARDRAILS_NO_USAGE_STATS": "1",
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that spin for long starve every other process on a small machine; but to wake
    # one up for each product takes long, too: on a virtual machine half of a reply's time.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "30000",
    # glibc gives every large tensor back to the kernel and asks for it again: a tenth of a prompt.
    "MALLOC_MMAP_THRESHOLD_": "67108864",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_TOP_PAD_": "16777216",
}
"""Environment of both processes: no telemetry, no Xet, threads that soon yield."""

_NOT_INHERITED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT")


class StartFailed(RuntimeError):
    """The platform could not start; the message says which part and why."""


@dataclass(frozen=True)
class ProcessRecord:
    """What we remember of a process we started."""

    pid: int
    created: float
    """Its start time (s since the epoch): a reused pid has another."""
    url: str
    log: str
    """Path of its log file."""

    def process(self) -> psutil.Process | None:
        """The process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.created) < 1 and process.status() != "zombie"
        except psutil.Error:
            return None
        return process if alive else None

    def last_lines(self, count: int = LOG_LINES) -> str:
        """The end of its log."""
        try:
            text = Path(self.log).read_text(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-count:]) or "(the log is empty)"


def roles(settings: Settings) -> dict[Role, str]:
    """The processes of a platform with their URLs; inference elsewhere is none of ours."""
    found: dict[Role, str] = {"control plane": settings.platform_url}
    if settings.remote_nim_url is None:
        found["inference"] = settings.nim_url
    return found


def read_records(home: Path) -> dict[str, ProcessRecord]:
    """What this home last started, by role; empty when it never did."""
    try:
        stored = json.loads(_record_path(home).read_text())
        return {role: ProcessRecord(**fields) for role, fields in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def start_platform(
    settings: Settings, say: Callable[[str], None] = lambda text: None
) -> dict[Role, bool]:
    """Start what is not running and wait until both answer; True for each one started now.

    Raises:
        StartFailed: a port is taken, or a process ended or did not answer in time.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartFailed(f"{settings.home} cannot be the folder of all state: {error}") from None
    started: dict[Role, bool] = {}
    records = read_records(settings.home)
    running = {role: _is_running(records.get(role), url) for role, url in roles(settings).items()}
    for role, url in roles(settings).items():
        record = records.get(role)
        if running[role]:
            started[role] = False
            continue
        if record and record.process():
            say(f"the {role} at {record.url} (pid {record.pid}) does not fit; restarting it")
            _end([record.pid])
        if role == "control plane":
            _end_orphans(settings.home, records, say)
        _check_port(settings, role)
        records[role] = _spawn(settings, role, url)
        _write_records(settings.home, records)
        started[role] = True
    for role in started:
        if started[role]:
            _wait_ready(role, records[role])
    return started


def stop_platform(home: Path) -> list[str]:
    """Stop both processes and every child of theirs; returns the roles that were running."""
    records = read_records(home)
    alive = {role: record for role, record in records.items() if record.process()}
    pids = [record.pid for record in alive.values()]
    # First, so that an `up` that watches them knows that they were asked to end.
    _record_path(home).unlink(missing_ok=True)
    # The control plane ends its own children, so that jobs are left in an honest state.
    _end(pids)
    _end([process.pid for process in family(home)])
    return list(alive)


def family(home: Path) -> list[psutil.Process]:
    """Every process of this home, children whose parent is gone included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(HOME_VARIABLE) == str(home) and process.pid != os.getpid():
                found.append(process)
        except (psutil.Error, OSError):
            continue  # Not ours to look at, or gone by now.
    return found


def is_answering(url: str) -> bool:
    """Whether a process is ready at this URL."""
    return _readiness(url)[0] == "ready"


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return when the condition holds. Raises TimeoutError, naming `what`, when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s in vain until {what}")
        time.sleep(POLL_S)


def port_is_free(host: str, port: int) -> bool:
    """Whether we could listen there."""
    family_ = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family_, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _is_running(record: ProcessRecord | None, url: str) -> bool:
    return bool(record and record.url == url and record.process() and is_answering(url))


def _readiness(url: str) -> tuple[str, str]:
    """`ready`, or the state a process reports, or `absent`; and the reason it gives."""
    client = Client(url, timeout_s=2.0)
    try:
        client.raw("GET", "/v1/health/ready")
    except UpstreamError as error:
        body = error.response_body
        if isinstance(body, dict) and isinstance(body.get("status"), str):
            return body["status"], str(body.get("reason", ""))
        return "absent", ""
    finally:
        client.close()
    return "ready", ""


def _check_port(settings: Settings, role: Role) -> None:
    if role == "control plane":
        port, option, variable = settings.port, "--port", "NEMO_LOCAL_PORT"
    else:
        port, option, variable = settings.nim_port, "--nim-port", "NEMO_LOCAL_NIM_PORT"
    if not port_is_free(settings.host, port):
        raise StartFailed(
            f"port {port} of {settings.host}, for the {role}, is taken by another program; "
            f"choose a free one with {option} (or {variable})."
        )


def _spawn(settings: Settings, role: Role, url: str) -> ProcessRecord:
    log = settings.home / "logs" / f"{role.replace(' ', '-')}.log"
    log.parent.mkdir(exist_ok=True)
    command = {
        "control plane": [sys.executable, "-m", "nemo_local", "serve"],
        "inference": [sys.executable, "-m", "nemo_local.nim"],
    }[role]
    with log.open("ab") as output:
        # Not subprocess: the process outlives us. A session of its own: Ctrl-C in the terminal
        # reaches `up`, which then stops both in order.
        pid = os.posix_spawn(
            command[0],
            command,
            child_environment(settings),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
            ],
            setsid=True,
        )
    return ProcessRecord(pid, psutil.Process(pid).create_time(), url, str(log))


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of both processes: ours, the settings, and the local profile."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key not in _NOT_INHERITED and not key.startswith("NEMO_LOCAL_")
    }
    # `python -m nemo_local` must find this package from any working directory.
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, inherited.get("PYTHONPATH", "")]))
    own = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", HOME_VARIABLE: str(settings.home)}
    return {**inherited, **LOCAL_PROFILE, **settings.environment(), **own}


def _wait_ready(role: Role, record: ProcessRecord) -> None:
    def ready() -> bool:
        if record.process() is None:
            lines = record.last_lines()
            raise StartFailed(f"the {role} ended while starting; its log says:\n{lines}")
        state, reason = _readiness(record.url)
        if state == "failed":
            raise StartFailed(f"the {role} could not start: {reason}\nIts log is {record.log}.")
        return state == "ready"

    timeout_s = READY_WITHIN_S[role]
    try:
        wait_until(ready, timeout_s, f"the {role} answers")
    except TimeoutError:
        raise StartFailed(
            f"the {role} did not answer at {record.url} within {timeout_s:g} s; its log says:\n"
            f"{record.last_lines()}"
        ) from None


def _end_orphans(
    home: Path, records: Mapping[str, ProcessRecord], say: Callable[[str], None]
) -> None:
    """Training runs whose control plane was killed: the next one resumes their jobs."""
    inference = records.get("inference")
    spared = inference.process() if inference else None
    keep = {spared, *spared.children(recursive=True)} if spared else set()
    orphans = [process.pid for process in family(home) if process not in keep]
    if orphans:
        say(f"ending {len(orphans)} process(es) that a killed platform left behind")
        _end(orphans)


def _end(pids: list[int]) -> None:
    """Ask these processes to end, then insist."""
    processes = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            process.terminate()
            processes.append(process)
        except psutil.NoSuchProcess:
            continue
    for last in (False, True):
        try:
            what = f"the processes {pids} end"
            wait_until(lambda: all(map(_has_ended, processes)), STOPPED_WITHIN_S, what)
            return
        except TimeoutError:
            if last:
                raise
        for process in processes:
            if not _has_ended(process):
                process.kill()


def _has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more; a child of ours is laid to rest."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return False
        process.wait(timeout=0)
    except psutil.TimeoutExpired:
        return True  # Another process is its parent.
    except psutil.NoSuchProcess:
        return True
    return True


def _record_path(home: Path) -> Path:
    return home / "processes.json"


def _write_records(home: Path, records: Mapping[str, ProcessRecord]) -> None:
    temporary = _record_path(home).with_suffix(".tmp")
    temporary.write_text(json.dumps({role: asdict(record) for role, record in records.items()}))
    temporary.replace(_record_path(home))


def check_home(home: Path) -> None:
    """Raises SettingsError when the folder holds anything but a platform's state."""
    known = {"processes.json", "platform.db", "blobs", "logs"}
    inside = {path.name for path in home.iterdir()} if home.is_dir() else set()
    if inside and not inside & known:
        raise SettingsError(f"{home} does not look like a platform's home; nothing was removed.")
