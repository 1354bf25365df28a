"""The temporary folder that the trainings of one platform share."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "nemo-trainings-"


class TemporaryFolder:
    """A temporary folder removed at its platform's end, or else by this user's next platform.

    A platform locks its folder; the system releases the lock of a process that was killed.
    """

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):  # another user's, or one in use
                os.close(_locked(left))
                shutil.rmtree(left, ignore_errors=True)
        self._lock: int | None = None
        while self._lock is None:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = _lock_of_ours(self.path)

    def close(self) -> None:
        """Remove the folder and its contents; a second call changes nothing."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def _lock_of_ours(folder: Path) -> int | None:
    """Lock a folder just made; None when another platform took it for an abandoned one."""
    try:
        descriptor = _locked(folder)
    except BlockingIOError:
        return None
    except OSError:  # a file system without locks, where abandoned folders are not removed, either
        return os.open(folder, os.O_RDONLY)
    if folder.exists():
        return descriptor
    os.close(descriptor)
    return None


def _locked(folder: Path) -> int:
    """A descriptor of the folder with an exclusive lock.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
