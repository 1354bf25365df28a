"""Imports of a process that keeps what they make to its end."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
