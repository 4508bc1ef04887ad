from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """400 of the real 8 × 8 scans, as an array file."""
    digits = load_digits()
    path = tmp_path_factory.mktemp("data") / "scans.npz"
    images = (digits.images[:400] * 15.9).astype(np.uint8)
    np.savez(path, images=images, labels=digits.target[:400])
    return path


@pytest.fixture(scope="session")
def diabetes(tmp_path_factory) -> Path:
    """442 real patients, ten features, one number to predict."""
    table = load_diabetes(scaled=False)
    path = tmp_path_factory.mktemp("data") / "diabetes.csv"
    head = ",".join([*table.feature_names, "target"])
    rows = np.column_stack([table.data, table.target])
    np.savetxt(path, rows, delimiter=",", header=head, comments="", fmt="%.6g")
    return path
