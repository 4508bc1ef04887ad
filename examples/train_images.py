"""Train on a folder of images with a folder per class, look at the run, predict new files."""

from pathlib import Path

import thalweg
from thalweg.data.digits import write_digits

photos = Path("photos")  # photos/0/1.png, photos/1/7.png, …: put your own images here
if not photos.exists():
    write_digits(photos)

run = thalweg.train(photos, epochs=3)
print(f"validation accuracy {run.metrics['val_accuracy']:.3f}")
print(run.diagnosis)
print(f"report: {run.path / 'report.html'}")

model = thalweg.load(run.path)  # weights, preprocessing and class names together
new = sorted(photos.rglob("*.png"))[:3]
for path, prediction in zip(new, model.predict(new), strict=True):
    print(f"{path}: {prediction.label}, probability {prediction.probability:.2f}")
