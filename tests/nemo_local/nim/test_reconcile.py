"""What is served follows what is deployed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from nemo_local.catalog import CatalogModel
from nemo_local.core.client import UpstreamError
from nemo_local.nim import hub
from nemo_local.nim.failures import LONGEST_WAIT_S, Failures
from nemo_local.nim.hub import Hub
from nemo_local.nim.lora import Unservable
from nemo_local.nim.models import Registry, Served
from nemo_local.nim.reconcile import Reconciler
from nemo_local.nim.stored import Stored
from tests.tiny_checkpoint import catalog_of, entry, make_checkpoint

BASE = "meta/tiny"
ADAPTER = "ns/a@v1"
WHOLE = "ns/whole"


def whole(entity_id: str) -> dict[str, Any]:
    """An entity whose files are those of a whole model."""
    artifact = {"status": "upload_completed", "files_url": f"hf://{WHOLE}"}
    return {"id": entity_id, "artifact": artifact}


class Platform:
    """Deployments of the base model, one for each of `nims`, an adapter for it, a whole model that
    nobody deploys, and the commits of the Data Store."""

    base_url = "http://platform"

    def __init__(
        self, files_url: str = "hf://ns/a@v1", nims: Sequence[dict[str, Any]] = ({},)
    ) -> None:
        self.configs: Any = [{"model": BASE, "nim_deployment": nim} for nim in nims]
        self.status = "ready"
        self.artifact = {"status": "upload_completed", "files_url": files_url}
        self.commits = {"/v1/hf/api/models/ns/a/revision/v1": "1", "/v1/hf/api/models/ns/a": "1"}
        self.commits[f"/v1/hf/api/models/{WHOLE}"] = "1"
        self.asked: list[str] = []
        self.models = [BASE]
        self.adapter: dict[str, Any] = {"id": "model-1", "namespace": "ns", "name": "a@v1"}
        self.entities: dict[str, Any] = {f"/v1/models/{WHOLE}": whole("model-2")}
        self.targets: list[dict[str, Any]] = []
        self.base = BASE

    def find(self, path: str) -> Any:
        return self.entities.get(path)

    def get(self, path: str, params: dict[str, str] | None = None) -> Any:
        self.asked.append(path)
        if path in self.commits:
            return {"sha": self.commits[path]}
        status = {"status": self.status, "description": "as it was"}
        pages: dict[str, list[dict[str, Any]]] = {
            "/v1/deployment/model-deployments": [
                {"models": self.models, "config": config, "status_details": status}
                for config in self.configs
            ],
            "/v1/models": [self.adapter | {"base_model": self.base, "artifact": self.artifact}],
            "/v1/customization/targets": self.targets,
        }
        if path not in pages:
            raise UpstreamError(404, {"detail": "not found"}, path)
        return {"data": pages[path], "pagination": {"total_pages": 1}}


class Models(Registry):
    """Takes everything, unless it is told what is `wrong` with adapters, or what it has `lost`."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong = self.broken = ""
        self.lost: set[str] = set()

    def load_base(self, entry: CatalogModel) -> None:
        if self.broken:
            raise Unservable(self.broken)
        self._put(Served(entry.id, entry, root=entry.id))

    def load_adapter(self, model_id: str, base_id: str, folder: Path, root: str) -> None:
        if self.wrong:
            raise Unservable(self.wrong)
        self._put(Served(model_id, self.get(base_id).entry, root=root, folder=folder))

    def unload(self, model_id: str) -> None:
        self._pop(model_id)

    def forget_lost(self) -> None:
        while self.lost:
            self._pop(self.lost.pop())


class Downloads:
    """The commits that were downloaded; it fails with `error` while there is one."""

    def __init__(self) -> None:
        self.commits: list[str] = []
        self.error: Exception | None = None

    def __call__(self, repo_id: str, *, revision: str, local_dir: Path, **options: object) -> None:
        self.commits.append(revision)
        if self.error:
            raise self.error
        if repo_id == WHOLE:
            make_checkpoint(local_dir)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Downloads:
    monkeypatch.setattr(hub, "snapshot_download", made := Downloads())
    return made


@pytest.fixture
def models() -> Models:
    return Models()


def reconciler_of(platform: Any, models: Models, folder: Path) -> Reconciler:
    catalog = catalog_of(entry(BASE, folder))
    return Reconciler(models, catalog, platform, Hub(platform, None, folder / "adapters"))


WITHOUT = {"disable_lora_support": True}


