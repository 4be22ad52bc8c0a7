"""The cards of the built-in models: what is said of each without importing it.

Imports neither torch nor cv2, so that the daemon's front can list models. A new family adds its
card here and its factory in `registry.py`.
"""

from __future__ import annotations

from mattebridge.models.base import ModelCard, SettingsSchema

DIFFERENCE = ModelCard(
    name="difference",
    family="difference",
    summary="Classical keyer from plate and clean plate; needs no weights",
    # No weights: the digest names the algorithm, and changes whenever its pixels do.
    digest="difference:1",
    licence="MIT",
    default_alignment="auto",
    settings_schema=SettingsSchema(),
)
