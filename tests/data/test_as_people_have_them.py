"""Folders and tables as they lie on people's disks, of the kinds that were reported as misread."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thalweg.data import load_dataset
from thalweg.data.images.mirror_test import mirror_test, sample_rows
from thalweg.data.samples import SPLITS, UNSPLIT, split_called
from thalweg.data.sources import samples_at
from thalweg.data.table_rows import table_rows
from thalweg.data.tables.column import Column
from thalweg.errors import DataError, ThalwegWarning

CLASSES = ("ant", "bee")


def picture(path: Path, level: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path)
    return path.name


def fill(folder: Path, start: int = 0) -> None:
    for number, name in enumerate(CLASSES):
        for index in range(3):
            picture(folder / name / f"{index}.png", start + 20 * number + index)


def labels_of(samples) -> list[str]:
    return [samples.labels.texts[code] for code in samples.labels.codes]


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *[(w, "train") for w in ("train", "Training", "training_set", "seg_train", "train2017")],
        *[(w, "train") for w in ("trainset", "images_train", "train-images", "TrainData", "TRAIN")],
        *[(w, "val") for w in ("valid", "validation_set", "val2017", "dev", "seg_val")],
        *[(w, "test") for w in ("Testing", "test_set", "seg_test", "testImages")],
        *[
            (w, "")
            for w in ("bus", "train_station", "test pattern", "trainer", "", "val d'or", "1")
        ],
        *[(w, "") for w in ("train_val", "data", "images")],
    ],
)
def test_words_that_name_a_split(word, split):
    assert split_called(word) == (SPLITS.index(split) if split else UNSPLIT)


@pytest.mark.parametrize(
    "inner", ["", "images", "data/data", "Dataset"], ids=lambda name: name or "plain"
)
@pytest.mark.parametrize("layout", ["classes", "splits", "wrapped splits"])
def test_a_wrapped_folder_is_entered(tmp_path, inner, layout):
    top = tmp_path / inner
    if layout == "classes":
        fill(top)
    else:
        for start, name in ((0, "seg_train"), (100, "seg_test")):
            fill(top / name / (name if layout == "wrapped splits" else ""), start)
    if inner == "Dataset":  # a repository
        (tmp_path / "src" / "utils").mkdir(parents=True)
        (tmp_path / "README.md").write_text("read me")
    samples = samples_at(tmp_path)
    assert set(labels_of(samples)) == set(CLASSES)
    assert len(samples.names) == (6 if layout == "classes" else 12)
    assert any("the classes are the folders in" in note for note in samples.notes) == bool(inner)


def test_two_folders_of_images_are_two_classes_though_they_have_folders(tmp_path):
    for name in CLASSES:
        for year in ("2020", "2021"):
            picture(tmp_path / name / year / "0.png", 10)
    assert set(labels_of(samples_at(tmp_path))) == set(CLASSES)


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def ids(folder: Path, names: list[str], suffix: str) -> list[str]:
    for number, name in enumerate(names):
        picture(folder / f"{name}{suffix}", number)
    return [f"{name},{CLASSES[i % 2]}" for i, name in enumerate(names)]


@pytest.mark.parametrize("header", ["id,breed", "image_id,label", "path,label", "key,label"])
@pytest.mark.parametrize(("folder", "suffix"), [("train", ".jpg"), ("a/b", ".png"), ("", ".JPEG")])
def test_ids_without_an_extension_are_files(tmp_path, header, folder, suffix):
    names = [f"{index:04x}" for index in range(100, 112)]
    rows = ids(tmp_path / folder, names, suffix)
    samples = samples_at(write(tmp_path / "labels.csv", header, rows))
    assert samples.names[0] == f"{folder}/{names[0]}{suffix}".lstrip("/")
    assert any(f"with {suffix} added" in note for note in samples.notes)


@pytest.mark.parametrize(
    "prefix", ["/home/ada/project/", "C:\\\\data\\\\", "../elsewhere/", "train/deep/"]
)
def test_paths_of_another_machine_are_found_by_their_last_parts(tmp_path, prefix):
    names = [f"{index}.png" for index in range(6)]
    rows = ids(tmp_path / "photos", names, "")
    rows = [f"{prefix}{row}" for row in rows]
    samples = samples_at(write(tmp_path / "t.csv", "file,label", rows))
    assert list(samples.names) == [f"photos/{name}" for name in names]
    assert any("the last part, in photos/" in note for note in samples.notes)


def test_paths_as_written_come_first(tmp_path):
    names = [f"{index}.png" for index in range(4)]
    rows = ids(tmp_path, names, "")
    ids(tmp_path / "copy", names, "")
    samples = samples_at(write(tmp_path / "t.csv", "file,label", rows))
    assert list(samples.names) == names


def numbers(count: int = 30) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 2))


def table(tmp_path: Path, header: str, cells: list[str]) -> Path:
    rows = [f"{a:.4f},{b:.4f},{cell}" for (a, b), cell in zip(numbers(), cells, strict=True)]
    return write(tmp_path / "t.csv", f"a,b,{header}", rows)


@pytest.mark.parametrize("yes", ["True", "1", "yes", "1.0"])
def test_a_column_of_flags_splits(tmp_path, yes):
    no = {"True": "False", "1": "0", "yes": "no", "1.0": "0.0"}[yes]
    cells = [f"{yes if row % 3 == 0 else no},{CLASSES[row % 2]}" for row in range(30)]
    samples = samples_at(table(tmp_path, "is_valid,label", cells))
    assert samples.features == ("a", "b")
    assert (samples.splits == SPLITS.index("val")).sum() == 10
    assert "split: the column 'is_valid' marks the rows of val" in samples.notes


@pytest.mark.parametrize("first", [0, 1])
def test_the_first_of_numbered_folds_validates(tmp_path, first):
    cells = [f"{first + row % 5},{CLASSES[row % 2]}" for row in range(30)]
    samples = samples_at(table(tmp_path, "fold,label", cells))
    assert samples.features == ("a", "b")
    assert (samples.splits == SPLITS.index("val")).sum() == 6


def test_a_phase_of_words_splits_and_one_of_measurements_does_not(tmp_path):
    cells = [f"{'train' if row % 3 else 'valid'},{CLASSES[row % 2]}" for row in range(30)]
    samples = samples_at(table(tmp_path, "phase,label", cells))
    assert (samples.splits == SPLITS.index("val")).sum() == 10
    cells = [f"{row / 7:.3f},{CLASSES[row % 2]}" for row in range(30)]
    assert samples_at(table(tmp_path, "phase,label", cells)).features == ("a", "b", "phase")


def test_numbers_of_rows_are_no_feature(tmp_path):
    cells = [f"{1000 + row},{CLASSES[row % 2]}" for row in range(30)]
    samples = samples_at(table(tmp_path, "id,label", cells))
    assert samples.features == ("a", "b")
    alone = write(tmp_path / "u.csv", "id,label", [f"{i},{CLASSES[i % 2]}" for i in range(30)])
    with pytest.raises(DataError, match="no column to learn from beside the target"):
        samples_at(alone)


def test_a_digit_group_of_python_is_no_number(tmp_path):
    """float("1_0") is 10."""
    cells = [("1_0", "10", "11")[row % 3] for row in range(30)]
    dataset = load_dataset(table(tmp_path, "label", cells))
    assert set(dataset.class_names) == {"1_0", "10", "11"}


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_long_ids_are_not_merged_by_rounding(tmp_path, kind):
    big = 2**53
    targets = np.array([big + row % 2 for row in range(30)])
    if kind == "csv":
        path = table(tmp_path, "label", [str(target) for target in targets])
    else:
        path = tmp_path / "t.npz"
        np.savez(path, x=numbers(), y=targets)
    assert load_dataset(path).class_names == (str(big), str(big + 1))


def test_what_no_float32_holds_is_missing_or_refused(tmp_path):
    cells = [f"{'1e300' if row == 3 else row},{CLASSES[row % 2]}" for row in range(30)]
    dataset = load_dataset(table(tmp_path, "c,label", cells))
    assert np.isnan(dataset.inputs).sum() == 1
    path = write(tmp_path / "p.csv", "a,b,c", ["1,2,1e300"])
    with pytest.warns(ThalwegWarning, match="taken as missing: '1e300'"):
        rows = table_rows(path, columns=[Column(name=name) for name in "abc"])
    assert rows.vectors[0, :2].tolist() == [1, 2]
    assert np.isnan(rows.vectors[0, 2])
    cells = ["1e300" if row == 3 else f"{row}.5" for row in range(30)]
    with pytest.raises(DataError, match="beyond float32"):
        load_dataset(table(tmp_path, "price", cells))


def test_classes_that_look_alike_once_escaped_stay_two(tmp_path):
    for number, name in enumerate(("a\x1b", "a\\x1b")):
        for index in range(4):
            picture(tmp_path / name / f"{index}.png", 10 * number + index)
    names = load_dataset(tmp_path).class_names
    assert len(set(names)) == 2


def test_a_cell_longer_than_pythons_limit_is_read(tmp_path):
    cells = [f"{'x' * 200_000},{CLASSES[row % 2]}" for row in range(30)]
    assert samples_at(table(tmp_path, "text,label", cells)).features == ("a", "b")


@pytest.mark.parametrize("mark", [" ", ",", ";"])
def test_several_labels_in_a_cell_are_said(tmp_path, mark):
    several = ["ant", "bee", "ant|bee", "bee|cat", "ant|cat", "ant|bee|cat"]
    cells = [f'"{several[row % 6].replace("|", mark)}"' for row in range(30)]
    path = table(tmp_path, "labels", cells)
    several_labels = load_dataset(path)
    assert several_labels.class_names == ("ant", "bee", "cat")
    assert any("--task classification" in note for note in several_labels.notes)
    combinations = load_dataset(path, task="classification")
    assert len(combinations.class_names) == 6
    assert any("combines 3 labels" in note for note in combinations.notes)


@pytest.mark.parametrize("names", [["New York", "New Orleans", "York"], ["red fox", "red panda"]])
def test_names_of_two_words_are_no_combination(tmp_path, names):
    cells = [names[row % len(names)] for row in range(30)]
    notes = load_dataset(table(tmp_path, "label", cells)).notes
    assert not any("combines" in note for note in notes)


def arrows(count: int, *, mirrored: bool):
    """Noise with an arrow that points left or right, or, where mirrored, up or down."""
    draw = np.random.default_rng(0)
    images, classes = [], []
    for index in range(count):
        image = draw.integers(0, 90, (32, 32, 3))
        y, x = draw.integers(10, 22, 2)
        tip = index % 2
        for j in range(6):
            across = slice(y - j, y + j + 1)
            column = x - 6 + j if tip else x + 6 - j
            image[across, column] += 140
        images.append(image.astype(np.uint8) if mirrored else image.swapaxes(0, 1).astype(np.uint8))
        classes.append(tip)
    return images, np.array(classes)


def test_arrows_to_the_left_and_right_are_not_mirrored_and_arrows_up_and_down_are():
    images, classes = arrows(160, mirrored=True)
    sideways = mirror_test(images, classes)
    assert sideways is not None
    assert sideways.plain > 0.9 > 0.1 > sideways.mirrored
    assert sideways.is_harmful
    upright = mirror_test(*arrows(160, mirrored=False))
    assert upright is not None
    assert upright.plain > 0.9
    assert not upright.is_harmful


def test_noise_and_few_images_show_nothing():
    draw = np.random.default_rng(0)
    images = list(draw.integers(0, 255, (120, 16, 16, 1), dtype=np.uint8))
    test = mirror_test(images, np.arange(120) % 3)
    assert test is not None
    assert not test.is_harmful
    assert mirror_test(images[:20], np.arange(20) % 2) is None


def test_the_rows_of_the_test_are_spread_over_the_largest_classes():
    classes = np.repeat(np.arange(30), np.arange(30) + 100)
    rows = sample_rows(classes, np.arange(len(classes)))
    assert set(classes[rows]) == set(range(20, 30))
    assert len(rows) == 480


def test_ratings_are_classes_or_values_as_the_user_says(tmp_path):
    path = table(tmp_path, "rating", [f"{row % 5 + 1}.0" for row in range(30)])
    classes = load_dataset(path)
    assert classes.facts.task == "classification"
    assert any("--task regression takes them as values" in note for note in classes.notes)
    values = load_dataset(path, task="regression")
    assert (values.facts.task, values.targets.dtype.kind) == ("regression", "f")
    assert set(values.targets.tolist()) == {1, 2, 3, 4, 5}


def test_columns_of_one_name_are_told_apart_and_told(tmp_path):
    cells = [f"{row},{CLASSES[row % 2]}" for row in range(30)]
    samples = samples_at(table(tmp_path, "a,label", cells))
    assert samples.features == ("a", "b", "a.1")
    assert any("several columns are called 'a'" in note for note in samples.notes)
    rows = table_rows(write(tmp_path / "p.csv", "a,b,a", ["1,2,3"]), columns=samples.columns)
    assert rows.vectors.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("target", ["", "label"])
def test_two_columns_of_the_targets_name_are_refused(tmp_path, target):
    cells = [f"{row},{CLASSES[row % 2]},{CLASSES[row % 2]}" for row in range(30)]
    with pytest.raises(DataError, match=r"several columns of .* are called 'label'"):
        samples_at(table(tmp_path, "c,label,label", cells), target=target)


def test_a_western_table_is_read_as_such(tmp_path):
    rows = [f"{i / 7:.3f};{('Köln', 'Mölln')[i % 2]}" for i in range(30)]
    path = tmp_path / "t.csv"
    path.write_bytes("\n".join(["größe;label", *rows]).encode("cp1252"))
    samples = samples_at(path)
    assert samples.features == ("größe",)
    assert samples.labels.texts == ("Köln", "Mölln")
    assert any("read as Windows-1252" in note for note in samples.notes)
    assert table_rows(write(tmp_path / "p.csv", "größe", ["3"]), columns=samples.columns).vectors


def test_images_of_a_western_list_keep_the_bytes_of_their_names(tmp_path):
    names = [os.fsdecode(f"é{i}.png".encode("cp1252")) for i in range(6)]
    for number, name in enumerate(names):
        picture(tmp_path / name, number)
    rows = [f"é{i}.png,{CLASSES[i % 2]}" for i in range(6)]
    (tmp_path / "t.csv").write_bytes("\n".join(["path,label", *rows]).encode("cp1252"))
    samples = samples_at(tmp_path / "t.csv")
    assert samples.inputs.names == tuple(names)


@pytest.mark.parametrize("name", ["PassengerId", "customer_id", "Order ID", "number"])
def test_ids_of_rows_are_no_feature_and_other_whole_numbers_are(tmp_path, name):
    cells = [f"{7 * row},{CLASSES[row % 2]}" for row in range(30)]
    samples = samples_at(table(tmp_path, f"{name},label", cells))
    assert samples.features == ("a", "b")
    assert any(f"only number the rows are left out: '{name}'" in note for note in samples.notes)
    for other in ("paid", "grid", "age"):
        assert other in samples_at(table(tmp_path, f"{other},label", cells)).features
    repeated = [f"{row // 2},{CLASSES[row % 2]}" for row in range(30)]
    assert name in samples_at(table(tmp_path, f"{name},label", repeated)).features


@pytest.mark.parametrize("cell", ["nan", "", "inf", "-inf", "1e400", "Infinity", "-1e999"])
def test_a_target_that_is_no_finite_number_leaves_its_row_out(tmp_path, cell):
    cells = [cell if row == 3 else f"{row}.5" for row in range(30)]
    dataset = load_dataset(table(tmp_path, "price", cells))
    assert dataset.facts.task == "regression"
    ((name, reason),) = dataset.quarantined
    assert name == "row 5"
    assert "target" in reason


LISTED = ["red", "red; blue", "green; blue", "", "red; green", "green", "", "blue; red; green"]


def test_an_empty_cell_among_lists_of_labels_lists_none(tmp_path):
    names = [f"{index}.png" for index in range(32)]
    ids(tmp_path, names, "")
    rows = [f"{name},{LISTED[i % len(LISTED)]}" for i, name in enumerate(names)]
    dataset = load_dataset(write(tmp_path / "t.csv", "image,tags", rows))
    assert dataset.class_names == ("blue", "green", "red")
    assert dataset.targets[3].sum() == 0
    assert any("8 rows without a label" in note for note in dataset.notes)


def test_an_empty_cell_among_classes_is_a_row_without_a_label(tmp_path):
    names = [f"{index}.png" for index in range(12)]
    rows = ids(tmp_path, names, "")
    rows[4] = f"{names[4]},"
    ((_, reason),) = load_dataset(write(tmp_path / "t.csv", "path,label", rows)).quarantined
    assert reason == "empty label"


@pytest.mark.parametrize("mark", [" ", "\t", ", "])
def test_a_text_that_lists_images_is_no_text(tmp_path, mark):
    names = [f"{index}.png" for index in range(40)]
    ids(tmp_path / "im", names, "")
    rows = [f"im/{name}{mark}{CLASSES[i % 2]}" for i, name in enumerate(names)]
    samples = samples_at(write(tmp_path / "list.txt", rows[0], rows[1:]))
    assert samples.names[0] == "im/0.png"
    assert len(samples.names) == 40
    assert samples.labels.texts == CLASSES


def test_a_text_about_images_is_a_text(tmp_path):
    (tmp_path / "story.txt").write_text("im/cat0.png is a file that is not there.\n" * 40)
    assert samples_at(tmp_path / "story.txt").names == ("story.txt",)
