"""Facts that runs of earlier versions did not record, derived from those that they did."""

from collections.abc import Mapping

from thalweg.record.schema import JSON
from thalweg.wording import count, image_sizes, pixels

_ANSWERS = {"classification": "classes", "regression": "values"}  # task → kind of its answers


def answers(meta: Mapping[str, JSON]) -> str:
    """The kind of the task's answers: classes, values or other."""
    return _ANSWERS.get(meta.get("task", "classification"), "other")


def inputs(meta: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """The noun for one sample, its size, and lines that describe the inputs."""
    shape: list[int] = list(meta.get("input_shape") or ())
    if len(shape) != 3:
        lines = {"Features": count(shape[0])} if shape else {}
        return {"noun": "sample", "size": "", "lines": lines}
    lines = image_sizes(shape, meta.get("original_size") or (0, 0))
    return {"noun": "image", "size": pixels(shape), "lines": lines}
