"""What architectures are made of and treated with: activations, norms, initialisation, weights."""
