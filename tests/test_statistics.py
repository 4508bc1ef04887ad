"""Confidence intervals, against published ones."""

import pytest

from thalweg.statistics import wilson_interval


def test_wilson_against_its_published_example():
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    for right, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
                                    (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):  # fmt: skip
        assert wilson_interval(right, total) == pytest.approx((low, high), abs=1e-4)
