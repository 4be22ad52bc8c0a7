"""What the families of networks share on torch: frames as tensors, folded norms."""
