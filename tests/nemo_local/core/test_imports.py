"""Imports: the garbage collector around them, and what is left out."""

import gc
import subprocess
import sys

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


def test_a_library_goes_without_a_module_that_would_take_long():
    program = (
        "import sys\n"
        "import nemo_local.nim.grammars.schema_limits\n"
        "assert 'jsonschema' in sys.modules and 'rfc3987_syntax' not in sys.modules\n"
        "import rfc3987_syntax\n"
        "with imported_without('rfc3987_syntax'):\n"
        "    import rfc3987_syntax\n"
    )
    program = "from nemo_local.core.imports import imported_without\n" + program
    subprocess.run([sys.executable, "-c", program], check=True)