@pytest.mark.parametrize("stored", [False, True], ids=["of the catalogue", "stored"])
@pytest.mark.parametrize(
    ("nims", "wanted"),
    [([{}], True), ([WITHOUT], False), ([{}, WITHOUT], True), ([WITHOUT, {}], True)],
    ids=["with", "without", "with and without", "without and with"],
)
def test_adapters_are_served_where_a_deployment_of_their_model_has_lora_support(
    tmp_path: Path,
    models: Models,
    downloads: Downloads,
    nims: list[dict[str, Any]],
    wanted: bool,
    stored: bool,
) -> None:
    platform = Platform(nims=nims)
    if stored:
        platform.base, platform.models = WHOLE, [WHOLE]
    state = reconciler_of(platform, models, tmp_path).refresh()
    assert (state["models"], state["failed"]) == ([platform.base, *[ADAPTER] * wanted], {})


@pytest.mark.parametrize("kind", ["catalogue", "target", "stored"])
def test_an_adapter_takes_no_deployed_model_of_its_id_away(
    tmp_path: Path, models: Models, downloads: Downloads, kind: str
) -> None:
    platform = Target(make_checkpoint(tmp_path / "target"))
    names = {"catalogue": BASE, "target": "ns/target@1", "stored": WHOLE}
    platform.models = [*names.values()]
    namespace, _, name = names[kind].partition("/")
    platform.adapter |= {"namespace": namespace, "name": name}
    reconciler = reconciler_of(platform, models, tmp_path)
    for _ in range(2):
        state = reconciler.refresh()
        assert set(state["models"]) == set(platform.models)
        assert "id of a deployed model" in state["failed"].pop(names[kind])
        assert not state["failed"] and models.get(names[kind]).folder is None


def test_what_a_deployment_that_has_failed_names_is_still_wanted(
    tmp_path: Path, models: Models, downloads: Downloads
) -> None:
    platform = Platform()
    platform.status = "failed"
    assert reconciler_of(platform, models, tmp_path).refresh()["models"] == [BASE, ADAPTER]


def test_a_connection_that_breaks_in_a_download_leaves_the_version_before_served(
    tmp_path: Path, models: Models, downloads: Downloads
) -> None:
    platform = Platform()
    reconciler = reconciler_of(platform, models, tmp_path)
    reconciler.refresh()
    platform.artifact["files_url"] = "hf://ns/a"
    downloads.error = httpx.RemoteProtocolError("the peer closed the connection")
    state = reconciler.refresh()
    assert "the peer closed the connection" in state["failed"][ADAPTER]
    assert state["tried_again"] == [ADAPTER]
    assert models.get(ADAPTER).root == "hf://ns/a@v1"
    downloads.error = None
    assert reconciler.refresh()["failed"] == {}
    assert models.get(ADAPTER).root == "hf://ns/a"


