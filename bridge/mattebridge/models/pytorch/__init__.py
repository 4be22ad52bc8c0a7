"""What the families of networks share: frames as tensors, folded batch norms, a known pair."""
