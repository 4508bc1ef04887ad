"""Write the built-in digits as a folder of images, for the demo."""

from pathlib import Path

from PIL import Image

from thalweg.data.sources.builtin_digits import scans


def write_digits(folder: Path) -> None:
    """Write the 1,797 scans as `folder/<digit>/<number>.png`, 8 × 8 pixels, grey.

    Raises DataError if scikit-learn (the extra `demo`) is not installed.
    """
    pixels, targets = scans()
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
    for row, digit in enumerate(targets):
        image = Image.fromarray(pixels[row, :, :, 0])
        image.save(folder / str(digit) / f"{row:04}.png")
