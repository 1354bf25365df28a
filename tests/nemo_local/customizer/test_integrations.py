"""What a training process is told of trackers, and what it finds in its environment."""

from importlib.util import find_spec

import pytest

from nemo_local.core.errors import Invalid
from nemo_local.customizer.integrations import asked_of_wandb, check_mlflow, environment

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


@pytest.mark.parametrize("project", ["team/p", "p#1", "x" * 129])
def test_a_project_that_weights_and_biases_refuses_is_refused_before_the_training(project):
    with pytest.raises(Invalid, match="cannot be the name of a W&B project"):
        asked_of_wandb([{"type": "wandb", "wandb": {"project": project}}], None)


@pytest.mark.skipif(find_spec("alembic") is not None, reason="the whole of MLflow is installed")
def test_a_database_that_the_installed_mlflow_cannot_write_to_is_refused():
    with pytest.raises(
        Invalid, match=r"a database \(sqlite\), which mlflow-skinny cannot write to"
    ):
        check_mlflow("sqlite:///x.db")
    check_mlflow("http://host:5000")


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
