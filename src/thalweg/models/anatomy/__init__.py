"""Properties of an untrained network: layers, cost, receptive field, scale of signals."""
