"""Networks trained by gradient, one file per architecture; `pieces` holds their building blocks."""

from collections.abc import Callable
from typing import Literal

from torch.nn import Module

from thalweg.models.airbench import airbench
from thalweg.models.bag_of_ngrams import bag_of_ngrams
from thalweg.models.cifar_resnet import (
    plain20,
    plain32,
    plain44,
    plain56,
    plain110,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)
from thalweg.models.convnet import convnet
from thalweg.models.efficientnet_lite import efficientnet_lite0
from thalweg.models.forecaster import forecaster
from thalweg.models.mlp import mlp
from thalweg.models.pretrained.timm_model import PREFIX, timm_model
from thalweg.models.resnet import resnet18, resnet34, resnet50, resnet101, resnext50_32x4d
from thalweg.models.resnext import resnext29_8x64d, resnext29_16x64d
from thalweg.models.sequences import (
    gru_lm,
    gru_seq2seq,
    lstm_lm,
    lstm_seq2seq,
    rnn_lm,
    rnn_seq2seq,
    text_gru,
    text_lstm,
    text_rnn,
    text_transformer,
    transformer_lm,
    transformer_seq2seq,
)
from thalweg.models.sequences.question_answering import film_answerer
from thalweg.models.tabular import tabular
from thalweg.models.vgg import (
    cifar_vgg11_bn,
    cifar_vgg13_bn,
    cifar_vgg16_bn,
    cifar_vgg19_bn,
    vgg11,
    vgg11_bn,
    vgg13,
    vgg13_bn,
    vgg16,
    vgg16_bn,
    vgg19,
    vgg19_bn,
)
from thalweg.models.vit import vit_small, vit_tiny
from thalweg.registry import Registry

__all__ = ["MODELS", "input_kind"]

# They read a text to classify by the names of its tensors: n-grams, or words in order.
TEXT_MODELS = (bag_of_ngrams, text_rnn, text_lstm, text_gru, text_transformer)

# They read token numbers, int64 [batch, time]; `num_classes` is the size of their vocabulary.
LANGUAGE_MODELS = (rnn_lm, lstm_lm, gru_lm, transformer_lm)
# They read pairs of token sequences, as named tensors; `num_classes` is that of the targets.
PAIR_MODELS = (rnn_seq2seq, lstm_seq2seq, gru_seq2seq, transformer_seq2seq)

MODELS: Registry[Callable[..., Module]] = Registry(
    "model",
    (
        mlp,
        tabular,
        forecaster,
        convnet,
        airbench,
        resnet18,
        resnet34,
        resnet50,
        resnet101,
        resnext50_32x4d,
        resnet20,
        resnet32,
        resnet44,
        resnet56,
        resnet110,
        plain20,
        plain32,
        plain44,
        plain56,
        plain110,
        resnext29_8x64d,
        resnext29_16x64d,
        efficientnet_lite0,
        vit_tiny,
        vit_small,
        cifar_vgg11_bn,
        cifar_vgg13_bn,
        cifar_vgg16_bn,
        cifar_vgg19_bn,
        vgg11,
        vgg11_bn,
        vgg13,
        vgg13_bn,
        vgg16,
        vgg16_bn,
        vgg19,
        vgg19_bn,
        *LANGUAGE_MODELS,
        *PAIR_MODELS,
        film_answerer,
        *TEXT_MODELS,
    ),
    families={PREFIX: timm_model},
)


InputKind = Literal["numbers", "series", "tokens", "pairs", "texts", "questions"]
INPUT_KINDS: dict[str, InputKind] = {
    **{model.__name__: "tokens" for model in LANGUAGE_MODELS},
    **{model.__name__: "pairs" for model in PAIR_MODELS},
    **{model.__name__: "texts" for model in TEXT_MODELS},
    forecaster.__name__: "series",
    film_answerer.__name__: "questions",
}


def input_kind(name: str) -> InputKind:
    """The kind of inputs of a network: real numbers, such as images, or one that is named so."""
    return INPUT_KINDS.get(name, "numbers")
