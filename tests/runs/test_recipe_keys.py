"""Recipe keys in training: what they change, and what is refused before the first step."""

from typing import Any

import numpy as np
import pytest
import torch
from runs.test_train import interrupted_at, weights_of
from torch import nn

from thalweg.api import plan, resume, train
from thalweg.data.batch import tensors_of
from thalweg.errors import UnknownNameError, UsageError
from thalweg.models.anatomy.signal_scale import activation_statistics
from thalweg.optim import OPTIMIZERS, SCHEDULES
from thalweg.record.quantities import ACCURACY, INSTRUMENT_FAILED, LOSS, VAL_LOSS
from thalweg.tasks.losses import LOSSES

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "model": "mlp"}
EVERYTHING = {
    "task.loss": "focal",
    "task.changes": {"gamma": 1.5},
    "task.penalty": "elastic_net",
    "task.penalty_weight": 1e-4,
    "augment.mixup": 0.3,
    "augment.cutmix": 1.0,
    "augment.random_ops": 2,
    "augment.cutout": 0.25,
    "augment.flip": True,
    "augment.alternating_flip": True,
    "evaluation.test_time_augmentation": "shift",
    "evaluation.confidence_threshold": 0.9,
    "augment.progressive_resizing": {"5": 0.3, "6": 0.3},
    "optimizer.ema_decay": 0.99,
    "optimizer.name": "adamw",
    "optimizer.changes": {"beta2": 0.95, "eps": 1e-7},
    "optimizer.lr": 1e-3,
    "schedule.name": "step",
    "schedule.changes": {"factor": 0.3, "first": 0.4},
    "model.changes": {"dropout": 0.2, "activation": "gelu", "norm": "group", "init": "lsuv"},
}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Two clouds of points in four dimensions."""
    rng = np.random.default_rng(0)
    targets = rng.integers(2, size=120)
    points = rng.normal(size=(120, 4)) + 2 * targets[:, None]
    path = tmp_path_factory.mktemp("data") / "clouds.csv"
    rows = "".join(
        ",".join(map(str, [*point, f"c{t}"])) + "\n"
        for point, t in zip(points, targets, strict=True)
    )
    path.write_text("a,b,c,d,target\n" + rows)
    return path


@pytest.mark.parametrize("step", [pytest.param(10, marks=pytest.mark.slow), 13])
def test_a_run_of_everything_resumes_to_the_same_bit(scans, tmp_path, step):
    wishes: dict[str, Any] = {
        "model": "convnet",
        "epochs": 2,
        "batch_size": 32,
        "edits": EVERYTHING,
    }
    whole = train(scans, out=tmp_path, **wishes)
    resumed = resume(interrupted_at(step, scans, out=tmp_path, **wishes).path)
    assert weights_of(resumed) == weights_of(whole)
    assert resumed.history.series(LOSS) == whole.history.series(LOSS)
    assert resumed.history.series(VAL_LOSS) == whole.history.series(VAL_LOSS)
    assert not resumed.history.by_place(INSTRUMENT_FAILED)


SPEED_RUN = {
    "data.image_size": 12,
    "model.name": "airbench",
    "model.changes": {"width": 8},
    "optimizer.name": "muon",
    "optimizer.lr": 0.1,
    "optimizer.changes": {
        "newton_schulz_steps": 3,
        "unit_norm": True,
        "head_rate": 0.1,
        "bias_rate": 10.0,
        "frozen_bias_share": 0.55,
    },
    "augment.flip": True,
    "augment.alternating_flip": True,
    "augment.crop_padding": 2,
    "augment.progressive_resizing": {"10": 0.6},
    "evaluation.test_time_augmentation": "shift",
    "evaluation.confidence_threshold": 0.9,
    "evaluation.interval": 2,
}


@pytest.mark.parametrize("step", [8, 13])  # before and after the first layer's biases end
@pytest.mark.slow
def test_a_run_of_the_speed_records_recipe_resumes_to_the_same_bit(scans, tmp_path, step):
    wishes: dict[str, Any] = {"epochs": 2, "batch_size": 32, "edits": SPEED_RUN}
    whole = train(scans, out=tmp_path, **wishes)
    resumed = resume(interrupted_at(step, scans, out=tmp_path, **wishes).path)
    assert weights_of(resumed) == weights_of(whole)
    assert resumed.history.series(LOSS) == whole.history.series(LOSS)
    assert resumed.metrics == whole.metrics


def test_the_penalty_is_added_to_the_gradient_not_to_the_reported_loss(scans):
    """∇(loss + λ R), by hand."""
    edits = {"task.penalty": "elastic_net", "task.penalty_weight": 0.1, "task.elastic_beta": 0.5}
    ready = plan(scans, edits=edits, **QUICK)
    model = ready.build_model()
    ready.penalty(model)().backward()
    for weight in model.parameters():
        expected = 0.1 * (0.5 * 2 * weight + weight.sign()) if weight.ndim > 1 else None
        if expected is None:
            assert weight.grad is None
        else:
            torch.testing.assert_close(weight.grad, expected)


@pytest.mark.slow
def test_l1_makes_weights_sparse_and_l2_makes_them_small(vectors, tmp_path):
    still = {"optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.weight_decay": 0.0}
    plain, l1, l2 = (
        _weights(train(vectors, out=tmp_path, epochs=20, edits=still | edits)).abs()
        for edits in (
            {},
            {"task.penalty": "l1", "task.penalty_weight": 1e-2},
            {"task.penalty": "l2", "task.penalty_weight": 1e-2},
        )
    )
    share = [(sizes < 1e-3).double().mean().item() for sizes in (plain, l1, l2)]
    assert share[1] > 5 * max(share[0], share[2])
    assert l2.square().sum() < 0.95 * plain.square().sum()


def _weights(run):
    from safetensors.torch import load_file

    tensors = load_file(run.path / "model" / "weights.safetensors").values()
    return torch.cat([tensor.flatten() for tensor in tensors if tensor.ndim > 1])


def test_averaged_weights_are_judged_and_saved(scans, tmp_path):
    """A loop of one's own, with the average written out, saves the same weights."""
    edits = {"optimizer.ema_decay": 0.9}
    run, ready = train(scans, out=tmp_path, edits=edits, **QUICK), plan(scans, edits=edits, **QUICK)
    model = ready.build_model()
    optimizer = ready.build_optimizer(model)
    loss_fn = ready.task.loss_fn
    schedule = SCHEDULES[ready.recipe.schedule.name](ready.recipe.schedule.warmup)
    peak = ready.recipe.optimizer.lr
    average = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    best, best_weights = -1.0, {}
    from thalweg.training.evaluate import evaluate

    stream = ready.training_stream()
    for step in range(ready.steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * schedule((step + 0.5) / ready.steps)
        inputs, targets = next(stream)
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
        keep = min(0.9, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                average[name] = keep * average[name] + (1 - keep) * weight
        if (step + 1) % ready.steps_per_epoch == 0:
            twin = ready.build_model()
            twin.load_state_dict(average)
            score = evaluate(twin, ready.evaluation_batches("val"), ready.task).metrics["accuracy"]
            if score > best:
                best, best_weights = (
                    score,
                    {name: weight.clone() for name, weight in average.items()},
                )
    from safetensors.torch import load_file

    saved = load_file(run.path / "model" / "weights.safetensors")
    for name, tensor in best_weights.items():
        torch.testing.assert_close(saved[name], tensor)
    assert run.metrics["val_accuracy"] == pytest.approx(best)


def test_patience_ends_the_run_and_the_best_weights_are_kept(scans, tmp_path):
    """From a tenth on, the rate is nearly nothing: no later epoch is better."""
    edits = {"budget.patience": 2, "schedule.name": "step", "schedule.warmup": 0.0}
    edits["schedule.changes"] = {"factor": 1e-9, "first": 0.1, "every": 0.5}
    run = train(scans, out=tmp_path, **QUICK | {"epochs": 20}, edits=edits)
    scores = list(run.history.series(VAL_LOSS))
    per_epoch = run.reader.meta["steps_per_epoch"]
    assert len(scores) < 20
    accuracies = [v for _, v in sorted(run.history.by_place(_val_accuracy())[""].items())]
    best = int(np.argmax(accuracies))
    assert len(accuracies) - 1 - best == 2  # epochs after the best one
    assert len(run.history.series(LOSS)) == per_epoch * len(accuracies)
    assert run.metrics["val_accuracy"] == pytest.approx(max(accuracies))
    assert any(event.kind == "stopped-early" for event in run.reader.events)
    assert run.reader.state == "finished"


def _val_accuracy():
    from thalweg.record.quantities import VAL_ACCURACY

    return VAL_ACCURACY


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_by_its_name(vectors, tmp_path, name):
    rate = {"sgd": 0.1, "momentum": 0.1, "momentum_velocity": 0.1, "nesterov": 0.1}.get(name, 0.01)
    edits = {"optimizer.name": name, "optimizer.momentum": 0.9}
    run = train(vectors, out=tmp_path, lr=rate, epochs=10, batch_size=16, edits=edits)
    assert run.metrics["val_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("name", "changes", "where", "value"),
    [
        ("adamw", {"beta2": 0.9, "eps": 1e-5}, "betas", (0.8, 0.9)),
        ("adam", {"beta2": 0.9, "eps": 1e-5}, "eps", 1e-5),
        ("adagrad", {"eps": 1e-5}, "eps", 1e-5),
        ("rmsprop", {"alpha": 0.9, "eps": 1e-5, "centered": True}, "centered", True),
        ("sgd", {"nesterov": False}, "nesterov", False),
        ("momentum", {"dampening": 0.5}, "dampening", 0.5),
        ("sign_descent", {"beta2": 0.9}, "beta2", 0.9),
    ],
)
def test_settings_reach_the_optimizer(scans, name, changes, where, value):
    edits = {"optimizer.name": name, "optimizer.changes": changes, "optimizer.momentum": 0.8}
    ready = plan(scans, edits=edits, **QUICK)
    optimizer = ready.build_optimizer(ready.build_model())
    assert all(group[where] == value for group in optimizer.param_groups)


FAST = {"mse"}


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in LOSSES]
)
def test_every_loss_trains_and_gives_no_alarm_about_its_start(scans, tmp_path, name):
    edits = {"task.loss": name, "optimizer.name": "adamw", "optimizer.lr": 5e-3}
    run = train(scans, out=tmp_path, epochs=9, model="convnet", batch_size=32, edits=edits)
    assert run.metrics["val_accuracy"] > 0.7
    rules = [finding.rule for finding in run.diagnosis.findings]
    assert "initial-loss-above-chance" not in rules


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_every_loss_of_values_trains(diabetes, tmp_path, loss):
    run = train(diabetes, out=tmp_path, edits={"task.loss": loss}, epochs=12)
    assert run.metrics["val_r2"] > 0.2


