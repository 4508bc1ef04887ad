"""Copies of the model that run in the loop: target networks, teachers, references, averages."""

import copy
import gc
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_module
from torch.optim.swa_utils import AveragedModel

from thalweg.diagnosis.rules.copy_without_statistics import copy_without_statistics
from thalweg.diagnosis.rules.target_network_never_updated import target_network_never_updated
from thalweg.diagnosis.rules.target_of_same_state import target_of_same_state
from thalweg.observe import watch
from thalweg.observe.bootstrapped_targets import common_slope
from thalweg.record.quantities import (
    COPY_DISCOUNT,
    COPY_MOVED,
    COPY_STATISTICS,
    INSTRUMENT_FAILED,
)

SAMPLES, STATES, ACTIONS, DISCOUNT, STEPS = 32, 4, 3, 0.9, 9


def mlp(inputs=STATES, outputs=ACTIONS):
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))


class Agent(nn.Module):
    """A body and a head; a target network may be a copy of the critic alone."""

    def __init__(self):
        super().__init__()
        self.actor, self.critic = mlp(), mlp(outputs=1)

    def forward(self, states):
        return self.critic(states)


class Batch:
    """Random transitions of a process with three rewards."""

    def __init__(self):
        self.states, self.later = torch.randn(SAMPLES, STATES), torch.randn(SAMPLES, STATES)
        self.actions = torch.randint(0, ACTIONS, (SAMPLES, 1))
        self.rewards = torch.randint(0, 3, (SAMPLES,)).float()
        self.goes_on = torch.rand(SAMPLES) > 0.05


Loss = Callable[[Any, Any, Batch], torch.Tensor]


