"""Text: read from a file, divided into tokens, and cut into windows."""
