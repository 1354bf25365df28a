"""Starts, finds, awaits and stops the two processes of a platform."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Literal

import psutil

from nemo_local.core.client import Client, UpstreamError
from nemo_local.environment import child_environment
from nemo_local.home import (
    ProcessRecord,
    environment_of,
    home_of,
    is_home,
    locked,
    read_records,
    remove_state,
    write_records,
)
from nemo_local.ports import cannot_listen
from nemo_local.settings import Settings

Role = Literal[
    "control plane",  # every service but inference
    "inference",  # NIM
]

_SHARED = ("NEMO_LOCAL_TOKEN", "NEMO_LOCAL_NIM_URL", "NEMO_LOCAL_NIM_KEY")
"""Settings about the other process that each one is given, besides its address."""
READY_WITHIN_S = {"control plane": 90.0, "inference": 300.0}
LOADED_WITHIN_S = 10.0
STOPPED_WITHIN_S = 15.0
POLL_S = 0.1
LOG_BYTES = 10_000_000
"""Size above which a start renames the log to `.old.log`, replacing the previous one."""


class StartFailed(RuntimeError):
    """The platform could not start; the message says which part and why."""


def roles(settings: Settings) -> dict[Role, str]:
    """The processes of a platform with their URLs; a remote inference server is not among them."""
    found: dict[Role, str] = {"control plane": settings.platform_url}
    if settings.remote_nim_url is None:
        found["inference"] = settings.nim_url
    return found


def port_of(settings: Settings, role: Role) -> tuple[int, str, str]:
    """The port of a role, and the option and the variable that set it."""
    if role == "control plane":
        return settings.port, "--port", "NEMO_LOCAL_PORT"
    return settings.nim_port, "--nim-port", "NEMO_LOCAL_NIM_PORT"


def start_platform(
    settings: Settings, say: Callable[[str], None] = lambda text: None
) -> dict[Role, bool]:
    """Start what is not running and wait until both answer; True for each one started now.

    A process already at the wanted URL is kept, however busy it is. A start that fails ends what
    it began, and nothing that ran before.

    Raises:
        StartFailed: a port or the home cannot be used, or a process ended or did not answer in
            time.
    """
    try:
        with locked(settings.home, say, make=True):
            return _start(settings, say)
    except OSError as error:
        raise StartFailed(f"the platform cannot be started in {settings.home}: {error}") from None


def stop_platform(
    home: Path,
    say: Callable[[str], None] = lambda text: None,
    only: ProcessRecord | None = None,
) -> list[str]:
    """Stop both processes and every child of theirs; returns the roles that were running, or how
    many processes were where nothing is recorded of them.

    With `only`, nothing is stopped where another control plane has taken its place.
    """
    # A folder that is no home gets no lock: it would look like one.
    with locked(home, say) if is_home(home) else nullcontext():
        return [] if only and is_replaced(home, only) else _stop(home)


def is_replaced(home: Path, control_plane: ProcessRecord) -> bool:
    """Whether another `up` has since replaced this home's control plane."""
    return read_records(home).get("control plane", control_plane) != control_plane


def reset_platform(settings: Settings, say: Callable[[str], None]) -> list[str] | None:
    """Stop the platform and remove what it stored; returns the names of what is left in its home,
    or None where another `reset` was first.

    Raises:
        DatabaseError: its database is elsewhere and cannot be emptied; then nothing is removed.
    """
    with locked(settings.home, say) as found:
        if not found:
            return None
        _stop(settings.home)
        if settings.database:
            # Imported here: other commands start twice as fast without SQLAlchemy.
            from nemo_local.core.documents import drop_documents

            drop_documents(settings.database)
        return remove_state(settings.home)


