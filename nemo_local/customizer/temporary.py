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
    """A folder that goes with its platform, or with the next one of this user.

    Whoever uses it holds a lock, which the system takes back when a process is killed.
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
        """Remove it with all that is in it; a second time changes nothing."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def _lock_of_ours(folder: Path) -> int | None:
    """None when another platform just took the folder for one that was left."""
    try:
        descriptor = _locked(folder)
    except BlockingIOError:
        return None
    except OSError:  # a file system without locks; nothing that is left there is removed, either
        return os.open(folder, os.O_RDONLY)
    if folder.exists():
        return descriptor
    os.close(descriptor)
    return None


def _locked(folder: Path) -> int:
    """A descriptor of the folder that nobody else can have.

    Raises:
        BlockingIOError: somebody has it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
