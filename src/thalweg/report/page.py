"""The HTML shell of every page: one file that needs no network, and cannot reach it."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from thalweg.wording import markup

STYLESHEET = Path(__file__).with_name("report.css")


def html_page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """Wrap a body, HTML already, into a self-contained page, light and dark.

    Its Content-Security-Policy allows nothing but this style and script, and pictures inside it.
    """
    style = STYLESHEET.read_text(encoding="utf-8") + style
    policy = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
    policy += f"script-src '{_digest(script)}'; " if script else ""
    policy += "base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{markup(title)}</title><style>{style}</style></head>\n"
        f"<body>{body}{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def _digest(text: str) -> str:
    """The hash by which a policy names a style or a script."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
