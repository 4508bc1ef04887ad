"""Which samples training draws, validation that is random, and the scale of inputs, both ways."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import (
    CLASS_RECALL,
    MEASURED_VAL_ACCURACY,
    SAMPLES_DRAWN,
    TRAIN_ACCURACY,
    VAL_ACCURACY,
    VAL_CHANGES,
)

RULES = {"samples-never-drawn", "validation-not-repeatable", "unscaled-inputs", "train-val-shift"}


def scans(count=600, seed=0):
    """Images whose class is the row with the brightest line."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 6, 6, generator=generator)
    labels = torch.randint(0, 6, (count,), generator=generator)
    images[torch.arange(count), 0, labels] += 1.0
    return images / 2, labels


def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 6))


def convolved():
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 6))


def recurrent():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells, self.head = nn.GRU(6, 16, batch_first=True), nn.Linear(16, 6)

        def forward(self, inputs):
            return self.head(self.cells(inputs[:, 0])[0][:, -1])

    return Rows()


MODELS = [dense, convolved, recurrent]


def train(model, loader, val=None, *, epochs=4, loaders=True, **about):
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    about |= {"train": loader, "val": val} if loaders else {}
    watcher = watch(model, optimizer, **about)
    for _ in range(epochs):
        model.train()
        for inputs, labels in loader:
            loss = F.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        model.eval()
        with torch.no_grad():
            pairs = [(model(inputs).argmax(1), labels) for inputs, labels in val or ()]
        if pairs:
            right = sum(int((guess == labels).sum()) for guess, labels in pairs)
            watcher.log(val_accuracy=right / sum(len(labels) for _, labels in pairs))
    watcher.close()
    return watcher.history


def findings(history):
    return {f.rule: f.severity for f in diagnose(history).findings if f.rule in RULES}


def loader(data, *, shuffle=True, **options):
    return DataLoader(TensorDataset(*data), 32, shuffle=shuffle, **options)