@pytest.mark.parametrize(
    "edits",
    [{"augment.mixup": 0.4}, {"augment.cutmix": 1.0}],
    ids=["mixup", "cutmix"],
)
@pytest.mark.slow
def test_mixed_samples_are_no_fault(scans, tmp_path, edits):
    """Soft targets: whole metrics, no instrument fails, no rule speaks."""
    run = train(scans, out=tmp_path, epochs=16, model="convnet", batch_size=32, edits=edits)
    assert not run.history.by_place(INSTRUMENT_FAILED)
    assert run.metrics["val_accuracy"] > 0.85
    alarms = [f.rule for f in run.diagnosis.findings if f.severity != "note"]
    assert alarms == []
    assert not run.history.by_place(ACCURACY)  # of mixed samples there is none


@pytest.mark.slow
def test_values_are_mixed_as_values(diabetes, tmp_path):
    run = train(diabetes, out=tmp_path, edits={"augment.mixup": 0.4}, epochs=30)
    assert run.metrics["val_r2"] > 0.2
    assert [f.rule for f in run.diagnosis.findings if f.severity != "note"] == []


def test_lsuv_starts_every_hidden_layer_at_unit_variance(scans):
    changes = {"depth": 6, "activation": "tanh", "init": "lsuv"}
    ready = plan(scans, edits={"model.changes": changes}, **QUICK)
    model = ready.build_model()
    (inputs,) = tensors_of(next(ready.training_stream()).inputs)
    layers = activation_statistics(model, inputs)
    assert all(abs(layer.std - 1) < 0.06 for layer in layers[:-1])
    assert layers[-1].std < 0.5  # the head starts undecided


