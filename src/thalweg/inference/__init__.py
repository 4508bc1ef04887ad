"""A saved model: weights, preprocessing and class names, from a run to a prediction."""
