"""Texts to classify: what is read, what is told about them."""

import json

import numpy as np
import pytest

from thalweg.data import load_dataset
from thalweg.data.sources import samples_at
from thalweg.data.text.documents import Documents
from thalweg.data.text.near_texts import near_texts
from thalweg.data.text.word_rows import read_words
from thalweg.errors import DataError

GOOD, BAD = "a fine and moving film that I liked", "a dull and empty film that I left"


def reviews(count=60):
    """(text, class) of each, all texts different."""
    return [
        (f"{(GOOD, BAD)[i % 2]} after {i} minutes of row {i * 7 % 11}", ("good", "bad")[i % 2])
        for i in range(count)
    ]


def write_csv(path, rows, header="text,label", encoding="utf-8"):
    lines = [header] * bool(header) + [",".join(f'"{cell}"' for cell in row) for row in rows]
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def jsonl(folder):
    path = folder / "reviews.jsonl"
    path.write_text("\n".join(json.dumps({"text": t, "label": y}) for t, y in reviews()))
    return path


def records(folder):
    path = folder / "reviews.json"
    path.write_text(json.dumps({"data": [{"text": t, "label": y} for t, y in reviews()]}))
    return path


def folders(folder):
    for number, (text, label) in enumerate(reviews()):
        home = folder / "aclImdb" / ("test" if number % 5 == 0 else "train") / label
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{number}_7.txt").write_text(text)
    unsup = folder / "aclImdb" / "train" / "unsup"
    unsup.mkdir()
    (unsup / "0_0.txt").write_text(GOOD)
    return folder / "aclImdb"


def marked_lines(folder):
    path = folder / "reviews.train.txt"
    path.write_text("\n".join(f"__label__{y} {t}" for t, y in reviews()))
    return path


def no_header(folder):
    rows = [(y, 1000 + i, f"u{i}", f"{t} café") for i, (t, y) in enumerate(reviews())]
    return write_csv(folder / "tweets.csv", rows, header="", encoding="latin-1")


def parquet(folder):
    import pyarrow
    from pyarrow import parquet as file

    texts, labels = zip(*reviews(), strict=True)
    names = ["bad", "good"]  # as the package datasets stores classes
    features = {"features": {"label": {"names": names, "_type": "ClassLabel"}}}
    columns = {"label": list(map(names.index, labels)), "text": texts}
    table = pyarrow.table(columns)
    path = folder / "train.parquet"
    stored = {"huggingface": json.dumps({"info": features})}
    file.write_table(table.replace_schema_metadata(stored), path)
    return path


@pytest.mark.parametrize(
    "write", [jsonl, records, folders, marked_lines, no_header, parquet], ids=lambda f: f.__name__
)
def test_every_layout_holds_the_same_texts(write, tmp_path):
    samples = samples_at(write(tmp_path))
    assert isinstance(samples.inputs, Documents)
    assert set(samples.labels.texts) == {"good", "bad"}
    texts = {text.removesuffix(" café") for text in samples.inputs.texts}
    assert texts == {text for text, _ in reviews()}


def test_the_splits_of_folders_are_kept_and_those_without_labels_left_out(tmp_path):
    samples = samples_at(folders(tmp_path))
    assert np.bincount(samples.splits).tolist() == [48, 0, 12]
    assert any("unsup" in note for note in samples.notes)


def test_other_columns_stand_beside_the_text(tmp_path):
    rows = [(i / 7, "ab"[i % 2], t, y) for i, (t, y) in enumerate(reviews())]
    path = write_csv(tmp_path / "p.csv", rows, header="price,shop,review,verdict")
    data = load_dataset(path)
    vector = data.preprocessing.vector
    assert data.preprocessing.text_columns == ("review",)
    assert vector.features == ("price", "shop")
    assert data.facts.columns == 3  # the price, and two shops
    group = data.modality.collate([data.inputs[0]])
    assert data.preprocessing.to_inputs(group)["columns"].shape == (1, 3)


def test_a_table_of_names_and_numbers_stays_a_table(tmp_path):
    rows = [(f"Smith, Mr. John {i}", i % 9, "ab"[i % 2]) for i in range(60)]
    samples = samples_at(write_csv(tmp_path / "t.csv", rows, header="Name,Age,target"))
    assert isinstance(samples.inputs, np.ndarray)


