"""What the adapters share, without any of the libraries."""

import random

import numpy as np
import torch
from adapters.digits import Jittered, splits, train_set
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from thalweg.adapters.callback_watcher import CallbackWatcher
from thalweg.adapters.foreign_optimizer import ForeignOptimizer
from thalweg.adapters.traceless_batches import traceless_batches
from thalweg.observe.loss_graph import mark_rescaled, read_graph, with_value
from thalweg.record.quantities import LOSS, UPDATE_RATIO, VAL_ACCURACY, VAL_LOSS


class Everything(Jittered):
    """Draws from every kind of state that a data set may have."""

    def __init__(self):
        super().__init__()
        self.torch, self.python = torch.Generator(), random.Random(0)
        self.legacy, self.calls = np.random.RandomState(0), 0
        self.parts = {"a": [self.random]}

    def __getitem__(self, index):
        inputs, target = super().__getitem__(index)
        self.calls += 1
        self.opened_late = object()
        own = torch.rand(1, generator=self.torch) + self.python.random() + self.legacy.rand()
        world = torch.rand(1) + random.random() + np.random.rand()  # noqa: NPY002
        return inputs + own.float() + world.float(), target


def seeded_loader(dataset, **options):
    return DataLoader(dataset, batch_size=32, shuffle=True, **options)


def seed():
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the state that a data set may draw from)


def test_reading_a_loader_leaves_no_trace():
    firsts = []
    splits()  # reading them for the first time draws random numbers
    for look in (False, True):
        seed()
        generator = torch.Generator().manual_seed(5)
        loader = seeded_loader(Everything(), generator=generator)
        if look:
            assert sum(1 for _ in traceless_batches(loader)) == 45
            assert loader.dataset.calls == 0
            assert not hasattr(loader.dataset, "opened_late")
        firsts.append(list(loader))
    for unwatched, watched in zip(*firsts, strict=True):
        assert torch.equal(unwatched[0], watched[0])
        assert torch.equal(unwatched[1], watched[1])


def test_reading_stops_early_without_a_trace_too():
    seed()
    loader = seeded_loader(Everything())
    before = torch.get_rng_state()
    for _ in traceless_batches(loader):
        break
    assert torch.equal(before, torch.get_rng_state())
    assert loader.dataset.calls == 0


def test_it_sees_the_batches_of_the_loader():
    loader = DataLoader(train_set(), batch_size=32)
    looked = [inputs for inputs, _ in traceless_batches(loader)]
    assert all(torch.equal(a, b[0]) for a, b in zip(looked, loader, strict=True))


def test_samplers_that_count_are_put_back():
    class Counting(RandomSampler):
        rounds = 0

        def __iter__(self):
            self.rounds += 1
            return super().__iter__()

    sampler = Counting(train_set())
    loader = DataLoader(train_set(), batch_size=32, sampler=sampler)
    list(traceless_batches(loader))
    assert sampler.rounds == 0


def test_what_cannot_be_read_without_a_trace_is_not_read():
    class Stream(IterableDataset):
        def __iter__(self):
            raise AssertionError("read")

    assert traceless_batches(DataLoader(Stream())) is None
    assert traceless_batches([(torch.ones(2), torch.ones(2))]) is None


def test_real_valued_targets_are_left_to_the_gradient():
    pairs = torch.utils.data.TensorDataset(torch.ones(8, 2), torch.rand(8))
    assert all(targets is None for _, targets in traceless_batches(DataLoader(pairs, batch_size=4)))


def test_a_rescaled_loss_shows_the_graph_behind_it():
    logits = torch.randn(8, 3, requires_grad=True)
    loss = F.cross_entropy(logits, torch.randint(0, 3, (8,)), reduction="sum")
    scaled = loss / 4 * 128
    mark_rescaled(scaled, operations=2)
    told = with_value(scaled, torch.tensor(2.5))
    assert float(told.detach()) == 2.5
    for one in (loss, scaled, told):
        assert read_graph(one, None).kind == "cross_entropy"
        assert read_graph(one, None).summed
    unmarked = loss / 4
    assert not read_graph(unmarked, None).summed


def a_watcher(**options):
    watcher = CallbackWatcher(sink=None, options={})
    model = nn.Sequential(nn.Linear(64, 10))
    watcher.begin(model, [torch.optim.SGD(model.parameters(), lr=0.1)], **options)
    return watcher, model


def test_losses_of_one_update_are_averaged_or_summed():
    for summed, expected in ((False, 2.0), (True, 6.0)):
        watcher, _ = a_watcher()
        for value in (1.0, 2.0, 3.0):
            watcher.record_loss(torch.tensor(value, requires_grad=True) * 1)
        watcher.record_update(summed=summed)
        assert watcher._watcher.history.series(LOSS) == {0: expected}


def test_what_is_logged_gets_our_names():
    watcher, _ = a_watcher()
    watcher.log({"eval_loss": 0.5, "valid_acc": torch.tensor(90.0), "train_loss": 1.0, "f1": 0.25})
    watcher.log({"accuracy": 0.75, "loss": "?", "shift": 4.0}, split="val")
    history = watcher._watcher.history
    assert history.series(VAL_LOSS) == {0: 0.5}
    assert history.series(VAL_ACCURACY) == {0: 0.75}
    assert {quantity.name for quantity in history} >= {"f1", "val_loss", "val_accuracy"}
    assert "shift" not in {quantity.name for quantity in history}  # a quantity of ours


def test_an_update_without_a_loss_and_an_end_without_a_beginning_are_nothing():
    watcher = CallbackWatcher(sink=None, options={})
    watcher.record_update()
    watcher.log({"val_loss": 1.0})
    watcher.end()
    assert watcher.diagnosis is None


def test_another_librarys_optimizer_is_measured_around_its_own_step():
    watcher = CallbackWatcher(sink=None, options={})
    model = nn.Linear(64, 10)
    weights = list(model.parameters())
    foreign = ForeignOptimizer(lambda: [{"params": weights, "lr": 0.5, "weight_decay": 0.0}])
    watcher.begin(model, [foreign])
    loss = F.cross_entropy(model(torch.rand(16, 64)), torch.randint(0, 10, (16,)))
    loss.backward()
    foreign.before_step()
    with torch.no_grad():
        before = model.weight.clone()
        model.weight.mul_(1.25)  # an update of a quarter of the norm
    foreign.after_step()
    watcher.record_loss(loss)
    watcher.record_update()
    ratio = watcher._watcher.history.by_place(UPDATE_RATIO)["weight"][0]
    torch.testing.assert_close(ratio, 0.25, rtol=1e-5, atol=0)
    torch.testing.assert_close(model.weight.detach(), 1.25 * before)
    watcher.end()
    assert watcher.diagnosis is not None
    assert foreign._before == foreign._after == {}
