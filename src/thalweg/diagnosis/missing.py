"""What has to be passed in for a quantity to be measured: what "not checked" tells the user."""

from thalweg.record import Quantity

HOW = {
    "loss": "call watcher.step(loss) after each update",
    "accuracy": "pass batch=(inputs, targets) to watcher.step",
    "num_classes": "pass num_classes= to watch",
    "chance_loss": "pass num_classes= to watch",
    "val_loss": "call watcher.log(val_loss=…) when you validate",
    "val_accuracy": "call watcher.log(val_accuracy=…) when you validate",
}


def how_to_measure(quantity: Quantity) -> str:
    """One sentence: what to pass in, or that no measurement of it was recorded."""
    return HOW.get(quantity.name, f"not measured: {quantity.name}")