def train(model, target, loss_of: Loss, *, synchronise=None, steps=STEPS, after=None):
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    hooks = list(torch_module._global_forward_hooks)
    watcher = watch(model, optimizer)
    for _ in range(steps):
        loss = loss_of(model, target, Batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if synchronise is not None:
            target = synchronise(model, target) or target
        watcher.step(loss)
    watcher.close()
    assert INSTRUMENT_FAILED not in watcher.history
    assert set(torch_module._global_forward_hooks) <= set(hooks)
    return watcher.history


def severity(history):
    finding = target_network_never_updated(history, least_steps=STEPS)
    return None if finding is None else finding.severity


def chosen(model, batch):
    return model(batch.states).gather(1, batch.actions)[:, 0]


def q_learning(model, target, batch):
    with torch.no_grad():
        values = target(batch.later).amax(1) * batch.goes_on
    return F.mse_loss(chosen(model, batch), batch.rewards + DISCOUNT * values)


def double_q_learning(model, target, batch):
    with torch.no_grad():
        best = model(batch.later).argmax(1, keepdim=True)
        values = target(batch.later).gather(1, best)[:, 0]
    return F.smooth_l1_loss(chosen(model, batch), batch.rewards + DISCOUNT * values)


def q_learning_in_a_grid(model, target, batch):
    """States that occur several times in a batch."""
    batch.later = batch.later[torch.randint(0, SAMPLES, (SAMPLES,))]
    return q_learning(model, target, batch)


def q_learning_of_states_that_go_on(model, target, batch):
    values = torch.zeros(SAMPLES)
    with torch.no_grad():
        values[batch.goes_on] = target(batch.later[batch.goes_on]).amax(1)
    errors = chosen(model, batch) - batch.rewards - DISCOUNT * values
    return 0.5 * errors.square().mean()


def critic_loss(model, target, batch):
    critic = target.critic if isinstance(target, Agent) else target
    values = critic(batch.later).detach() * batch.goes_on[:, None]
    return F.mse_loss(model(batch.states), batch.rewards[:, None] + DISCOUNT * values)


def lower_of_two(model, targets, batch):
    with torch.no_grad():
        values = torch.minimum(*(one(batch.later) for one in targets))
    return F.mse_loss(model(batch.states), batch.rewards[:, None] + DISCOUNT * values)


def lost_soft_update(model, target):
    for old, new in zip(target.parameters(), model.parameters(), strict=True):
        old.data * 0.9 + new.data * 0.1


def never_reached(model, target):
    if hasattr(model, "steps") and model.steps % 1000 == 0:
        target.load_state_dict(model.state_dict())


FAULTY: dict[str, Any] = {
    "deep Q-learning": (mlp, q_learning, never_reached),
    "double Q-learning, Huber loss": (mlp, double_q_learning, None),
    "a few states": (mlp, q_learning_in_a_grid, None),
    "last states left out": (mlp, q_learning_of_states_that_go_on, lost_soft_update),
    "a critic inside an agent": (Agent, critic_loss, lost_soft_update),
    "a copy of the critic alone": (Agent, critic_loss, None),
    "the lower of two critics": (lambda: mlp(outputs=1), lower_of_two, None),
    "a target of other first weights": (mlp, q_learning, None),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_target_network_that_stays_as_it_was_is_named(name):
    torch.manual_seed(0)
    build, loss_of, synchronise = FAULTY[name]
    model = build()
    target = copy.deepcopy(model)
    if "alone" in name:
        target = target.critic
    if "two" in name:
        target = nn.ModuleList([target, build()])
    if "other" in name:
        target = build()
    history = train(
        model, target, loss_of, synchronise=synchronise, steps=60 if "left out" in name else STEPS
    )
    assert severity(history) == "warning"
    assert max(one[max(one)] for one in history.by_place(COPY_DISCOUNT).values()) == pytest.approx(
        DISCOUNT, rel=0.01
    )


def load(model, target):
    target.load_state_dict(model.state_dict())


def average(model, target):
    with torch.no_grad():
        for old, new in zip(target.parameters(), model.parameters(), strict=True):
            old.lerp_(new, 0.005)


def replace(model, target):
    return copy.deepcopy(model)


@pytest.mark.parametrize("synchronise", [load, average, replace])
@pytest.mark.parametrize("loss_of", [q_learning, double_q_learning])
def test_a_target_network_that_follows_passes(loss_of, synchronise):
    torch.manual_seed(0)
    model = mlp()
    history = train(model, copy.deepcopy(model), loss_of, synchronise=synchronise)
    assert severity(history) is None


def distillation(model, teacher, batch):
    with torch.no_grad():
        scores = teacher(batch.states).softmax(1)
    return F.kl_div(model(batch.states).log_softmax(1), scores, reduction="batchmean")


def matched_features(model, teacher, batch):
    with torch.no_grad():
        features = teacher(batch.states)
    return F.mse_loss(model(batch.states), features)


def matched_views(model, teacher, batch):
    """A frozen teacher of another view, whose outputs are the targets."""
    with torch.no_grad():
        features = teacher(batch.states + 0.1 * batch.later)
    return F.mse_loss(model(batch.states), features)


def preference(model, reference, batch):
    """Direct preference optimisation against the model as it began."""
    ratios = []
    for states in (batch.states, batch.later):
        with torch.no_grad():
            before = reference(states).log_softmax(1)[:, 0]
        ratios.append(model(states).log_softmax(1)[:, 0] - before)
    return -F.logsigmoid(ratios[0] - ratios[1]).mean()


def without_forgetting(model, old, batch):
    """The old model's answers on the inputs of the new task are kept."""
    with torch.no_grad():
        answers = old(batch.states)
    return F.mse_loss(model(batch.states)[:, 0], batch.rewards) + F.mse_loss(
        model(batch.states), answers
    )


def pseudo_labels(model, teacher, batch):
    with torch.no_grad():
        labels = teacher(batch.states + 0.1 * batch.later).argmax(1)
    return F.cross_entropy(model(batch.states), labels)


def opponent(model, frozen, batch):
    """Self-play: a copy moves, and the model learns returns that owe nothing to its values."""
    with torch.no_grad():
        moves = frozen(batch.later).argmax(1)
    return F.mse_loss(chosen(model, batch), batch.rewards + (moves == 0) + torch.randn(SAMPLES))


def random_features(model, target, batch):
    """Random network distillation: the target is random on purpose."""
    return F.mse_loss(model(batch.states), target(batch.states).detach())


FROZEN_ON_PURPOSE = [
    distillation,
    matched_features,
    matched_views,
    preference,
    without_forgetting,
    pseudo_labels,
    random_features,
]


@pytest.mark.parametrize("loss_of", FROZEN_ON_PURPOSE)
def test_copies_that_are_frozen_on_purpose_pass(loss_of):
    torch.manual_seed(0)
    model = mlp()
    teacher = copy.deepcopy(model)
    if loss_of in (distillation, matched_features, random_features):
        teacher = mlp()  # its own weights: else nothing is to be learned
    history = train(model, teacher, loss_of)
    assert history.last(COPY_MOVED, "Sequential") == 0
    assert severity(history) in (None, "note")


def test_an_opponent_is_at_most_a_note():
    torch.manual_seed(0)
    model = mlp()
    assert severity(train(model, copy.deepcopy(model), opponent)) == "note"


def test_a_target_network_that_is_gone_by_the_end_is_named():
    torch.manual_seed(0)

    def watched_loop():
        model = mlp()
        target, optimizer = copy.deepcopy(model), torch.optim.Adam(model.parameters(), 0.01)
        watcher = watch(model, optimizer)
        for _ in range(STEPS):
            loss = q_learning(model, target, Batch())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        return watcher

    watcher = watched_loop()
    watcher.close()
    assert severity(watcher.history) == "warning"


def test_loops_without_a_copy_are_not_checked():
    def loss_of(model, other, batch):
        return F.mse_loss(model(batch.states)[:, 0], other(batch.states)[:, 0])

    history = train(mlp(), mlp(outputs=2), loss_of)
    assert COPY_MOVED not in history


def norm_net():
    return nn.Sequential(nn.Linear(STATES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, ACTIONS))


def consistency(model, teacher, batch):
    with torch.no_grad():
        scores = teacher(batch.states + 0.1 * batch.later).softmax(1)
    return F.mse_loss(model(batch.states).softmax(1), scores)


def average_all(model, target):
    average(model, target)
    for old, new in zip(target.buffers(), model.buffers(), strict=True):
        old.copy_(new)


def copy_weights(model, target):
    for old, new in zip(target.parameters(), model.parameters(), strict=True):
        old.data.copy_(new.data)


def conv_net():
    layers = nn.Unflatten(1, (1, STATES)), nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8, ACTIONS))


