"""Near copies are found and kept together; images that only look alike are not accused."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from thalweg.data import Caveat, load_dataset
from thalweg.data.images.find_near_copies import near_copies
from thalweg.data.load import wait_for_decoding
from thalweg.data.near_copies import CopyPairs, link_near_copies

SIZE = 96


def photograph(seed, size=SIZE):
    """Clouds of all scales with a few shapes in them: as much detail as a photograph has."""
    random = np.random.default_rng(seed)
    light = np.zeros((size, size, 3))
    for cells in (3, 6, 12, 24, 48):
        grey, colour = (
            random.normal(0, 1, (cells, cells, 1)),
            random.normal(0, 0.3, (cells, cells, 3)),
        )
        field = ((grey + colour) * 30 + 128).clip(0, 255).astype(np.uint8)
        light += np.asarray(Image.fromarray(field).resize((size, size))) / 5.0
    image = Image.fromarray(((light - 128) * 2 + 128).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, width, height = random.integers(4, size // 2, 4).tolist()
        draw.ellipse((x, y, x + width, y + height), tuple(random.integers(60, 200, 3).tolist()))
    return image


def jpeg(image, quality):
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(BytesIO(file.getvalue())).convert("RGB")


def cut_by(image, share):
    width, height = image.size
    x, y = int(width * share), int(height * share)
    return image.crop((x, y, width - x, height - y))


def stamped(image):
    copy = image.copy()
    ImageDraw.Draw(copy).text((2, image.size[1] - 12), "(c)", (255, 255, 255))
    return copy


COPIES = {
    "JPEG 90": lambda image: jpeg(image, 90),
    "JPEG 60": lambda image: jpeg(image, 60),
    "half the size": lambda image: image.resize((SIZE // 2, SIZE // 2)),
    "twice the size": lambda image: image.resize((2 * SIZE, 2 * SIZE)),
    "a little brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.08),
    "cut by 1 %": lambda image: cut_by(image, 0.01),
    "noise": lambda image: Image.fromarray(
        (np.asarray(image) + np.random.default_rng(0).normal(0, 8, (SIZE, SIZE, 3)))
        .clip(0, 255)
        .astype(np.uint8)
    ),
}


def stack(images, size=64):
    return np.stack([np.asarray(image.resize((size, size))) for image in images])


def pairs_of(images, kind="upright"):
    pairs = near_copies(images, np.arange(len(images)))
    return {tuple(pair) for pair in getattr(pairs, kind).tolist()}


@pytest.fixture(scope="module")
def photographs():
    return [photograph(seed) for seed in range(60)]


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found(photographs, kind):
    copies = [COPIES[kind](image) for image in photographs[:20]]
    found = pairs_of(stack(photographs + copies))
    expected = {(row, 60 + row) for row in range(20)}
    assert found <= expected, "and nothing else"
    assert len(found) >= 19


@pytest.mark.parametrize("size", [28, 32, 33, 40, 64, 75])
def test_mirrored_copies_are_found(photographs, size):
    copies = [ImageOps.mirror(image) for image in photographs[:20]]
    images = stack(photographs + copies, size)
    assert pairs_of(images, "mirrored") == {(row, 60 + row) for row in range(20)}
    assert not pairs_of(images)


@pytest.mark.parametrize("kind", COPIES)
def test_mirrored_copies_that_were_changed_too_are_found(photographs, kind):
    copies = [ImageOps.mirror(COPIES[kind](image)) for image in photographs[:20]]
    pairs = pairs_of(stack(photographs + copies), "mirrored")
    assert pairs <= {(row, 60 + row) for row in range(20)}
    assert len(pairs) >= 18


def test_a_symmetric_image_is_no_mirrored_copy_of_itself(photographs):
    halves = [np.asarray(image.resize((32, 64))) for image in photographs[:30]]
    images = np.stack([np.concatenate([half, half[:, ::-1]], axis=1) for half in halves])
    assert not pairs_of(images, "mirrored")
    twice = np.concatenate([images, images[:3]])
    assert pairs_of(twice) == {(0, 30), (1, 31), (2, 32)}
    assert not pairs_of(twice, "mirrored")


def test_grey_images_and_rows_that_are_left_out(photographs):
    images = stack([*photographs, jpeg(photographs[3], 70)])[..., :1]
    assert pairs_of(images) == {(3, 60)}
    assert not any(map(len, near_copies(images, np.arange(60))))
    assert near_copies(images[:, :16, :16], np.arange(61)) is None


def on_paper(seed):
    """A few strokes on white."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (SIZE, SIZE), "white")
    points = random.integers(20, SIZE - 20, (4, 2))
    ImageDraw.Draw(image).line([tuple(p) for p in points.tolist()], "black", 4)
    return image


