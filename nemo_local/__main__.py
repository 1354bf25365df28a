"""The command line: `python -m nemo_local`."""

import logging
import os
import sys

try:
    from nemo_local.cli import cli
except ModuleNotFoundError as error:
    sys.exit(
        f"{error} for {sys.executable}, which lacks the platform's packages: `make up` installs "
        "them into .venv, then use .venv/bin/python -m nemo_local."
    )

if __name__ == "__main__":
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("nemo_local").setLevel(logging.INFO)
    python = sys.executable.removeprefix(f"{os.getcwd()}{os.sep}")
    cli(prog_name=f"{python} -m nemo_local")
