"""The rungs of the ladder, from the simplest to the strongest: one file a kind, one line a rung."""

from thalweg.ladders.rung import RungMaker
from thalweg.ladders.rungs import (
    boosted_trees,
    chance,
    linear,
    nearest_neighbors,
    networks,
    ridge,
    transfer,
    visual_words,
)

__all__ = ["RUNGS"]

RUNGS: dict[str, RungMaker] = {
    maker.name: maker
    for maker in (
        chance.RUNG,
        nearest_neighbors.RUNG,
        ridge.RUNG,
        linear.SOFTMAX,
        linear.SVM,
        boosted_trees.RUNG,
        linear.HOG_SOFTMAX,
        networks.HOG_MLP,
        visual_words.RUNG,
        networks.MLP,
        networks.TABULAR,
        networks.CONVNET,
        networks.RESNET,
        transfer.RUNG,
    )
}
