"""Functions that numba compiles, and where it keeps them.

Numba makes anew what it kept of a function when the function's own file changed. But what it kept
has the functions in it that are called, also those of other files. So it is kept in a folder that
is named after the contents of all of them.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from numba import config, njit

Function = TypeVar("Function", bound=Callable[..., Any])

_HERE = Path(__file__).parent
_OURS = ("compiler", "gates", "intrinsics", "llvm")
"""Modules of this folder that have a part in each function."""


class Compiler:
    """Compiles functions of the modules with these names in a folder, which may call each other."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._folder = folder
        sources = [*(_HERE / name for name in _OURS), *(folder / name for name in names)]
        contents = b"".join(source.with_suffix(".py").read_bytes() for source in sources)
        self._contents = hashlib.sha256(contents).hexdigest()[:16]

    def __call__(self, *signatures: str) -> Callable[[Function], Function]:
        """Compiled when the module is imported, and kept on disk; without a signature when used."""
        given = list(signatures) or None
        # Sums may be reordered, so that they run in vectors; NaN and infinity stay what they are.
        rules = {"reassoc", "contract", "nsz", "arcp"}

        def compiled(function: Function) -> Function:
            kept: Function
            how = {"fastmath": rules, "nogil": True, "error_model": "numpy"}
            try:
                with self._keeping():
                    kept = njit(given, cache=True, **how)(function)
            except RuntimeError:  # neither this folder nor the user's cache can be written
                kept = njit(given, **how)(function)
            return kept

        return compiled

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        """Within it numba keeps functions in the folder of these sources, if it can be written."""
        before: str = config.CACHE_DIR
        config.CACHE_DIR = self._kept_in(Path(before) if before else self._folder / "__pycache__")
        try:
            yield
        finally:
            config.CACHE_DIR = before

    def _kept_in(self, parent: Path) -> str:
        """Made, and the ones of other sources removed; empty where that is not possible."""
        folder = parent / f"kernels-{self._folder.name}-{self._contents}"
        if not folder.exists():
            for old in parent.glob(f"kernels-{self._folder.name}-*"):
                shutil.rmtree(old, ignore_errors=True)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError:
                return ""
        return str(folder) if os.access(folder, os.W_OK) else ""
