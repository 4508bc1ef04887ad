"""Set up all tests.

Hypothesis draws the same examples in every run, unless `--hypothesis-profile=fresh` asks for new
ones, and has no deadline, which on a busy machine fails what is right. Short runs stay in the
precision that they begin with. What needs a GPU is left out where there is none.
"""

import sys
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("fresh", deadline=None)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def short_runs_are_not_measured(request, monkeypatch):
    """On a busy machine a test's run looks long enough to be measured, and of two that must be
    equal one could choose bfloat16.
    """
    plan = sys.modules.get(
        "thalweg.planning.speed.autotune"
    )  # what does not need torch is not to load it
    if plan is not None and request.node.get_closest_marker("measures") is None:
        monkeypatch.setattr(plan, "MIN_RUN", inf)


@pytest.fixture(autouse=True)
def _tables_are_trained_alone(request, monkeypatch):
    """Trees beside each table of the tests would take longer than the networks."""
    finish = sys.modules.get("thalweg.runs.finish")
    if finish is not None and request.node.get_closest_marker("trees") is None:
        compare = finish.compare_with

        def compare_texts(rival, *arguments, **options):
            is_text = rival.layout == "document"
            return compare(rival, *arguments, **options) if is_text else None

        monkeypatch.setattr(finish, "compare_with", compare_texts)


@pytest.fixture(autouse=True)
def _compiler_is_as_before():
    """Once anything is compiled, watchers of all later models attach fewer hooks."""
    yield
    compiler = sys.modules.get("thalweg.observe.compiler")
    if compiler is not None and compiler.compiler_in_use():
        sys.modules["torch"].compiler.reset()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """400 of the real 8 × 8 scans, as an array file."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    path = tmp_path_factory.mktemp("data") / "scans.npz"
    images = (digits.images[:400] * 15.9).astype(np.uint8)
    np.savez(path, images=images, labels=digits.target[:400])
    return path


@pytest.fixture(scope="session")
def diabetes(tmp_path_factory) -> Path:
    """442 real patients, ten features, one number to predict."""
    from sklearn.datasets import load_diabetes

    table = load_diabetes(scaled=False)
    path = tmp_path_factory.mktemp("data") / "diabetes.csv"
    head = ",".join([*table.feature_names, "target"])
    rows = np.column_stack([table.data, table.target])
    np.savetxt(path, rows, delimiter=",", header=head, comments="", fmt="%.6g")
    return path


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") is None:
        return
    import torch  # only here: tests of what works without it begin without it

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
