"""A config with the spaces that no curve and matrix describe: cubes, alone and before a log."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_LOG = (
    "!<LogCameraTransform> {base: 10, log_side_slope: 0.256663, log_side_offset: 0.584555,"
    " lin_side_slope: 0.9892, lin_side_offset: 0.0108, lin_side_break: 0.0104, direction: inverse}"
)
LINEAR, TETRAHEDRAL, TONE = "look linear", "look tetrahedral", "tone scale"


def cube_config(folder: Path, size: int = 33) -> str:
    """The path of the config that is written into a folder, with its 3-D table."""
    grid = np.linspace(0, 1, size)
    blue, green, red = np.meshgrid(grid, grid, grid, indexing="ij")
    place = np.stack([red, green, blue], -1).reshape(-1, 3)
    # Colours that a print of film has: a curve for each channel, and some of the next one.
    look = 0.9 * place**0.8 + 0.06 * place[:, [1, 2, 0]] + 0.02 * np.sin(3 * place[:, [2, 0, 1]])
    (folder / "luts").mkdir()
    rows = "".join("{:.7f} {:.7f} {:.7f}\n".format(*each) for each in look)
    (folder / "luts" / "look.cube").write_text(f"LUT_3D_SIZE {size}\n{rows}")
    text = "ocio_profile_version: 2\nsearch_path: luts\nroles: {default: lin_rec709}\n"
    text += "colorspaces:\n  - !<ColorSpace> {name: lin_rec709}\n"
    for name, interpolation in ((LINEAR, "linear"), (TETRAHEDRAL, "tetrahedral")):
        text += (
            f"  - !<ColorSpace>\n    name: {name}\n"
            "    to_scene_reference: !<GroupTransform>\n      children:\n"
            f"        - !<FileTransform> {{src: look.cube, interpolation: {interpolation}}}\n"
            f"        - {_LOG}\n"
        )
    text += (
        f"  - !<ColorSpace>\n    name: {TONE}\n    to_scene_reference:"
        " !<FixedFunctionTransform> {style: ACES_RedMod03, direction: inverse}\n"
    )
    path = folder / "cubes.ocio"
    path.write_text(text)
    return str(path)
