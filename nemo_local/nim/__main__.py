"""The inference process: `python -m nemo_local.nim`, configured by the environment."""

import logging
import os
import sys

from nemo_local.core.imports import imports_that_stay
from nemo_local.environment import LOCAL_PROFILE
from nemo_local.settings import Settings


def main() -> None:
    """Serve until a signal comes."""
    for name, value in LOCAL_PROFILE.items():  # before torch is imported
        os.environ.setdefault(name, value)
    settings = Settings.from_environment()
    if settings.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)

    with imports_that_stay():
        import torch
        import uvicorn

        from nemo_local.core.web import UVICORN
        from nemo_local.nim.app import create_app

    if settings.device == "cuda" and settings.engine_url is None and not torch.cuda.is_available():
        sys.exit("NEMO_LOCAL_DEVICE is 'cuda', but no CUDA device is visible; use 'auto' or 'cpu'")
    uvicorn.run(create_app(settings), host=settings.host, port=settings.nim_port, **UVICORN)


if __name__ == "__main__":
    main()
