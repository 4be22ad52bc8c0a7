"""A daemon's kept frames as a client sees them, whatever the model: the pixels of a fresh frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from mattebridge.client import MatteClient

ROLES = ("alpha", "foreground", "premultiplied")
Images = dict[str, Any]


def check_reuse(client: MatteClient, images: Images, **asked: Any) -> None:
    """One artist's way: other parameters behind the model, the same again, other pictures.

    images: plate (H, W, 3) and what else the model needs, named as for `MatteClient.matte`. Each
    frame must have the bits of the same frame of a job, of which the daemon keeps nothing.
    """
    less_spill = {"despill_strength": 0.7, "spill_method": "double_limit"}
    behind = [
        less_spill,
        {**less_spill, "output_colorspace": "linear"},
        {"foreground": "plate", "source_passthrough": True},
        {"auto_despeckle": True, "despeckle_size": 20},
    ]
    _check(client, images, None, **asked)
    for more in behind:
        _check(client, images, "matte", **asked, **more)
    _check(client, images, "result", **asked, **behind[-1])
    _check(client, {**images, "garbage_matte": _left_half(images)}, "matte", **asked)
    for role in images:
        other = {**images, role: _with_one_change(images[role])}
        _check(client, other, None, **asked)
        _check(client, other, "matte", **asked, **less_spill)
    _check(client, images, None, **{**asked, "colorspace": "linear"})
    _check(client, images, None, **asked, frame=7)
    _check(client, images, "matte", **asked, **less_spill)


def _check(client: MatteClient, images: Images, reused: Any, **asked: Any) -> None:
    matte = client.matte(**images, **asked)
    fresh = client.matte(**images, **asked, priority="batch")
    assert matte.notes.get("reused") == reused, asked
    assert "reused" not in fresh.notes
    for role in ROLES:
        ours, theirs = getattr(matte, role), getattr(fresh, role)
        assert ours.tobytes() == theirs.tobytes(), (role, asked)
    notes = {name: note for name, note in matte.notes.items() if name != "reused"}
    assert (notes, matte.degraded) == (dict(fresh.notes), fresh.degraded)
    assert (matte.model, matte.digest) == (fresh.model, fresh.digest)


def _left_half(images: Images) -> Any:
    height, width = images["plate"].shape[:2]
    return np.float32(np.arange(width) < width // 2)[None, :, None].repeat(height, axis=0)


def _with_one_change(image: Any) -> Any:
    """The image with another value in one pixel, away from the frame's first rows."""
    other = image.copy()
    other[image.shape[0] * 2 // 3 + 1, image.shape[1] // 3 + 1] = 0.25
    return other
