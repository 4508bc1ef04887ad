"""Loading pauses the garbage collector and leaves it as it was."""

import gc
import subprocess
import sys

import pytest

from thalweg.loading import pause_collector


@pytest.fixture(autouse=True)
def _as_before():
    assert gc.isenabled()
    yield
    gc.enable()
    gc.unfreeze()


def test_collector_pauses_and_skips_frozen_objects():
    with pause_collector(freeze=True):
        assert not gc.isenabled()
        frozen = [[]]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    assert not any(tracked is frozen for tracked in gc.get_objects())


def test_collector_is_back_after_a_failed_import():
    def failing():
        with pause_collector(freeze=True):
            raise ImportError

    with pytest.raises(ImportError):
        failing()
    assert gc.isenabled()


def test_collector_stays_off_where_the_user_disabled_it():
    gc.disable()
    with pause_collector(freeze=True):
        pass
    assert not gc.isenabled()
    assert not gc.get_freeze_count()


def test_public_names_load_without_a_collection():
    code = "import gc, thalweg; thalweg.train; import torch; print(gc.isenabled(), end=' ')\n"
    code += "print(gc.get_stats()[2]['collections'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True 0\n"
