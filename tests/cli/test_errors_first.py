"""What was typed is answered before work begins, in the words of this command."""

import pytest

from thalweg.cli import app as cli_app


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("train", "photos", "--optimizer.learning_rate", "1"), "--optimizer.lr"),
        (("train", "photos", "--learning-rate=0.1"), "--lr"),
        (("train", "photos", "--optimizer.wd", "1"), "--optimizer.weight_decay"),
        (("train", "photos", "--num_epochs", "3"), "--epochs"),
        (("train", "photos", "--bs", "3"), "--batch-size"),
        (("train", "photos", "--arch", "resnet18"), "--model"),
        (("train", "photos", "--output", "there"), "--out"),
        (("train", "photos", "--kfold", "5"), "--folds"),
        (("train", "photos", "--continue", "runs/a-1"), "--resume"),
        (("lr", "photos", "--bs", "3"), "--batch-size"),
        (("ladder", "photos", "--time-limit", "3"), "--minutes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_unknown_option_is_answered_by_its_meaning(command, words, option):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert f"did you mean {option}?" in err


def test_no_option_is_offered_that_the_command_does_not_have(command):
    code, _, err = command("lr", "photos", "--weight-decay", "3")
    assert code == 2
    assert "weight_decay" not in err.partition("fix:")[2]


def test_the_environment_is_answered_by_meaning(command, monkeypatch):
    monkeypatch.setenv("THALWEG_OPTIMIZER_LEARNING_RATE", "1")
    code, _, err = command("train", "photos")
    assert code == 2
    assert "did you mean THALWEG_OPTIMIZER_LR?" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("train", "nowhere", "--lr", "-1"), "optimizer.lr is out of range"),
        (("train", "nowhere", "--device", "abacus"), "no device 'abacus'"),
        (("train", "nowhere", "--model", "resnet81"), "resnet81"),
        (("train", "nowhere", "--folds", "1"), "no such fold"),
        (("train", "nowhere", "--dry-run", "--optimizer.name", "adamm"), "adamm"),
        (("plan", "nowhere", "--batch-size", "0"), "batch.size is out of range"),
        (("lr", "nowhere", "--steps", "1"), "several rates"),
        (("ladder", "nowhere", "--rungs", "ridgee"), "did you mean ridge"),
        (("predict", "nowhere", "a.png", "--device", "abacus"), "no device 'abacus'"),
        (("train", "nowhere", "--device", "meta"), "no device 'meta'"),
        (("model", "mlp", "--num-classes", "0", "--features", "4"), "num_classes must lie in"),
        (("model", "resnet18", "--channels", "0"), "channels must lie in"),
        (("landscape", "nowhere", "--points", "1"), "points must lie in 3…10000"),
        (("landscape", "nowhere", "--points", "-1"), "fix:  points=3"),
        (("spectrum", "nowhere", "--out", "a/x.jpg"), "fix:  a/x.svg"),
        (("landscape", "nowhere", "--out", "a/x.jpg"), "fix:  a/x.svg"),
        (("train", "photos", "--data.path", "x.csv"), "photos and --data.path x.csv"),
        (("plan", "photos", "--data.path", "x.csv"), "photos and --data.path x.csv"),
        (("train", "nowhere", "--data.fold", "3"), "fix:  --data.folds 5 --data.fold 3"),
        (("generate", "nowhere", "--greedy", "--temperature", "2"), "seen: temperature 2.0"),
        (("train", "--learning_rate", "3"), "Unknown option: --learning_rate."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_option_is_answered_before_the_data(command, words, text):
    code, _, err = command(*words)
    assert code == 2
    assert text in err


def test_a_picture_in_a_folder_that_cannot_be_is_refused_first(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command("spectrum", "nowhere", "--out", str(tmp_path / "file" / "x.svg"))
    assert code == 2
    assert f"seen: {tmp_path / 'file'} is no folder" in err


def test_a_file_with_a_dash_in_front_can_be_named(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-1.png").write_bytes(b"")
    code, _, err = command("predict", "nowhere", "-1.png")
    assert code == 2
    assert "write ./-1.png" in err


def test_no_other_process_reads_files_for_a_wrong_number(command, monkeypatch):
    from thalweg.cli import train

    def survey(*arguments, **named):
        pytest.fail("files are read")

    monkeypatch.setattr(train, "survey_in_background", survey)
    assert command("train", "photos", "--lr", "-1")[0] == 2


def test_the_commands_are_in_groups_and_the_ten_first(command):
    _, out, _ = command("--help")
    titles = list(cli_app._GROUPS)
    places = [out.index(title) for title in titles]
    assert places == sorted(places)
    first = out[places[0] : places[1]]
    assert len(cli_app._GROUPS[titles[0]]) == 10
    assert all(f" {name} " in first for name in cli_app._GROUPS[titles[0]])


def test_the_ten_options_that_matter_come_before_the_others(command):
    _, out, _ = command("train", "--help")
    first, _, rest = out.partition("The ten that matter first")[2].partition("The recipe as a file")
    options = "--model --transfer --epochs --lr --batch-size --image-size --target --task --device"
    assert all(f"{option} " in first for option in [*options.split(), "--seed"])
    assert "--optimizer.momentum" in rest
    assert "--optimizer.momentum" not in first
    assert rest.index("Optimizer") < rest.index("--optimizer.momentum") < rest.index("Batches")
