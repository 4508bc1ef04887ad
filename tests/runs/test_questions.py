"""Questions about images, from a file to answers: training, predictions, and the report."""

import json

import numpy as np
import pytest
from PIL import Image

import thalweg
from thalweg.cli.predict import predict as predict_command
from thalweg.errors import UsageError
from thalweg.report.caveats import caveats
from thalweg.report.facts import read_facts

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
TEXTS = ("what colour is it?", "is it red?")


def asked(folder, *, answers_follow_images=True):
    """60 pictures of one colour, with two questions each."""
    rows, rng = [], np.random.default_rng(0)
    for number in range(60):
        colour = list(COLOURS)[number % 3]
        noise = rng.integers(0, 25, size=(12, 12, 3))
        Image.fromarray((np.array(COLOURS[colour]) + noise).astype(np.uint8)).save(
            folder / f"{number}.png"
        )
        if not answers_follow_images:
            colour = "red"
        rows.append([TEXTS[0], colour, number])
        rows.append([TEXTS[1], "yes" if colour == "red" else "no", number])
    (folder / "questions.json").write_text(json.dumps(rows))
    return folder / "questions.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = asked(tmp_path_factory.mktemp("asked"))
    return thalweg.train(path, out=tmp_path_factory.mktemp("runs"), epochs=12)


def test_it_looks_at_the_image(run):
    assert run.metrics["val_accuracy"] > 0.9
    simple = run.reader.meta["partial"]
    assert simple["is_beaten"] is True
    assert simple["score"] < 0.7  # of colours one third, of "is it red?" two thirds


def test_questions_and_images_in_memory(run):
    model = thalweg.load(run.path)
    red = Image.fromarray(np.full((12, 12, 3), COLOURS["red"], dtype=np.uint8))
    blue = Image.fromarray(np.full((12, 12, 3), COLOURS["blue"], dtype=np.uint8))
    first, second, third = model.predict([(red, TEXTS[0]), (blue, TEXTS[0]), (blue, TEXTS[1])])
    assert (first.label, second.label, third.label) == ("red", "blue", "no")
    (again,) = model.predict({"image": red, "question": TEXTS[0]})
    assert again.probability == pytest.approx(first.probability, abs=1e-5)
    with pytest.raises(UsageError, match="comes with its image"):
        model.predict([(red,)])


def test_the_command_asks_about_images(run, tmp_path, capsys):
    path = tmp_path / "new.png"
    Image.fromarray(np.full((12, 12, 3), COLOURS["green"], dtype=np.uint8)).save(path)
    (tmp_path / "no.png").write_bytes(b"no picture")
    assert predict_command(run.path, tmp_path, question=TEXTS[0], json=True) == 3
    answers = json.loads(capsys.readouterr().out)["predictions"]
    assert [answer.get("label") for answer in answers] == ["green", None]


def test_the_report_has_each_type_and_the_question_alone(run):
    page = (run.path / "report.html").read_text()
    assert "The question alone" in page
    assert "what colour …" in page
    assert "is it …" in page


def test_answers_that_need_no_image_are_a_caveat(tmp_path):
    run = thalweg.train(asked(tmp_path, answers_follow_images=False), out=tmp_path, epochs=1)
    assert run.reader.meta["partial"]["is_beaten"] is False
    titles = [caveat.title for caveat in caveats(read_facts(run.reader, run.diagnosis))]
    assert "The question alone does as well" in titles
