"""Targets are what a loss was seen to compare, not the labels that a loader yields."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.record.quantities import (
    ACCURACY,
    BASELINE_ACCURACY,
    CLASS_COUNT,
    INSTRUMENT_FAILED,
    LOSS_KIND,
    NUM_CLASSES,
    RECONSTRUCTED,
    TARGET_DISTINCT,
    TARGET_HIGH,
    TARGET_IS_INDEX,
    TARGETS_COMPARED,
)

RULE = "loss-does-not-fit-task"


def train(model, loss_of, *, inputs, labels, passes_batch=True, loader=True, steps=24, **options):
    """A short loop: loss_of(model, inputs, labels) → loss."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    pairs = list(zip(inputs.split(32), labels.split(32), strict=True))
    about: dict[str, Any] = {"train": pairs} if loader else {}
    with watch(model, optimizer, **about, **options) as watcher:
        for step in range(steps):
            batch = pairs[step % len(pairs)]
            loss = loss_of(model, *batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss, batch=batch if passes_batch else None)
    return watcher.history


def findings(history):
    return {f.rule: f.severity for f in diagnose(history).findings}


def tokens(count=160, length=9, vocabulary=12):
    return torch.randint(1, vocabulary, (count, length), generator=torch.Generator().manual_seed(0))


def vectors(count=160, width=6):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0))


def digits(count=160):
    return torch.randint(0, 10, (count,), generator=torch.Generator().manual_seed(1))


class Language(nn.Module):
    def __init__(self, vocabulary=12):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 16)
        self.cells = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, vocabulary)

    def forward(self, inputs):
        return self.head(self.cells(self.embed(inputs))[0])


def flat_entropy(model, inputs, labels):
    return F.cross_entropy(model(inputs).flatten(0, 1), labels.flatten())


def channel_entropy(model, inputs, labels):
    return F.cross_entropy(model(inputs).transpose(1, 2), labels)


def shifted_inside(model, inputs, labels):
    """As Hugging Face's models do: labels are the inputs, and the loss shifts them by one."""
    return F.cross_entropy(model(inputs)[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def masked(model, inputs, labels):
    """A masked language model: a sixth of the places has a target."""
    chosen = (torch.arange(labels.numel()).reshape(labels.shape) % 6) == 0
    return flat_entropy(model, inputs, torch.where(chosen, labels, -100))


@pytest.mark.parametrize("passes_batch", [True, False])
@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize("loss_of", [flat_entropy, channel_entropy, shifted_inside, masked])
def test_class_numbers_at_each_position_are_no_several_classes_at_once(
    loss_of, loader, passes_batch
):
    history = train(
        Language(),
        loss_of,
        inputs=tokens(),
        labels=tokens(),
        loader=loader,
        passes_batch=passes_batch,
    )
    assert RULE not in findings(history)
    assert history.last(TARGET_IS_INDEX) == 1


def test_targets_of_sequences_are_read_off_the_gradient():
    history = train(
        Language(), flat_entropy, inputs=tokens(), labels=tokens(), loader=False, passes_batch=False
    )
    assert history.first(TARGET_DISTINCT) == 11
    assert history.first(TARGET_HIGH) == 11


def real_or_fake(model, inputs, labels):
    """A GAN's discriminator: the loader's digits are not its targets."""
    real, fake = model(inputs), model(torch.randn_like(inputs))
    truth = torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    return F.binary_cross_entropy_with_logits(torch.cat([real, fake]), truth)


def only_real(model, inputs, labels):
    scores = model(inputs)
    return F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores))


def reconstruction(model, inputs, labels):
    return F.mse_loss(model(inputs), inputs)


def in_batch_contrast(model, inputs, labels):
    views = F.normalize(model(inputs)), F.normalize(model(inputs + 0.1 * torch.randn_like(inputs)))
    return F.cross_entropy(views[0] @ views[1].T / 0.2, torch.arange(len(inputs)))


def score(width):
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, width))


@pytest.mark.parametrize("passes_batch", [True, False])
@pytest.mark.parametrize(
    ("loss_of", "width"),
    [(real_or_fake, 1), (only_real, 1), (reconstruction, 6), (in_batch_contrast, 8)],
)
def test_labels_that_the_loss_does_not_compare_are_no_evidence(loss_of, width, passes_batch):
    history = train(
        score(width), loss_of, inputs=vectors(), labels=digits(), passes_batch=passes_batch
    )
    assert RULE not in findings(history)
    for quantity in (NUM_CLASSES, CLASS_COUNT, BASELINE_ACCURACY):
        assert quantity not in history
    if "loader" in history.by_place(TARGETS_COMPARED):
        assert history.last(TARGETS_COMPARED, "loader") == 0


SOUND = {
    "classes": (lambda m, x, y: F.cross_entropy(m(x), y), 10),
    "smoothed": (lambda m, x, y: F.cross_entropy(m(x), y, label_smoothing=0.1), 10),
    "weighted": (lambda m, x, y: F.cross_entropy(m(x), y, weight=torch.arange(1.0, 11)), 10),
    "likelihood": (lambda m, x, y: F.nll_loss(m(x).log_softmax(1), y), 10),
}


@pytest.mark.parametrize("passes_batch", [True, False])
@pytest.mark.parametrize("name", SOUND)
def test_class_numbers_are_recognised_in_every_form(name, passes_batch):
    loss_of, width = SOUND[name]
    history = train(
        score(width), loss_of, inputs=vectors(), labels=digits(), passes_batch=passes_batch
    )
    assert history.last(TARGETS_COMPARED, "loader") == 1
    assert CLASS_COUNT in history


