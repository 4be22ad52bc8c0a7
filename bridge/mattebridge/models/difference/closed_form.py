"""The slow way to solve the unknown band: closed-form matting, for stills and hard edges.

Solves one sparse system over the whole frame, without the clean plate: half a minute at 1920x1080.
Needs the extra `closed-form`.

Method: Levin, Lischinski and Weiss 2008, and multi-level foreground estimation (Germer et al.
2020), as pymatting has them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from mattebridge.errors import ModelError

if TYPE_CHECKING:
    from mattebridge.checkpoint import Checkpoint
    from mattebridge.models.base import FloatImage, Mask


def closed_form(
    plate: FloatImage, subject: Mask, unknown: Mask, checkpoint: Checkpoint
) -> tuple[FloatImage, FloatImage]:
    """Alpha (H, W) and straight colour (H, W, 3), both 0..1.

    plate: (H, W, 3) display-encoded, cut at white. subject, unknown: (H, W), the rest is set.
    Raises `ModelError` naming the extra when pymatting is missing.
    """
    pymatting = _pymatting()
    image = np.clip(plate, 0, 1).astype(np.float64)
    trimap = np.where(subject, 1.0, np.where(unknown, 0.5, 0.0))
    checkpoint("alpha")
    if not (trimap == 0).any():
        alpha = np.ones(trimap.shape)
    else:
        with warnings.catch_warnings():
            # It warns of slow convergence and about its compiler; neither concerns the artist.
            warnings.simplefilter("ignore")
            alpha = pymatting.estimate_alpha_cf(image, trimap)
    checkpoint("foreground")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        colour = pymatting.estimate_foreground_ml(image, alpha)
    return np.clip(alpha, 0, 1).astype(np.float32), np.clip(colour, 0, 1).astype(np.float32)


def _pymatting() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pymatting
    except ImportError as error:
        raise ModelError(
            "method 'closed_form' of model 'difference' needs the extra 'closed-form'"
            f" ({error}) - install it with: pip install 'mattebridge[closed-form]'",
            reason="closed-form",
            field="params.settings.method",
        ) from error
    return pymatting
