"""What one notebook saves the next one finds, or learns which notebook to run."""

import json

import pytest

from utils.errors import OutOfOrder
from utils.run_state import RunState

SECOND = "2_finetuning_and_inference.ipynb"


@pytest.fixture
def state(tmp_path):
    return RunState(tmp_path / "data" / "run.json")


def test_a_saved_value_is_found_by_the_next_notebook(state):
    state.save(custom_model="ns/name@v1")
    assert RunState(state.path).require("custom_model", notebook=SECOND) == "ns/name@v1"


def test_a_value_not_there_yet_names_the_notebook_to_run_first(state):
    with pytest.raises(OutOfOrder, match=f"no 'custom_model' yet. Run {SECOND}"):
        state.require("custom_model", notebook=SECOND)


def test_a_run_that_began_under_other_settings_is_not_taken_up(state):
    state.save(run={"namespace": "theirs", "base_model": "meta/m"})
    state.require_settings(NAMESPACE="theirs", BASE_MODEL="meta/m")
    with pytest.raises(
        OutOfOrder, match="with NAMESPACE=theirs, not mine. Set NAMESPACE to theirs"
    ):
        state.require_settings(NAMESPACE="mine", BASE_MODEL="meta/m")
    with pytest.raises(OutOfOrder, match="with BASE_MODEL=meta/m, not meta/n. Set BASE_MODEL"):
        state.require_settings(NAMESPACE="theirs", BASE_MODEL="meta/n")


def test_notebooks_add_their_seconds_and_models_to_one_object(state):
    state.save(seconds={"prepare": 1.5}, models={"base": "b"})
    state.save(seconds={"train": 2.0}, models={"guard": "g"})
    assert state.load() == {
        "seconds": {"prepare": 1.5, "train": 2.0},
        "models": {"base": "b", "guard": "g"},
    }


def test_a_notebook_that_runs_again_leaves_nothing_of_its_earlier_results(state):
    state.save(errors={"wrong tool": 3, "no call": 1}, training={"losses": [1], "job": "a"})
    state.save(errors={"wrong tool": 2}, training={"job": "b"})
    assert state.load() == {"errors": {"wrong tool": 2}, "training": {"job": "b"}}


def test_saving_the_same_twice_changes_nothing(state):
    state.save(models={"base": "b"})
    before = state.path.read_bytes()
    state.save(models={"base": "b"})
    assert state.path.read_bytes() == before


def test_the_file_is_json_that_a_person_can_read(state):
    state.save(a=1)
    assert json.loads(state.path.read_text()) == {"a": 1}
    assert "\n  " in state.path.read_text()


def test_a_cleared_state_is_empty_even_if_it_never_was(state):
    state.clear()
    state.save(a=1)
    state.clear()
    assert state.load() == {}


def test_false_and_zero_are_values(state):
    state.save(flag=False, count=0)
    assert state.require("flag", notebook=SECOND) is False
    assert state.require("count", notebook=SECOND) == 0
