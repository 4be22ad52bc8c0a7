"""What the families of networks share: frames as tensors, the sRGB curve, some pixels
of an image, folded batch norms, a known pair."""
