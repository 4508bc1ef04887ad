"""A network that reads something else than the data is refused before it is built."""

import random

import pytest

import thalweg
from thalweg.data.modalities import MODALITIES
from thalweg.errors import UsageError
from thalweg.models import MODELS, input_kind

WORDS = ["good", "bad", "fine", "awful", "film", "plot", "actor", "story", "scene"]


def text(count):
    return " ".join(random.Random(count).choices(WORDS, k=count))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = [f"{text(number + 8)},{'pos' if number % 2 else 'neg'}\n" for number in range(40)]
    (folder / "texts.csv").write_text("review,label\n" + "".join(rows))
    numbers = [f"{number / 7},{number * number},{number % 2}\n" for number in range(40)]
    (folder / "table.csv").write_text("a,b,y\n" + "".join(numbers))
    (folder / "book.txt").write_text(text(4000))
    return folder


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("texts.csv", "mlp"),
        ("texts.csv", "transformer_lm"),
        ("table.csv", "bag_of_ngrams"),
        ("table.csv", "lstm_lm"),
        ("table.csv", "film_answerer"),
        ("table.csv", "forecaster"),
        ("book.txt", "tabular"),
        ("book.txt", "text_gru"),
    ],
)
def test_a_network_for_other_inputs_is_refused(name, model, files):
    with pytest.raises(UsageError, match=f"{model} reads") as error:
        thalweg.plan(files / name, model=model)
    assert "leave --model out" in str(error.value)


def test_every_kind_of_input_has_data_and_every_data_a_network():
    kinds = {input_kind(model) for model in MODELS}
    fed = [modality.feeds for modality in MODALITIES.values()]
    assert kinds == set().union(*fed)
    assert all(feeds & kinds for feeds in fed)
