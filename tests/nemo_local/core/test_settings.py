"""Settings."""

import re
from pathlib import Path

import pytest

from nemo_local.settings import Settings, SettingsError


def test_the_environment_wins_over_defaults_and_options_over_both():
    environment = {"NEMO_LOCAL_PORT": "9", "NEMO_LOCAL_HOME": "/x", "NEMO_LOCAL_DEVICE": "cpu"}
    settings = Settings.from_environment(environment, port=10, nim_port=None)
    assert (settings.port, settings.nim_port, settings.home) == (10, 8000, Path("/x"))
    assert settings.device == "cpu"


def test_a_wrong_number_is_named():
    with pytest.raises(SettingsError, match="NEMO_LOCAL_PORT must be a whole number, not 'x'"):
        Settings.from_environment({"NEMO_LOCAL_PORT": "x"})


def test_a_public_host_needs_a_token():
    with pytest.raises(SettingsError, match="NEMO_LOCAL_TOKEN"):
        Settings.from_environment({}, host="0.0.0.0")
    settings = Settings.from_environment({"NEMO_LOCAL_TOKEN": "t"}, host="0.0.0.0", port=1)
    assert settings.platform_url == "http://127.0.0.1:1"


@pytest.mark.parametrize("host", ["127.0.0.2", "LOCALHOST", "::1", ""])
def test_every_name_of_the_loopback_needs_no_token(host):
    assert Settings.from_environment({"NEMO_LOCAL_HOST": host}, host=host).token is None


def test_a_variable_that_is_empty_is_not_set_but_an_option_for_a_folder_must_name_one():
    environment = {"NEMO_LOCAL_HOME": "", "NEMO_LOCAL_MODELS": "", "NEMO_LOCAL_TOKEN": " \n"}
    settings = Settings.from_environment(environment, device="")
    assert settings == Settings.from_environment({})
    for name in ("home", "models_dir"):
        with pytest.raises(SettingsError, match="--home or --models is empty: name a folder"):
            Settings.from_environment({"NEMO_LOCAL_HOME": "/x"}, **{name: ""})


