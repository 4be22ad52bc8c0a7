"""Weights on disk: one file, a state dict, the user's folder."""
