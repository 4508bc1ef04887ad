"""Files of pairs: which are recognised, which are not, and what they say."""

import numpy as np
import pytest

from thalweg.data import load_dataset
from thalweg.data.sources import samples_at
from thalweg.data.text.divide_text import TextOptions
from thalweg.data.text.pairs import Pairs
from thalweg.errors import DataError, UnknownNameError, UsageError

VERBS, TIMES = ("jump", "run", "walk", "look", "turn"), ("once", "twice", "thrice", "again")
COMMANDS = [
    (f"{verb} {time} {place}", " ".join([verb.upper()] * number + [place.upper()]))
    for verb in VERBS
    for number, time in enumerate(TIMES, 1)
    for place in ("left", "right")
]
SENTENCES = [
    (f"{subject} {verb} a {thing}.", f"{subject.upper()} {verb.upper()} {thing.upper()}.")
    for subject in ("I", "You", "They")
    for verb in ("see", "have", "want")
    for thing in ("dog", "cat", "house")
]


def scan(rows):
    return "".join(f"IN: {source} OUT: {target}\n" for source, target in rows)


def tabbed(rows, *more):
    return "".join("\t".join((*row, *more)) + "\n" for row in rows)


def csv(rows, header):
    return f"{header}\n" + "".join(f'"{source}","{target}"\n' for source, target in rows)


def pairs_at(folder, name, text, **options):
    (folder / name).write_text(text, encoding="utf-8")
    return samples_at(folder / name, **options)


RECOGNISED = {
    "commands": ("scan.txt", scan(COMMANDS)),
    "tabs": ("sentences.txt", tabbed(SENTENCES)),
    "tabs with their origin": ("fra.txt", tabbed(SENTENCES, "CC-BY 2.0 (France) tatoeba.org #1")),
    "names of columns": ("pairs.csv", csv(COMMANDS, "input,output")),
    "names of languages": ("pairs.tsv", "en\tfr\n" + tabbed(SENTENCES)),
    "no header": ("pairs.tsv", tabbed(SENTENCES)),
    "two columns of sentences": ("any.csv", csv(SENTENCES, "a,b")),
}


@pytest.mark.parametrize("name", RECOGNISED)
def test_pairs_are_recognised_where_they_are_beyond_doubt(name, tmp_path):
    samples = pairs_at(tmp_path, *RECOGNISED[name])
    rows = COMMANDS if name in ("commands", "names of columns") else SENTENCES
    assert isinstance(samples.inputs, Pairs)
    assert list(zip(samples.inputs.sources, samples.inputs.targets, strict=True)) == rows
    assert samples.notes[0].startswith("pairs: ")


