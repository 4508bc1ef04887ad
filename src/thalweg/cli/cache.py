"""`thalweg cache`: show or clear the cache of decoded images."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from thalweg.cli.output import print_json
from thalweg.cli.terminal import table
from thalweg.errors import printable

if TYPE_CHECKING:
    from thalweg.data.images.cache import CacheEntry


def cache(*, clear: bool = False, json: bool = False) -> None:
    """Show the cache of decoded images, or clear it. THALWEG_CACHE moves it to another folder.

    Parameters
    ----------
    clear: bool
        Delete every entry; the next training decodes its images again.
    json: bool
        Print JSON instead of text.
    """
    from thalweg.data.images import cache as store

    freed = store.clear_cache() if clear else 0
    entries, folder = store.cache_entries(), store.default_cache_dir()
    total = sum(entry.num_bytes for entry in entries)
    if json:
        rows = [entry._asdict() | {"path": str(entry.path)} for entry in entries]
        print_json(folder=str(folder), bytes=total, freed=freed, entries=rows)
        return
    if clear:
        print(f"freed {_size(freed)}")
    if entries:
        header = ("decoded from", "images", "pixels", "size", "last used")
        print(table(header, map(_cells, entries)))
    limit = _size(store.LIMIT_BYTES)
    print(f"{printable(str(folder))}: {_size(total)} of at most {limit}")


def _cells(entry: "CacheEntry") -> tuple[object, ...]:
    size, day = _size(entry.num_bytes), _day(entry.used)
    return entry.source, entry.images, entry.image_size or "unpacked", size, day


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d}"
