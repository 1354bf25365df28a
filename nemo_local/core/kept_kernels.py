"""numba's cache of compiled functions, made safe for several processes and for failing disks.

numba's own cache may file code under the wrong argument types when two processes compile at once,
and lets errors of its files escape.
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)


class KeptKernel(FunctionCache):
    """The cache of one function; an entry that cannot be read is recompiled, errors are logged."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a broken file may raise anything
            logger.warning("%s cannot be read and is recompiled: %r", self.cache_path, error)
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        folder = Path(self.cache_path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / "lock"):
                super().save_overload(sig, data)
        except OSError as error:
            logger.warning("%s cannot be written: %s", folder, error)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock on `file` against other processes and threads."""
    with file.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # until it is closed
        yield