REVIEWS = [(f"this film number {number} is good", number % 2) for number in range(60)]
OTHERS = {
    "a class for each text": csv(REVIEWS, "text,label"),
    "a class under the name of outputs": csv(REVIEWS, "input,output"),
    "a number for each text": csv([(text, 3 * n) for n, (text, _) in enumerate(REVIEWS)], "text,y"),
    "a table of numbers": csv([(n, 2 * n) for n in range(60)], "input,output"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_table_is_taken_for_pairs(name, tmp_path):
    try:
        samples = pairs_at(tmp_path, "table.csv", OTHERS[name])
    except DataError:
        return
    assert not isinstance(samples.inputs, Pairs)


def test_a_text_with_a_tab_is_still_one_text(tmp_path):
    text = "\tA paragraph begins with a tab.\nIt goes on without one.\n" * 40
    assert not isinstance(pairs_at(tmp_path, "book.txt", text).inputs, Pairs)


def test_the_task_or_the_columns_ask_for_pairs_of_any_table(tmp_path):
    rows = [(f"{a}+{b}", a + b) for a in range(8) for b in range(8)]
    samples = pairs_at(tmp_path, "sums.csv", csv(rows, "sum,total"), task="sequence")
    assert samples.inputs.sources[:2] == ("0+0", "0+1")
    backwards = samples_at(tmp_path / "sums.csv", source="total", target="sum")
    assert backwards.inputs.targets[:2] == ("0+0", "0+1")
    with pytest.raises(UnknownNameError, match="tot"):
        samples_at(tmp_path / "sums.csv", source="tot")


def test_another_task_is_not_overruled(tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text(tabbed(SENTENCES * 4))
    assert not isinstance(samples_at(path, task="next-token").inputs, Pairs)


def test_columns_in_doubt_are_asked_for(tmp_path):
    rows = "".join(f"a {n},b {n},c {n}\n" for n in range(30))
    with pytest.raises(DataError, match="in doubt") as caught:
        pairs_at(tmp_path, "three.csv", "one,two,three\n" + rows, task="sequence")
    assert "--source NAME" in caught.value.fix


def test_rows_without_a_text_are_left_out(tmp_path):
    rows = [*SENTENCES, ("nothing", ""), ("", "nothing")]
    samples = pairs_at(tmp_path, "pairs.csv", csv(rows, "source,target"))
    assert [one.reason for one in samples.quarantined] == ["no target", "no source"]
    assert len(samples.names) == len(SENTENCES)


def test_another_encoding_is_one_error_that_says_what_to_do(tmp_path):
    for name, text in (("p.csv", csv(SENTENCES, "source,target")), ("p.tsv", tabbed(SENTENCES))):
        (tmp_path / name).write_bytes(text.replace("dog", "犬の国").encode("shift_jis"))
        with pytest.raises(DataError, match="not in UTF-8") as caught:
            samples_at(tmp_path / name)
        assert "iconv -f ISO-8859-1" in caught.value.fix


def test_a_western_table_is_read_and_said(tmp_path):
    text = csv(SENTENCES, "source,target").replace("dog", "chién")
    (tmp_path / "p.csv").write_bytes(text.encode("latin-1"))
    samples = samples_at(tmp_path / "p.csv")
    assert any("read as Windows-1252" in note for note in samples.notes)


def test_a_folder_has_a_file_for_each_split_or_for_each_side(tmp_path):
    (tmp_path / "split").mkdir()
    (tmp_path / "split/tasks_train_simple.txt").write_text(scan(COMMANDS[:30]))
    (tmp_path / "split/tasks_test_simple.txt").write_text(scan(COMMANDS[30:]))
    samples = samples_at(tmp_path / "split")
    assert np.bincount(samples.splits).tolist() == [30, 0, 10]

    (tmp_path / "sides").mkdir()
    for side, suffix in enumerate((".en", ".fr")):
        lines = [pair[side] for pair in SENTENCES]
        (tmp_path / f"sides/train{suffix}").write_text("\n".join(lines) + "\n")
    samples = samples_at(tmp_path / "sides")
    assert samples.inputs.sources == tuple(source for source, _ in SENTENCES)
    assert (samples.inputs.source_name, samples.inputs.target_name) == ("en", "fr")
    (tmp_path / "sides/train.fr").write_text("one line\n")
    with pytest.raises(DataError, match="equally many lines"):
        samples_at(tmp_path / "sides")


def test_the_longest_targets_validate_where_the_split_is_by_length(tmp_path):
    (tmp_path / "scan.txt").write_text(scan(COMMANDS))
    dataset = load_dataset(
        tmp_path / "scan.txt", text=TextOptions(split="length", tokenizer="words")
    )
    lengths = dataset.inputs.target_lengths
    train, val = (lengths[dataset.indices[split]] for split in ("train", "val"))
    assert train.max() < val.min()
    assert set(val) == {5}
    assert any("split by length" in note for note in dataset.notes)
    (tmp_path / "equal.csv").write_text(csv([(f"a {n}", f"b {n}") for n in range(30)], "en,fr"))
    with pytest.raises(DataError, match="equally long"):
        load_dataset(tmp_path / "equal.csv", text=TextOptions(split="length"))
    table = tmp_path / "table.csv"
    table.write_text("a,y\n" + "".join(f"{n},{n % 2}\n" for n in range(30)))
    with pytest.raises(UsageError, match="only sequences are split by their length"):
        load_dataset(table, text=TextOptions(split="length"))


def test_equal_sources_stay_in_one_split(tmp_path):
    rows = [(source, f"{target} {copy}") for source, target in SENTENCES for copy in range(3)]
    (tmp_path / "pairs.tsv").write_text(tabbed(rows))
    dataset = load_dataset(tmp_path / "pairs.tsv")
    train, val = ({rows[row][0] for row in dataset.indices[s]} for s in ("train", "val"))
    assert not train & val
    assert len(dataset.indices["val"]) >= 9


def test_a_long_source_is_cut_and_a_long_target_left_out(tmp_path):
    rows = [*SENTENCES, ("long " * 3_000, "short one"), ("short one", "long " * 3_000)]
    (tmp_path / "pairs.tsv").write_text(tabbed(rows))
    dataset = load_dataset(tmp_path / "pairs.tsv")
    assert dataset.facts.input_shape[0] == 1_024
    assert [one.reason for one in dataset.quarantined] == [
        "a target of 3,000 words: more than 1,000"
    ]
    assert any("only their beginnings are read" in note for note in dataset.notes)
