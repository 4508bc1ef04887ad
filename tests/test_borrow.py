"""Everything borrowed comes back bit for bit, as the same objects, also after an exception."""

import random
import subprocess
import sys
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from thalweg.borrow import (
    RandomState,
    Subject,
    borrow,
    preserve_attributes,
    preserve_buffers,
    preserve_modes,
    preserve_random_state,
    seed_generators,
)

OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=1e-2),
}


class ExperimentError(Exception):
    pass


def bits(tree):
    """Every tensor of nested containers as bytes with its identity, everything else as it is."""
    if isinstance(tree, torch.Tensor):
        values = tree.detach().numpy(force=True).tobytes() if tree.numel() else b""
        return id(tree), tree.data_ptr(), values, tree.stride(), tree.requires_grad
    if isinstance(tree, np.ndarray):
        return tree.tobytes()
    if isinstance(tree, dict):
        return {id(k) if isinstance(k, torch.Tensor) else k: bits(v) for k, v in tree.items()}
    return [bits(one) for one in tree] if isinstance(tree, list | tuple) else tree


def subject(optimizer="adamw", steps=2):
    """A network with every kind of state, in the midst of its training."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 3)
    )
    model[0].weight.data = model[0].weight.data.to(memory_format=torch.channels_last)
    model[4].bias.requires_grad_(False)
    batches = [(torch.randn(8, 3, 8, 8), torch.arange(8) % 3) for _ in range(3)]
    made = OPTIMIZERS[optimizer](model.parameters())
    one = Subject(model=model, loss_fn=F.cross_entropy, batches=batches, optimizer=made)
    train(one, steps)
    model[1].eval()  # as in fine-tuning
    return one


def train(one, steps=3):
    losses = []
    for inputs, targets in one.batches[:steps]:
        one.optimizer.zero_grad(set_to_none=False)
        loss = one.loss_fn(one.model(inputs), targets)
        loss.backward()
        one.optimizer.step()
        losses.append(loss.item())
    return losses


def state_of(one):
    groups = [{k: v for k, v in g.items() if k != "params"} for g in one.optimizer.param_groups]
    return bits(
        {
            "weights": list(one.model.parameters()),
            "gradients": [weight.grad for weight in one.model.parameters()],
            "buffers": dict(one.model.named_buffers()),
            "modes": [module.training for module in one.model.modules()],
            "optimizer": dict(one.optimizer.state),
            "groups": groups,
            "random": random_state(),
        }
    )


def random_state():
    """Without Python's own, from which the checks of types in this process draw."""
    return bits([torch.get_rng_state().tolist(), list(np.random.get_state())])  # noqa: NPY002


def draw():
    return torch.rand(1).item(), np.random.rand()  # noqa: NPY002


def use(one):
    """Whatever an experiment might do to it."""
    draw()
    one.model.train()
    train(one)
    one.optimizer.param_groups[0]["lr"] = 10.0
    one.optimizer.param_groups[0]["new"] = 1
    one.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    one.model[1].running_mean.fill_(7.0)
    one.model[4].bias.grad = torch.ones(3)


@pytest.mark.parametrize("fails", [False, True], ids=["", "fails"])
@pytest.mark.parametrize("steps", [0, 2], ids=["fresh", "begun"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_subject_comes_back_bit_for_bit(optimizer, steps, fails):
    one = subject(optimizer, steps)
    before = state_of(one)
    with pytest.raises(ExperimentError) if fails else nullcontext(), borrow(one):
        use(one)
        assert state_of(one)["weights"] != before["weights"]
        if fails:
            raise ExperimentError
    assert state_of(one) == before


def test_training_goes_on_as_if_nothing_had_been():
    def losses(*, borrowed):
        one = subject()
        if borrowed:
            with borrow(one):
                use(one)
        one.model.train()
        return train(one), draw()[0]

    assert losses(borrowed=True) == losses(borrowed=False)


def test_every_loan_begins_at_the_same_random_state():
    one = subject()
    one.model.train()
    losses = []
    for _ in range(2):
        draw()
        with borrow(one):
            losses.append(train(one))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("fails", [False, True], ids=["", "fails"])
def test_the_random_state_and_a_loaders_generators(fails):
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(torch.arange(8)), shuffle=True, generator=generator)
    before = random_state(), generator.get_state().tolist()
    with pytest.raises(ExperimentError) if fails else nullcontext(), preserve_random_state(loader):
        list(loader)
        draw()
        if fails:
            raise ExperimentError
    assert (random_state(), generator.get_state().tolist()) == before


def test_the_random_state_of_python_in_a_process_of_its_own():
    program = """
import random
from thalweg.borrow import preserve_random_state
state = random.getstate()
try:
    with preserve_random_state():
        raise ValueError(random.random())
except ValueError:
    assert random.getstate() == state
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_random_state_can_be_restored_again_and_again():
    state = RandomState.current()
    first = draw()
    for _ in range(2):
        state.restore()
        assert draw() == first


@pytest.mark.parametrize("fails", [False, True], ids=["", "fails"])
def test_modes_and_buffers(fails):
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Sequential(nn.BatchNorm1d(3)))
    model[2].eval()
    modes, buffers = [m.training for m in model.modules()], bits(dict(model.named_buffers()))
    preserved = preserve_modes(model), preserve_buffers(model)
    with pytest.raises(ExperimentError) if fails else nullcontext(), preserved[0], preserved[1]:
        model.train()(torch.randn(4, 3))
        model[0].register_buffer("late", torch.ones(1))
        if fails:
            raise ExperimentError
    assert [module.training for module in model.modules()] == modes
    assert bits(dict(model.named_buffers())) == buffers


@pytest.mark.parametrize("fails", [False, True], ids=["", "fails"])
def test_the_position_of_a_sampler_and_what_a_dataset_holds(fails):
    class Counting(RandomSampler):
        rounds = 0

        def __iter__(self):
            self.rounds += 1
            return super().__iter__()

    dataset: Any = TensorDataset(torch.arange(8))
    dataset.chance = [np.random.default_rng(0), random.Random(0), np.random.RandomState(0)]
    sampler = Counting(dataset)
    loader = DataLoader(dataset, sampler=sampler)
    with pytest.raises(ExperimentError) if fails else nullcontext(), preserve_attributes(loader):
        list(loader)
        drawn = [one.random() for one in dataset.chance]
        dataset.opened_late = object()
        if fails:
            raise ExperimentError
    assert sampler.rounds == 0
    assert not hasattr(dataset, "opened_late")
    assert [one.random() for one in dataset.chance] == drawn


def test_generators_are_seeded_as_torch_seeds_them_and_nothing_is_queued_for_a_device():
    with preserve_random_state():
        torch.manual_seed(5)
        expected, queued = torch.rand(4), len(torch.cuda._queued_calls)
        seed_generators(5)
        assert torch.equal(torch.rand(4), expected)
        if not torch.cuda.is_initialized():
            assert len(torch.cuda._queued_calls) == queued
