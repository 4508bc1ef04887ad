"""The one place where tests of this folder say how close is close enough."""

import inspect

import numpy as np
import torch


def agree(actual, expected, *, digits=6):
    """Equal to so many digits of the largest expected value; the type does not matter."""
    actual, expected = (np.asarray(torch.as_tensor(x).double()) for x in (actual, expected))
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    size = max(np.abs(expected).max(initial=0), 1e-300)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=size * 10.0**-digits)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bytes_like(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)


def as_users_run_it(function):
    """Without the shape checks of the test run, which would speak before our own errors."""
    return inspect.unwrap(function)
