"""Images and folders made by code: healthy ones, and one for every fault that they can have."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def pixels(seed, *, size=16, channels=3):
    """Smooth random pixels, uint8 [size, size, channels]: unique for each seed, kind to JPEG."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)[..., :channels]


def picture(seed=0, *, size=16, mode="RGB"):
    return Image.fromarray(pixels(seed, size=size)).convert(mode)


def encoded(image, format_="PNG", **options):
    file = BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def write(path, seed=0, *, size=16, mode="RGB", format_="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(seed, size=size, mode=mode), format_))
    return path


def class_folders(root, counts, *, size=16, mode="RGB"):
    """A folder per class with so many different images in each; returns the root."""
    seed = 1000
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            write(root / name / f"{index:04}.png", seed, size=size, mode=mode)
            seed += 1
    return root


def chunk(kind, data):
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, *, rest=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = rest or chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def tiff_of(width, height):
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, width * height & 0xFFFFFFFF),
    ]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + struct.pack("<I", 0)


def bmp_of(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def gif_of(width, height):
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0" * 6 + frame


def webp_of(width, height):
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    extended = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas
    frame = encoded(picture(), "WEBP")[12:]
    body = b"WEBP" + extended + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_of(width, height):
    data = bytearray(encoded(picture(), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def cut(format_, *, keep=0.6, **options):
    """A file that ends too early."""
    data = encoded(picture(3, size=64), format_, **options)
    return data[: int(len(data) * keep)]


def flipped(data, position):
    """The bytes with one of them inverted."""
    damaged = bytearray(data)
    damaged[position % len(data)] ^= 0xFF
    return bytes(damaged)


BOMBS = {
    "png": png_of(60_000, 60_000),
    "tiff": tiff_of(60_000, 60_000),
    "bmp": bmp_of(60_000, 60_000),
    "gif": gif_of(65_535, 65_535),
    "webp": webp_of(16_384, 16_384),
    "jpeg": jpeg_of(65_535, 65_535),
    "ppm": b"P6 60000 60000 255\n" + b"\0" * 100,
}

# What cannot be decoded → a part of the reason that the user reads.
UNREADABLE = {
    "empty": (b"", "empty file"),
    "garbage": (bytes(range(256)) * 8, "not an image"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
    "html with space": (b"\n  <html><body>404</body></html>", "an HTML page"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "PDF"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "fits": (b"SIMPLE  =                    T" + b" " * 2850, "not an image"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "zip"),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt ", "not an image"),
    "png header only": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "png without pixels": (png_of(4, 4, rest=chunk(b"tEXt", b"a\0b")), "damaged"),
    "png of no width": (png_of(0, 4), ""),
    "png with a bad checksum": (flipped(encoded(picture()), 17), "damaged"),
    "png of text that unpacks for ever": (
        png_of(4, 4, rest=chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 200_000_000))),
        "damaged",
    ),
    "truncated jpeg": (cut("JPEG"), "truncated"),
    "truncated progressive jpeg": (cut("JPEG", keep=0.3, progressive=True), "truncated"),
    "truncated png": (cut("PNG"), "truncated"),
    "truncated gif": (cut("GIF"), "truncated"),
    "truncated bmp": (cut("BMP"), "truncated"),
    "truncated tiff": (cut("TIFF"), ""),
    "truncated webp": (cut("WEBP"), ""),
    "truncated ppm": (cut("PPM"), "truncated"),
    **{f"bomb, {name}": (data, "") for name, data in BOMBS.items()},
}