def on_one_background(seed):
    """The same room; an object of its own size and place in each."""
    random = np.random.default_rng(seed)
    image = photograph(7)
    x, y = random.integers(10, SIZE - 30, 2).tolist()
    colour = tuple(random.integers(0, 255, 3).tolist())
    ImageDraw.Draw(image).rectangle((x, y, x + 14, y + 14), colour)
    return image


def plain(seed):
    random = np.random.default_rng(seed)
    noise = random.normal(0, 3, (SIZE, SIZE, 3))
    return Image.fromarray((128 + seed % 3 + noise).clip(0, 255).astype(np.uint8))


def sky(seed):
    """A gradient, with the sun in no place."""
    random = np.random.default_rng(seed)
    column = np.linspace(90, 220 + random.integers(0, 6), SIZE)[:, None, None]
    return Image.fromarray((column + np.zeros((SIZE, SIZE, 3))).astype(np.uint8))


def woven(seed):
    """The same cloth, from a place of its own."""
    shift = np.random.default_rng(seed).uniform(0, 2 * np.pi, 2)
    y, x = np.mgrid[:SIZE, :SIZE] * 0.9
    wave = 127 + 60 * np.sin(x + shift[0]) + 60 * np.sin(y + shift[1])
    return Image.fromarray(np.repeat(wave.astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", [on_paper, on_one_background, plain, sky, woven])
def test_images_that_look_alike_are_no_copies(kind):
    images = stack([kind(seed) for seed in range(120)])
    assert not pairs_of(images)
    assert not pairs_of(images, "mirrored")


def test_images_that_were_too_small_are_not_compared(scans):
    assert load_dataset(scans, image_size=32).near_copied is None


@pytest.fixture
def folder(tmp_path, photographs):
    """Each photograph, and of every third a second file, compressed anew."""
    for row, image in enumerate(photographs):
        home = tmp_path / f"class{row % 2}"
        home.mkdir(exist_ok=True)
        image.save(home / f"{row}.png")
        if row % 3 == 0:
            image.save(home / f"{row} copy.jpg", quality=60)
    return tmp_path


def split_of(dataset):
    return {
        dataset.names[row]: split
        for split, rows in dataset.indices.items()
        for row in rows.tolist()
    }


@pytest.mark.parametrize("options", [{}, {"test_fraction": 0.2}, {"folds": 5, "fold": 2}])
def test_they_stay_on_one_side_of_every_split(folder, options):
    for seed in range(3):
        dataset = load_dataset(folder, seed=seed, **options)
        splits = split_of(dataset)
        for row in range(0, 60, 3):
            name = f"class{row % 2}/{row}"
            assert splits[f"{name}.png"] == splits[f"{name} copy.jpg"]
    assert dataset.near_copied == 0
    note = next(note for note in dataset.notes if "near copies" in note)
    assert note.startswith("20 images are near copies of others")
    assert "they stay in one split, --data.group none splits them: " in note
    assert " copy.jpg ≈ class" in note


def test_a_split_of_the_user_keeps_them_apart_and_is_told(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("split")
    for path in sorted(folder.rglob("*.*")):
        split = "val" if "copy" in path.name else "train"
        home = root / split / path.parent.name
        home.mkdir(parents=True, exist_ok=True)
        path.rename(home / path.name)
    dataset = load_dataset(root)
    assert dataset.near_copied == 1
    (caveat,) = [note for note in dataset.notes if isinstance(note, Caveat)]
    assert caveat.startswith("20 near copies stand in more than one split: train: ")
    assert caveat.headline == "Near copies across the splits"


def test_they_are_divided_where_the_user_says_so(folder):
    dataset = load_dataset(folder, group="none")
    assert 0 < dataset.near_copied < 1
    assert any(note.startswith("20 images are near copies") for note in dataset.notes)


def test_other_labels_are_told(folder):
    path = folder / "class0" / "0 copy.jpg"
    path.rename(folder / "class1" / "0 copy.jpg")
    notes = load_dataset(folder).notes
    assert any("1 near copies bear more than one label" in note for note in notes)


@pytest.fixture
def mirrored_folder(tmp_path, photographs):
    """Each photograph, and of every third its mirror image."""
    for row, image in enumerate(photographs):
        home = tmp_path / f"class{row % 2}"
        home.mkdir(exist_ok=True)
        image.save(home / f"{row}.png")
        if row % 3 == 0:
            ImageOps.mirror(image).save(home / f"{row} mirrored.jpg", quality=80)
    return tmp_path


def test_mirrored_copies_stay_on_one_side_and_are_told(mirrored_folder):
    for seed in range(3):
        dataset = load_dataset(mirrored_folder, seed=seed)
        splits = split_of(dataset)
        for row in range(0, 60, 3):
            name = f"class{row % 2}/{row}"
            assert splits[f"{name}.png"] == splits[f"{name} mirrored.jpg"]
    (note,) = [note for note in dataset.notes if "near copies" in note]
    assert note.startswith(
        "20 images are near copies of others (compressed, resized or cut anew; 20 pairs mirrored)"
    )


def test_mirrored_copies_of_few_other_labels_are_told(mirrored_folder):
    """Mirror images keep the class here: 19 of 20 pairs show it, and the test agrees."""
    path = mirrored_folder / "class0" / "0 mirrored.jpg"
    path.rename(mirrored_folder / "class1" / "0 mirrored.jpg")
    notes = load_dataset(mirrored_folder).notes
    assert any("1 near copies bear more than one label" in note for note in notes)


def test_a_mirrored_copy_of_another_class_is_no_duplicate(tmp_path, photographs):
    """To the left, to the right: each image of the one class is a mirror image of the other's."""
    for row, image in enumerate(photographs):
        for label, picture in (("left", image), ("right", ImageOps.mirror(image))):
            (tmp_path / label).mkdir(exist_ok=True)
            picture.save(tmp_path / label / f"{row}.png")
    dataset = load_dataset(tmp_path)
    assert dataset.near_copied == 0
    assert not any("near copies" in note for note in dataset.notes)


class TestOtherClasses:
    pairs = CopyPairs(np.array([[0, 1]]), np.array([[0, 2], [1, 3], [4, 5]]))
    targets = np.array([0, 1, 1, 1, 2, 2])

    def test_few_pairs_of_two_classes_are_mislabelled_unless_mirrors_change_the_class(self):
        assert self.pairs.without_other_classes(self.targets, lambda: True) is self.pairs
        kept = self.pairs.without_other_classes(self.targets, lambda: False)
        assert kept.mirrored.tolist() == [[1, 3], [4, 5]]
        assert kept.upright.tolist() == [[0, 1]]

    def test_many_pairs_of_two_classes_show_that_mirrors_change_the_class(self):
        kept = self.pairs.without_other_classes(np.array([0, 1, 1, 0, 2, 2]), lambda: True)
        assert kept.mirrored.tolist() == [[4, 5]]

    def test_of_several_labels_all_must_agree(self):
        labels = np.stack([self.targets > 0, self.targets > 1], axis=1).astype(np.float32)
        kept = self.pairs.without_other_classes(labels, lambda: False)
        assert kept.mirrored.tolist() == [[1, 3], [4, 5]]

    def test_mirrors_are_not_tested_where_all_agree(self):
        def fail():
            raise AssertionError

        assert self.pairs.without_other_classes(np.zeros(6), fail) is self.pairs


def as_pairs(*pairs):
    return CopyPairs(np.array(pairs), np.zeros((0, 2), dtype=np.int64))


class TestFamilies:
    digests = np.random.default_rng(0).integers(0, 255, (100, 16), dtype=np.uint8)

    def test_chains_and_exact_copies_are_one_family(self):
        digests = self.digests.copy()
        digests[50] = digests[1]  # an exact copy, whose pair was not found
        copies = link_near_copies(digests, as_pairs([1, 2], [2, 3], [7, 9]))
        families = [family.tobytes() for family in copies.families]
        assert len({families[row] for row in (1, 2, 3, 50)}) == 1
        assert families[1] in {digests[row].tobytes() for row in (1, 2, 3)}
        assert families[7] == families[9] != families[1]
        assert families[8] == digests[8].tobytes()
        assert copies.rows.tolist() == [1, 2, 3, 7, 9, 50]

    def test_mirrored_pairs_join_families_and_are_counted_by_content(self):
        digests = self.digests.copy()
        digests[50] = digests[1]
        mirrored = np.array([[1, 2], [2, 50], [5, 9]])
        copies = link_near_copies(digests, as_pairs([2, 3])._replace(mirrored=mirrored))
        families = [family.tobytes() for family in copies.families]
        assert len({families[row] for row in (1, 2, 3, 50)}) == 1
        assert families[5] == families[9]
        assert copies.mirrored == 2

    def test_a_family_too_large_is_a_fixed_camera(self):
        pairs = as_pairs(*([row, row + 1] for row in range(40)))
        copies = link_near_copies(self.digests, pairs)
        assert (copies.families == self.digests).all()
        assert copies.alike == 41
        everything = {"train": np.arange(50), "val": np.arange(50, 100), "test": np.array([], int)}
        notes = copies.notes(np.zeros(100), indices=everything, names=[str(i) for i in range(100)])
        assert "41 images look alike" in notes[0]

    def test_the_share_counts_no_exact_copies(self):
        digests = self.digests.copy()
        digests[60] = digests[5]
        copies = link_near_copies(digests, as_pairs([1, 51], [5, 60], [7, 8]))
        splits = {"train": np.arange(50), "val": np.arange(50, 100), "test": np.array([], int)}
        assert copies.share(splits) == 1 / 50


def test_those_that_show_late_are_told_late(tmp_path):
    """Of many files in given splits training begins before all of them are decoded."""
    random = np.random.default_rng(0)
    for row in range(300):
        pixels = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        split, label = ("train", "val")[row % 5 == 0], ("a", "b")[row % 2]
        home = tmp_path / split / label
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(home / f"{row}.png")
        if row < 10 and split == "train":
            (tmp_path / "val" / label).mkdir(parents=True, exist_ok=True)
            copy = Image.fromarray(pixels - pixels // 16)
            copy.save(tmp_path / "val" / label / f"copy of {row}.png")
    late = load_dataset(tmp_path, overlap=True)
    assert late.decoding is not None
    assert late.near_copied is None
    whole = wait_for_decoding(late)
    assert whole.near_copied == pytest.approx(8 / 68)
    (note,) = [note for note in whole.notes if isinstance(note, Caveat)]
    assert note.startswith("8 near copies stand in more than one split")
    plain = load_dataset(tmp_path)
    assert plain.near_copied == whole.near_copied
    assert set(plain.notes) == set(whole.notes)
