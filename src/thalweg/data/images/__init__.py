"""Image files: surveyed, decoded once into a cache, loaded as pixels, augmented in batches."""
