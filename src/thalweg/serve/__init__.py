"""Live dashboard and predictions over HTTP."""
