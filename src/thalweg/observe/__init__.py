"""Training in, measurements out: the two lines that watch anybody's loop."""

from thalweg.observe.watch import Watcher, unwrapped_optimizer, watch

__all__ = ["Watcher", "unwrapped_optimizer", "watch"]