STALE: dict[str, Any] = {
    "an averaged teacher": (norm_net, consistency, average),
    "a target network": (norm_net, q_learning, copy_weights),
    "a momentum encoder": (conv_net, matched_views, average),
}


@pytest.mark.parametrize("name", STALE)
def test_a_copy_that_lacks_the_statistics_is_named(name):
    torch.manual_seed(0)
    build, loss_of, synchronise = STALE[name]
    model = build()
    history = train(model, copy.deepcopy(model).eval(), loss_of, synchronise=synchronise)
    finding = copy_without_statistics(history, least_steps=STEPS)
    assert finding is not None


SOUND_STATISTICS: dict[str, Any] = {
    "all copied": (True, load),
    "buffers copied, weights averaged": (True, average_all),
    "a copy in train mode": (False, average),
    "a frozen teacher": (True, None),
    "torch's averaged model": (True, "update"),
}


@pytest.mark.parametrize("name", SOUND_STATISTICS)
def test_copies_with_statistics_of_their_own_pass(name):
    torch.manual_seed(0)
    evaluates, synchronise = SOUND_STATISTICS[name]
    model = norm_net()
    target = copy.deepcopy(model).train(not evaluates)
    if synchronise == "update":
        target = AveragedModel(model).eval()
        synchronise = lambda model, averaged: averaged.update_parameters(model)  # noqa: E731
    history = train(model, target, consistency, synchronise=synchronise)
    assert copy_without_statistics(history, least_steps=STEPS) is None


def test_a_model_with_frozen_statistics_has_none_to_copy():
    torch.manual_seed(0)
    model = norm_net().eval()
    history = train(model, copy.deepcopy(model), consistency, synchronise=average)
    assert COPY_STATISTICS not in history


def test_random_targets_share_no_slope():
    torch.manual_seed(0)
    for _ in range(30):
        values = torch.randn(48, dtype=torch.float64)
        assert common_slope(torch.randn(48, dtype=torch.float64) + values, values).slope == 0
        assert common_slope(values, values).slope == 0
        few = torch.randint(0, 3, (48,)).double()
        assert common_slope(torch.randint(0, 3, (48,)).double(), few).slope == 0
        whole = torch.randperm(48).double()
        assert common_slope(torch.randint(0, 30, (48,)).double(), whole).slope == 0
    targets = torch.randint(0, 5, (48,)) + 0.99 * values
    assert math.isclose(common_slope(targets, values).slope, 0.99, rel_tol=0.003)


def test_a_watcher_that_nobody_closed_leaves_no_hook_on_all_modules():
    """Two steps, so that it waits for the reading of the third."""
    gc.collect()
    before, most = len(torch_module._global_forward_hooks), 0
    for _ in range(3):
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        watcher = watch(model, optimizer)
        for _ in range(2):
            loss = model(torch.ones(4, 3)).square().mean()
            loss.backward()
            optimizer.step()
            watcher.step(loss)
        most = max(most, len(torch_module._global_forward_hooks))
        del watcher, model, optimizer, loss
        gc.collect()
    assert most > before
    assert len(torch_module._global_forward_hooks) <= before + 1  # PyTorch may hold the last pass


