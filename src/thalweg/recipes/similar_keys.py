"""Find the recipe keys that a word means: by other libraries' names for them, then by spelling."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

# Key → the names that other libraries have for it, in small letters without marks.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "data.path": ("data", "dataset", "datadir", "dataroot", "root", "source", "input"),
    "data.image_size": (
        *("size", "imgsize", "imgsz", "resolution", "inputsize", "imagewidth", "imageheight"),
        *("cropsize", "resize", "img"),
    ),
    "data.val_fraction": (
        *("valsplit", "validationsplit", "valsize", "validpct", "valratio", "validationfraction"),
        *("valpct", "validfraction"),
    ),
    "data.test_fraction": ("testsplit", "testsize", "testpct", "testratio"),
    "data.target": ("label", "labels", "labelcol", "labelcolumn", "targetcolumn", "y", "ynames"),
    "data.group": ("groups", "groupcolumn", "groupby"),
    "data.folds": ("kfold", "kfolds", "nfolds", "numfolds", "cv"),
    "model.name": ("arch", "architecture", "network", "net", "backbone"),
    "model.changes": ("dropout", "width", "depth", "hiddensize", "numlayers", "norm", "activation"),
    "transfer.method": ("pretrained", "finetune", "finetuning", "freeze", "transferlearning"),
    "task.name": ("problem", "objective", "problemtype"),
    "task.loss": ("loss", "criterion", "lossfn", "lossfunction", "lossfunc"),
    "task.label_smoothing": ("smoothing", "labelsmooth"),
    "optimizer.name": ("optimizer", "optim", "optimiser", "opt", "solver"),
    "optimizer.lr": (
        *("learningrate", "learnrate", "baselr", "maxlr", "lr0", "eta", "stepsize", "alpha"),
        *("learningrateinit", "initlr", "initiallr"),
    ),
    "optimizer.weight_decay": ("wd", "decay", "l2", "l2reg", "regularization", "weightdecay"),
    "optimizer.momentum": ("beta", "beta1", "mom"),
    "optimizer.max_grad_norm": (
        *("clip", "gradclip", "gradientclip", "clipnorm", "clipgradnorm", "gradientclipval"),
        *("clipgrad", "clipvalue", "gradclipnorm"),
    ),
    "optimizer.ema_decay": ("ema", "emamodel", "modelema", "swa"),
    "optimizer.changes": ("betas", "beta2", "eps", "epsilon", "nesterov"),
    "schedule.name": ("scheduler", "lrscheduler", "lrschedule", "schedule", "policy", "sched"),
    "schedule.warmup": (
        *("warmupepochs", "warmupsteps", "warmupratio", "warmuppct", "pctstart", "numwarmupsteps"),
    ),
    "batch.size": (
        *("batch", "bs", "batchsize", "minibatch", "minibatchsize", "trainbatchsize"),
        *("perdevicetrainbatchsize",),
    ),
    "batch.accumulate": (
        *("accum", "gradaccum", "gradientaccumulation", "gradientaccumulationsteps"),
        *("accumulategradbatches", "accumulationsteps", "gradaccumsteps"),
    ),
    "augment.flip": ("hflip", "fliplr", "horizontalflip", "mirror", "doflip"),
    "augment.random_ops": ("randaugment", "autoaugment", "trivialaugment", "rand"),
    "augment.cutout": ("erasing", "randomerasing", "reprob"),
    "augment.crop_scale": ("scale", "minscale", "randomresizedcrop"),
    "precision.dtype": (
        *("precision", "amp", "fp16", "bf16", "mixedprecision", "half", "dtype", "float16"),
        *("tofp16",),
    ),
    "precision.threads": ("numthreads", "nthreads", "njobs", "workers", "numworkers", "threads"),
    "precision.compile": ("torchcompile", "jit"),
    "budget.epochs": (
        *("epoch", "nepoch", "nepochs", "numepochs", "maxepochs", "numtrainepochs", "passes"),
        *("maxiter", "iterations", "steps", "maxsteps"),
    ),
    "budget.patience": ("earlystopping", "earlystop", "earlystoppingpatience", "patience"),
    "budget.checkpoint_seconds": ("saveinterval", "saveevery", "savesteps", "checkpointevery"),
    "evaluation.interval": ("evalinterval", "evalevery", "valinterval", "checkvaleverynepoch"),
    "evaluation.test_time_augmentation": ("tta", "augmenttest"),
    "seed": ("randomseed", "randomstate", "rng", "manualseed"),
    "device": ("cuda", "gpu", "accelerator", "usecuda", "nogpu", "usecpu", "mps"),
    "devices": ("gpus", "numgpus", "ngpus", "worldsize", "nproc", "nprocpernode", "numprocesses"),
}
_KEYS_BY_NAME = {other: key for key, others in OTHER_NAMES.items() for other in others}
ALIKE = 0.85  # of the letters of two words that mean the same, as difflib counts them


def similar_keys(name: str, keys: Iterable[str], *, most: int = 3) -> list[str]:
    """The keys that a name most likely means, best first; at most `most`, perhaps none.

    Meaning goes before spelling: `learning_rate`, `optimizer.learning_rate` and `train.lr` are
    all `optimizer.lr`.
    """
    available = list(keys)
    by_meaning = keys_meant(name, available) or _by_last_word(name, available)
    return by_meaning[:most] or get_close_matches(name, available, n=most)


def keys_meant(name: str, keys: Iterable[str]) -> list[str]:
    """The keys that a name means, by another library's name or without the right group."""
    available = list(keys)
    words = _readings(name, available)
    meant = [name] if name in available else []
    meant += [_KEYS_BY_NAME[word] for word in words if word in _KEYS_BY_NAME]
    meant += [key for key in available if {_plain(key), _plain(key.rpartition(".")[2])} & {*words}]
    return [key for key in dict.fromkeys(meant) if key in available]


def _by_last_word(name: str, keys: list[str]) -> list[str]:
    """The keys of which some name is spelt nearly like the last word."""
    names = {other: key for other, key in _KEYS_BY_NAME.items() if key in keys}
    names |= {_plain(key.rpartition(".")[2]): key for key in keys}
    matches = get_close_matches(_plain(name.rpartition(".")[2]), names, cutoff=ALIKE)
    return list(dict.fromkeys(names[match] for match in matches))


def _readings(name: str, keys: list[str]) -> list[str]:
    """The whole name and its last word without marks, also without a group's name before it."""
    whole, last = _plain(name), _plain(re.split(r"[.:/]", name)[-1])
    groups = {_plain(key.partition(".")[0]) for key in keys if "." in key}
    rest = [whole.removeprefix(group) for group in groups if whole.startswith(group)]
    return [word for word in dict.fromkeys((last, whole, *rest)) if word]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
