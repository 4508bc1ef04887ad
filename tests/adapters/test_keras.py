"""The callback in real fits of Keras 3 on the torch backend."""

import os

import numpy as np
import pytest
from adapters.digits import BATCH, EPOCHS, assert_found, assert_sound, library, lr_of, splits

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = library("keras", "keras")
from thalweg.adapters.keras import DiagnoseCallback  # noqa: E402
from thalweg.errors import UsageError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own advice


def model(fault="", **compiled):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((64,)),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(10, activation="softmax" if fault == "squashed" else None),
    ]
    made = keras.Sequential(layers)
    settings = {
        "optimizer": keras.optimizers.Adam(lr_of(fault)),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    } | compiled
    made.compile(**settings)
    return made


def fit(made, callback=None, fault="", epochs=EPOCHS):
    inputs, targets, *val = [part.numpy() for part in splits()]
    order = targets.argsort(kind="stable") if fault == "unshuffled" else np.arange(len(targets))
    made.fit(
        inputs[order],
        targets[order],
        batch_size=BATCH,
        epochs=epochs,
        shuffle=fault != "unshuffled",
        validation_data=tuple(val),
        callbacks=[callback] if callback else [],
        verbose=0,
    )
    return made


def diagnosed(fault="", epochs=EPOCHS, **compiled):
    callback = DiagnoseCallback(sink=None)
    fit(model(fault, **compiled), callback, fault, epochs)
    return callback.diagnosis


def test_a_sound_fit_raises_no_alarm():
    assert_sound(diagnosed(), least=20)


def test_a_learning_rate_a_thousand_times_too_high_is_named():
    assert_found(diagnosed("lr"), "learning-rate-too-high")


def test_a_head_that_stays_at_random_is_named():
    made = model()
    made.layers[-1].trainable = False
    made.compile(
        keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    callback = DiagnoseCallback(sink=None)
    fit(made, callback)
    assert_found(callback.diagnosis, "frozen-random-weights")


COMPILED = {
    "plain": dict,
    "accumulated": lambda: {
        "optimizer": keras.optimizers.Adam(2e-3, gradient_accumulation_steps=4)
    },
}


@pytest.mark.parametrize("compiled", COMPILED)
def test_weights_are_those_of_an_unwatched_fit(compiled):
    callbacks = None, DiagnoseCallback(sink=None)
    fitted = [fit(model(**COMPILED[compiled]()), one) for one in callbacks]
    for first, second in zip(fitted[0].get_weights(), fitted[1].get_weights(), strict=True):
        assert first.tobytes() == second.tobytes()


def test_accumulated_gradients_are_no_alarm():
    assert_sound(diagnosed(epochs=20, **COMPILED["accumulated"]()), least=20)


def test_what_was_listened_to_is_as_before():
    made = model()
    fit(made, DiagnoseCallback(sink=None), epochs=1)
    assert "compute_loss" not in vars(made)
    assert "apply" not in vars(made.optimizer)


def test_the_page_is_printed_unless_told_otherwise(capsys):
    fit(model("lr"), DiagnoseCallback(), epochs=2)
    assert "Diagnosis: learning-rate-too-high" in capsys.readouterr().out


def test_another_backend_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match=r"backend 'jax'(.|\n)*KERAS_BACKEND=torch"):
        DiagnoseCallback()