def weights_of_classes(data):
    return 1.0 / torch.bincount(data[1]).float()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("loaders", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_weights_of_classes_in_place_of_samples_are_named(model, loaders):
    data = scans()
    sampler = WeightedRandomSampler(weights_of_classes(data), 600)
    history = train(model(), loader(data, shuffle=None, sampler=sampler), loaders=loaders)
    assert findings(history)["samples-never-drawn"] == ("error" if loaders else "warning")
    if loaders:
        assert history.last(SAMPLES_DRAWN, "weights") == 6


class Wrapped(Dataset):
    """Its index is taken modulo the number of classes."""

    def __init__(self, data):
        self.inputs, self.labels = data

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.inputs[index % 6], self.labels[index % 6]


def test_an_index_that_wraps_is_named():
    history = train(dense(), DataLoader(Wrapped(scans()), 32, shuffle=True))
    assert findings(history)["samples-never-drawn"] == "warning"


def balanced(data):
    weights = weights_of_classes(data)[data[1]]
    return loader(data, shuffle=None, sampler=WeightedRandomSampler(weights.tolist(), 600))


def two_thirds(data):
    """Balanced by leaving samples out: a third has no weight."""
    weights = [float(index % 3 != 0) for index in range(600)]
    return loader(data, shuffle=None, sampler=WeightedRandomSampler(weights, 600))


def few_states(_):
    """One-hot states of a small world, each met many times."""
    states = torch.randint(0, 6, (600,))
    return loader((F.one_hot(states, 36).float().reshape(-1, 1, 6, 6), states))


def many_epochs_of_few(data):
    return loader((data[0][:64], data[1][:64]))


@pytest.mark.parametrize("loaders", [True, False])
@pytest.mark.parametrize("batches", [loader, balanced, two_thirds, few_states, many_epochs_of_few])
def test_sound_samplers_are_left_alone(batches, loaders):
    history = train(dense(), batches(scans()), epochs=8, loaders=loaders)
    assert "samples-never-drawn" not in findings(history)


class Augmented(Dataset):
    """Shifted and noisy at random."""

    def __init__(self, data, *, noise=0.4, shift=1):
        self.inputs, self.labels = data
        self.noise, self.shift = noise, shift

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.inputs[index]
        if self.shift:
            image = image.roll(int(torch.randint(0, 3, ())), 2)
        return image + self.noise * torch.randn_like(image), self.labels[index]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shift", [0, 1])
def test_random_validation_inputs_are_named(model, shift):
    val = DataLoader(Augmented(scans(200, 1), shift=shift), 64)
    history = train(model(), loader(scans()), val)
    assert findings(history)["validation-not-repeatable"] == "warning"


def test_reading_the_validation_twice_leaves_no_trace():
    val = DataLoader(Augmented(scans(200, 1)), 64)

    def last_weights(watches):
        torch.manual_seed(3)
        model = dense()
        if watches:
            watcher = watch(model, torch.optim.SGD(model.parameters(), 0.1), val=val)
            watcher.close()
        return torch.randn(4), next(iter(val))[0]

    for plain, watched in zip(last_weights(False), last_weights(True), strict=True):
        assert torch.equal(plain, watched)


@pytest.mark.parametrize(
    "val",
    [
        lambda: loader(scans(200, 1), shuffle=False),
        lambda: loader(scans(200, 1)),  # shuffled: another reading holds other samples
        lambda: [scans(200, 1)],
        lambda: DataLoader(Augmented(scans(200, 1), noise=0.005, shift=0), 64),  # dequantised
    ],
)
def test_sound_validations_are_left_alone(val):
    history = train(dense(), DataLoader(Augmented(scans(), noise=0.1), 32, shuffle=True), val())
    assert not findings(history)


def test_noise_that_is_the_task_is_a_note():
    class Noisy(Augmented):
        def __getitem__(self, index):
            return super().__getitem__(index)[0], self.inputs[index]

    data = DataLoader(Noisy(scans(), shift=0), 32, shuffle=True)
    val = DataLoader(Noisy(scans(200, 1), shift=0), 64)
    model = nn.Conv2d(1, 1, 3, padding=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    watcher = watch(model, optimizer, train=data, val=val)
    for inputs, targets in data:
        loss = F.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    watcher.close()
    assert watcher.history.last(VAL_CHANGES) > 0.1
    assert findings(watcher.history) == {"validation-not-repeatable": "note"}


@pytest.mark.parametrize("loaders", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_inputs_divided_twice_are_named(model, loaders):
    images, labels = scans()
    history = train(model(), loader((images / 255, labels)), loaders=loaders)
    assert findings(history)["unscaled-inputs"] == "warning"


@pytest.mark.parametrize("model", MODELS)
def test_inputs_between_zero_and_one_are_left_alone(model):
    assert not findings(train(model(), loader(scans())))


def test_a_small_embedding_is_no_small_input():
    embed = nn.Embedding(36, 16)
    nn.init.normal_(embed.weight, 0, 0.005)
    model = nn.Sequential(embed, nn.Flatten(), nn.Linear(96, 6))
    tokens = torch.randint(0, 36, (600, 6))
    history = train(model, loader((tokens, torch.randint(0, 6, (600,)))), epochs=2)
    assert "unscaled-inputs" not in findings(history)


def test_a_model_that_normalises_tiny_inputs_itself_is_left_alone():
    images, labels = scans()
    model = nn.Sequential(nn.BatchNorm2d(1), dense())
    assert "unscaled-inputs" not in findings(train(model, loader((images / 255, labels))))


@pytest.mark.parametrize("factor", [255.0, 1 / 255])
@pytest.mark.parametrize("loaders", [True, False])
def test_splits_of_different_scale_are_named_without_loaders_too(factor, loaders):
    images, labels = scans(200, 1)
    val = loader((images * factor, labels), shuffle=False)
    history = train(dense(), loader(scans()), val, loaders=loaders)
    assert findings(history)["train-val-shift"] == "warning"


def test_the_head_of_a_split_in_the_order_of_its_classes_is_no_shift():
    images, labels = scans(3000, 1)
    order = labels.argsort(stable=True)
    val = loader((images[order], labels[order]), shuffle=False)
    history = train(dense(), loader(scans()), val, epochs=1)
    rules = {f.rule for f in diagnose(history).findings if f.severity != "note"}
    assert not rules & {"train-val-shift", "metric-disagrees-with-loss", "label-encoding-differs"}


def in_order_of_classes(seed):
    images, labels = scans(900, seed)
    order = labels.argsort(stable=True)
    return loader((images[order], labels[order]), shuffle=False)


def test_samples_in_the_order_of_their_classes_are_measured_on_all_classes():
    about = {"num_classes": 6, "loss_fn": F.cross_entropy}
    history = train(dense(), in_order_of_classes(1), in_order_of_classes(2), epochs=1, **about)
    assert set(history.by_place(CLASS_RECALL)) == {str(k) for k in range(6)}
    (logged,) = history.series(VAL_ACCURACY).values()
    for quantity in (MEASURED_VAL_ACCURACY, TRAIN_ACCURACY):
        assert abs(max(history.series(quantity).values()) - logged) < 0.1
    diagnosis = diagnose(history)
    assert diagnosis.headline.rule == "unshuffled-batches"
    assert "metric-disagrees-with-loss" in diagnosis.passed
