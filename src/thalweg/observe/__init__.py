"""Training in, measurements out."""
