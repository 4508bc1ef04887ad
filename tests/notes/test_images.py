"""Pixels: what is done to them first, and what convolutions make of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from notes.fitting import accuracy, fit, scans
from torch import nn

from thalweg.data import load_dataset
from thalweg.data.images.preprocessing import ImagePreprocessing
from thalweg.models.anatomy.filters import filter_grid
from thalweg.models.convnet import convnet
from thalweg.models.mlp import mlp


@pytest.fixture(autouse=True)
def _seeded(monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)


def test_a_convolution_moves_with_its_input_and_the_pooled_net_hardly_minds():
    """Equivariance, which a note calls invariance (E7)."""
    images = F.pad(torch.rand(4, 3, 10, 10), (8, 8, 8, 8))
    shifted = images.roll((3, -2), dims=(2, 3))
    layer = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    torch.testing.assert_close(layer(shifted), layer(images).roll((3, -2), dims=(2, 3)))
    assert not torch.allclose(layer(shifted), layer(images), atol=1e-3)
    pooled = layer(images).relu().mean((2, 3))  # the average over all places: invariant
    torch.testing.assert_close(layer(shifted).relu().mean((2, 3)), pooled)
    dense = nn.Linear(3 * 26 * 26, 5, bias=False)
    moved = dense(shifted.flatten(1)) - dense(images.flatten(1))
    assert moved.abs().mean() > 0.1 * dense(images.flatten(1)).abs().mean()


@pytest.mark.slow
def test_shuffled_pixels_cost_a_convnet_dear_and_an_mlp_nothing():
    """One permutation for all: no information is lost, only neighbourhood."""
    (inputs, targets), (test_inputs, test_targets) = scans()
    order = torch.randperm(64)
    lost = {}
    for name, build, shape in (("mlp", mlp, (64,)), ("convnet", convnet, (1, 8, 8))):
        scores = {False: [], True: []}
        for shuffled in scores:
            seen = order if shuffled else torch.arange(64)
            train, test = (x[:, seen].reshape(-1, *shape) for x in (inputs[:150], test_inputs))
            for seed in range(2):
                torch.manual_seed(seed)
                model = build(10, input_shape=shape, width=8 if name == "convnet" else 64)
                fit(model, (train, targets[:150]), steps=150, lr=0.1, seed=seed)
                scores[shuffled].append(accuracy(model, (test, test_targets)))
        lost[name] = np.mean(scores[False]) - np.mean(scores[True])
    assert abs(lost["mlp"]) < 0.03
    assert lost["convnet"] > 0.05


def test_an_activation_map_is_also_a_grid_of_vectors():
    """The stack of filters' maps, and at each place one linear map of the patch."""
    image, layer = torch.randn(1, 3, 8, 8), nn.Conv2d(3, 6, 3)
    maps = layer(image)[0]
    one = F.conv2d(image, layer.weight[2:3], layer.bias[2:3])[0, 0]
    torch.testing.assert_close(maps[2], one)
    patch = image[0, :, 4:7, 1:4].flatten()
    torch.testing.assert_close(maps[:, 4, 1], layer.weight.flatten(1) @ patch + layer.bias)


def test_convolutions_without_activations_are_one_convolution():
    first, second = nn.Conv2d(1, 4, 3, bias=False), nn.Conv2d(4, 2, 3, bias=False)
    both = torch.einsum("omyx,mihw->oiyxhw", second.weight, first.weight)
    kernel = torch.zeros(2, 1, 5, 5)
    for y in range(3):
        for x in range(3):
            kernel[:, :, y : y + 3, x : x + 3] += both[:, :, y, x]
    images = torch.randn(2, 1, 9, 9)
    torch.testing.assert_close(second(first(images)), F.conv2d(images, kernel))
    bent = second(first(images).relu())
    assert not torch.allclose(bent, F.conv2d(images, kernel), atol=1e-2)


