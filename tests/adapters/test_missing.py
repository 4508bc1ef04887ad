"""Without its library, an adapter says what to install; the rest of thalweg does not mind."""

import sys
from importlib import import_module

import pytest

from thalweg.errors import UsageError

LIBRARIES = {
    "lightning": ("lightning", "pytorch_lightning"),
    "transformers": ("transformers",),
    "fastai": ("fastai",),
    "skorch": ("skorch",),
    "keras": ("keras",),
}


@pytest.mark.parametrize("extra", LIBRARIES)
def test_the_extra_is_named(extra, monkeypatch):
    monkeypatch.delitem(sys.modules, f"thalweg.adapters.{extra}", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] in LIBRARIES[extra]]:
        monkeypatch.delitem(sys.modules, name)
    for name in LIBRARIES[extra]:
        monkeypatch.setitem(sys.modules, name, None)  # Python's own "there is no such module"
    with pytest.raises(UsageError, match=rf"pip install 'thalweg\[{extra}\]'"):
        import_module(f"thalweg.adapters.{extra}")


def test_what_an_installed_library_lacks_is_named_itself():
    from thalweg.adapters.callback_watcher import library_missing

    error = library_missing("keras", ModuleNotFoundError("No module named 'jax'", name="jax"))
    assert error.fix == "install jax"
