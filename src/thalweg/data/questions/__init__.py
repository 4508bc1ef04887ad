"""Questions about images: the files that list them, their words, and the samples they make."""