@pytest.mark.parametrize("home", ["~nouser/x", "circle/x", "x" * 300])
def test_a_folder_that_no_system_could_have_is_named(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    with pytest.raises(SettingsError, match=f"NEMO_LOCAL_HOME cannot be the folder '{home}': "):
        Settings.from_environment({}, home=home)


@pytest.mark.parametrize("url", ["sqlite:///x.db", "sqlite+pysqlite:///./x.db"])
def test_a_database_that_every_folder_would_have_one_of_is_refused(url):
    with pytest.raises(SettingsError, match="NEMO_LOCAL_DATABASE_URL .* by the whole path"):
        Settings.from_environment({"NEMO_LOCAL_DATABASE_URL": url})


def test_every_address_of_the_sixth_protocol_is_called_by_its_own_loopback():
    settings = Settings.from_environment({"NEMO_LOCAL_TOKEN": "t"}, host="::", port=1)
    assert settings.platform_url == "http://[::1]:1"


def test_settings_survive_the_way_into_a_child():
    settings = Settings.from_environment({}, home="/x", port=1, token="t", threads=2)
    assert Settings.from_environment(settings.environment()) == settings


def test_a_token_with_a_line_break_is_the_token_without_it():
    settings = Settings.from_environment({"NEMO_LOCAL_TOKEN": "one\r\n"}, nim_key=" two ")
    assert (settings.token, settings.nim_key) == ("one", "two")


def test_a_key_that_no_header_can_carry_is_named_and_not_shown():
    with pytest.raises(SettingsError, match="NEMO_LOCAL_NIM_KEY: the key holds") as refused:
        Settings.from_environment({"NEMO_LOCAL_NIM_KEY": "ключ"}).check()
    assert "ключ" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("NEMO_LOCAL_NIM_URL", "NEMO_LOCAL_NIM_KEY"),
        ("NEMO_LOCAL_ENGINE_URL", "NEMO_LOCAL_ENGINE_KEY"),
        ("NEMO_LOCAL_HF_ENDPOINT", "NEMO_LOCAL_HF_TOKEN"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(variable, key):
    words = f"{variable} has a user or password in it; {key} is for that"
    with pytest.raises(SettingsError, match=words) as refused:
        Settings.from_environment({variable: "http://joe:hunter2@host:8000"})
    assert "joe" not in str(refused.value) and "hunter2" not in str(refused.value)
    Settings.from_environment({variable: "http://host:8000/@scope"})


def test_a_remote_endpoint_replaces_the_local_one():
    settings = Settings.from_environment({"NEMO_LOCAL_NIM_URL": "http://gpu:8000/"})
    assert settings.nim_url == "http://gpu:8000"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"device": "tpu"}, "NEMO_LOCAL_DEVICE must be one of auto, cpu, cuda, not 'tpu'"),
        ({"port": 99999}, "NEMO_LOCAL_PORT must be from 1 to 65535, not 99999"),
        ({"threads": -1}, "NEMO_LOCAL_THREADS must be from 1 to 4096, not -1"),
        ({"threads": 3_000_000_000}, "NEMO_LOCAL_THREADS must be from 1 to 4096, not 3000000000"),
        ({"dataset_rows": 300_000}, "NEMO_LOCAL_DATASET_ROWS must be from 0 to 50000, not 3000"),
        ({"port": 8000}, "cannot both listen on port 8000; choose another one with --nim-port"),
        ({"models_dir": "/no/such"}, "NEMO_LOCAL_MODELS: there is no folder /no/such"),
        ({"remote_nim_url": "localhost:1"}, "NEMO_LOCAL_NIM_URL must be a URL such as http://127"),
        ({"remote_nim_url": "http://gpu/v1/"}, "without the /v1 that every client adds, not"),
        ({"remote_nim_url": "http://a..b:80"}, "NEMO_LOCAL_NIM_URL must be a URL such as"),
        ({"remote_nim_url": "http://gpu:65536"}, "NEMO_LOCAL_NIM_URL must be a URL such as"),
        ({"engine_url": "localhost"}, "NEMO_LOCAL_ENGINE_URL must be a URL such as http://127"),
        ({"engine_url": "http://gpu:8000"}, "NEMO_LOCAL_ENGINE_MODELS must name at least one"),
        ({"hf_endpoint": "hub"}, "NEMO_LOCAL_HF_ENDPOINT must be a URL such as https://hug"),
        ({"training_address": "x:y"}, "NEMO_LOCAL_TRAINING_ADDRESS must be host or host:port"),
        ({"training_address": "gpu:65536"}, "NEMO_LOCAL_TRAINING_ADDRESS must be host or host"),
        ({"tool_parsers": "foo"}, "NEMO_LOCAL_TOOL_PARSERS: 'foo' is not model=parser"),
        ({"database": "foo"}, "NEMO_LOCAL_DATABASE_URL must be an SQLAlchemy URL"),
        ({"database": "a:pw@foo"}, "not '...@foo'"),
        ({"database": "sqlite+pysqlcipher:////x"}, "needs a package that is not installed: No mod"),
    ],
)
def test_a_value_that_nothing_could_be_done_with_is_named(given, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        Settings.from_environment({}, **given).check()


@pytest.mark.parametrize(
    "given",
    [
        {"remote_nim_url": "https://gpu.example/nim/", "hf_endpoint": "http://[::1]:8080/v1"},
        {"engine_url": "http://gpu:8000/v1", "engine_models": "meta/x=llama3.1:8b, acme/y=y"},
        {"training_address": "10.0.0.1"},
        {"training_address": "gpu-1.example:29500", "tool_parsers": "acme/a=hermes"},
        {"database": "sqlite:////tmp/x.db"},
    ],
    ids=lambda given: "-".join(given),
)
def test_the_forms_that_the_readme_shows_are_accepted(given):
    Settings.from_environment({}, **given).check()


def test_two_services_may_name_one_port_when_inference_is_elsewhere():
    elsewhere = {"NEMO_LOCAL_NIM_URL": "http://gpu:8000", "NEMO_LOCAL_PORT": "8000"}
    Settings.from_environment(elsewhere).check()
