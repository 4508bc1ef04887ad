"""Hand-made image features."""
