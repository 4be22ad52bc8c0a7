"""`twoplate`: the network of our own that corrects the keyer, with its weights in `data/`."""
