"""Files of questions in the forms that people have them; bad ones get one clear error."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from thalweg.data import load_dataset
from thalweg.data.questions.question_words import PADDING, UNKNOWN, fit_question_words
from thalweg.data.sources import samples_at
from thalweg.data.sources.question_file import question_file
from thalweg.errors import DataError

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}


def picture(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 20, size=(16, 16, 3))
    Image.fromarray((np.array(COLOURS[colour]) + noise).astype(np.uint8)).save(path)


def entries(count=12):
    """(image number, question, answer) about pictures that are of one colour each."""
    names = list(COLOURS)
    for number in range(count):
        colour = names[number % 3]
        yield number, "What color is it?", colour
        yield number, "is it red?", "yes" if colour == "red" else "no"


def easy_vqa(folder):
    for split, count in (("train", 12), ("test", 6)):
        for number, *_ in entries(count):
            picture(folder / split / "images" / f"{number}.png", list(COLOURS)[number % 3])
        rows = [[text, answer, number] for number, text, answer in entries(count)]
        (folder / split / "questions.json").write_text(json.dumps(rows))
    return folder


def clevr(folder):
    for split in ("train", "val"):
        rows = []
        for number, text, answer in entries():
            name = f"CLEVR_{split}_{number:06d}.png"
            picture(folder / "images" / split / name, list(COLOURS)[number % 3])
            rows.append(
                {"image_filename": name, "question": text, "answer": answer, "program": [{}]}
            )
        place = folder / "questions" / f"CLEVR_{split}_questions.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps({"info": {"split": split}, "questions": rows}))
    return folder


def vqa_v2(folder):
    for split in ("train2014", "val2014"):
        questions, annotations = [], []
        for place, (number, text, answer) in enumerate(entries()):
            name = f"COCO_{split}_{number:012d}.jpg"
            picture(folder / split / name, list(COLOURS)[number % 3])
            questions.append({"image_id": number, "question": text, "question_id": place})
            others = [{"answer": answer}] * 9 + [{"answer": "purple"}]
            annotations.append(
                {
                    "question_id": place,
                    "multiple_choice_answer": answer,
                    "answers": others,
                    "question_type": text.split()[0].lower(),
                }
            )
        base = f"v2_OpenEnded_mscoco_{split}_questions.json"
        (folder / base).write_text(json.dumps({"questions": questions}))
        beside = f"v2_mscoco_{split}_annotations.json"
        (folder / beside).write_text(json.dumps({"annotations": annotations}))
    return folder


def table(folder):
    with (folder / "asked.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "question", "answer", "type"])
        for number, text, answer in entries():
            picture(folder / "pictures" / f"{number}.png", list(COLOURS)[number % 3])
            writer.writerow([f"pictures/{number}.png", text, answer, text[:2]])
    return folder / "asked.csv"


def json_lines(folder):
    lines = []
    for number, text, answer in entries():
        picture(folder / f"{number}.png", list(COLOURS)[number % 3])
        lines.append(
            json.dumps({"image": f"{number}.png", "question": text, "answers": [answer, answer]})
        )
    (folder / "asked.jsonl").write_text("\n".join(lines))
    return folder / "asked.jsonl"


FORMS = {form.__name__: form for form in (easy_vqa, clevr, vqa_v2, table, json_lines)}
COUNTS = {"easy_vqa": (36, 18), "clevr": (48, 24), "vqa_v2": (48, 24)}  # questions and images


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read(form, tmp_path):
    samples = samples_at(FORMS[form](tmp_path))
    questions, images = COUNTS.get(form, (24, 12))
    assert (len(samples.names), len(samples.inputs.images)) == (questions, images)
    answers = [samples.labels.texts[code] for code in samples.labels.codes]
    assert set(answers) == {"red", "green", "blue", "yes", "no"}
    asked = zip(samples.inputs.image_of, samples.inputs.texts, answers, strict=True)
    for place, text, answer in asked:  # each answer is that of its own image
        name = samples.inputs.images.names[place]
        pixel = np.asarray(Image.open(samples.inputs.images.root / name))[8, 8, :3].astype(int)
        colour = min(COLOURS, key=lambda c: abs(pixel - np.array(COLOURS[c])).sum())
        assert answer == (colour if text.startswith("What") else ("no", "yes")[colour == "red"])


def test_the_splits_are_those_of_the_files(tmp_path):
    dataset = load_dataset(vqa_v2(tmp_path))
    assert {name: len(rows) for name, rows in dataset.indices.items()} == {
        "train": 24,
        "val": 24,
        "test": 0,
    }


def test_all_questions_about_an_image_stay_on_one_side(tmp_path):
    dataset = load_dataset(table(tmp_path))
    sides = [set(dataset.inputs.image_of[dataset.indices[name]]) for name in ("train", "val")]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_words_are_those_of_the_training_questions():
    words = fit_question_words(["Is the cat's ball red?", "what  IS it"])
    assert words.entries == ("ball", "cat's", "is", "it", "red", "the", "what")
    assert words.encode("is it blue ?").tolist()[-1] == UNKNOWN
    assert words.encode("???").tolist() == [UNKNOWN]
    assert PADDING not in words.encode("what is it")


def test_images_of_other_folders_are_not_taken(tmp_path):
    for number in range(3):
        picture(tmp_path / "others" / f"{number}.png", "red")
    own = tmp_path / "own"
    own.mkdir()
    (own / "questions.json").write_text('[["what is it?", "red", 1]]')
    with pytest.raises(DataError, match="nowhere near it"):
        samples_at(own / "questions.json")


def test_a_table_of_images_without_questions_is_left_to_others(tmp_path):
    (tmp_path / "t.csv").write_text("image,label\na.png,cat\n")
    assert question_file(tmp_path / "t.csv") is None


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        ('[["what is it?", "red", 77]]', "nowhere near it"),
        ('{"questions": [{"image": "0.png", "question": "what?"}]}', "without answers"),
        ('[["what is it?", "red", ', "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_bad_files_get_one_clear_error(contents, problem, tmp_path):
    picture(tmp_path / "0.png", "red")
    (tmp_path / "questions.json").write_text(contents)
    with pytest.raises(DataError, match=problem) as caught:
        samples_at(tmp_path / "questions.json")
    assert caught.value.seen


def test_a_damaged_image_takes_its_questions_with_it(tmp_path):
    path = table(tmp_path)
    (tmp_path / "pictures" / "3.png").write_bytes(b"no picture")
    dataset = load_dataset(path)
    assert [each.name for each in dataset.quarantined] == [
        "pictures/3.png: What color is it?",
        "pictures/3.png: is it red?",
    ]
    rows = np.concatenate(list(dataset.indices.values()))
    assert len(rows) == 22
