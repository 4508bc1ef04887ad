import numpy as np
import pytest
import torch
from curvature import subjects
from torch.nn import functional as F

from thalweg.curvature import (
    Surface,
    draw,
    filter_normalised_direction,
    interpolation,
    landscape,
    spectrum,
)
from thalweg.errors import UsageError


def trained(build=subjects.mlp, steps=30):
    model, inputs, targets = subjects.built(build)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    path = []
    for _ in range(steps):
        path.append({name: value.clone() for name, value in model.state_dict().items()})
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    path.append({name: value.clone() for name, value in model.state_dict().items()})
    return model, [(inputs, targets)], path


def test_the_middle_of_the_picture_is_the_loss():
    model, batches, _ = trained()
    found = landscape(model, F.cross_entropy, batches, points=3)
    with Surface(model, F.cross_entropy, batches) as surface:
        assert found.losses[1, 1] == surface.loss()
    assert found.losses.shape == (3, 3)


def test_along_an_eigenvector_the_loss_bends_by_its_eigenvalue():
    model, batches, _ = trained()
    top = spectrum(model, F.cross_entropy, batches).top[0]
    found = landscape(
        model, F.cross_entropy, batches, directions="eigen", dimensions=1, radius=1e-3, points=3
    )
    bend = (found.losses[0] - 2 * found.losses[1] + found.losses[2]) / 1e-3**2
    assert bend == pytest.approx(top, rel=1e-4)


def test_the_principal_plane_holds_the_path():
    model, batches, path = trained()
    found = landscape(model, F.cross_entropy, batches, directions="principal", path=path, points=5)
    assert found.explained > 0.95
    np.testing.assert_allclose(found.path[-1], 0, atol=1e-9)
    assert found.path_losses[0] > found.path_losses[-1]
    offsets = np.stack(
        [np.concatenate([(s[n] - path[-1][n]).numpy().ravel() for n in path[-1]]) for s in path]
    )
    truth = np.linalg.svd(offsets)[1]
    assert found.explained == pytest.approx((truth[:2] ** 2).sum() / (truth**2).sum(), rel=1e-9)


def test_filters_are_as_long_as_the_weights():
    model, inputs, targets = subjects.built(subjects.convolutional)
    with Surface(model, F.cross_entropy, [(inputs, targets)]) as surface:
        parts = surface.split(filter_normalised_direction(surface))
        for part, leaf in zip(parts, surface.leaves, strict=True):
            if leaf.ndim < 2:
                assert not part.any()
            else:
                torch.testing.assert_close(
                    part.flatten(1).norm(dim=1), leaf.detach().flatten(1).norm(dim=1)
                )


def test_a_rescaled_net_has_the_same_filter_normalised_landscape():
    """The reason for the normalisation: scale may move between layers and mean nothing."""
    torch.manual_seed(0)
    first, last = torch.nn.Linear(4, 8, bias=False), torch.nn.Linear(8, 3, bias=False)
    model = torch.nn.Sequential(first, torch.nn.ReLU(), last)
    batches = [(torch.randn(32, 4), torch.randint(0, 3, (32,)))]
    before = landscape(model, F.cross_entropy, batches, points=5)
    with torch.no_grad():
        first.weight.mul_(4)
        last.weight.div_(4)
    after = landscape(model, F.cross_entropy, batches, points=5)
    np.testing.assert_allclose(after.losses, before.losses, rtol=1e-4)


def test_between_two_runs():
    model, batches, path = trained()
    found = interpolation(model, F.cross_entropy, batches, other=path[0], points=7)
    with Surface(model, F.cross_entropy, batches) as surface:
        here = surface.loss()
    assert found.losses[1] == pytest.approx(here, abs=0.1)
    assert found.losses[np.argmin(np.abs(found.axes[0] - 1))] == pytest.approx(
        landscape(model, F.cross_entropy, batches, path=path[:1], points=3).path_losses[0], abs=0.5
    )
    with pytest.raises(UsageError, match="belong to another model"):
        interpolation(model, F.cross_entropy, batches, other={"x": torch.ones(1)})


@pytest.mark.parametrize("suffix", [pytest.param(".svg", marks=pytest.mark.slow), ".png"])
def test_pictures_are_written(tmp_path, suffix):
    model, batches, path = trained()
    seen = spectrum(model, F.cross_entropy, batches)
    flat = landscape(model, F.cross_entropy, batches, path=path, directions="principal", points=5)
    line = landscape(model, F.cross_entropy, batches, dimensions=1, points=5)
    files = [
        draw(seen, tmp_path / f"spectrum{suffix}"),
        draw(flat, tmp_path / f"plane{suffix}"),
        draw(line, tmp_path / f"line{suffix}"),
    ]
    assert all(file.stat().st_size > 5000 for file in files)


def test_another_suffix_is_refused(tmp_path):
    model, batches, _ = trained(steps=1)
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        draw(spectrum(model, F.cross_entropy, batches), tmp_path / "a.bmp")


def test_a_path_is_needed_for_principal_directions():
    model, batches, path = trained(steps=1)
    with pytest.raises(UsageError, match="no 2 principal directions"):
        landscape(model, F.cross_entropy, batches, directions="principal", path=path)
