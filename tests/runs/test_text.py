"""A text from the file to what the trained network writes."""

import json
import shutil

import numpy as np
import pytest
import torch
from runs.test_train import interrupted_at, weights_of

import thalweg
from thalweg.cli.generate import generate as generate_command
from thalweg.cli.predict import predict as predict_command
from thalweg.errors import DataError, RunError, UsageError
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS, VAL_LOSS
from thalweg.report import render_text

EDITS: dict[str, object] = {
    "model.changes": {"width": 16, "depth": 1, "heads": 2},
    "data.context": 16,
    "budget.steps": 36,
    "evaluation.steps": 12,
    "batch.size": 16,
}
WORDS = ("river", "valley", "stone", "water", "falls", "slope", "down", "the", "a", "of")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "river.txt"
    rng = np.random.default_rng(0)
    lines = (" ".join(rng.choice(WORDS, 6)) for _ in range(400))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    return thalweg.train(text, out=tmp_path_factory.mktemp("runs"), edits=EDITS)


def test_it_learns_and_says_how_far(run):
    losses = run.history.series(LOSS)
    assert losses[max(losses)] < 0.9 * losses[0]
    assert losses[0] == pytest.approx(np.log(len(set("".join(WORDS)) | {" ", "\n"})), rel=0.1)
    assert set(run.metrics) == {
        "val_loss",
        "val_bits_per_byte",
        "val_perplexity",
        "val_token_accuracy",
    }
    assert sorted(run.history.series(VAL_LOSS)) == [11, 23, 35]
    assert set(run.reader.meta["baselines"]) == {"unigram", "trigram", "gzip"}
    assert run.reader.meta["headline_metric"] == "val_loss"
    assert run.metrics["val_loss"] == min(run.history.series(VAL_LOSS).values())


def test_the_loss_is_that_of_the_whole_validation_split(run, text):
    model, dataset = thalweg.load(run.path), thalweg.plan(text, edits=EDITS).dataset
    rows = torch.from_numpy(np.stack([dataset.inputs[row] for row in dataset.indices["val"]]))
    with torch.no_grad():
        logits = model.module(rows[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits.movedim(2, 1), rows[:, 1:]).item()
    assert run.metrics["val_loss"] == pytest.approx(loss, rel=1e-4)
    assert len(rows) == (dataset.inputs.borders[1][1] - dataset.inputs.borders[1][0] - 1) // 16


def test_no_rule_finds_a_fault(run):
    assert not run.history.by_place(INSTRUMENT_FAILED)
    assert not [one for one in run.diagnosis.findings if one.severity != "note"]
    assert "missing-causal-mask" in run.diagnosis.passed


def test_it_is_reported_with_what_it_writes(run):
    samples = [event for event in run.reader.events if event.kind == "sample"]
    assert [event.step for event in samples] == [1, 12, 24, 36]
    assert all(len(event.detail["text"]) > 100 for event in samples)
    page = run.report().read_text()
    assert "What it writes" in page
    assert "window" in page
    assert "validation loss beside simple models" in render_text(run.reader, run.diagnosis)


@pytest.mark.parametrize("step", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_it_is_resumed_to_the_same_bit(run, text, tmp_path, step):
    stopped = interrupted_at(step, text, out=tmp_path, edits=EDITS)
    resumed = thalweg.resume(stopped.path)
    assert weights_of(resumed) == weights_of(run)
    assert resumed.history.series(LOSS) == run.history.series(LOSS)
    assert resumed.history.series(VAL_LOSS) == run.history.series(VAL_LOSS)


def test_a_changed_text_is_not_resumed(run, text, tmp_path):
    own = tmp_path / "own.txt"
    shutil.copy(text, own)
    stopped = interrupted_at(5, own, out=tmp_path, edits=EDITS)
    own.write_text(own.read_text().replace("river", "creek"))
    with pytest.raises(RunError, match="has changed"):
        thalweg.resume(stopped.path)


def test_the_texts_cost_no_bit_of_the_training(run, text, tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.runs.recorder.written_sample", lambda session, length: "")
    silent = thalweg.train(text, out=tmp_path, edits=EDITS)
    assert weights_of(silent) == weights_of(run)


def test_it_writes(run, capsys):
    written = thalweg.generate(run.path, "the ", length=40, seed=1)
    assert len(written) == 40
    assert set(written) <= set("".join(WORDS)) | {" ", "\n"}
    assert written == thalweg.generate(run.path, "the ", length=40, seed=1)
    assert written != thalweg.generate(run.path, "the ", length=40, seed=2)
    greedy = thalweg.generate(run.path, "the ", length=20, greedy=True)
    assert greedy == thalweg.generate(run.path, "the ", length=20, temperature=0, seed=9)
    generate_command(run.path, prompt="the ", length=40, seed=1)
    assert capsys.readouterr().out == f"the {written}\n"
    generate_command(run.path, prompt="the ", length=40, seed=1, json=True)
    printed = json.loads(capsys.readouterr().out)
    assert (printed["prompt"], printed["text"]) == ("the ", written)


def test_greedy_writing_takes_the_likeliest_token_of_the_whole_text(run):
    model = thalweg.load(run.path)
    vocabulary = model.spec.modality.vocabulary(model.spec.preprocessing)
    prompt = "the river "
    written = thalweg.generate(run.path, prompt, length=5, greedy=True)
    tokens = torch.from_numpy(vocabulary.encode(prompt + written)).long()
    with torch.no_grad():
        likeliest = model.module(tokens[None, :-1])[0].argmax(1)
    assert torch.equal(likeliest[len(prompt) - 1 :], tokens[len(prompt) :])


def test_beams_find_the_likeliest_text_where_there_are_as_many_as_tokens(run):
    model = thalweg.load(run.path)
    vocabulary = model.spec.modality.vocabulary(model.spec.preprocessing)
    size, prompt = len(vocabulary), vocabulary.encode("the ").tolist()
    texts = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    tokens = torch.cat((torch.tensor([prompt] * len(texts)), texts), dim=1)
    with torch.no_grad():
        shares = model.module(tokens[:, :-1])[:, -2:].log_softmax(2)
    totals = shares.gather(2, texts[..., None]).sum((1, 2))
    best = vocabulary.decode(texts[totals.argmax()].tolist())
    assert thalweg.generate(run.path, "the ", length=2, beams=size) == best


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"length": 0}, "length cannot be 0"),
        ({"temperature": -1.0}, "temperature cannot be -1.0"),
        ({"temperature": float("nan")}, "temperature cannot be nan"),
        ({"top_k": -2}, "top_k cannot be -2"),
        ({"top_p": 0.0}, "top_p cannot be 0.0"),
        ({"beams": 1_000}, "beams cannot be 1000"),
        ({"greedy": True, "beams": 4}, "greedy is one beam"),
    ],
)
def test_impossible_values_are_refused(run, options, problem):
    with pytest.raises(UsageError, match=problem):
        thalweg.generate(run.path, "the", **options)


