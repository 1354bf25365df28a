"""Settings take the environment first, name a wrong value, and keep secrets out of the file."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from huggingface_hub.utils import validate_repo_id

FILE = Path(__file__).parents[1] / "config.py"
NAMES = re.findall(r'_(?:url|text|secret)\(\s*"([A-Z_]+)"', FILE.read_text())
URLS = [name for name in NAMES if name.endswith("_URL") and name not in ("NIM_URL", "NDS_URL")]


@pytest.fixture
def load(monkeypatch):
    """config.py as a fresh module, under the given environment and no other."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)

    def load(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        spec = importlib.util.spec_from_file_location("config_under_test", FILE)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # dataclasses look their module up by name
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_the_defaults_reach_the_embedded_platform(load):
    config = load()
    assert (config.NEMO_URL, config.NIM_URL) == ("http://127.0.0.1:8080", "http://127.0.0.1:8000")
    assert config.HF_ENDPOINT == "http://127.0.0.1:8080/v1/hf"
    assert config.CUSTOMIZATION_CONFIG == "meta/llama-3.2-1b-instruct@v1.0.0+80GB"
    assert config.HF_TOKEN is None
    assert config.SIZE.name == "workshop"


def test_one_url_moves_every_service(load):
    config = load(NEMO_URL="https://nemo.test/api/")
    urls = {getattr(config, name) for name in [*URLS, "NDS_URL"]}
    assert urls == {"https://nemo.test/api"}


@pytest.mark.parametrize("name", [name for name in URLS if name != "NEMO_URL"])
def test_each_service_can_have_a_url_of_its_own(load, name):
    config = load(**{name: "http://own:1"})
    assert getattr(config, name) == "http://own:1"
    assert config.NEMO_URL == "http://127.0.0.1:8080"


def test_another_base_model_brings_its_config_along(load):
    config = load(BASE_MODEL="meta/llama-3.1-8b-instruct")
    assert config.CUSTOMIZATION_CONFIG == "meta/llama-3.1-8b-instruct@v1.0.0+80GB"


@pytest.mark.parametrize("size", ["smoke", "workshop", "full"])
def test_every_size_is_known_by_name(load, size):
    config = load(SIZE=size)
    assert config.SIZE.name == size
    assert config.SIZE is config.SIZES[size]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEMO_URL", "localhost:8080"),
        ("NIM_URL", "ftp://host"),
        ("SIZE", "huge"),
        ("SEED", "x"),
        ("DATASET", "no-owner"),
        ("NAMESPACE", "a/b"),
        ("CUSTOMIZATION_CONFIG", "meta/llama"),
        ("NEMO_URL", "http://127.0.0.1:abc"),
        ("NEMO_URL", "http://127.0.0.1:858000"),
        ("HF_ENDPOINT", "http://[::1"),
        ("SEED", "-1"),
        ("SEED", "4294967296"),
        ("OUTPUT_MODEL_NAME", "m" * 97),
        ("DATA_DIR", __file__),
        ("DATA_DIR", f"{__file__}/data"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_with_its_key(load, name, value):
    with pytest.raises(ValueError, match=re.escape(f"{name}='{value}' is not")):
        load(**{name: value})


OTHER_PARTS = [
    *(("DATASET_NAME", "{}"), ("OUTPUT_MODEL_NAME", "{}")),
    *(("DATASET", "owner/{}"), ("DATASET", "{}/name")),
]


def in_every_place(*parts):
    """Each of these as the namespace, and the first in each other part of a repository's name."""
    return [*(("NAMESPACE", part) for part in parts)] + [
        (name, value.format(parts[0])) for name, value in OTHER_PARTS
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    in_every_place("a--b", "a..b", "a-", "a.", "a.git", "-a", ".a", "é", "n" * 97),
)
def test_names_that_the_hubs_client_refuses_are_refused_at_once(load, name, value):
    with pytest.raises(ValueError, match=f"{name}=.* is not"):
        load(**{name: value})


@pytest.mark.parametrize(("name", "value"), in_every_place("a.b_c-d", "a.gits", "7", "n" * 96))
def test_names_that_the_hubs_client_takes_are_taken(load, name, value):
    validate_repo_id(value)
    assert getattr(load(**{name: value}), name) == value


def test_the_largest_seed_and_a_folder_that_is_to_be_made_are_fine(load, tmp_path):
    config = load(SEED="4294967295", DATA_DIR=str(tmp_path / "new" / "data"))
    assert config.SEED == 2**32 - 1
    assert not config.DATA_DIR.exists()


def test_a_tilde_in_the_data_folder_is_the_home_of_the_reader(load, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(DATA_DIR="~/d").DATA_DIR == tmp_path / "d"


def test_inference_gets_the_token_of_the_platform_unless_it_has_its_own(load):
    assert load(NEMO_TOKEN="shared").NIM_TOKEN == "shared"
    assert load(NEMO_TOKEN="shared", NIM_TOKEN="own").NIM_TOKEN == "own"
    assert load(NEMO_TOKEN="", NIM_TOKEN="own").NEMO_TOKEN is None


@pytest.mark.parametrize(
    ("url", "base", "under"),
    [
        ("http://127.0.0.1:8080/v1/hf", "http://127.0.0.1:8080", True),
        ("http://localhost:8080/v1/hf", "http://127.0.0.1:8080", True),
        ("http://[::1]:8080/v1/hf", "http://LOCALHOST:8080", True),
        ("http://nemo.example/v1/hf", "http://NEMO.example:80", True),
        ("https://nemo.example/nds/v1/hf", "https://nemo.example/nds", True),
        ("https://nemo.example/ndsx/v1/hf", "https://nemo.example/nds", False),
        ("http://127.0.0.1:8080/v1/hf", "http://127.0.0.1:8081", False),
        ("https://huggingface.co", "http://127.0.0.1:8080", False),
    ],
)
def test_a_data_store_is_known_again_however_its_host_is_spelt(load, url, base, under):
    """A token of Hugging Face was sent to one that was spelt otherwise."""
    assert load().is_under(url, base) is under


def test_a_data_store_without_the_path_of_its_hub_is_named(load):
    with pytest.raises(ValueError, match="HF_ENDPOINT='http://localhost:8080' .* add /v1/hf"):
        load(HF_ENDPOINT="http://localhost:8080")


def test_an_empty_variable_counts_as_unset(load):
    assert load(NEMO_URL="", HF_TOKEN="").NEMO_URL == "http://127.0.0.1:8080"


def test_every_public_name_can_come_from_the_environment(load):
    public = {name for name in vars(load()) if name.isupper() and not name.startswith("_")}
    assert public == {*NAMES, "SIZES"}


def test_a_url_with_a_password_is_refused_and_not_shown(load):
    with pytest.raises(ValueError, match="NIM_URL has a user or password in it") as error:
        load(NIM_URL="https://me:hunter2@nim.example")
    assert "hunter2" not in str(error.value)
