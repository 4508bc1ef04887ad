"""Pictures that are flipped at random, and targets that follow or stay."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from thalweg.diagnosis import diagnose
from thalweg.observe import watch
from thalweg.observe.data_sample import inputs_and_targets, read_sample
from thalweg.observe.flipped_pictures import flipped_pictures
from thalweg.record.quantities import FLIPPED_PICTURES

SIZE = 16


def scene(rng):
    """A square on noise; its mask, and its centre and size as shares of the picture."""
    side = rng.integers(4, 7)
    down, right = rng.integers(0, SIZE - side, 2)
    mask = np.zeros((1, SIZE, SIZE), np.float32)
    mask[0, down : down + side, right : right + side] = 1
    picture = mask + rng.normal(0, 0.2, mask.shape).astype(np.float32)
    place = ((right + side / 2) / SIZE, (down + side / 2) / SIZE, side / SIZE, side / SIZE)
    return torch.from_numpy(picture), torch.from_numpy(mask), torch.tensor(place)


class Scenes(Dataset):
    """Squares, with an augmentation and a kind of target."""

    def __init__(self, augment, target="mask"):
        rng = np.random.default_rng(0)
        self.scenes = [scene(rng) for _ in range(64)]
        self.augment, self.target = augment, target

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        picture, mask, place = self.scenes[index]
        target = {"mask": mask, "place": place, "class": torch.tensor(index % 3)}.get(self.target)
        if target is None:  # an attribute that has nothing to do with the place
            target = torch.tensor([picture.abs().mean() * 10, float(index % 7)])
        return self.augment(picture, target)


def flip_both(picture, mask):
    return (picture.flip(-1), mask.flip(-1)) if torch.rand(()) < 0.5 else (picture, mask)


def flip_picture(picture, target):
    picture = picture.flip(-1) if torch.rand(()) < 0.5 else picture
    return picture * (0.8 + 0.4 * torch.rand(())), target


def turn_picture(picture, target):
    return torch.rot90(picture, int(torch.randint(0, 4, ())), (-2, -1)), target


def flip_picture_and_place(picture, place):
    if torch.rand(()) < 0.5:
        return picture.flip(-1), torch.stack([1 - place[0], *place[1:]])
    return picture, place


def jitter(picture, target):
    return picture + 0.1 * torch.randn_like(picture), target


def as_it_is(picture, target):
    return picture, target


def as_arrays(picture, target):
    picture, target = flip_picture(picture, target)
    return picture.numpy(), target.numpy()


def as_mapping(picture, target):
    picture, target = flip_picture(picture, target)
    return {"image": picture, "label": target}


def train(data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    watcher = watch(model, optimizer, train=DataLoader(data, 16, shuffle=True))
    for _ in range(3):
        loss = F.mse_loss(model(torch.randn(4, 1, SIZE, SIZE)), torch.zeros(4, 1, SIZE, SIZE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watcher.step(loss)
    before = torch.get_rng_state()
    watcher.close()
    assert torch.equal(torch.get_rng_state(), before)
    return watcher.history


def is_named(history):
    return "targets-not-flipped" in {finding.rule for finding in diagnose(history).findings}


@pytest.mark.parametrize(
    ("augment", "target"),
    [
        (flip_picture, "mask"),
        (turn_picture, "mask"),
        (as_arrays, "mask"),
        (as_mapping, "mask"),
        (flip_picture, "place"),
        (as_arrays, "place"),
    ],
)
def test_targets_that_stay_are_named(augment, target):
    history = train(Scenes(augment, target))
    assert history.last(FLIPPED_PICTURES, "stayed") >= 12
    assert history.last(FLIPPED_PICTURES, "followed") == 0
    assert is_named(history)


@pytest.mark.parametrize(
    ("augment", "target"),
    [
        (flip_both, "mask"),
        (jitter, "mask"),
        (as_it_is, "mask"),
        (flip_picture_and_place, "place"),
        (jitter, "place"),
        (flip_picture, "class"),
        (flip_picture, "attribute"),
        (turn_picture, "attribute"),
    ],
)
def test_targets_that_follow_or_have_no_place_pass(augment, target):
    assert not is_named(train(Scenes(augment, target)))


def test_pictures_that_look_the_same_flipped_show_nothing():
    class Even(Scenes):
        def __getitem__(self, index):
            picture, mask, _ = self.scenes[index]
            return flip_picture(picture + picture.flip(-1), mask + mask.flip(-1))

    assert FLIPPED_PICTURES not in train(Even(None))


class Counted(Dataset):
    """Rows of numbers, with a count of how often one is read."""

    def __init__(self, key=int):
        self.key, self.read = key, 0

    def __len__(self):
        return 64

    def __getitem__(self, index):
        self.read += 1
        if not isinstance(index, self.key):
            raise KeyError(index)
        return torch.ones(1, SIZE, SIZE) if self.key is str else torch.ones(5), torch.zeros(1)


def test_what_is_no_picture_is_read_once_more_alone():
    data = Counted()
    assert flipped_pictures(DataLoader(data), inputs_and_targets) is None
    assert data.read == 1


def test_samples_that_only_their_sampler_can_name_leave_the_split_readable():
    loader = DataLoader(Counted(str), 8, sampler=[str(key) for key in range(64)])
    sample = read_sample(loader)
    assert sample is not None
    assert len(sample) == 64
    assert sample.flipped is None
