"""A whole platform in two threads, with tiny random checkpoints under official ids."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from nemo_local.core.client import Client
from nemo_local.settings import Settings
from tests.conftest import Running, free_port, running_control_plane
from tests.running_nim import MODEL, eventually, make_models_dir, running_nim

__all__ = ["MODEL", "eventually", "refresh", "tiny_platform"]


@contextmanager
def tiny_platform(folder: Path) -> Iterator[Running]:
    """Control plane and NIM until the block ends, every seeded deployment ready."""
    settings = Settings.from_environment(
        {},
        home=folder / "home",
        port=free_port(),
        nim_port=free_port(),
        models_dir=make_models_dir(folder / "models"),
        dataset_rows=0,
        threads=1,
        spare_training=0,
    )
    with running_control_plane(settings) as running, running_nim(settings):
        client = running.client()
        path = f"/v1/deployment/model-deployments/{MODEL}"
        eventually(
            lambda: client.get(path)["status_details"]["status"] == "ready", "the seed is ready"
        )
        client.close()
        yield running


def refresh(running: Running) -> dict[str, Any]:
    """What NIM serves once it has looked at the deployments and models of now."""
    with closing(Client(running.nim_url)) as nim:
        return dict(nim.post("/internal/refresh"))
