"""A process that ends with the one that started it, and holds its standard input open."""

import os
import threading

PARENT_GONE = 3
"""How such a process exits when nobody is there to give it work, or to read its reports."""


def end_with_parent() -> None:
    """End this process when standard input closes; the kernel closes it for a dead parent."""

    def wait() -> None:
        while os.read(0, 4096):
            continue
        os._exit(PARENT_GONE)

    threading.Thread(target=wait, name="parent watch", daemon=True).start()
