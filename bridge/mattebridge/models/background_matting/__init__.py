"""The BackgroundMattingV2 family: the published networks, their fast path, their checkpoints."""
