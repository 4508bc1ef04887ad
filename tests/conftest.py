"""Set up all tests.

Hypothesis draws the same examples in every run, unless `--hypothesis-profile=fresh` asks for new
ones, and has no deadline, which on a busy machine fails what is right. Short runs stay in the
precision that they begin with. What needs a GPU is left out where there is none.
"""

import sys
from math import inf

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
    plan = sys.modules.get("thalweg.training.plan")  # what does not need torch is not to load it
    if plan is not None and request.node.get_closest_marker("measures") is None:
        monkeypatch.setattr(plan, "LEAST_RUN", inf)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") is None:
        return
    import torch  # only here: tests of what works without it begin without it

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
