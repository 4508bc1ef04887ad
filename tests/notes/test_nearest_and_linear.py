"""What the notes say of neighbours, lines and features, each against an independent truth."""

from typing import Any

import numpy as np
import pytest
import torch
from classical.agreement import agree, normal
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch.utils.flop_counter import FlopCounterMode

from thalweg.classical import (
    NearestNeighborClassifier,
    least_squares,
    linear_classifier,
    majority_vote,
    nearest_neighbors,
    one_hot,
)
from thalweg.classical.features import concatenation, hog, standardisation, whitening
from thalweg.classical.regions import decision_regions, draw_regions
from thalweg.errors import DataError, UsageError
from thalweg.models import MODELS


@pytest.fixture(scope="module")
def scans():
    """Train and validation halves of the real 8 × 8 digits, bytes."""
    digits = load_digits()
    images = torch.from_numpy((digits.images * 15.9).astype(np.uint8))[:, None]
    targets = torch.from_numpy(digits.target.astype(np.int64))
    return images[:1000], targets[:1000], images[1000:], targets[1000:]


def accuracy(predicted, targets):
    return (predicted == targets).double().mean().item()


def test_remembering_costs_nothing_and_answering_grows_with_the_samples():
    """Counted multiplications, not seconds: they are the same on every machine."""
    queries = normal(20, 30, seed=1)
    work = []
    for count in (500, 1000, 2000):
        reference = normal(count, 30, seed=2)
        with FlopCounterMode(display=False) as fitting:
            model = NearestNeighborClassifier(
                reference=reference, targets=torch.arange(count) % 3, num_classes=3
            )
        assert fitting.get_total_flops() == 0
        assert model.reference is reference  # not even copied
        with FlopCounterMode(display=False) as answering:
            model.predict(queries)
        work.append(answering.get_total_flops())
    assert work[1] / work[0] == pytest.approx(2, rel=0.1)
    assert work[2] / work[1] == pytest.approx(2, rel=0.1)