def bad(id, text, *, data="scans", error=UsageError, **edits):
    return pytest.param(
        data, {k.replace("__", "."): v for k, v in edits.items()}, error, text, id=id
    )


@pytest.mark.parametrize(
    ("data", "edits", "error", "text"),
    [
        bad("resnet on 8 px", "at least 16", model__name="resnet18"),
        bad("vgg on 8 px", "at least 32", model__name="cifar_vgg11_bn"),
        bad("vit on vectors", "reads images", data="vectors", model__name="vit_tiny"),
        bad("batch norm of one", "batch of one", model__name="convnet", batch__size=1),
        bad("unknown loss", "did you mean focal", error=UnknownNameError, task__loss="focl"),
        bad(
            "unknown penalty",
            "l1, l2, elastic_net",
            error=UnknownNameError,
            task__penalty="l3",
            task__penalty_weight=1.0,
        ),
        bad(
            "unknown schedule",
            "did you mean cosine",
            error=UnknownNameError,
            schedule__name="cosin",
        ),
        bad(
            "unknown norm",
            "batch",
            error=UnknownNameError,
            model__name="mlp",
            model__changes={"norm": "bach"},
        ),
        bad(
            "unknown setting",
            "did you mean beta2",
            error=UnknownNameError,
            optimizer__name="adam",
            optimizer__changes={"beta": 0.9},
        ),
        bad(
            "setting of another",
            "floor",
            error=UnknownNameError,
            schedule__name="constant",
            schedule__changes={"floor": 0.1},
        ),
        bad(
            "text for a number",
            "is a number",
            optimizer__name="adam",
            optimizer__changes={"eps": "small"},
        ),
        bad(
            "eps below 0",
            "does not accept",
            optimizer__name="adam",
            optimizer__changes={"eps": -1.0},
        ),
        bad(
            "nesterov without momentum",
            "positive momentum",
            optimizer__name="nesterov",
            optimizer__momentum=0.0,
        ),
        bad("momentum 1", "optimizer.momentum", optimizer__momentum=1.0),
        bad("ema 1", "optimizer.ema_decay", optimizer__ema_decay=1.0),
        bad("ema -0.1", "optimizer.ema_decay", optimizer__ema_decay=-0.1),
        bad(
            "1-cycle of warm-up alone",
            "schedule.warmup",
            schedule__name="one_cycle",
            schedule__warmup=1.0,
        ),
        bad(
            "stairs upward",
            "lowers the learning rate",
            schedule__name="step",
            schedule__changes={"factor": 2.0},
        ),
        bad("mixup with svm", "mixed samples", task__loss="multiclass_svm", augment__mixup=0.2),
        bad(
            "smoothing with svm",
            "cannot be smoothed",
            task__loss="multiclass_svm",
            task__label_smoothing=0.1,
        ),
        bad("smoothing of 1", "task.label_smoothing", task__label_smoothing=1.0),
        bad("mae for classes", "no loss for classification", task__loss="mae"),
        bad(
            "svm for values", "no loss for regression", data="diabetes", task__loss="multiclass_svm"
        ),
        bad("smoothing of values", "labels of classes", data="diabetes", task__label_smoothing=0.1),
        bad(
            "classes from values", "make a regression", data="diabetes", task__name="classification"
        ),
        bad("flipped vectors", "rows cannot be augmented", data="vectors", augment__flip=True),
        bad("cutmix of vectors", "rows cannot be augmented", data="vectors", augment__cutmix=1.0),
        bad("alternating without flip", "needs augment.flip", augment__alternating_flip=True),
        bad("small as large", "between 0 and 8", augment__progressive_resizing={"8": 0.5}),
        bad("small as a word", "between 0 and 8", augment__progressive_resizing={"half": 0.5}),
        bad("small mlp", "MLP: ", model__name="mlp", augment__progressive_resizing={"6": 0.5}),
        bad("small share of 2", "from 0 to 1", augment__progressive_resizing={"6": 2.0}),
        bad(
            "small vectors",
            "rows cannot be augmented",
            data="vectors",
            augment__progressive_resizing={"2": 0.5},
        ),
        bad(
            "views of vectors",
            "the samples are rows",
            data="vectors",
            evaluation__test_time_augmentation="flip",
        ),
        bad(
            "sure of one view",
            "without test-time augmentation",
            evaluation__confidence_threshold=0.5,
        ),
        bad(
            "sure of 2",
            "evaluation.confidence_threshold",
            evaluation__confidence_threshold=2.0,
            evaluation__test_time_augmentation="flip",
        ),
        bad("mixup below 0", "augment.mixup", augment__mixup=-1.0),
        bad("magnitude 2", "random_magnitude", augment__random_magnitude=2.0),
        bad("penalty without weight", "a name and a weight", task__penalty="l2"),
        bad("weight without penalty", "a name and a weight", task__penalty_weight=0.1),
        bad("penalty below 0", "penalty_weight", task__penalty="l2", task__penalty_weight=-1.0),
        bad("patience below 0", "budget.patience", budget__patience=-1),
        bad("dropout of 2", "cannot be built", model__name="mlp", model__changes={"dropout": 2.0}),
        bad(
            "instance norm of vectors",
            "needs positions",
            data="vectors",
            model__name="mlp",
            model__changes={"norm": "instance"},
        ),
        bad("crop of 0 pixels more than all", "crop_scale", augment__crop_scale=1.5),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_run_exists(
    request, tmp_path, data, edits, error, text
):
    with pytest.raises(error, match=text) as caught:
        train(request.getfixturevalue(data), out=tmp_path / "runs", edits=edits)
    assert caught.value.fix
    assert not (tmp_path / "runs").exists()


def test_a_single_training_sample_is_no_batch_for_batch_norm(tmp_path):
    np.savez(
        tmp_path / "few.npz",
        images=np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8),
        labels=np.array([0, 1, 0, 1, 0, 1]),
    )
    edits = {"data.val_fraction": 0.9, "model.name": "convnet"}
    ready = plan(tmp_path / "few.npz", edits=edits | {"model.changes": {"norm": "group"}})
    if ready.dataset.facts.counts["train"] == 1:
        with pytest.raises(UsageError, match="batch of one"):
            plan(tmp_path / "few.npz", edits=edits)


def test_a_last_batch_of_one_is_left_out(scans, tmp_path):
    ready = plan(scans, model="convnet")
    count = ready.dataset.facts.counts["train"]
    size = next(s for s in range(2, count) if count % s == 1)
    run = train(scans, out=tmp_path, model="convnet", epochs=1, batch_size=size)
    assert len(run.history.series(LOSS)) == count // size


def test_group_norm_trains_on_single_samples(scans, tmp_path):
    """What the error about batch norm proposes."""
    ready = plan(
        scans, edits={"batch.size": 1, "model.name": "convnet", "model.changes": {"norm": "group"}}
    )
    model = ready.build_model()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert model(next(ready.training_stream()).inputs).shape == (1, 10)


def test_settings_of_the_recipes_own_network_are_not_forced_on_another(vectors):
    own = plan(vectors).recipe.model
    assert own.changes
    assert plan(vectors, model=own.name).recipe.model == own
    linear = plan(vectors, edits={"model.name": "mlp", "model.changes": {"depth": 0}}).recipe
    assert linear.model.changes == {"depth": 0}


def test_another_network_takes_its_own_defaults(scans):
    assert plan(scans, model="resnet20").recipe.model.changes == {}
