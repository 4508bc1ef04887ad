"""What simple methods make of the samples, against a count by hand."""

import torch
from torch import nn

from thalweg.observe.data_sample import DataSample
from thalweg.observe.instrument import Moment
from thalweg.observe.instruments.baselines import baselines, ridge
from thalweg.record.quantities import BASELINE_ACCURACY


def read(inputs, targets):
    samples = DataSample(inputs=inputs, targets=targets, batch_sizes=(len(inputs),))
    moment = Moment(step=0, model=nn.Identity(), optimizers=(), train=samples, num_classes=4)
    return baselines(moment)[BASELINE_ACCURACY]


def test_samples_seen_in_two_epochs_are_counted_once():
    """Else each is its own copy's nearest neighbour, and random labels look learnable."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 5, generator=generator)
    targets = torch.randint(0, 4, (300,), generator=generator)
    once, thrice = read(inputs, targets), read(inputs.repeat(3, 1), targets.repeat(3))
    assert float(thrice["samples"]) == float(once["samples"]) == 300
    assert float(thrice["nearest neighbours"]) < 0.35


def test_both_forms_of_ridge_regression_give_the_same_weights():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(20, 50, generator=generator).double()
    wanted = torch.randn(20, 3, generator=generator).double()
    direct = torch.linalg.solve(wide.T @ wide + 2.0 * torch.eye(50).double(), wide.T @ wanted)
    torch.testing.assert_close(ridge(wide, wanted, 2.0), direct)
    tall, wanted = wide.T.contiguous(), torch.randn(50, 3, generator=generator).double()
    direct = tall.T @ torch.linalg.solve(tall @ tall.T + 2.0 * torch.eye(50).double(), wanted)
    torch.testing.assert_close(ridge(tall, wanted, 2.0), direct)
