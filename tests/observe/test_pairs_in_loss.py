"""Accidental pairs of samples in losses written by hand, and pairs that are meant."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.observe.loss_graph import read_graph

N = 8


class Values(nn.Module):
    """A body with two heads: one number a sample, and scores of three actions."""

    def __init__(self, kind="mlp"):
        super().__init__()
        first = nn.Conv1d(1, 6, 3, padding=1) if kind == "conv" else nn.Linear(5, 6)
        self.body = nn.Sequential(first, nn.Tanh())
        self.kind, self.value, self.scores = kind, nn.Linear(6, 1), nn.Linear(6, 3)

    def forward(self, inputs):
        hidden = self.body(inputs[:, None]).mean(2) if self.kind == "conv" else self.body(inputs)
        return self.value(hidden), self.scores(hidden)


def is_broadcast(loss_fn, kind="mlp", *, backward=True):
    torch.manual_seed(0)
    values, scores = Values(kind)(torch.randn(N, 5))
    loss = loss_fn(values, scores, torch.randn(N))
    if backward:
        loss.backward()
    graph = read_graph(loss, None)
    assert graph is not None
    return graph.broadcast


def actions(scores):
    return scores.log_softmax(1).gather(1, torch.zeros(N, 1, dtype=torch.long))


def policy_gradient(values, scores, returns):
    advantage = returns - values.detach()
    policy = -(actions(scores) * advantage).mean()
    return policy + 0.5 * F.mse_loss(values.flatten(), returns)


def clipped_policy(values, scores, returns):
    ratio = (actions(scores).squeeze(1) - actions(scores).detach()).exp()
    return -torch.min(ratio * returns, ratio.clamp(0.8, 1.2) * returns).mean()


def huber_by_hand(values, scores, returns):
    error = (values - returns).abs()
    return torch.where(error < 1, 0.5 * error**2, error - 0.5).mean()


def temporal_difference(values, scores, returns):
    return (values - (returns + 0.9 * scores.max(1).values)).pow(2).mean()


FAULTY = {
    "squared error": lambda v, s, y: ((v - y) ** 2).mean(),
    "squared error of flat outputs": lambda v, s, y: (y[:, None] - v.squeeze(1)).square().mean(),
    "root of the squared error": lambda v, s, y: (v - y).square().mean().sqrt(),
    "absolute error": lambda v, s, y: (v - y).abs().sum() / N,
    "mse_loss": lambda v, s, y: F.mse_loss(v, y),
    "smooth_l1_loss": lambda v, s, y: F.smooth_l1_loss(v, y),
    "l1_loss": lambda v, s, y: F.l1_loss(v, y),
    "gathered values": lambda v, s, y: F.huber_loss(actions(s), y),
    "policy gradient": policy_gradient,
    "clipped policy": clipped_policy,
    "huber by hand": huber_by_hand,
    "temporal difference": temporal_difference,
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", FAULTY)
def test_a_column_against_a_vector_is_an_accident(name, kind):
    assert is_broadcast(FAULTY[name], kind)


def test_the_graph_shows_it_before_the_backward_pass_too():
    assert is_broadcast(FAULTY["squared error"], backward=False)


def hardest_triplets(values, scores, returns):
    distances = (scores[:, None] - scores[None]).pow(2).sum(2).add(1e-9).sqrt()
    return F.relu(distances.max(1).values - distances.min(1).values + 0.5).mean()


def normalised_triplets(values, scores, returns):
    anchor, other = F.normalize(scores, dim=1), F.normalize(scores.flip(0), dim=1)
    distance = ((anchor - other).pow(2).sum(1) + 1e-8).sqrt()
    return F.relu(distance - distance.flip(0) + 0.5).mean()


def cox(values, scores, returns):
    at_risk = (returns[None] >= returns[:, None]).float()
    return (torch.log((at_risk * values.squeeze(1).exp()).sum(1)) - values.squeeze(1)).mean()


def energy_distance(values, scores, returns):
    between = (values - returns[None]).abs().mean()
    return 2 * between - (values - values.T).abs().mean()


def kernel_distance(values, scores, returns):
    kernel = lambda a, b: (-((a - b) ** 2)).exp().mean()  # noqa: E731
    return kernel(values, values.T) - 2 * kernel(values, returns[None])


SOUND = {
    "same shapes": lambda v, s, y: ((v.squeeze(1) - y) ** 2).mean(),
    "columns": lambda v, s, y: F.mse_loss(v, y[:, None]),
    "as many outputs as samples": lambda v, s, y: (s @ torch.ones(3, N) - torch.eye(N)).abs().sum(),
    "similarities": lambda v, s, y: ((s @ s.T - torch.eye(N)) ** 2).mean(),
    "differences of all pairs": lambda v, s, y: F.softplus(v - v.T).mean(),
    "squares of all pairs": lambda v, s, y: ((v - v.squeeze(1)[None]) - y).square().mean(),
    "pairs of the same values": lambda v, s, y: (v - v.squeeze(1)).square().mean(),
    "ranking": lambda v, s, y: (1 - (v - s[:, 0])).clamp(min=0).mean(),
    "weights of samples": lambda v, s, y: (s.logsumexp(1) * y).mean(),
    "distances": lambda v, s, y: torch.cdist(s, s.flip(0)).mean(),
    "hardest triplets": hardest_triplets,
    "normalised triplets": normalised_triplets,
    "cox": cox,
    "energy distance": energy_distance,
    "kernel distance": kernel_distance,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", SOUND)
def test_pairs_on_purpose_and_equal_shapes_pass(name, kind):
    assert not is_broadcast(SOUND[name], kind)


def test_biases_of_a_factorisation_pass():
    rows, columns = nn.Parameter(torch.randn(N, 1)), nn.Parameter(torch.randn(N))
    loss = ((rows + columns - torch.randn(N, N)) ** 2).mean()
    graph = read_graph(loss, None)
    assert graph is not None
    assert not graph.broadcast


@pytest.mark.parametrize("reduced", [F.cross_entropy, F.mse_loss])
def test_a_sum_of_a_few_tasks_adds_fewer_numbers_than_samples(reduced):
    outputs = nn.Linear(5, 3)(torch.randn(N, 5))
    tasks = torch.stack([reduced(outputs, outputs.detach().softmax(1))] * 2)
    graph = read_graph((tasks * torch.ones(2)).sum(), None)
    assert graph is not None
    assert graph.summed
    assert graph.summed_entries == 2


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_over_the_samples_adds_as_many(sign):
    outputs = nn.Linear(5, 3)(torch.randn(N, 5))
    entropies = F.cross_entropy(outputs, outputs.argmax(1), reduction="none")
    graph = read_graph(entropies.sum() if sign > 0 else -(-entropies).sum(), None)
    assert graph is not None
    assert graph.summed_entries == N


def test_a_row_of_different_losses_is_summed_over_tasks_and_one_of_equal_ones_over_samples():
    outputs = torch.randn(4, 3, requires_grad=True)
    samples = [F.cross_entropy(row[None], torch.tensor([1])) for row in outputs]
    tasks = [samples[0], F.mse_loss(outputs, torch.zeros(4, 3)), outputs.abs().mean()]
    for losses, summed in ((samples, True), (tasks, False)):
        graph = read_graph(torch.stack(losses).sum(), None)
        assert graph is not None
        assert graph.summed is summed