def test_blank_regions_of_the_plane_are_ties(tmp_path):
    """The grey places of the picture are exactly where a vote is tied."""
    points = torch.cat(
        [normal(30, 2, seed=i) + torch.tensor([[2.0 * i, (i % 2) * 2.0]]) for i in range(3)]
    )
    targets = torch.arange(3).repeat_interleave(30)
    model = NearestNeighborClassifier(
        reference=points, targets=targets, num_classes=3, k=4, tie="abstain"
    )
    regions = decision_regions(model.predict, points, side=60)
    assert 0 < regions.undecided < 0.3
    left, right, bottom, top = regions.extent
    x, y = torch.linspace(left, right, 60), torch.linspace(bottom, top, 60)
    for row, column in [(3, 50), (30, 30), (45, 12)]:
        near = nearest_neighbors(torch.stack((x[column], y[row]))[None], points, k=4).indices
        expected = majority_vote(targets[near], num_classes=3, tie="abstain")
        assert regions.predictions[row, column] == expected
    path = draw_regions(regions, points, targets, path=tmp_path / "regions.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    grey = (np.abs(pixels.astype(int) - 0xD9) <= 2).all(axis=1).mean()
    assert grey > 0.3 * regions.undecided  # axes and margins take the rest of the picture
    with pytest.raises(UsageError, match="cannot draw"):
        draw_regions(regions, points, targets, path=tmp_path / "regions.txt")
    with pytest.raises(DataError, match="features"):
        decision_regions(model.predict, normal(5, 3), side=10)


def test_a_root_changes_no_rank():
    queries, reference = normal(40, 6, seed=1), normal(300, 6, seed=2)
    found = nearest_neighbors(queries, reference, k=9, metric="l2")
    squares = (queries[:, None].double() - reference).square().sum(-1)
    assert torch.equal(found.indices, squares.argsort(dim=1, stable=True)[:, :9])
    agree(found.distances.square(), squares.sort(dim=1).values[:, :9])


def test_l1_boundaries_follow_the_axes_and_l2_ones_do_not():
    """Between two points far apart along x, L1's border has a vertical part."""
    points = torch.tensor([[0.0, 0.0], [4.0, 1.0]])

    def border(metric):
        """x of the border for each y: where the nearer of the two changes."""
        rows = []
        for y in torch.linspace(-3, 3, 25):
            line = torch.stack((torch.linspace(-2, 6, 4001), y.expand(4001)), dim=1)
            near = nearest_neighbors(line, points, k=1, metric=metric).indices[:, 0]
            rows.append(line[near.argmax(), 0].item())
        return np.diff(rows)

    assert (np.abs(border("l1")) < 1e-9).mean() > 0.6  # vertical beyond both points
    assert (np.abs(border("l2")) > 1e-3).all()  # one slanted line


def test_a_relu_network_is_a_linear_classifier_in_each_of_many_regions():
    """Its borders are pieces of hyperplanes, one for each hidden unit."""
    torch.manual_seed(0)
    model: Any = MODELS["mlp"](3, input_shape=(2,), width=8, depth=1).double()
    points = normal(400, 2, seed=3, dtype=torch.float64)
    model.requires_grad_(False)
    torch.nn.init.normal_(model.body[0].bias)
    hidden = model.body[0](points) > 0
    slopes = torch.func.vmap(torch.func.jacrev(lambda x: model(x[None])[0]))(points)
    offsets = model(points) - (slopes @ points[:, :, None])[:, :, 0]
    patterns, members = hidden.unique(dim=0, return_inverse=True)
    assert len(patterns) > 8
    for index in range(len(patterns)):
        inside = members == index
        agree(slopes[inside], slopes[inside][:1].expand_as(slopes[inside]))
        agree(offsets[inside], offsets[inside][:1].expand_as(offsets[inside]))
    # Eight lines cut the plane into at most 1 + 8 + 8·7/2 regions.
    assert len(patterns) <= 37


def test_training_makes_templates_of_what_tells_a_digit_apart(scans):
    """A class's weights, drawn as an image, look like its mean less the others'."""
    images, targets, _, _ = scans
    pixels = images.flatten(1).float() / 255
    settings: dict[str, Any] = {"num_classes": 10, "penalty": 1.0}
    fit = linear_classifier(pixels, targets, **settings).map
    drawn = fit.templates((1, 8, 8))
    assert drawn.shape == (10, 1, 8, 8)
    assert drawn.min() == 0
    assert drawn.max() == 1
    alike = []
    for digit in range(10):
        apart = pixels[targets == digit].mean(0) - pixels[targets != digit].mean(0)
        pair = torch.stack((fit.weight[:, digit], apart))
        alike.append(torch.corrcoef(pair)[0, 1].item())
    assert min(alike) > 0.8


TOY = torch.rand(400, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
FRESH = torch.rand(400, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1


def polar(points):
    return torch.stack((points.norm(dim=1), torch.atan2(points[:, 1], points[:, 0])), dim=1)


TOYS = {
    "opposite quadrants": (lambda x: x[:, 0] * x[:, 1] > 0, lambda x: x.prod(1, keepdim=True)),
    "ring": (lambda x: x.norm(dim=1) > 0.75, polar),
    "three modes": (lambda x: (x[:, 0] * 4.7).cos() > 0, lambda x: (x[:, :1] * 4.7).cos()),
}


@pytest.mark.parametrize("name", TOYS)
def test_what_no_line_can_do_neighbours_a_network_and_a_feature_can(name):
    """On points that none of them has seen."""
    rule, feature = TOYS[name]
    targets, truth = rule(TOY).long(), rule(FRESH).long()
    line = linear_classifier(TOY, targets, num_classes=2).map
    bent = linear_classifier(feature(TOY), targets, num_classes=2, penalty=1e-3).map
    near = NearestNeighborClassifier(reference=TOY, targets=targets, num_classes=2, k=3)
    torch.manual_seed(0)
    network = MODELS["mlp"](2, input_shape=(2,), width=32, depth=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(TOY), targets).backward()
        optimizer.step()
    assert accuracy(line.predict(FRESH), truth) < 0.8
    assert accuracy(bent.predict(feature(FRESH)), truth) > 0.95
    assert accuracy(near.predict(FRESH), truth) > 0.9
    assert accuracy(network(FRESH).argmax(1), truth) > 0.93


def test_made_features_shortened_by_pca_feed_a_line(scans):
    """The early pipeline: HOG, PCA to a third, least squares."""
    images, targets, others, truth = scans
    feature = concatenation(lambda x: hog(x, cell=2), lambda x: x.flatten(1).float() / 255)
    scale = standardisation(feature(images))
    shorter = whitening(scale(feature(images)), kind="rotate", components=60)
    peer = PCA(60, svd_solver="full").fit(scale(feature(images)).numpy()).explained_variance_ratio_
    assert shorter.explained.sum().item() == pytest.approx(peer.sum(), abs=1e-4)
    inputs, unseen = (shorter(scale(feature(x))) for x in (images, others))
    assert inputs.shape == (1000, 60)
    fit = least_squares(inputs, one_hot(targets, num_classes=10), penalty=10.0).map
    raw = least_squares(
        images.flatten(1).float(), one_hot(targets, num_classes=10), penalty=1e4
    ).map
    made = accuracy(fit.predict(unseen), truth)
    assert made > accuracy(raw.predict(others.flatten(1).float()), truth)
    assert made > 0.9


def test_best_of_many_guessers_wins_the_public_set_and_loses_the_private_one():
    """Nobody of them knows anything: what is chosen is luck."""
    draw = torch.Generator().manual_seed(0)
    public, private = (
        torch.randint(2, (200,), generator=draw),
        torch.randint(2, (2000,), generator=draw),
    )
    guesses = torch.randint(2, (1000, 2200), generator=draw)
    seen = (guesses[:, :200] == public).double().mean(1)
    hidden = (guesses[:, 200:] == private).double().mean(1)
    best = seen.argmax()
    # The expected greatest of 1,000 means of 200 coin throws: ½ + 3.24 · √(¼ / 200) = 0.615.
    assert seen[best].item() == pytest.approx(0.615, abs=0.025)
    assert hidden[best].item() == pytest.approx(0.5, abs=0.035)
