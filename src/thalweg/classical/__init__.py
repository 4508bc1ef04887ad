"""Models fitted, not trained."""
