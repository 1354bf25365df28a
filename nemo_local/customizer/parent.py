"""Ends a process with its parent, which holds the process's standard input open."""

import os
import threading

PARENT_GONE = 3
"""Exit status of a process whose parent is gone: nobody gives it work or reads its reports."""


def end_with_parent() -> None:
    """End this process when standard input closes; the kernel closes it for a dead parent."""

    def wait() -> None:
        while os.read(0, 4096):
            continue
        os._exit(PARENT_GONE)

    threading.Thread(target=wait, name="parent watch", daemon=True).start()