def family(home: Path) -> list[psutil.Process]:
    """Every process of this home, including children whose parent is gone."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and home_of(process) == str(home)
    ]


def is_answering(url: str) -> bool:
    """Whether a process is ready at this URL."""
    return readiness(url)[0] == "ready"


def readiness(url: str) -> tuple[str, str]:
    """The state that the process at a URL reports (`absent` without an answer), and its reason."""
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


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return when the condition holds. Raises TimeoutError, naming `what`, after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"timed out after {timeout_s:g} s, waiting until {what}")
        time.sleep(POLL_S)


def _start(settings: Settings, say: Callable[[str], None]) -> dict[Role, bool]:
    wanted = roles(settings)
    records = read_records(settings.home)
    urls = {role: record.url for role, record in records.items()}
    alive = {role: process for role in records if (process := records[role].process())}
    told = settings.environment()
    # Each process was given the other's address and key: when one changes, both are restarted.
    moved = bool(urls) and any(urls.get(role) != url for role, url in wanted.items())
    moved |= any(
        environment_of(process).get(name) != told.get(name)
        for process in alive.values()
        for name in _SHARED
    )
    started = {role: moved or not _is_running(records.get(role), wanted[role]) for role in wanted}
    if started["control plane"]:
        _end_orphans(settings.home, alive.values(), say)
    starting = [role for role in wanted if started[role]]
    for role in starting:
        if wanted[role] not in [urls[other] for other in alive]:
            _check_port(settings, role)
    for old, process in alive.items():
        if moved or old in starting:
            say(f"the {old} at {urls[old]} (pid {process.pid}) cannot be reused; ending it")
            _end([process.pid])
    records = {role: records[role] for role in wanted if not started[role]}
    begun: list[Role] = []
    try:
        for role in starting:
            records[role] = _spawn(settings, role, wanted[role])
            begun.append(role)
            write_records(settings.home, records)
        for role in wanted:
            _wait_ready(role, records[role])
    except BaseException:
        _undo(settings.home, records, begun)
        raise
    return started


def _undo(home: Path, records: dict[str, ProcessRecord], begun: Collection[str]) -> None:
    """End what a start began before it failed; what ran before goes on."""
    before = {role: record for role, record in records.items() if role not in begun}
    if any(record.process() for record in before.values()):
        _end([records[role].pid for role in begun])
        write_records(home, before)
    else:
        _stop(home)


def _stop(home: Path) -> list[str]:
    alive = {role: record for role, record in read_records(home).items() if record.process()}
    pids = [record.pid for record in alive.values()]
    # First, so that an `up` that watches them knows that they were asked to end.
    with suppress(OSError):  # they are ended even if the home has become read-only
        (home / "processes.json").unlink(missing_ok=True)
    # The control plane ends its own children, so that jobs are left in an honest state.
    _end(pids)
    others = [process.pid for process in family(home)]
    _end(others)
    unknown = [f"{len(others)} unrecorded process(es)"] if others else []
    return list(alive) or unknown


def _is_running(record: ProcessRecord | None, url: str) -> bool:
    """Whether the recorded process runs at this URL; one that does not answer counts as busy."""
    fits = record is not None and record.url == url and record.process() is not None
    return fits and readiness(url)[0] != "failed"


def _check_port(settings: Settings, role: Role) -> None:
    port, option, variable = port_of(settings, role)
    problem = cannot_listen(settings.host, port)
    if problem:
        raise StartFailed(
            f"port {port} of {settings.host}, for the {role}, {problem}; choose another port with "
            f"{option} (or {variable}), or an address of this machine with --host."
        )


def _spawn(settings: Settings, role: Role, url: str) -> ProcessRecord:
    log = settings.home / "logs" / f"{role.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))
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
    with suppress(TimeoutError):
        wait_until(lambda: not _is_being_loaded(pid), LOADED_WITHIN_S, "it has its environment")
    return ProcessRecord(pid, str(settings.home), url, str(log))


def _is_being_loaded(pid: int) -> bool:
    """Whether the kernel still loads the process's program: until then it has no environment."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and not process.environ()
    except psutil.Error:
        return False


def _wait_ready(role: Role, record: ProcessRecord) -> None:
    reason = ""

    def ready() -> bool:
        nonlocal reason
        if record.process() is None:
            lines = record.last_lines()
            raise StartFailed(f"the {role} ended while starting; its log says:\n{lines}")
        state, reason = readiness(record.url)
        if state == "failed":
            raise StartFailed(f"the {role} could not start: {reason}\nIts log is {record.log}.")
        return state == "ready"

    timeout_s = READY_WITHIN_S[role]
    try:
        wait_until(ready, timeout_s, f"the {role} answers")
    except TimeoutError:
        because = f": {reason}" if reason else " (`down` stops one that hangs)"
        raise StartFailed(
            f"the {role} was not ready at {record.url} within {timeout_s:g} s{because}; "
            f"its log says:\n{record.last_lines()}"
        ) from None


def _end_orphans(home: Path, alive: Collection[psutil.Process], say: Callable[[str], None]) -> None:
    """End training runs whose control plane was killed; the next one resumes their jobs."""
    keep = {*alive, *(child for process in alive for child in process.children(recursive=True))}
    orphans = [process.pid for process in family(home) if process not in keep]
    if orphans:
        say(f"ending {len(orphans)} process(es) that a killed platform left behind")
        _end(orphans)


def _end(pids: list[int]) -> None:
    """Terminate these processes, and kill those that do not end in time."""
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
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _has_ended(process: psutil.Process) -> bool:
    """Whether the process has ended; if it is a child of ours, it is reaped."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return False
        process.wait(timeout=0)
    except psutil.TimeoutExpired:
        return True  # another process is its parent
    except psutil.NoSuchProcess:
        return True
    return True
