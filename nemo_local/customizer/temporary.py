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
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        while not self._is_ours():
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))

    def _is_ours(self) -> bool:
        """False when another platform just took it for one that was left."""
        try:
            self._lock = _locked(self.path)
        except OSError:
            return False
        if not self.path.exists():
            os.close(self._lock)
            return False
        return True

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _locked(folder: Path) -> int:
    """A descriptor of the folder that nobody else can have; raises OSError when somebody does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