def test_names_alone_are_texts(tmp_path):
    rows = [(f"na{i}ra", "f") if i % 2 else (f"br{i}do", "m") for i in range(60)]
    samples = samples_at(write_csv(tmp_path / "t.csv", rows, header="name,gender"))
    assert samples.inputs.columns == ("name",)


def test_columns_of_yes_and_no_beside_a_text_are_its_labels(tmp_path):
    rows = [(i, t, i % 2, i % 3 == 0, 0 + (i % 5 == 0)) for i, (t, _) in enumerate(reviews())]
    rows = [(i, t, *map(int, labels)) for i, t, *labels in rows]
    data = load_dataset(write_csv(tmp_path / "c.csv", rows, header="id,text,toxic,insult,threat"))
    assert data.class_names == ("insult", "threat", "toxic")
    assert data.targets.shape == (60, 3)


def test_tags_in_a_cell_and_ratings_are_labels_and_values(tmp_path):
    tags = ["a, b", "b", "a", "c, a", "c"]
    rows = [(t, tags[i % 5]) for i, (t, _) in enumerate(reviews())]
    assert load_dataset(write_csv(tmp_path / "t.csv", rows, "text,tags")).facts.label_rates
    rated = [(t, i / 8) for i, (t, _) in enumerate(reviews())]
    assert (
        load_dataset(write_csv(tmp_path / "r.csv", rated, "text,rating")).facts.task == "regression"
    )


def test_texts_without_a_word_are_left_out_and_named(tmp_path):
    rows = [*reviews(), ("", "good"), ("  ", "bad"), ("N/A", "bad")]
    data = load_dataset(write_csv(tmp_path / "t.csv", rows))
    assert [sample.reason for sample in data.quarantined] == ["no text"] * 3


def test_damaged_json_is_one_clear_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": \n')
    with pytest.raises(DataError, match="cannot be read as JSON"):
        samples_at(path)


def test_near_copies_are_found_and_others_are_not():
    texts = [f"{i} {' '.join(f'w{i}x{j}' for j in range(20))}" for i in range(40)]
    near = [text.upper() + " !" for text in texts[:5]]
    pairs = near_texts(read_words([*texts, *near])).upright
    assert pairs.tolist() == [[i, 40 + i] for i in range(5)]
    assert not len(near_texts(read_words(["short one", "short one"])).upright)


def test_copies_across_given_splits_limit_the_score(tmp_path):
    words = [" ".join(f"w{i}x{j}" for j in range(12)) for i in range(60)]
    rows = [(text, "ab"[i % 2], "train") for i, text in enumerate(words)]
    rows += [(text + " yes", "ab"[i % 2], "val") for i, text in enumerate(words[:20])]
    data = load_dataset(write_csv(tmp_path / "t.csv", rows, "text,label,split"))
    assert data.near_copied == 1.0
    assert any("near copies stand in more than one split" in note for note in data.notes)


def test_a_word_that_tells_the_class_is_named_and_a_frequent_one_is_not(tmp_path):
    rows = [(f"{t} {'sentpos' if y == 'good' else ''}", y) for t, y in reviews(80)]
    notes = load_dataset(write_csv(tmp_path / "t.csv", rows)).notes
    assert any("alone tells a class" in note for note in notes)
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(50)]
    rows = [(" ".join(rng.choice(words, 12)), "ab"[i % 2]) for i in range(80)]
    notes = load_dataset(write_csv(tmp_path / "n.csv", rows)).notes
    assert not any("alone tells" in note for note in notes)


def test_a_number_that_stands_in_the_text_is_told(tmp_path):
    texts = [f"{GOOD} on a day of rain in the {'abcdefgh'[i % 8]} street" for i in range(90)]
    told = [(f"rated {i % 30} by me: {text}", i % 30) for i, text in enumerate(texts)]
    notes = load_dataset(write_csv(tmp_path / "t.csv", told, "text,rating")).notes
    assert any("state the number" in note for note in notes)
    silent = [(f"rated {i * 7 % 31} by me: {text}", i % 30) for i, text in enumerate(texts)]
    notes = load_dataset(write_csv(tmp_path / "s.csv", silent, "text,rating")).notes
    assert not any("state the number" in note for note in notes)