def test_first_layer_filters_are_shown_as_a_grid_of_pictures():
    """Each is stretched to 0..255 by itself, zero staying mid-grey."""
    model = convnet(10, input_shape=(3, 32, 32), width=6)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        first.weight.zero_()
        first.weight[4, 1, 0, 2], first.weight[4, 0, 1, 1] = 0.5, -1.0
    grid = filter_grid(model, columns=3)
    assert grid.shape == (2 * 4 + 1, 3 * 4 + 1, 3)  # a border of one pixel between them
    assert grid.dtype == torch.uint8
    top, left = 1 + 4, 1 + 4  # the fifth: second row, second column
    assert grid[top, left + 2].tolist() == [128, 192, 128]
    assert grid[top + 1, left + 1].tolist() == [0, 128, 128]
    with pytest.raises(ValueError, match="no convolution of 1 or 3 channels"):
        filter_grid(mlp(10, input_shape=(4,)))


def stored(tmp_path, images, name="images.npz"):
    np.savez(tmp_path / name, images=images, labels=np.arange(len(images)) % 2)
    return tmp_path / name


def test_mean_and_deviation_come_from_the_training_split_alone(tmp_path):
    """Not from all images; they are applied to all."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (40, 8, 8, 3), dtype=np.uint8)
    dataset = load_dataset(stored(tmp_path, images))
    rows = dataset.indices["train"]
    held = np.asarray(dataset.inputs)[rows].reshape(-1, 3) / 255
    assert dataset.preprocessing.mean == pytest.approx(held.mean(0).tolist())
    assert dataset.preprocessing.std == pytest.approx(held.std(0).tolist(), rel=1e-3)
    everything = np.asarray(dataset.inputs).reshape(-1, 3).mean(0) / 255
    assert np.abs(everything - dataset.preprocessing.mean).max() > 1e-4  # no val or test in it
    train = dataset.preprocessing.to_inputs(torch.tensor(np.asarray(dataset.inputs)[rows]))
    assert train.mean((0, 2, 3)).abs().max() < 1e-5
    assert train.std((0, 2, 3)).tolist() == pytest.approx([1.0] * 3, abs=0.01)


def test_the_three_customs_of_the_classic_networks_are_one_formula():
    """ResNet's (x − mean) / std per channel; VGG's with std 1; AlexNet's mean image is another
    mean for each pixel, and differs only by what is the same in every image."""
    raw = torch.randint(0, 256, (50, 8, 8, 3), dtype=torch.uint8)
    pixels = raw.float() / 255
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))

    def normalised(std):
        common = {"image_size": 8, "channels": 3}
        how = ImagePreprocessing(**common, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
        return how.to_inputs(raw)

    resnet, vgg = normalised(std), normalised(torch.ones(3))
    torch.testing.assert_close(resnet, ((pixels - mean) / std).permute(0, 3, 1, 2))
    torch.testing.assert_close(vgg, (pixels - mean).permute(0, 3, 1, 2))
    alexnet = (pixels - pixels.mean(0)).permute(0, 3, 1, 2)
    constant = vgg - alexnet  # the mean image about its mean: equal for all samples
    torch.testing.assert_close(constant, constant[:1].expand_as(constant))


def test_an_invertible_change_of_colour_space_changes_nothing_a_network_could_not_learn():
    """Opponent colours and RGB: the first layer absorbs the matrix exactly."""
    opponent = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]])
    images = torch.rand(6, 3, 8, 8)
    other = torch.einsum("oc,ncyx->noyx", opponent, images)
    layer = nn.Conv2d(3, 4, 3)
    expected = layer(images)
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("fcyx,co->foyx", layer.weight, opponent.inverse()))
    torch.testing.assert_close(layer(other), expected, atol=1e-4, rtol=1e-4)


def test_missing_numbers_become_the_mean_which_the_network_sees_as_nought(tmp_path):
    rows = "".join(f"{i % 7},{'' if i % 5 == 0 else i},{'ab'[i % 2]}\n" for i in range(60))
    (tmp_path / "t.csv").write_text("a,b,target\n" + rows)
    dataset = load_dataset(tmp_path / "t.csv")
    inputs = dataset.preprocessing.to_inputs(torch.tensor(np.asarray(dataset.inputs)))
    names = [int(name.split()[-1]) for name in dataset.names]  # the row of the file
    empty = torch.tensor([(line - 2) % 5 == 0 for line in names])
    assert inputs[empty, 1].abs().max() < 1e-5
    assert inputs[~empty, 1].abs().min() > 1e-5
    assert any("missing" in note for note in dataset.notes)
