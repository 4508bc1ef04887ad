"""A run and its diagnosis, as text, HTML and JSON. No torch."""
