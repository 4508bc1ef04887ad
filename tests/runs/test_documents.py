"""Texts from a file or from memory to a trained model, its report and its predictions."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import thalweg
from thalweg.data import load_dataset
from thalweg.report import render_text

GOOD = ["lovely", "superb", "charming", "brilliant", "moving"]
BAD = ["dull", "awful", "tedious", "clumsy", "hollow"]
FILLERS = [f"word{i}" for i in range(40)]


def reviews(count, seed=0):
    draw = np.random.default_rng(seed)
    texts, labels = [], []
    for number in range(count):
        words = [*draw.choice(FILLERS, 8), *draw.choice((GOOD, BAD)[number % 2], 2)]
        texts.append(" ".join(draw.permutation(words)))
        labels.append(("good", "bad")[number % 2])
    return texts, labels


def text_of(run):
    return " ".join(render_text(run.reader, run.diagnosis, width=100).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return thalweg.train(*reviews(200), epochs=6, out=tmp_path_factory.mktemp("runs"))


def test_texts_in_memory_are_learned_and_predicted(run):
    assert run.metrics["val_accuracy"] > 0.95
    first, second = thalweg.predict(run.path, ["so lovely and superb", "awful, so dull"])
    assert (first.label, second.label) == ("good", "bad")
    assert thalweg.predict(run.path, [{"text": "hollow, clumsy"}])[0].label == "bad"


def test_a_file_of_text_and_a_table_are_predicted_alike(run, tmp_path):
    (tmp_path / "a.txt").write_text("Charming! Brilliant.")
    (tmp_path / "a.csv").write_text('id,text\n1,"Charming! Brilliant."\n2,\n')
    (of_file,) = thalweg.predict(run.path, tmp_path / "a.txt")
    of_row, of_nothing = thalweg.predict(run.path, tmp_path / "a.csv")
    assert of_file.probabilities == pytest.approx(of_row.probabilities)
    assert 0.2 < of_nothing.probability < 0.8, "a text without a word says nothing"


def test_the_report_quotes_words_and_scikit_learns_linear_model(run):
    data = load_dataset(run.reader.meta["source"])
    texts = [data.inputs.texts, data.targets]
    train, val = (data.indices[split] for split in ("train", "val"))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = vectorizer.fit_transform([texts[0][row] for row in train])
    model = LogisticRegression(C=10).fit(features, data.targets[train])
    score = model.score(vectorizer.transform([texts[0][row] for row in val]), data.targets[val])
    assert run.reader.meta["linear"]["score"] == pytest.approx(score)
    assert "TF-IDF + linear validation accuracy" in text_of(run)
    telling = run.reader.meta["telling"]
    assert set(telling["good"][:3]) <= set(GOOD)
    assert set(telling["bad"][:3]) <= set(BAD)
    assert "Words that speak for each class" in (run.path / "report.html").read_text()


def test_a_network_that_the_linear_model_beats_gets_no_good_headline(tmp_path):
    draw = np.random.default_rng(0)
    texts, labels = reviews(400)
    texts = [f"{text} {' '.join(draw.choice(FILLERS, 20))}" for text in texts]
    late = thalweg.train(texts, labels, epochs=1, lr=1e-7, out=tmp_path)
    assert late.reader.meta["linear"]["verdict"] == "better"
    assert "Nothing wrong found" not in text_of(late)


@pytest.mark.parametrize("model", ["text_gru", "text_transformer"])
def test_networks_that_read_in_order_train_too(model, tmp_path):
    texts, labels = reviews(60)
    edits = {"model.changes": {"width": 16}, "evaluation.trees_seconds": 0}
    run = thalweg.train(texts, labels, model=model, epochs=2, edits=edits, out=tmp_path)
    assert np.isfinite(run.metrics["val_loss"])
    assert len(thalweg.predict(run.path, texts[:3])) == 3


def test_values_and_labels_of_texts_are_learned(tmp_path):
    texts, labels = reviews(120)
    values = [4.2 + 0.01 * i if label == "good" else 1.3 for i, label in enumerate(labels)]
    run = thalweg.train(texts, values, epochs=8, out=tmp_path)
    assert run.metrics["val_r2"] > 0.3
    assert set(run.reader.meta["telling"]) == {"higher", "lower"}
    tags = [label if i % 3 else f"{label},odd" for i, label in enumerate(labels)]
    run = thalweg.train(texts, tags, task="multi-label", epochs=3, out=tmp_path)
    assert run.metrics["val_mean_average_precision"] > 0.5