@pytest.mark.parametrize("inside", [True, False])
def test_classes_in_a_one_hot_code_are_recognised_where_they_reproduce_the_loss(inside):
    model = nn.Sequential(score(10), nn.Softmax(1)) if inside else score(10)

    def squared(model, inputs, labels):
        outputs = model(inputs) if inside else model(inputs).softmax(1)
        return F.mse_loss(outputs, F.one_hot(labels, 10).float())

    history = train(model, squared, inputs=vectors(), labels=digits())
    assert history.last(TARGETS_COMPARED, "loader") == 1
    assert CLASS_COUNT in history
    assert findings(history)[RULE] == "warning"


@pytest.mark.parametrize("passes_batch", [True, False])
def test_soft_targets_of_a_mixture_are_no_several_classes(passes_batch):
    def mixed(model, inputs, labels):
        soft = F.one_hot(labels, 10).float()
        return F.cross_entropy(model(inputs), 0.7 * soft + 0.3 * soft.flip(0))

    history = train(score(10), mixed, inputs=vectors(), labels=digits(), passes_batch=passes_batch)
    assert RULE not in findings(history)


@pytest.mark.parametrize("integer", [True, False])
@pytest.mark.parametrize("width", [4, 9])
def test_several_classes_at_once_are_seen(width, integer):
    hot = vectors(width=width) > 0.3
    labels = hot.long() if integer else hot.float()
    history = train(
        score(width),
        lambda m, x, y: F.cross_entropy(m(x), y.float()),
        inputs=vectors(),
        labels=labels,
    )
    assert findings(history)[RULE] == "warning"


@pytest.mark.parametrize("classes", [True, False])
def test_whole_numbers_are_classes_only_where_somebody_says_so(classes):
    options = {"num_classes": 10} if classes else {}
    history = train(
        score(1),
        lambda m, x, y: F.mse_loss(m(x).squeeze(1), y.float()),
        inputs=vectors(),
        labels=digits(),
        **options,
    )
    assert findings(history)[RULE] == ("warning" if classes else "note")
    assert (CLASS_COUNT in history) == classes


def test_pixels_to_ignore_do_not_break_the_evaluation():
    images = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    masks = (images[:, 0] > 0).long()
    masks[:, 0] = 255
    history = train(
        nn.Conv2d(1, 2, 3, padding=1),
        lambda m, x, y: F.cross_entropy(m(x), y, ignore_index=255),
        inputs=images,
        labels=masks,
        steps=8,
    )
    assert not history.by_place(INSTRUMENT_FAILED)
    assert history.last(TARGET_HIGH) == 1


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_outputs_surer_than_smoothed_targets_do_not_unsettle_the_labels(smoothing):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 4))
    inputs = torch.randn(128, 6)
    labels = inputs[:, :4].argmax(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    watcher = watch(model, optimizer)
    for _ in range(260):
        rows = torch.randint(0, 128, (32,))
        loss = F.cross_entropy(model(inputs[rows]), labels[rows], label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=(inputs[rows], labels[rows]))
    watcher.close()
    assert 0 not in watcher.history.series(TARGETS_COMPARED, "batch").values()
    assert max(watcher.history.series(ACCURACY)) >= 240


def entropy_by_hand(model, inputs, labels):
    """Keras' binary cross-entropy, which takes any targets."""
    chances = model(inputs).clamp(1e-7, 1 - 1e-7)
    return -(labels * chances.log() + (1 - labels) * (1 - chances).log()).mean()


def test_labels_reproduce_a_binary_entropy_that_is_written_by_hand():
    model = nn.Sequential(nn.Linear(6, 1), nn.Sigmoid())
    labels = (digits() % 3)[:, None].float()
    history = train(model, entropy_by_hand, inputs=vectors(), labels=labels)
    assert max(history.by_place(TARGET_HIGH)[""].values()) == 2
    assert findings(history)[RULE] == "error"
    others = (digits() % 2)[:, None].float()  # yielded, but not what the loss compares
    history = train(
        nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()),
        lambda model, inputs, _: entropy_by_hand(model, inputs, (inputs[:, :1] > 0).float()),
        inputs=vectors(),
        labels=others,
    )
    assert TARGET_HIGH not in history
    assert RULE not in findings(history)


def test_known_targets_are_not_the_inputs_that_outputs_resemble():
    inputs = vectors(width=1) * 2
    labels = (inputs > 0).float()
    history = train(
        nn.Linear(1, 1),
        lambda model, x, y: F.binary_cross_entropy_with_logits(model(x), y),
        inputs=inputs,
        labels=labels,
    )
    assert RECONSTRUCTED in history  # outputs of the inputs' shape, on their side of one half
    assert RULE not in findings(history)


def test_a_score_a_sample_beside_class_numbers_breaks_no_reading():
    """As in ranking by pairs (BPR): items are class numbers, and each has one score."""
    torch.manual_seed(0)
    users, items = nn.Embedding(30, 8), nn.Embedding(40, 8)

    class Scores(nn.Module):
        def __init__(self):
            super().__init__()
            self.users, self.items = users, items

        def forward(self, user, item, other):
            return (users(user) * items(item)).sum(1), (users(user) * items(other)).sum(1)

    model = Scores()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    watcher = watch(model, optimizer)
    for _ in range(4):
        user, item, other = (torch.randint(0, 30, (32,)) for _ in range(3))
        better, worse = model(user, item, other)
        loss = -(better - worse).sigmoid().log().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss, batch=(user, other))
    watcher.close()
    assert watcher.history.by_place(INSTRUMENT_FAILED) == {}
    assert watcher.history.by_place(LOSS_KIND)
