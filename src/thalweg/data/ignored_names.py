"""Names of files and folders that a system or a program left, and that are no samples."""

_SYSTEM_NAMES = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "icon\r", "@eadir", "ehthumbs.db"}
)


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of that name is hidden or a system's own."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES
