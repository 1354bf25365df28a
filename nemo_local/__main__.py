"""`python -m nemo_local`."""

import logging

from nemo_local.cli import cli

if __name__ == "__main__":
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("nemo_local").setLevel(logging.INFO)
    cli(prog_name="python -m nemo_local")
