"""Several models on one data set, from chance to a pretrained network."""
