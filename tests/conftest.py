"""For all tests: Hypothesis without its deadline, which on a busy machine fails what is right; and
what needs a GPU is left out where there is none.
"""

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") is None:
        return
    import torch  # only here: tests of what works without it begin without it

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
