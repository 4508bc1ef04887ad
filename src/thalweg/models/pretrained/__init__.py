"""Pretrained networks: sources of weights, input formats, features without the head."""
