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


def test_saving_merges_objects_and_replaces_all_else(state):
    state.save(seconds={"prepare": 1.5, "train": {"a": 1}}, rows=[1, 2])
    state.save(seconds={"train": {"b": 2}}, rows=[3])
    assert state.load() == {"seconds": {"prepare": 1.5, "train": {"a": 1, "b": 2}}, "rows": [3]}


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
