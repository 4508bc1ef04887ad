"""Groups of samples stay on one side of every split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from thalweg.data import load_dataset
from thalweg.data.groups import Groups, group_digests, groups_in_names
from thalweg.errors import DataError, UnknownNameError


def table(folder, rows=120, groups=20, name="patient_id"):
    rng = np.random.default_rng(0)
    lines = [
        f"{a:.4f},{b:.4f},{100 + row % groups},{'yes' if a > 0 else 'no'}"
        for row, (a, b) in enumerate(rng.normal(size=(rows, 2)))
    ]
    (folder / "t.csv").write_text("\n".join([f"a,b,{name},label", *lines]) + "\n")
    return folder / "t.csv"


def groups_of(dataset, split, groups=20):
    return {(int(dataset.names[row].split()[-1]) - 2) % groups for row in dataset.indices[split]}


@pytest.mark.parametrize(("name", "group"), [("patient_id", ""), ("station", "station")])
@pytest.mark.parametrize("options", [{}, {"test_fraction": 0.2}, {"folds": 4}], ids=str)
def test_a_column_keeps_its_groups_on_one_side(tmp_path, name, group, options):
    dataset = load_dataset(table(tmp_path, name=name), group=group, **options)
    sides = [groups_of(dataset, split) for split in ("train", "val", "test")]
    assert sum(map(len, sides)) == 20 == len(set.union(*sides))
    assert dataset.inputs.shape[1] == 2
    assert f"20 groups by column {name!r}: each stays on one side" in " ".join(dataset.notes)


def test_every_group_validates_in_one_fold(tmp_path):
    path = table(tmp_path)
    folds = [groups_of(load_dataset(path, folds=4, fold=fold), "val") for fold in range(1, 5)]
    assert sum(map(len, folds)) == 20 == len(set.union(*folds))


def test_none_splits_the_groups_and_makes_the_column_an_input(tmp_path):
    dataset = load_dataset(table(tmp_path), group="none")
    assert dataset.inputs.shape[1] == 3
    assert groups_of(dataset, "train") & groups_of(dataset, "val")


def test_a_column_of_few_values_is_an_input(tmp_path):
    assert load_dataset(table(tmp_path, groups=3, name="group")).inputs.shape[1] == 3


def test_an_unknown_column_is_refused_and_so_is_one_of_no_table(tmp_path):
    with pytest.raises(UnknownNameError, match="no column"):
        load_dataset(table(tmp_path), group="patients")
    with pytest.raises(DataError, match="no table"):
        load_dataset(tmp_path, group="patient")


def test_groups_that_given_splits_divide_are_named(tmp_path):
    path = table(tmp_path)
    header, *lines = path.read_text().splitlines()
    words = ["train" if row % 3 else "val" for row in range(len(lines))]
    rows = [f"{line},{word}" for line, word in zip(lines, words, strict=True)]
    path.write_text("\n".join([f"{header},split", *rows]) + "\n")
    notes = " ".join(load_dataset(path).notes)
    assert "20 of 20 groups by column 'patient_id' stand in more than one split" in notes


@pytest.mark.parametrize(
    "pattern",
    ["patient{}_slice{:02}", "video{}_frame{:04}", "IMG_{:04}_aug{}", "subject-{}-{}", "{}_flip{}"],
)
def test_a_pattern_in_file_names_keeps_groups_together(tmp_path, pattern):
    rng = np.random.default_rng(0)
    for group in range(12):
        folder = tmp_path / ("ant", "bee")[group % 2]
        folder.mkdir(exist_ok=True)
        for part in range(4):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{pattern.format(group, part)}.png")
    dataset = load_dataset(tmp_path)
    assert any("12 groups by the file names" in note for note in dataset.notes)
    groups = groups_in_names(dataset.names, dataset.targets)
    sides = [{groups.names[row] for row in dataset.indices[s]} for s in ("train", "val")]
    assert not sides[0] & sides[1]
    assert len(dataset.indices["val"]) == 8


@pytest.mark.parametrize(
    "names",
    [
        [f"ant/{index}.png" for index in range(40)],
        [f"ant/IMG_{index:04}.jpg" for index in range(40)],
        [f"n01_{index}.JPEG" for index in range(40)],
        [f"video{index // 20}_frame{index}.png" for index in range(40)],
        [f"patient{index}_slice1.png" for index in range(40)],
    ],
    ids=["numbers", "camera", "ImageNet", "a video a class", "one slice each"],
)
def test_other_file_names_make_no_groups(names):
    assert groups_in_names(names, np.arange(40) // 20) is None


@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.integers(0, 6)), min_size=1)
)
def test_groups_that_share_a_content_are_one_and_others_stay_apart(rows):
    digests = np.zeros((len(rows), 16), dtype=np.uint8)
    digests[:, 0] = [content for _, content in rows]
    joined = group_digests(digests, Groups([name for name, _ in rows], "here"))
    home = list(range(len(rows)))  # the slow way: rows are merged until nothing changes
    for _ in rows:
        for i, (name, content) in enumerate(rows):
            for j, (other, same) in enumerate(rows):
                if content == same or (name and name == other):
                    home[i] = home[j] = min(home[i], home[j])
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert (home[i] == home[j]) == (joined[i].tobytes() == joined[j].tobytes())