class Target(Platform):
    """A deployment of a target of the Customizer, and the adapter of another one."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        super().__init__()
        self.models = ["ns/target@1"]
        self.target: dict[str, Any] = {
            "namespace": "ns", "name": "target@1", "status": "ready", "model_path": str(folder),
            "model_uri": "hf://ns/own", **changed,
        }  # fmt: skip
        self.targets = [self.target]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(make_checkpoint(tmp_path / "target"))


def test_a_target_that_is_deployed_is_served_from_its_own_weights(
    tmp_path: Path, models: Models, target: Target
) -> None:
    reconciler = reconciler_of(target, models, tmp_path)
    assert reconciler.refresh()["models"] == ["ns/target@1"]
    first = models.get("ns/target@1")
    assert (first.entry.path, first.entry.stand_in) == (tmp_path / "target", False)
    reconciler.refresh()
    assert models.get("ns/target@1") is first
    target.target["model_uri"] = "hf://ns/own@v2"
    reconciler.refresh()
    assert models.get("ns/target@1").entry.why == "weights of hf://ns/own@v2"
    target.targets.clear()  # it was deleted
    assert reconciler.refresh()["models"] == []


def test_weights_that_take_the_place_of_others_in_a_folder_are_loaded(
    tmp_path: Path, models: Models, target: Target
) -> None:
    """Its hf_endpoint was changed; the folder and the name of the repository were not."""
    reconciler = reconciler_of(target, models, tmp_path)
    reconciler.refresh()
    first = models.get("ns/target@1")
    os.utime(tmp_path / "target" / "model.safetensors")
    reconciler.refresh()
    assert models.get("ns/target@1") is not first


def test_a_target_that_comes_back_after_a_stored_model_of_its_id_has_its_own_weights_again(
    tmp_path: Path, models: Models, downloads: Downloads, target: Target
) -> None:
    reconciler = reconciler_of(target, models, tmp_path)
    assert reconciler.refresh()["models"] == ["ns/target@1"]
    target.targets.clear()
    target.entities["/v1/models/ns/target%401"] = whole("model-3")
    reconciler.refresh()
    assert models.get("ns/target@1").entry.path != tmp_path / "target"
    target.targets.append(target.target)
    reconciler.refresh()
    assert models.get("ns/target@1").entry.path == tmp_path / "target"


class Leaving(dict[str, Any]):
    """A target whose weights are taken away while it is read: after the first look at them."""

    def get(self, key: str, default: Any = None) -> Any:
        if key == "model_uri" and self.pop("read", False):
            Path(self["model_path"], "model.safetensors").unlink()
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self["read"] = key == "model_path"
        return super().__getitem__(key)


def test_weights_that_are_taken_away_while_they_are_looked_at_harm_no_other_model(
    tmp_path: Path, models: Models, downloads: Downloads, target: Target
) -> None:
    target.targets[:] = [Leaving(target.target)]
    target.models = ["ns/target@1", BASE]
    state = reconciler_of(target, models, tmp_path).refresh()
    assert state["models"] == [BASE, ADAPTER]
    assert "changed while they were read" in state["failed"]["ns/target@1"]


def test_weights_that_take_the_place_of_broken_ones_are_tried_at_the_next_look(
    tmp_path: Path, models: Models, target: Target
) -> None:
    reconciler = reconciler_of(target, models, tmp_path)
    models.broken = "model type 'unheard-of'"
    assert "unheard-of" in reconciler.refresh()["failed"]["ns/target@1"]
    models.broken = ""
    assert reconciler.refresh(hurry=False)["models"] == []
    target.target["model_path"] = str(make_checkpoint(tmp_path / "better"))
    assert reconciler.refresh(hurry=False)["models"] == ["ns/target@1"]


def test_the_adapter_of_a_target_is_never_beside_other_weights(
    tmp_path: Path, models: Models, downloads: Downloads, target: Target
) -> None:
    target.target |= {"namespace": "meta", "name": "tiny@mine"}
    target.base = f"{BASE}@mine"
    target.models = [BASE, target.base]
    reconciler = reconciler_of(target, models, tmp_path)
    assert reconciler.refresh()["models"] == [BASE, target.base, ADAPTER]
    assert models.get(ADAPTER).entry.id == target.base
    target.models = [BASE]
    assert reconciler.refresh()["models"] == [BASE]


def test_weights_that_another_server_lacks_are_refused_at_once(
    tmp_path: Path, models: Models, downloads: Downloads, target: Target
) -> None:
    target.models = [BASE, f"{BASE}@2.0", "ns/target@1", "ns/unheard-of"]
    catalog = catalog_of(entry(BASE, tmp_path))
    hub = Hub(target, None, tmp_path / "adapters")
    state = Reconciler(models, catalog, target, hub, fixed=True).refresh()
    assert state["models"] == [BASE, ADAPTER] and state["tried_again"] == []
    assert set(state["failed"]) == {"ns/target@1", "ns/unheard-of"}
    assert "NEMO_LOCAL_ENGINE_MODELS" in state["failed"]["ns/target@1"]


def test_an_entity_without_files_hides_no_target(
    tmp_path: Path, models: Models, target: Target
) -> None:
    target.entities["/v1/models/ns/target%401"] = {"id": "model-2"}
    assert reconciler_of(target, models, tmp_path).refresh()["models"] == ["ns/target@1"]


def test_the_path_of_a_target_begins_in_the_folder_of_models(
    tmp_path: Path, models: Models, target: Target
) -> None:
    target.target |= {"model_path": "target", "model_uri": None}
    catalog = catalog_of(entry(BASE, tmp_path))
    hub = Hub(target, None, tmp_path / "adapters")
    reconciler = Reconciler(models, catalog, target, hub, models_dir=tmp_path)
    assert reconciler.refresh()["models"] == ["ns/target@1"]


@pytest.mark.parametrize(
    ("state", "why", "coming"),
    [
        ({"status": "downloading", "model_path": ""}, "its target is downloading: so far", True),
        ({"status": "failed", "model_path": ""}, "its target is failed: so far", False),
        (
            {"model_path": "/elsewhere"},
            "no checkpoint (config.json, *.safetensors) in /else",
            False,
        ),
    ],
    ids=["downloading", "failed", "on another machine"],
)
def test_a_target_without_weights_here_says_why(
    tmp_path: Path, models: Models, target: Target, state: dict[str, Any], why: str, coming: bool
) -> None:
    target.target |= {"custom_fields": {"why": "so far"}, **state}
    served = reconciler_of(target, models, tmp_path).refresh()
    assert served["models"] == [] and why in served["failed"]["ns/target@1"]
    assert served["tried_again"] == ["ns/target@1"] * coming


@pytest.mark.parametrize("uri", [None, "ngc://nvidia/nemo/tiny:2.0"])
def test_a_target_without_weights_of_its_own_means_the_model_of_the_catalogue(
    tmp_path: Path, models: Models, target: Target, uri: str | None
) -> None:
    target.models = [f"{BASE}@v1.0.0+80GB"]
    target.target |= {"namespace": "meta", "name": "tiny@v1.0.0+80GB"}
    target.target |= {"model_path": "", "model_uri": uri}
    assert reconciler_of(target, models, tmp_path).refresh()["models"] == [BASE]


def test_an_adapter_that_the_server_has_lost_is_loaded_again(
    tmp_path: Path, models: Models, downloads: Downloads
) -> None:
    reconciler = reconciler_of(Platform(), models, tmp_path)
    reconciler.refresh()
    models.lost = {ADAPTER}
    assert ADAPTER in reconciler.refresh()["models"]
    assert downloads.commits == ["1", "1"]


@pytest.mark.parametrize("files_url", ["hf://ns/a", "hf://ns/a@v1"])
def test_an_adapter_that_is_registered_before_its_files_is_served_once_they_are_there(
    tmp_path: Path, models: Models, downloads: Downloads, files_url: str
) -> None:
    platform = Platform(files_url)
    reconciler = reconciler_of(platform, models, tmp_path)
    models.wrong = "no adapter_config.json"
    for _ in range(2):
        state = reconciler.refresh()
        assert (state["failed"], state["tried_again"]) == ({ADAPTER: models.wrong}, [])
    assert downloads.commits == ["1"]
    models.wrong = ""
    platform.commits = dict.fromkeys(platform.commits, "2")
    assert reconciler.refresh()["models"] == [BASE, ADAPTER]


def test_files_uploaded_anew_are_noticed_where_the_url_names_no_revision(
    tmp_path: Path, models: Models, downloads: Downloads
) -> None:
    platform = Platform("hf://ns/a")
    reconciler = reconciler_of(platform, models, tmp_path)
    for commit in ("1", "1", "2"):
        platform.commits["/v1/hf/api/models/ns/a"] = commit
        reconciler.refresh()
    assert downloads.commits == ["1", "2"]
    platform.commits.clear()  # such as a repository that was deleted
    assert ADAPTER in reconciler.refresh()["models"]


def test_the_data_store_is_not_asked_again_for_a_revision_that_is_served(
    tmp_path: Path, models: Models, downloads: Downloads
) -> None:
    platform = Platform()
    reconciler = reconciler_of(platform, models, tmp_path)
    for _ in range(3):
        reconciler.refresh()
    assert platform.asked.count("/v1/hf/api/models/ns/a/revision/v1") == 1


def test_a_repository_that_is_gone_is_not_asked_for_all_the_time(
    tmp_path: Path, models: Models, downloads: Downloads
) -> None:
    platform = Platform()
    platform.commits.clear()
    reconciler = reconciler_of(platform, models, tmp_path)

    def asked() -> int:
        return sum(path.startswith("/v1/hf/") for path in platform.asked)

    for _ in range(3):
        state = reconciler.refresh(hurry=False)
        assert asked() == 1 and "answered 404" in state["failed"][ADAPTER]
    reconciler.refresh()
    assert asked() == 2
    platform.artifact["files_url"] = "hf://ns/b"
    reconciler.refresh(hurry=False)
    assert asked() == 3


def test_what_fails_waits_twice_as_long_each_time_up_to_a_minute() -> None:
    now = [0.0]
    failures, one = Failures(lambda: now[0]), Stored(ADAPTER, "model-1", "hf://ns/a")
    waits = []
    for _ in range(8):
        failures.put_off(one, OSError("away"))
        begun = now[0]
        while failures.is_too_early(one):
            now[0] += 1
        waits.append(now[0] - begun)
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST_WAIT_S, LONGEST_WAIT_S]


def test_what_nobody_foresaw_in_loading_a_base_model_is_logged_with_its_traceback(
    tmp_path: Path, models: Models, downloads: Downloads, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [Unservable("cut off"), AttributeError("ours")]
    for error in errors:
        models.load_base = Mock(side_effect=error)  # type: ignore[method-assign]
        state = reconciler_of(Platform(), models, tmp_path).refresh()
        assert state["failed"] == {BASE: f"{tmp_path}: {error}"}
    logged = [one.exc_info for one in caplog.records if "cannot be served" in one.getMessage()]
    assert [bool(found) for found in logged] == [False, True]
