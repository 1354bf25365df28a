"""Faster imports: with the garbage collector off, and without an optional module nobody needs."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def imports_that_stay() -> Iterator[None]:
    """Hold the garbage collector back while modules are imported; later it passes over them.

    To look for garbage, of which there is none, is a sixth of the time of importing torch, and was
    a third of a step of training.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries complain of what is not taken apart at the end
        gc.enable()


@contextmanager
def imported_without(name: str) -> Iterator[None]:
    """Within it this module cannot be imported, if it was not before.

    For a library that goes without.
    """
    if name in sys.modules:
        yield
        return
    absent: Any = None  # what Python's import takes for "there is none"
    sys.modules[name] = absent
    try:
        yield
    finally:
        del sys.modules[name]
