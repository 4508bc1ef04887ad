"""Pillow is silenced while images are decoded, in any number of threads, and only then."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from thalweg.data.images.pillow_warnings import no_pillow_warnings


def warn_as(module):
    warnings.warn_explicit("about a file", UserWarning, "file.py", 1, module=module)


def test_only_pillow_is_silenced_and_only_inside():
    with no_pillow_warnings:
        warn_as("PIL.TiffImagePlugin")
        with pytest.warns(UserWarning, match="about a file"):
            warn_as("somebody.else")
    with pytest.warns(UserWarning, match="about a file"):
        warn_as("PIL.TiffImagePlugin")


def test_overlapping_threads_leave_the_filters_as_they_were():
    before = list(warnings.filters)
    together = threading.Barrier(4)

    def work(_):
        for _ in range(50):
            with no_pillow_warnings:
                warn_as("PIL.GifImagePlugin")
        together.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert list(warnings.filters) == before
