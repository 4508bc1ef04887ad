"""Building blocks of the architectures: activations, norms, initialisations, regularisers."""
