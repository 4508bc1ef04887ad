import numpy as np
import pytest

from thalweg.data.text.overlap import LENGTH, repeated_share


def test_it_is_the_share_of_runs_that_a_set_of_tuples_finds():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 90, 3_000).astype(np.int32)
    val = rng.integers(0, 90, 800).astype(np.int32)
    val[100:400] = train[1_000:1_300]
    runs = [
        {tuple(part[i : i + LENGTH]) for i in range(len(part) - LENGTH + 1)} for part in (train,)
    ]
    expected = [tuple(val[i : i + LENGTH]) in runs[0] for i in range(len(val) - LENGTH + 1)]
    assert repeated_share(train, val) == pytest.approx(np.mean(expected))
    assert repeated_share(train, val[:10]) == 0
