"""What is loaded without the collector leaves it as it was."""

import gc
import subprocess
import sys

import pytest

from thalweg.loading import loading


@pytest.fixture(autouse=True)
def _as_before():
    assert gc.isenabled()
    yield
    gc.enable()
    gc.unfreeze()


def test_the_collector_rests_and_what_was_loaded_is_looked_at_no_more():
    with loading(for_good=True):
        assert not gc.isenabled()
        kept = [[]]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    assert not any(found is kept for found in gc.get_objects())


def test_it_is_back_after_an_import_that_failed():
    def failing():
        with loading(for_good=True):
            raise ImportError

    with pytest.raises(ImportError):
        failing()
    assert gc.isenabled()


def test_where_the_user_switched_it_off_it_stays_so():
    gc.disable()
    with loading(for_good=True):
        pass
    assert not gc.isenabled()
    assert not gc.get_freeze_count()


def test_a_public_name_is_loaded_without_it_too():
    code = "import gc, thalweg; thalweg.train; import torch; print(gc.isenabled(), end=' ')\n"
    code += "print(gc.get_stats()[2]['collections'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True 0\n"
