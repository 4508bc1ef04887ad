"""Pairs of sequences from a file to what the trained network writes."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from runs.test_train import interrupted_at, weights_of

import thalweg
from thalweg.cli.predict import predict as predict_command
from thalweg.data.text.bordered import BORDER
from thalweg.errors import DataError, RunError, UsageError
from thalweg.inference.write_sequences import write_sequences
from thalweg.models.sequences import EncoderDecoder
from thalweg.record.quantities import INSTRUMENT_FAILED, LOSS, VAL_LOSS
from thalweg.report import render_text

EDITS: dict[str, object] = {
    "model.changes": {"width": 32, "dropout": 0.1},
    "optimizer.lr": 0.01,
    "budget.epochs": 12,
    "batch.size": 8,
}
VERBS, TIMES = ("jump", "run", "walk", "look"), {"once": 1, "twice": 2, "thrice": 3}


def command(verb, time, other):
    return f"{verb} {time} and {other}", " ".join([verb.upper()] * TIMES[time] + [other.upper()])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "commands.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("command", "actions"))
        rows.writerows(command(a, time, b) for a in VERBS for time in TIMES for b in VERBS)
    return path


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
    return thalweg.train(pairs, out=tmp_path_factory.mktemp("runs"), edits=EDITS)


def test_it_learns_and_says_how_far(run):
    losses = run.history.series(LOSS)
    assert losses[0] == pytest.approx(np.log(5), rel=0.1)  # four actions and the end
    assert losses[max(losses)] < 0.7 * losses[0]
    assert set(run.metrics) == {
        *("val_loss", "val_exact_match", "val_token_accuracy", "val_perplexity", "val_bleu"),
    }
    assert run.reader.meta["headline_metric"] == "val_exact_match"


def test_no_rule_finds_a_fault(run):
    assert not run.history.by_place(INSTRUMENT_FAILED)
    assert not [one for one in run.diagnosis.findings if one.severity != "note"]


def test_the_exact_match_is_that_of_what_it_writes_freely(run, pairs):
    rows = run.reader.predictions
    assert len(rows) == run.reader.meta["counts"]["val"]
    right = [row.target == row.predicted for row in rows]
    assert run.metrics["val_exact_match"] == pytest.approx(np.mean(right))
    written = thalweg.load(run.path).predict([row.name for row in rows])
    assert [one.label for one in written] == [row.predicted for row in rows]
    assert [one.probability for one in written] == pytest.approx(
        [row.probability for row in rows], rel=1e-4
    )


def test_a_batch_writes_what_its_rows_write_alone(run):
    model = thalweg.load(run.path)
    texts = ["jump once and run", "walk", "look thrice and look twice and run and jump"]
    together = model.predict(texts)
    alone = [model.predict([text])[0] for text in texts]
    assert [one.label for one in together] == [one.label for one in alone]
    assert [one.probability for one in together] == pytest.approx(
        [one.probability for one in alone], rel=1e-4
    )


def test_several_beams_are_at_least_as_likely(run):
    model = thalweg.load(run.path)
    greedy = model.predict(["jump twice and walk"])[0]
    searched = model.predict(["jump twice and walk"], beams=4)[0]
    assert len(searched.probabilities) == 4
    assert max(searched.probabilities.values()) >= greedy.probability * (1 - 1e-6)
    with pytest.raises(UsageError, match="beams cannot be 0"):
        model.predict(["jump"], beams=0)


def test_it_is_resumed_to_the_same_bit(run, pairs, tmp_path):
    stopped = interrupted_at(11, pairs, out=tmp_path, edits=EDITS)
    resumed = thalweg.resume(stopped.path)
    assert weights_of(resumed) == weights_of(run)
    assert resumed.history.series(VAL_LOSS) == run.history.series(VAL_LOSS)


def test_the_report_says_where_it_errs(run):
    page = run.report().read_text()
    for words in ("Simple answers beside", "Right by the length", "Attention", "who writes"):
        assert words in page
    text = render_text(run.reader, run.diagnosis)
    assert "the output of the nearest training input" in text
    assert "right by the length of the target, in words" in text
    weights = [event.detail for event in run.reader.events if event.kind == "attention"]
    assert 0 < len(weights) <= 3
    for one in weights:
        assert np.sum(one["weights"], axis=1) == pytest.approx(1, abs=0.02)
        assert len(one["weights"][0]) == len(one["source"])


def test_texts_and_files_are_written_from(run, tmp_path, capsys):
    (tmp_path / "new.txt").write_text("jump twice and run\nlook once and walk\n")
    (tmp_path / "new.csv").write_text("number,command\n1,jump twice and run\n2,fly home\n")
    model = thalweg.load(run.path)
    expected = [one.label for one in model.predict(["jump twice and run", "look once and walk"])]
    assert predict_command(run.path, str(tmp_path / "new.txt"), json=True) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    assert [row["label"] for row in rows] == expected
    assert predict_command(run.path, str(tmp_path / "new.csv"), json=True) == 3
    rows = json.loads(capsys.readouterr().out)["predictions"]
    assert rows[0]["label"] == expected[0]
    assert "knows no 'fly', 'home'" in rows[1]["error"]
    assert predict_command(run.path, "jump twice and run", csv=True) == 0
    assert expected[0] in capsys.readouterr().out
    with pytest.raises(DataError, match="cannot be predicted"):
        model.predict(["fly"])


def test_a_mistyped_file_and_records_without_fields_are_no_texts(run, tmp_path):
    model = thalweg.load(run.path)
    with pytest.raises(DataError, match="there is no"):
        model.predict("comands.txt")
    path = tmp_path / "none.jsonl"
    path.write_text('[1, 2]\n"x"\n')
    with pytest.raises(DataError):
        model.predict(path)


def test_a_cut_sequence_ends_and_borders_are_no_text(run):
    model = thalweg.load(run.path).module
    assert isinstance(model, EncoderDecoder)
    sources = {"source": torch.tensor([[1, 2]]), "source_mask": torch.ones(1, 2).bool()}
    ((first,),) = write_sequences(model, sources)
    assert BORDER not in first.tokens[:-1]
    assert len(first.tokens) <= 2 * model.longest + 8


def test_changed_pairs_are_not_resumed(pairs, tmp_path):
    own = tmp_path / "own.csv"
    shutil.copy(pairs, own)
    stopped = interrupted_at(5, own, out=tmp_path, edits=EDITS)
    own.write_text(own.read_text().replace("WALK", "STROLL"))
    with pytest.raises(RunError, match="has changed"):
        thalweg.resume(stopped.path)


def test_networks_for_other_inputs_are_refused(pairs, tmp_path):
    for model in ("convnet", "mlp", "transformer_lm"):
        with pytest.raises(UsageError, match=f"{model} reads .*, no sequences"):
            thalweg.plan(pairs, model=model)
    (tmp_path / "table.csv").write_text("a,y\n" + "".join(f"{n},{n % 2}\n" for n in range(30)))
    with pytest.raises(UsageError, match="gru_seq2seq reads pairs of sequences"):
        thalweg.plan(tmp_path / "table.csv", model="gru_seq2seq")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["transformer_seq2seq", "lstm_seq2seq", "rnn_seq2seq"])
def test_every_network_learns_and_writes(model, pairs, tmp_path):
    changes = {"width": 32, "scheduled_sampling": 0.1}
    edits = EDITS | {"model.changes": changes, "budget.epochs": 4}
    run = thalweg.train(pairs, out=tmp_path, model=model, edits=edits)
    losses = run.history.series(LOSS)
    assert losses[max(losses)] < losses[0]
    right = [row.target == row.predicted for row in run.reader.predictions]
    assert run.metrics["val_exact_match"] == pytest.approx(np.mean(right))
