"""The platform's home, the folder of all its state: ownership, process records and locking."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from nemo_local.settings import SettingsError

HOME_VARIABLE = "NEMO_LOCAL_RUN_HOME"
"""Set for both processes, hence all their children; finds those whose parent was killed."""

LOCK = "platform.lock"
_MARKS = ("platform.db", "processes.json", LOCK)
"""Files that only a platform's home has; each alone identifies one."""
_FOLDERS = ("blobs", "customization", "evaluation", "logs", "models", "nim")
_OWN = (
    *_FOLDERS,
    *("platform.db", "platform.db-shm", "platform.db-wal", "processes.json", "processes.tmp"),
    LOCK,  # the last one: it is held until all else is gone
)
LOG_LINES = 15


@dataclass(frozen=True)
class ProcessRecord:
    """A process that we started, as remembered in the home."""

    pid: int
    home: str
    """The home it was started for; a process that reuses the pid has another one, or none."""
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
        """The last lines of the process's log."""
        try:
            text = Path(self.log).read_text(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-LOG_LINES:]) or "(the log is empty)"


def home_of(process: psutil.Process) -> str | None:
    """The home of the platform that this process belongs to; None when it belongs to none.

    The process's environment tells; its start time would change when the clock is set.
    """
    return environment_of(process).get(HOME_VARIABLE)


def environment_of(process: psutil.Process) -> dict[str, str]:
    """The environment a process was started with; empty if we may not read it or it has ended."""
    try:
        environment: dict[str, str] = process.environ()
        return environment
    except (psutil.Error, OSError):
        return {}


def read_records(home: Path) -> dict[str, ProcessRecord]:
    """The processes last started for this home, by role; empty when there are none."""
    try:
        stored = json.loads((home / "processes.json").read_text())
        return {role: ProcessRecord(**fields) for role, fields in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_records(home: Path, records: Mapping[str, ProcessRecord]) -> None:
    """Store the records of a home's processes, all or none."""
    temporary = home / "processes.tmp"
    temporary.write_text(json.dumps({role: asdict(record) for role, record in records.items()}))
    temporary.replace(home / "processes.json")


@contextmanager
def locked(home: Path, say: Callable[[str], None], make: bool = False) -> Iterator[bool]:
    """Lock a home, so that one command at a time starts, stops or removes its platform.

    Yields True. If the home does not exist, or was removed during the wait, `make` creates it;
    without `make`, nothing is locked and False is yielded.
    """
    mode = "a"
    while True:
        if make:
            home.mkdir(parents=True, exist_ok=True)
            (home / LOCK).touch()
        try:
            file = _opened(home / LOCK, mode)
        except FileNotFoundError:
            if make:
                continue
            break
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another command is starting or stopping this platform; waiting for it ...")
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(home / LOCK, file.fileno()):
                yield True
                return
        mode = "r+"  # a `reset` removed this lock, and a new file would look like a home
    yield False


def _opened(path: Path, mode: str) -> IO[str]:
    try:
        return path.open(mode)
    except OSError:
        if not path.exists():
            raise
        return path.open()  # in a home that has become read-only


def _is_at(path: Path, opened: int) -> bool:
    """Whether this open file is the one at the path."""
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False


def is_home(home: Path) -> bool:
    """Whether a platform has its state in this folder."""
    return any((home / mark).is_file() for mark in _MARKS)


def check_nothing_is_taken(home: Path, models_dir: Path | None) -> None:
    """Raise SettingsError when a platform here would take the user's files for its own."""
    own = [] if is_home(home) else [name for name in _OWN if os.path.lexists(home / name)]
    if own:
        raise SettingsError(
            f"{home} is not a platform's home yet but holds {', '.join(own)}, which the platform "
            "would take for its own and `reset` would remove: move that, or choose another folder "
            "with --home (or NEMO_LOCAL_HOME)."
        )
    if models_dir and any(models_dir.is_relative_to(home / name) for name in _FOLDERS):
        raise SettingsError(
            f"NEMO_LOCAL_MODELS: {models_dir} is in a folder of the platform's own, which `reset` "
            "removes: move your checkpoints out of it."
        )


def check_home(home: Path) -> None:
    """Raise SettingsError when the folder holds something other than a platform's state."""
    if not is_home(home) and (not home.is_dir() or any(home.iterdir())):
        raise SettingsError(
            f"{home} does not look like a platform's home: it has none of {', '.join(_MARKS)}. "
            "Nothing was removed."
        )


def remove_state(home: Path) -> list[str]:
    """Remove what a platform stored, and the folder if empty; returns the names of what is left."""
    for name in _OWN:
        path = home / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    left = sorted(path.name for path in home.iterdir())
    if not left:
        with suppress(OSError):  # a mount point, or in a folder we may not change
            home.rmdir()
    return left