def test_unknown_characters_are_named_before_anything_is_written(run, capsys):
    with pytest.raises(DataError, match="knows no 'X', 'é'"):
        thalweg.generate(run.path, "Xé")
    with pytest.raises(DataError):
        generate_command(run.path, prompt="Xé")
    assert capsys.readouterr().out == ""


def test_a_classifier_writes_no_text(scans, tmp_path):
    classifier = thalweg.train(scans, out=tmp_path, model="mlp", epochs=1)
    with pytest.raises(UsageError, match="writes no text"):
        thalweg.generate(classifier.path, "the")


def test_it_predicts_the_token_after_each_window_of_a_file(run, text, tmp_path, capsys):
    (tmp_path / "new.txt").write_text("the river falls down the slope of stone")
    assert predict_command(run.path, tmp_path / "new.txt", json=True) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    names = [row["window"].split(", ")[1] for row in rows]
    assert names == ["characters 1 to 16", "characters 17 to 32", "characters 24 to 39"]
    (tmp_path / "short.txt").write_text("the")
    assert predict_command(run.path, tmp_path / "short.txt") == 3
    assert "thalweg generate" in capsys.readouterr().err


def test_a_plan_says_what_the_text_takes(text):
    plan = thalweg.plan(text)
    recipe = plan.recipe
    assert recipe.task.name == "next-token"
    assert recipe.data.val_fraction == 0.1
    assert recipe.data.context == plan.dataset.facts.input_shape[0]
    assert plan.steps == recipe.budget.steps > 0
    assert thalweg.plan(text, epochs=2).steps == 2 * plan.steps_per_epoch
    assert plan.baselines["trigram"] < plan.baselines["unigram"]


@pytest.mark.slow
def test_the_test_split_waits_at_the_end_of_the_text(text, tmp_path):
    edits = {**EDITS, "data.test_fraction": 0.1}
    trained = thalweg.train(text, out=tmp_path, edits=edits)
    score = thalweg.final(trained.path)
    assert set(score.metrics) >= {"test_loss", "test_bits_per_byte"}
    assert score.samples == trained.reader.meta["counts"]["test"]


def test_what_is_for_classes_alone_is_refused(text, tmp_path):
    with pytest.raises(UsageError, match="windows cannot be augmented"):
        thalweg.plan(text, edits={"augment.flip": True})
    with pytest.raises(UsageError, match="one text cannot be divided into folds"):
        thalweg.cross_validate(text, folds=3, out=tmp_path)
    with pytest.raises(UsageError, match="transfer is for images"):
        thalweg.plan(text, transfer="probe")
    with pytest.raises(UsageError, match="only the labels of classes can be smoothed"):
        thalweg.plan(text, edits={"task.label_smoothing": 0.1})
    with pytest.raises(UsageError, match="these targets make a next-token"):
        thalweg.plan(text, task="classification")
