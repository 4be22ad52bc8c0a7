"""What the families of networks share: frames as tensors, the sRGB curve, folded batch
norms, a known pair."""
