"""A trained model to files that others can load."""
