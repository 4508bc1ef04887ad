import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.data import Batch
from thalweg.errors import DataError
from thalweg.tasks import classification, regression
from thalweg.training import evaluate


def samples(n=103):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, 5, generator=generator)
    return inputs, torch.randint(7, (n,), generator=generator)


def network(*extra):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), *extra, nn.Linear(16, 7))


@pytest.mark.parametrize("size", [103, 50, 32, 1])
def test_ragged_last_batches_do_not_bend_the_figures(size):
    inputs, targets = samples()
    model, task = network(), classification(7)
    batches = [Batch(*p) for p in zip(inputs.split(size), targets.split(size), strict=True)]
    found = evaluate(model, batches, task)
    logits = model.eval()(inputs)
    assert found.loss == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-6)
    hits = (logits.argmax(1) == targets).sum().item()
    assert found.metrics["accuracy"] == hits / 103
    top5 = sum(t in row for t, row in zip(targets, logits.topk(5).indices, strict=True))
    assert found.metrics["top5_accuracy"] == top5 / 103
    torch.testing.assert_close(found.logits, logits.detach())
    assert torch.equal(found.targets, targets)


def test_regression_is_judged_in_the_targets_unit():
    inputs, _ = samples()
    model = nn.Linear(5, 1)
    targets = 40 + 3 * inputs.sum(1)
    task = regression(target_mean=40.0, target_std=6.0)
    found = evaluate(model, [Batch(inputs, targets)], task)
    error = (model(inputs)[:, 0] * 6 + 40 - targets).abs().mean()
    assert found.metrics["mae"] == pytest.approx(error.item(), rel=1e-5)


def test_each_modules_mode_and_the_random_state_are_as_before():
    model = network(nn.Dropout(0.5))
    model.train()
    model[1].eval()  # a frozen normalisation, as in fine-tuning
    modes = [module.training for module in model.modules()]
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()

    def batches():
        torch.rand(10)  # a source that draws on the global generator
        yield Batch(*samples())

    found = [evaluate(model, batches(), classification(7)).loss for _ in range(2)]
    assert found[0] == found[1]
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_modes_are_put_back_after_an_error():
    model = network()
    with pytest.raises(RuntimeError):
        evaluate(model, [Batch(torch.randn(3, 99), torch.zeros(3).long())], classification(7))
    assert all(module.training for module in model.modules())


def test_the_outputs_can_be_used_in_further_training():
    found = evaluate(network(), [Batch(*samples())], classification(7))
    assert not found.logits.is_inference()


def test_bfloat16_is_judged_in_float32():
    found = evaluate(network(), [Batch(*samples())], classification(7), dtype=torch.bfloat16)
    assert found.logits.dtype == torch.float32


def test_no_batch_is_an_error():
    with pytest.raises(DataError, match="no batch"):
        evaluate(network(), [], classification(7))
