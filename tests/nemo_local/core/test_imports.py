"""The garbage collector around imports."""

import gc

import pytest

from nemo_local.core.imports import imports_that_stay


@pytest.fixture(autouse=True)
def nothing_frozen():
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_the_collector_rests_during_imports_and_passes_over_what_they_made():
    with imports_that_stay():
        assert not gc.isenabled()
        made = [[]]
    assert gc.isenabled() and gc.get_freeze_count() > 0
    assert not any(one is made for one in gc.get_objects())


def test_the_collector_runs_again_when_an_import_fails():
    with pytest.raises(ImportError), imports_that_stay():
        raise ImportError
    assert gc.isenabled()
