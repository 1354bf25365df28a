"""What a training process is told of trackers, and what it finds in its environment."""

import pytest

from nemo_local.customizer.integrations import asked_of_wandb, environment

NOTHING = {"project": None, "entity": None, "notes": None, "tags": None}


@pytest.mark.parametrize(
    ("integrations", "key", "asked"),
    [
        (None, None, None),
        ([], None, None),
        (None, "k", {**NOTHING, "project": "nvidia-nemo-customizer", "keyed": True}),
        (
            [{"type": "wandb", "wandb": {"project": "p", "tags": ["a"]}}],
            None,
            {**NOTHING, "project": "p", "tags": ["a"], "keyed": False},
        ),
    ],
    ids=["nothing", "an empty list", "a key alone", "an integration without a key"],
)
def test_weights_and_biases_is_asked_for_by_an_integration_or_a_key(integrations, key, asked):
    assert asked_of_wandb(integrations, key) == asked


@pytest.mark.parametrize(
    ("uri", "variables"),
    [
        (None, {}),
        ("http://host:5000", {"URI": "http://host:5000"}),
        (
            "https://me:w%40rd@host:5000/x",
            {"URI": "https://host:5000/x", "USERNAME": "me", "PASSWORD": "w@rd"},
        ),
        ("sqlite:///x.db", {"URI": "sqlite:///x.db"}),
    ],
)
def test_a_password_is_no_part_of_the_uri_that_mlflow_names(uri, variables):
    expected = {f"MLFLOW_TRACKING_{name}": value for name, value in variables.items()}
    assert environment(None, uri) == expected


def test_a_folder_for_mlflow_is_where_the_platform_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert environment("k", "runs") == {
        "WANDB_API_KEY": "k",
        "MLFLOW_TRACKING_URI": str(tmp_path / "runs"),
    }
