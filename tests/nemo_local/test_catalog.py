"""The catalogue: which checkpoint answers for an official id, and why."""

import json
import struct
from pathlib import Path

import pytest

from nemo_local.catalog import (
    DEFAULT_MODEL,
    Catalog,
    count_parameters,
    load_catalog,
    weight_files,
    why_unreadable,
)
from nemo_local.settings import Settings


def write_checkpoint(folder: Path, context: int = 512) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context}))
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "w": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
            "b": {"dtype": "F32", "shape": [5], "data_offsets": [48, 68]},
        }
    ).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(68)
    (folder / "model.safetensors").write_bytes(data)
    return folder


def catalog_of(models_dir: Path | None, pocket: Path) -> Catalog:
    return load_catalog(Settings(pocket, models_dir=models_dir), pocket_weights=pocket)


def test_a_pocket_model_stands_in_and_says_so(tmp_path: Path) -> None:
    pocket = write_checkpoint(tmp_path / "base").parent
    model = catalog_of(None, pocket).models[DEFAULT_MODEL]
    assert model.stand_in and model.answered_by == "nemo-local/pocket-base"
    assert (model.max_model_len, model.num_parameters) == (512, 17)
    assert "stands in" in model.why


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param("meta/llama-3.2-1b-instruct", id="official id"),
        pytest.param("meta-llama/Llama-3.2-1B-Instruct", id="hub id"),
        pytest.param("models--meta-llama--Llama-3.2-1B-Instruct/snapshots/abc", id="hub cache"),
    ],
)
def test_real_weights_win_over_the_stand_in(tmp_path: Path, folder: str) -> None:
    pocket = write_checkpoint(tmp_path / "pocket" / "base").parent
    real = write_checkpoint(tmp_path / "models" / folder)
    catalog = catalog_of(tmp_path / "models", pocket)
    model = catalog.models[DEFAULT_MODEL]
    assert model.path == real
    assert not model.stand_in and model.answered_by == DEFAULT_MODEL
    assert len([m for m in catalog.models.values() if m.path == real]) == 1


def test_of_several_revisions_in_the_hubs_cache_the_newest_answers(tmp_path: Path) -> None:
    cache = tmp_path / "models" / "models--meta-llama--Llama-3.2-1B-Instruct"
    for revision in ("111", "999"):
        write_checkpoint(cache / "snapshots" / revision)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("999")
    model = catalog_of(tmp_path / "models", tmp_path).models[DEFAULT_MODEL]
    assert model.path == cache / "snapshots" / "999"


def test_a_known_model_without_weights_says_where_to_put_them(tmp_path: Path) -> None:
    model = catalog_of(None, tmp_path).models["meta/llama-3.2-3b-instruct"]
    assert model.path is None and model.answered_by == ""
    assert "NEMO_LOCAL_MODELS" in model.why


def test_a_further_folder_is_served_under_its_own_name(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "models" / "acme" / "tiny-chat")
    catalog = catalog_of(tmp_path / "models", tmp_path)
    assert catalog.models["acme/tiny-chat"].path == folder
    assert [model.id for model in catalog.servable()] == ["acme/tiny-chat"]


def test_a_version_is_ignored_and_near_ids_are_offered(tmp_path: Path) -> None:
    catalog = catalog_of(None, tmp_path)
    assert catalog.get("meta/llama-3.2-1b-instruct@v1.0.0+80GB") is catalog.models[DEFAULT_MODEL]
    assert catalog.get("meta/llama-3.2-1b") is None
    assert catalog.near("Meta/llama-3.2-1b")[0] == DEFAULT_MODEL
    assert catalog.near("zzz") == []


def test_a_folder_named_like_a_version_is_a_model_of_its_own(tmp_path: Path) -> None:
    for name in ("tiny", "tiny@two"):
        write_checkpoint(tmp_path / "models" / "acme" / name)
    catalog = catalog_of(tmp_path / "models", tmp_path)
    assert catalog.get("acme/tiny@two") is catalog.models["acme/tiny@two"]
    assert catalog.get("acme/tiny@three") is catalog.models["acme/tiny"]


def test_parameters_are_counted_from_the_headers(tmp_path: Path) -> None:
    assert count_parameters(write_checkpoint(tmp_path / "m")) == 17


def test_weights_that_are_there_twice_are_counted_once(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mistral")
    consolidated = folder / "consolidated.safetensors"
    consolidated.write_bytes((folder / "model.safetensors").read_bytes())
    assert count_parameters(folder) == 17
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    assert count_parameters(folder) == 17
    index = {"weight_map": dict.fromkeys("wb", "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_files(folder) == [folder / "model-00001-of-00001.safetensors"]
    (folder / "model-00001-of-00001.safetensors").unlink()
    assert why_unreadable(folder).startswith("no checkpoint")


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"w": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert "model-00002-of-00002.safetensors" in why_unreadable(folder)


def test_an_index_leads_to_no_file_outside_its_folder(tmp_path: Path) -> None:
    secret = write_checkpoint(tmp_path / "other") / "model.safetensors"
    folder = write_checkpoint(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    for outside in ("../other/model.safetensors", str(secret)):
        index.write_text(json.dumps({"weight_map": {"w": outside}}))
        assert f"names {outside!r}, which is not in the folder" in why_unreadable(folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer; fetch the file"),
        (b"", "is not a safetensors file"),
        (struct.pack("<Q", 2**60) + b"{}", "is not a safetensors file, or is cut short"),
        (struct.pack("<Q", 2) + b"[]", "cannot be read"),
    ],
)
def test_weights_that_cannot_be_read_are_listed_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    pocket = write_checkpoint(tmp_path / "pocket" / "base").parent
    for folder in (DEFAULT_MODEL, "acme/own"):
        real = write_checkpoint(tmp_path / "models" / folder)
        (real / "model.safetensors").write_bytes(content)
    models = catalog_of(tmp_path / "models", pocket).models
    for model_id in (DEFAULT_MODEL, "acme/own"):
        model = models[model_id]
        # No stand-in either: whoever put weights there means them.
        assert model.path is None and not model.stand_in and reason in model.why
