"""Compare two recipes over the same folds: the difference per fold, not the two means alone."""

from statistics import mean

import thalweg

scores = {}
for width in (16, 128):
    validation = thalweg.cross_validate(
        "digits", folds=3, epochs=2, model="mlp", edits={"model.changes": {"width": width}}
    )
    score = validation.score
    scores[width] = score.values
    print(f"width {width}: {validation.metric} {score.mean:.3f} ± {score.std:.3f}")

differences = [wide - narrow for narrow, wide in zip(scores[16], scores[128], strict=True)]
print(
    "wider is better by",
    ", ".join(f"{d:+.3f}" for d in differences),
    f"mean {mean(differences):+.3f}",
)
