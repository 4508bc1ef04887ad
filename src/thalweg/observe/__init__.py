"""Training in, measurements out: the two lines that watch anybody's loop."""

from thalweg.observe.watch import Watcher, watch

__all__ = ["Watcher", "watch"]
