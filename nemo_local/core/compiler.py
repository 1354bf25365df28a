"""Compiles functions with numba, and chooses the folder in which numba caches them.

Numba recompiles a cached function when the function's own file changes. But the cached code also
contains the functions it calls, which may be in other files. So the cache folder is named after a
hash of all these files.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import config, njit

from nemo_local.core.kept_kernels import KeptKernel, locked

Function = TypeVar("Function", bound=Callable[..., Any])

_HERE = Path(__file__).parent
_OURS = ("compiler", "gates", "intrinsics", "llvm")
"""Modules of this folder that any compiled function may use."""


class Compiler:
    """Compiles functions of a folder's modules with these names, which may call each other."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._folder = folder
        sources = [*(_HERE / name for name in _OURS), *(folder / name for name in names)]
        contents = b"".join(source.with_suffix(".py").read_bytes() for source in sources)
        self._contents = hashlib.sha256(contents).hexdigest()[:16]

    def __call__(self, *signatures: str) -> Callable[[Function], Function]:
        """A decorator that compiles at import, or at the first call if no signature is given.

        Compiled code is cached on disk where that is possible.
        """
        # Sums may be reordered, so that they run in vectors; NaN and infinity stay what they are.
        rules = {"reassoc", "contract", "nsz", "arcp"}

        def compiled(function: Function) -> Function:
            kept: Any = njit(fastmath=rules, nogil=True, error_model="numpy")(function)
            with self._keeping() as folder, ExitStack() as alone:
                if folder:
                    kept._cache = KeptKernel(function)  # as `cache=True` would set numba's own
                    # Processes that start at once would each compile everything.
                    with suppress(OSError):
                        alone.enter_context(locked(Path(folder) / "compiling"))
                for signature in signatures:
                    kept.compile(signature)
            if signatures:
                kept.disable_compile()
            return cast(Function, kept)

        return compiled

    @contextmanager
    def _keeping(self) -> Iterator[str]:
        """Point numba's cache at the folder for these sources, and yield it; "" if none works."""
        before: str = config.CACHE_DIR
        near = Path(before) if before else self._folder / "__pycache__"
        config.CACHE_DIR = self._kept_in(near) or self._kept_in(_of_the_user())
        try:
            yield config.CACHE_DIR
        finally:
            config.CACHE_DIR = before

    def _kept_in(self, parent: Path) -> str:
        """The cache folder below `parent`, made, older ones removed; "" if it is not writable."""
        folder = parent / f"kernels-{self._folder.name}-{self._contents}"
        if not folder.exists():
            for old in parent.glob(f"kernels-{self._folder.name}-*"):
                shutil.rmtree(old, ignore_errors=True)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError:
                return ""
        return str(folder) if os.access(folder, os.W_OK) else ""


def _of_the_user() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(caches) / "nemo_local"
