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
_SOURCES = ("amx", "attention", "compiled", "halves", "intrinsics", "kernels", "llvm", "products")


def kernel(*signatures: str) -> Callable[[Function], Function]:
    """Compiled when the module is imported, and kept on disk; without a signature when used."""
    given = list(signatures) or None
    # Sums may be reordered, so that they run in vectors; NaN and infinity stay what they are.
    rules = {"reassoc", "contract", "nsz", "arcp"}

    def compiled(function: Function) -> Function:
        kept: Function
        how = {"fastmath": rules, "nogil": True, "error_model": "numpy"}
        try:
            with _keeping():
                kept = njit(given, cache=True, **how)(function)
        except RuntimeError:  # neither this folder nor the user's cache can be written
            kept = njit(given, **how)(function)
        return kept

    return compiled


@contextmanager
def _keeping() -> Iterator[None]:
    """Within it numba keeps functions in the folder of these sources, if it can be written."""
    before: str = config.CACHE_DIR
    config.CACHE_DIR = _folder(Path(before) if before else _HERE / "__pycache__")
    try:
        yield
    finally:
        config.CACHE_DIR = before


def _folder(parent: Path) -> str:
    """Made, and the ones of other sources removed; empty where that is not possible."""
    folder = parent / f"kernels-{_CONTENTS}"
    if not folder.exists():
        for old in parent.glob("kernels-*"):
            shutil.rmtree(old, ignore_errors=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return ""
    return str(folder) if os.access(folder, os.W_OK) else ""


_CONTENTS = hashlib.sha256(
    b"".join(_HERE.joinpath(f"{name}.py").read_bytes() for name in _SOURCES)
).hexdigest()[:16]
