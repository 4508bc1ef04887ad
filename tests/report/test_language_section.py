"""What a report says of a language model: simple models beside it, and what it writes."""

from math import log

import pytest
from report.test_html_report import Page

from thalweg.diagnosis import diagnose
from thalweg.record import PredictionRow, RunReader, RunWriter
from thalweg.record.quantities import CHANCE_LOSS, LOSS, UPDATE_RATIO, VAL_LOSS
from thalweg.report import render_html, render_text

EVIL = "<script>alert('x')</script>\x1b[2J\u202e"
PARTS = {"unigram": 3.3, "trigram": 2.0, "gzip": 2.2}


def language_run(folder, *, loss=1.6, text="ROMEO:\nO, she doth teach the torches.\n"):
    with RunWriter(folder) as writer:
        writer.set("answers", "tokens")
        writer.set("task", "next-token")
        writer.set("headline_metric", "val_loss")
        writer.set("baselines", PARTS)
        writer.set("counts", {"train": 900, "val": 100})
        writer.set("metrics", {"val_loss": loss, "val_bits_per_byte": loss / log(2)})
        writer.add(CHANCE_LOSS, 0, {"": log(65)})
        for step in range(20):
            writer.add(LOSS, step, {"": loss + 2 / (1 + step)})
        for step in (9, 19):
            writer.add(VAL_LOSS, step, {"": loss + 1 / step})
        writer.event("sample", "wrote …", step=3, text="xq zz e")
        writer.event("sample", "wrote …", step=20, text=text)
        writer.predictions(
            PredictionRow("val", f"characters {i} to {i + 9}", text, text.upper(), 0.0, None)
            for i in range(12)
        )
    reader = RunReader(folder)
    return reader, diagnose(reader.history)


def test_simple_models_stand_beside_the_network_the_best_first(tmp_path):
    run = language_run(tmp_path)
    words = Page(render_html(*run)).words
    order = [
        "this network 1.60 2.31",
        "three tokens 2.00 2.89",
        "gzip of the validation text alone",
    ]
    order += ["single tokens 3.30 4.76", "every token alike 4.17 6.02"]
    places = [words.index(part) for part in order]
    assert places == sorted(places)
    text = render_text(*run, width=90)
    assert "counts of three tokens             2.00 nat a token, 2.89 bits a byte" in text


def test_the_last_text_is_shown_with_its_lines_and_the_earlier_ones_folded(tmp_path):
    run = language_run(tmp_path)
    html = render_html(*run)
    assert '<pre class="written">ROMEO:\nO, she doth teach the torches.\n</pre>' in html
    assert "after 3 steps</summary>" in html
    assert "written after 20 steps\n  ROMEO:\n  O, she doth teach the torches." in render_text(*run)


def test_nothing_that_a_network_writes_is_markup(tmp_path):
    run = language_run(tmp_path, text=EVIL)
    html = render_html(*run)
    page = Page(html)
    assert len(page.of("script")) == 1
    assert "<script>alert" not in html
    assert "<script>alert" in page.words
    for form in (html, render_text(*run)):
        assert "\x1b" not in form
        assert "\u202e" not in form


@pytest.mark.parametrize(("loss", "name"), [(1.9, ""), (2.5, "trigram"), (3.4, "trigram")])
def test_a_network_behind_counts_is_a_caveat(tmp_path, loss, name):
    text = render_text(*language_run(tmp_path, loss=loss))
    assert ("Counting does better" in text) == bool(name)
    assert name in text


def test_steps_by_the_thousand_are_not_cut_in_the_headline(tmp_path):
    reader, diagnosis = language_run(tmp_path)
    with RunWriter(tmp_path) as writer:
        writer.set("steps", 1_200)
        writer.set("selection", {"step": 1_200, "by_score": True})
    page = Page(render_html(RunReader(reader.path), diagnosis))
    assert "weights of step 1,200 of 1,200" in page.words


def test_the_first_update_of_zeros_does_not_flatten_the_chart(tmp_path):
    language_run(tmp_path)
    with RunWriter(tmp_path) as writer:
        for step in range(20):
            writer.add(UPDATE_RATIO, step, {"head.weight": 1e-3 if step else 9e12})
    reader = RunReader(tmp_path)
    assert "10¹²" not in render_html(reader, diagnose(reader.history))


def test_an_unfinished_run_without_scores_is_reported(tmp_path):
    with RunWriter(tmp_path) as writer:
        writer.set("answers", "tokens")
        writer.set("baselines", PARTS)
        writer.add(LOSS, 0, {"": 4.0})
    reader = RunReader(tmp_path)
    diagnosis = diagnose(reader.history)
    assert render_html(reader, diagnosis)
    assert render_text(reader, diagnosis)
