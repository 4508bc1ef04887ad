"""Regression on a CSV table: the last column is the target, unless another is named."""

import csv
from pathlib import Path

from sklearn.datasets import load_diabetes

import thalweg

table = load_diabetes(scaled=False)
path = Path("diabetes.csv")
with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow([*table.feature_names, "progression"])
    writer.writerows([*row, target] for row, target in zip(table.data, table.target, strict=True))

run = thalweg.train(path, target="progression", epochs=20)
print(f"R² {run.metrics['val_r2']:.3f}, mean absolute error {run.metrics['val_mae']:.1f}")
for row in list(run.reader.predictions)[:3]:
    print(f"{row.name}: predicted {row.predicted}, measured {row.target}")
