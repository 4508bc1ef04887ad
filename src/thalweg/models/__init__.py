"""Networks trained by gradient, one file an architecture."""
