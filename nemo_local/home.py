"""The one folder of all state: whose it is, what was started there, and one command at a time."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from nemo_local.settings import SettingsError

HOME_VARIABLE = "NEMO_LOCAL_RUN_HOME"
"""Set for both processes, so for all their children: it finds those whose parent was killed."""

LOCK = "platform.lock"
_MARKS = ("platform.db", "processes.json", LOCK)
"""Only a platform's home has one of these."""
_OWN = (
    *("blobs", "customization", "evaluation", "logs", "models", "nim"),
    *("platform.db", "platform.db-shm", "platform.db-wal", "processes.json", "processes.tmp"),
    LOCK,  # the last one: it is held until all else is gone
)
LOG_LINES = 15


@dataclass(frozen=True)
class ProcessRecord:
    """What we remember of a process we started."""

    pid: int
    home: str
    """The home it was started for: a reused pid belongs to none, or to another."""
    url: str
    log: str
    """Path of its log file."""

    def process(self) -> psutil.Process | None:
        """The process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if alive and home_of(process) == self.home else None

    def last_lines(self) -> str:
        """The end of its log."""
        try:
            text = Path(self.log).read_text(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-LOG_LINES:]) or "(the log is empty)"


def home_of(process: psutil.Process) -> str | None:
    """The home whose platform this process belongs to; None when it belongs to none.

    Its environment says so, and not its start time: that moves when the clock is set.
    """
    try:
        home: str | None = process.environ().get(HOME_VARIABLE)
        return home
    except (psutil.Error, OSError):
        return None  # Not ours to look at, or gone by now.


def read_records(home: Path) -> dict[str, ProcessRecord]:
    """What this home last started, by role; empty when it never did."""
    try:
        stored = json.loads((home / "processes.json").read_text())
        return {role: ProcessRecord(**fields) for role, fields in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_records(home: Path, records: Mapping[str, ProcessRecord]) -> None:
    """Remember these, all or none."""
    temporary = home / "processes.tmp"
    temporary.write_text(json.dumps({role: asdict(record) for role, record in records.items()}))
    temporary.replace(home / "processes.json")


@contextmanager
def locked(home: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One command at a time starts, stops or removes the platform of a home; others wait."""
    try:
        file = (home / LOCK).open("a")
    except OSError:  # a home that cannot be written any more
        file = (home / LOCK).open()
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another command is starting or stopping this platform; waiting for it ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_home(home: Path) -> bool:
    """Whether a platform has its state in this folder."""
    return any((home / mark).is_file() for mark in _MARKS)


def check_home(home: Path) -> None:
    """Raises SettingsError when something is there, and it is no platform's state."""
    if not is_home(home) and (not home.is_dir() or any(home.iterdir())):
        raise SettingsError(
            f"{home} does not look like a platform's home: it has none of {', '.join(_MARKS)}. "
            "Nothing was removed."
        )


def remove_state(home: Path) -> list[str]:
    """Remove what a platform stored, and the folder if nothing is left; else what is, by name."""
    for name in _OWN:
        path = home / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    left = sorted(path.name for path in home.iterdir())
    if not left:
        home.rmdir()
    return left
