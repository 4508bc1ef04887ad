"""Networks trained by gradient, one file an architecture."""

from thalweg.models.convnet import convnet
from thalweg.models.mlp import mlp
from thalweg.models.resnet import resnet18, resnet34, resnet50
from thalweg.registry import Registry

__all__ = ["MODELS"]

MODELS = Registry("model", (mlp, convnet, resnet18, resnet34, resnet50))
