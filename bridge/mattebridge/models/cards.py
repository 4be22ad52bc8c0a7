"""The cards of the built-in models: what is said of each without importing it.

Imports neither torch nor cv2, so that the daemon's front can list models. A new family adds its
card here and its factory in `registry.py`.
"""

from __future__ import annotations

from mattebridge.models.base import ModelCard, Setting, SettingsSchema

DIFFERENCE = ModelCard(
    name="difference",
    family="difference",
    summary="Classical keyer from plate and clean plate; needs no weights",
    # No weights: the digest names the algorithm, and changes whenever its pixels do.
    digest="difference:1",
    licence="MIT",
    default_alignment="auto",
    accepts_hdr=True,
    settings_schema=SettingsSchema(
        band=Setting(
            10.0, "width in pixels (at 800 wide) of the edge that is solved", minimum=1, maximum=60
        ),
        hole_fill=Setting(
            0.03, "inner holes up to this share of the frame are closed", minimum=0.0, maximum=1.0
        ),
        edge_tolerance=Setting(
            0.3, "misalignment in pixels that counts as no difference", minimum=0.0, maximum=4.0
        ),
        shadow=Setting(True, "leave shadows on the set"),
    ),
)
