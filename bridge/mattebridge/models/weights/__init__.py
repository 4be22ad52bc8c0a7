"""Weights that a user adds: the file, its state dict, and the registry of them."""
