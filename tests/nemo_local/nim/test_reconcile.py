"""What is served follows what is deployed."""

from pathlib import Path
from typing import Any

import pytest

from nemo_local.catalog import CatalogModel
from nemo_local.core.errors import NotFound
from nemo_local.nim.reconcile import Reconciler
from tests.conftest import free_port
from tests.tiny_checkpoint import catalog_of, entry

BASE = "meta/tiny"
ADAPTER = {
    "id": "model-1",
    "namespace": "ns",
    "name": "a@v1",
    "base_model": BASE,
    "artifact": {"status": "upload_completed", "files_url": "hf://ns/a@v1"},
}


class Deployed:
    """A platform with one deployment of the base model, and an adapter for it."""

    def __init__(self, nim: dict[str, Any]) -> None:
        status = {"status": "ready"}
        config = {"model": BASE, "nim_deployment": nim}
        self._pages = {
            "/v1/deployment/model-deployments": [
                {"models": [BASE], "config": config, "status_details": status}
            ],
            "/v1/models": [ADAPTER],
        }

    def get(self, path: str, params: dict[str, str] | None = None) -> Any:
        if path not in self._pages:
            raise NotFound(path)
        return {"data": self._pages[path], "pagination": {"total_pages": 1}}


class Models:
    """Takes base models, and holds nothing."""

    def __init__(self) -> None:
        self._ids: list[str] = []

    def all(self) -> list[Any]:
        return []

    def ids(self) -> list[str]:
        return self._ids

    def forget_replaced(self) -> None:
        pass

    def load_base(self, entry: CatalogModel) -> None:
        self._ids.append(entry.id)


@pytest.mark.parametrize(
    ("nim", "wanted"), [({}, ["ns/a@v1"]), ({"disable_lora_support": True}, [])], ids=str
)
def test_a_deployment_without_lora_support_serves_no_adapters(
    tmp_path: Path, nim: dict[str, Any], wanted: list[str]
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    catalog = catalog_of(entry(BASE, tmp_path))
    platform: Any = Deployed(nim)
    models: Any = Models()
    reconciler = Reconciler(models, catalog, platform, nowhere, None, tmp_path / "adapters")
    result = reconciler.refresh()
    # An adapter that is wanted is fetched from a hub that is not there.
    assert (result["models"], list(result["failed"])) == ([BASE], wanted)
