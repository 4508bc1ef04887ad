"""Names of recipe keys in older versions, so that the recipes of recorded runs still open."""

OLD_NAMES = {  # old key → new key
    "augment.small": "augment.progressive_resizing",
    "evaluation.every": "evaluation.interval",
    "evaluation.sure": "evaluation.confidence_threshold",
    "evaluation.views": "evaluation.test_time_augmentation",
    "transfer.views": "transfer.copies_per_image",
}
_OLD_VALUES = {"evaluation.views": ("one", "none")}  # old key → (old value, new value)


def current_edit(name: str, value: object) -> tuple[str, object]:
    """Key and value as today's recipe has them, of a key that may have its old name."""
    old, new = _OLD_VALUES.get(name, (None, None))
    return OLD_NAMES.get(name, name), new if value == old else value
