"""Callbacks that watch and diagnose training in the libraries that own the training loop.

One file a library, one name in all of them: `thalweg.adapters.lightning.DiagnoseCallback`, and the
same in `transformers`, `fastai`, `skorch` and `keras`. Each is an extra of that name.
"""
