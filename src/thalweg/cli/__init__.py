"""Words typed in a shell become calls; the only place that prints."""