def q_learning_of_the_same_states(model, target, batch):
    batch.later = batch.states
    return q_learning(model, target, batch)


def double_q_learning_of_the_same_states(model, target, batch):
    with torch.no_grad():
        best = model(batch.states).argmax(1, keepdim=True)
        values = target(batch.states).gather(1, best)[:, 0]
    return F.mse_loss(chosen(model, batch), batch.rewards + DISCOUNT * values)


def without_a_target_network(model, _, batch):
    values = model(batch.states).amax(1).detach()
    return F.mse_loss(chosen(model, batch), batch.rewards + DISCOUNT * values)


@pytest.mark.parametrize("synchronise", [None, load, average])
@pytest.mark.parametrize(
    "loss_of",
    [
        q_learning_of_the_same_states,
        double_q_learning_of_the_same_states,
        without_a_target_network,
    ],
)
def test_targets_of_the_state_itself_are_named(loss_of, synchronise):
    torch.manual_seed(0)
    model = mlp()
    history = train(model, copy.deepcopy(model), loss_of, synchronise=synchronise)
    finding = target_of_same_state(history)
    assert finding is not None
    assert finding.evidence["factor of the same state's value"] == pytest.approx(DISCOUNT, rel=0.01)


def of_its_own_next_values(model, _, batch):
    with torch.no_grad():
        model(batch.states).argmax(1)  # the actions of the behaviour policy
        values = model(batch.later).amax(1)
    return F.mse_loss(chosen(model, batch), batch.rewards + DISCOUNT * values)


def entropy_bonus_of_the_same_state(model, target, batch):
    """Munchausen: the log probability of the action taken, of the same state, is in the target."""
    with torch.no_grad():
        bonus = target(batch.states).log_softmax(1).gather(1, batch.actions)[:, 0]
        values = target(batch.later).logsumexp(1)
    wanted = batch.rewards + 0.9 * bonus + DISCOUNT * values
    return F.smooth_l1_loss(chosen(model, batch), wanted)


def blended_with_labels(model, teacher, batch):
    """A regression whose target is partly the teacher's answer, for every output at once."""
    with torch.no_grad():
        answers = teacher(batch.states)
    return F.mse_loss(model(batch.states), 0.9 * answers + 0.1 * batch.rewards[:, None])


def likelihood(model, _, batch):
    """Log probabilities have one gradient for all samples, as if targets had a slope."""
    return F.nll_loss(model(batch.states).log_softmax(1), batch.actions[:, 0])


def surrogate(model, _, batch):
    logs = model(batch.states).log_softmax(1).gather(1, batch.actions)
    return -(logs[:, 0] * batch.rewards).mean()


@pytest.mark.parametrize(
    "loss_of",
    [
        likelihood,
        surrogate,
        q_learning,
        double_q_learning,
        q_learning_in_a_grid,
        of_its_own_next_values,
        entropy_bonus_of_the_same_state,
        blended_with_labels,
        opponent,
        *FROZEN_ON_PURPOSE,
    ],
)
def test_targets_of_other_states_pass(loss_of):
    torch.manual_seed(0)
    model = mlp()
    history = train(model, copy.deepcopy(model), loss_of, synchronise=load)
    assert target_of_same_state(history) is None


def test_log_probabilities_of_a_classifier_are_no_values_of_states():
    torch.manual_seed(0)
    model = nn.Sequential(mlp(), nn.LogSoftmax(1))
    states = torch.randn(256, STATES)
    classes = states[:, :ACTIONS].argmax(1)

    def likelihood_of_classes(model, _, batch):
        rows = torch.randint(0, len(states), (SAMPLES,))
        return F.nll_loss(model(states[rows]), classes[rows])

    history = train(model, copy.deepcopy(model), likelihood_of_classes, steps=40)
    assert target_of_same_state(history) is None


def test_a_classifier_that_is_sure_of_itself_passes():
    torch.manual_seed(0)
    model = nn.Linear(STATES, ACTIONS)
    with torch.no_grad():
        model.weight.mul_(300)

    def loss_of(model, other, batch):
        with torch.no_grad():
            model(batch.states)  # an accuracy, say
        return F.cross_entropy(model(batch.states), batch.actions[:, 0])

    history = train(model, copy.deepcopy(model), loss_of)
    assert target_of_same_state(history) is None
