"""Folders and tables that are nearly what is read: they are, or one error says what to do."""

import os

import numpy as np
import pytest
from PIL import Image

from thalweg.data import load_dataset
from thalweg.errors import DataError


def images(folder, count=8, suffix=".png"):
    """Noise, so that none is a copy of another."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(list(str(folder).encode()))
    for row in range(count):
        pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}{suffix}")


@pytest.mark.parametrize("wrapping", ["", "images"])
def test_splits_without_classes_are_no_classes(wrapping, tmp_path):
    for split in ("train", "val"):
        images(tmp_path / wrapping / split)
    with pytest.raises(DataError, match="splits, but no class folders") as caught:
        load_dataset(tmp_path)
    assert "train/CLASS" in caught.value.fix


@pytest.mark.parametrize("mask", ["masks", "Labels", "gt"])
def test_images_and_masks_are_no_classes(mask, tmp_path):
    for name in ("images", mask):
        images(tmp_path / name)
    with pytest.raises(DataError, match="no class folders"):
        load_dataset(tmp_path)


def test_classes_that_happen_to_have_such_names_are_classes(tmp_path):
    for name in ("masks", "images", "hats"):
        images(tmp_path / name)
    assert load_dataset(tmp_path).class_names == ("hats", "images", "masks")


def test_folders_of_equal_names_in_each_class_are_told(tmp_path):
    for camera in ("cam1", "cam2"):
        for state in ("open", "closed"):
            images(tmp_path / camera / state)
    (note,) = [note for note in load_dataset(tmp_path).notes if "taken as parts" in note]
    assert "'closed', 'open'" in note


def test_years_in_each_class_are_parts_of_it(tmp_path):
    for name in ("sun", "rain"):
        for year in ("2023", "2024"):
            images(tmp_path / name / year)
    assert not any("taken as parts" in note for note in load_dataset(tmp_path).notes)


@pytest.mark.parametrize(
    ("suffix", "word"), [(".mp4", "frames"), (".wav", "spectrograms"), (".npy", "savez")]
)
def test_what_is_no_image_is_named_with_a_remedy(suffix, word, tmp_path):
    for name in ("yes", "no"):
        for row in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{row}{suffix}").write_bytes(b"RIFF")
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)
    assert caught.value.seen == f"6 × {suffix}"
    assert word in caught.value.fix


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("t.xlsx", "CSV"),
        ("t.pkl", "can run code"),
        ("t.data", "header"),
    ],
)
def test_a_file_of_another_kind_has_a_remedy(name, words, tmp_path):
    (tmp_path / name).write_bytes(b"some")
    with pytest.raises(DataError, match="is not recognised") as caught:
        load_dataset(tmp_path / name)
    assert words in caught.value.fix.split("; or give")[0]


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (("test.csv", "train.csv", "sample_submission.csv"), "train.csv"),
        (("houses.csv", "test.csv"), "houses.csv"),
    ],
)
def test_of_several_tables_the_one_to_train_on_is_named(names, best, tmp_path):
    for name in names:
        (tmp_path / name).write_text("a,b\n1,2\n")
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)
    assert caught.value.fix.endswith(f"/{best}")


ROWS = "\n".join(f"{row},{row % 7},{'lo' if row < 30 else 'hi'}" for row in range(60))


@pytest.mark.parametrize(
    "above",
    [
        "Report of 2024\nSource: me\n\n",
        "Report\nby Ann, Berlin\n\n",
        "# made by hand\n# v2, of May\n",
        "Table 1,,\n",
    ],
)
def test_titles_above_the_header_are_left_out(above, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"{above}size,kind,label\n{ROWS}\n")
    dataset = load_dataset(path)
    assert dataset.class_names == ("hi", "lo")
    assert dataset.facts.counts["train"] + dataset.facts.counts["val"] == 60
    assert any("above the header are no part of the table" in note for note in dataset.notes)


@pytest.mark.parametrize(
    "text",
    [
        f"size,kind,label\n{ROWS}\n",
        f"size,label\n{ROWS}\n",  # a header without the column of row names
        "x\n" + "\n".join(f"{row}" for row in range(9)),
    ],
)
def test_a_first_row_of_another_kind_is_no_title(text, tmp_path):
    from thalweg.data.sources.csv_file import csv_file

    path = tmp_path / "t.csv"
    path.write_text(text)
    table = csv_file(path)
    assert table is not None
    assert table.title_rows == 0
    assert ",".join(table.first) == text.partition("\n")[0]


def test_addresses_on_the_web_are_not_fetched(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"https://example.com/{row}.jpg,{'ab'[row % 2]}" for row in range(30)]
    path.write_text("\n".join(["image_url,label", *rows]))
    with pytest.raises(DataError, match="nothing is fetched") as caught:
        load_dataset(path)
    assert "download" in caught.value.fix


@pytest.mark.parametrize("folder", ["", "pictures"])
def test_a_suffix_in_capitals_is_found(folder, tmp_path):
    images(tmp_path / folder / "a", 20)
    path = tmp_path / "t.csv"
    rows = [f"a/{row}.PNG,{'xy'[row % 2]}" for row in range(20)]
    path.write_text("\n".join(["file,label", *rows]))
    dataset = load_dataset(path)
    assert not dataset.quarantined
    assert any("with .png as suffix" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"PK\x03\x04\x14\x00\x00", "Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1", "old Excel"),
        (b"\n<HTML><table>", "HTML"),
        (b"PAR1\x15\x04", "Parquet"),
    ],
)
def test_a_file_of_another_kind_that_is_called_csv_is_named(start, kind, tmp_path):
    (tmp_path / "t.csv").write_bytes(start + bytes(range(256)))
    with pytest.raises(DataError, match="is no CSV") as caught:
        load_dataset(tmp_path / "t.csv")
    assert kind in caught.value.seen


def test_folders_in_the_classes_that_may_be_the_classes_are_told(tmp_path):
    for group, names in {"animals": ("cat", "dog"), "plants": ("rose", "tulip")}.items():
        for name in names:
            images(tmp_path / group / name)
    (note,) = [note for note in load_dataset(tmp_path).notes if "taken as parts" in note]
    assert "'cat', 'dog', 'rose'" in note


@pytest.mark.parametrize("state", ["beside images", "numbered"])
def test_other_folders_in_the_classes_are_parts_of_them(state, tmp_path):
    for group in ("sun", "rain"):
        for day in ("monday", "tuesday") if state == "beside images" else ("day1", "day2"):
            images(tmp_path / group / f"{group}_{day}", 3)
        if state == "beside images":
            images(tmp_path / group)
    assert not any("taken as parts" in note for note in load_dataset(tmp_path).notes)


def test_a_link_to_other_classes_gives_a_class_no_images_of_theirs(tmp_path):
    for name in ("cat", "dog"):
        images(tmp_path / "d" / name)
    (tmp_path / "d" / "cat" / "loop").symlink_to(tmp_path / "d")
    dataset = load_dataset(tmp_path / "d")
    assert len(dataset.names) == 16
    assert any("links to the folder of another class: cat/loop/dog" in n for n in dataset.notes)


def test_one_folder_of_images_beside_a_table_names_the_table(tmp_path):
    images(tmp_path / "train")
    (tmp_path / "labels.csv").write_text("id,breed\n0,x\n1,y\n")
    with pytest.raises(DataError, match="which may list their classes") as caught:
        load_dataset(tmp_path)
    assert caught.value.fix.endswith("/labels.csv")


def test_a_table_in_each_split_is_read(tmp_path):
    for split in ("train", "valid"):
        images(tmp_path / split)
        rows = [f"{row}.png, {row % 2}, {int(row % 4 == 0)}" for row in range(8)]
        text = "\n".join(["filename, cat, dog", *rows])
        (tmp_path / split / "_classes.csv").write_text(text)
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.targets[:4].tolist() == [[0, 1], [1, 0], [0, 0], [1, 0]]
    assert (len(dataset.indices["train"]), len(dataset.indices["val"])) == (8, 8)
    assert dataset.names[-1] == "valid/7.png"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    for name in ("cat", "dog"):
        images(tmp_path / name)
    (tmp_path / "dog").chmod(0)
    try:
        with pytest.raises(DataError, match="dog cannot be read") as caught:
            load_dataset(tmp_path)
    finally:
        (tmp_path / "dog").chmod(0o755)
    assert "chmod" in caught.value.fix


def test_copies_of_one_image_are_told(tmp_path):
    images(tmp_path / "cat", 1)
    (tmp_path / "dog").mkdir()
    for row in range(4):
        for name in ("cat", "dog"):
            (tmp_path / name / f"copy{row}.png").write_bytes((tmp_path / "cat/0.png").read_bytes())
    with pytest.raises(DataError, match="same content") as caught:
        load_dataset(tmp_path)
    assert caught.value.seen == "9 copies"
