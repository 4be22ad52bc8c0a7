"""What stands in the set: sideboard, chair, lamp, books, plant, pictures."""

from __future__ import annotations

import numpy as np

from mattebridge_sample.arrays import vec
from mattebridge_sample.shapes import Box, Cone, Ellipsoid, Solid, turn
from mattebridge_sample.walls import LEFT, WINDOWS


def solids() -> list[Solid]:
    """Everything that stands in the room."""
    things: list[Solid] = []
    # Sideboard along the brick wall, and what stands on it.
    things.append(Box((0.675, 0.90, 2.44), (0.395, 0.02, 0.74), "oak_top", bevel=0.008))
    things.append(Box((0.705, 0.48, 2.44), (0.345, 0.40, 0.70), "oak_front", bevel=0.006))
    for z, y in ((2.02, 0.70), (2.55, 0.70), (2.95, 0.70)):
        things.append(Ellipsoid((0.348, y, z), (0.016, 0.012, 0.012), "brass", casts=False))
    things.append(
        Box((0.86, 0.940, 2.18), (0.115, 0.020, 0.085), "book_red", turn(0.12), bevel=0.004)
    )
    things.append(
        Box((0.865, 0.975, 2.19), (0.105, 0.015, 0.078), "book_blue", turn(-0.10), bevel=0.004)
    )
    things.append(
        Box((0.85, 1.003, 2.18), (0.092, 0.013, 0.068), "book_cream", turn(0.35), bevel=0.004)
    )
    things.append(Ellipsoid((0.80, 1.035, 2.86), (0.105, 0.118, 0.105), "glaze"))
    things.append(Cone((0.80, 1.165, 2.86), (0.040, 0.045, 0.05), "glaze", top=0.034))
    things += _branches((0.80, 1.20, 2.86))
    things.append(Cone((0.585, 0.966, 2.50), (0.036, 0.046, 0.04), "mug", top=0.041))
    # Pictures on the bricks.
    things.append(Box((1.035, 1.66, 3.62), (0.013, 0.30, 0.22), "print_a", bevel=0.012))
    things.append(Box((1.035, 1.70, 4.45), (0.013, 0.22, 0.30), "print_b", bevel=0.012))
    # Floor lamp.
    things.append(Cone((0.62, 0.72, 5.35), (0.012, 0.72, 0.012), "brass", top=0.010))
    things.append(Cone((0.62, 0.015, 5.35), (0.15, 0.015, 0.15), "brass", top=0.14))
    things.append(Cone((0.62, 1.60, 5.35), (0.215, 0.15, 0.2), "shade", top=0.13, casts=False))
    # Armchair and its cushion.
    yaw = turn(-0.55)
    for offset, half, bevel in (
        ((0.0, 0.33, 0.0), (0.36, 0.11, 0.34), 0.06),
        ((0.0, 0.58, 0.33), (0.36, 0.36, 0.09), 0.07),
        ((-0.41, 0.38, 0.02), (0.075, 0.24, 0.38), 0.06),
        ((0.41, 0.38, 0.02), (0.075, 0.24, 0.38), 0.06),
    ):
        at = yaw @ vec(offset) + vec([-0.72, 0.0, 5.15])
        things.append(Box((at[0], at[1], at[2]), half, "leather", yaw, bevel=bevel))
    things.append(Ellipsoid((-0.72, 0.60, 5.30), (0.22, 0.20, 0.10), "cushion", turn(-0.4, 0.3)))
    # Bookcase and door on the back wall.
    things.append(Box((0.28, 1.05, 7.05), (0.52, 1.05, 0.16), "bookcase", bevel=0.02))
    things.append(Box((-1.25, 1.02, 7.19), (0.46, 1.04, 0.03), "door", bevel=0.015))
    things.append(Box((-0.52, 1.62, 7.19), (0.17, 0.22, 0.015), "print_b", bevel=0.01))
    # Bulbs on cords.
    for x, y, z in ((-0.98, 2.12, 4.5), (-0.62, 2.30, 4.9), (-0.30, 2.05, 5.4)):
        things.append(Ellipsoid((x, y, z), (0.045, 0.058, 0.045), "bulb", casts=False))
        things.append(
            Cone((x, y + 0.085, z), (0.022, 0.03, 0.022), "brass", top=0.018, casts=False)
        )
        things.append(Cone((x, y + 0.6, z), (0.004, 0.5, 0.004), "black", top=0.004, casts=False))
    things += _plant((-1.62, 0.0, 4.75))
    # Window bars.
    for z0, z1, y0, y1 in WINDOWS:
        middle_y, middle_z = (y0 + y1) / 2, (z0 + z1) / 2
        for part in range(5):
            z = z0 + (z1 - z0) * part / 4
            wide = 0.035 if part in (0, 4) else 0.018
            things.append(
                Box((LEFT - 0.13, middle_y, z), (0.025, (y1 - y0) / 2, wide), "frame", casts=False)
            )
        for part in range(4):
            y = y0 + (y1 - y0) * part / 3
            wide = 0.035 if part in (0, 3) else 0.018
            things.append(
                Box((LEFT - 0.13, y, middle_z), (0.025, wide, (z1 - z0) / 2), "frame", casts=False)
            )
    things.append(Box((LEFT + 0.03, 0.82, 5.25), (0.12, 0.02, 1.1), "white", bevel=0.01))
    return things


def _branches(foot: tuple[float, float, float]) -> list[Solid]:
    """Dried twigs with seed heads in the vase."""
    rng = np.random.default_rng(11)
    twigs: list[Solid] = []
    for _ in range(9):
        lean = rng.normal(0, 0.20, 2)
        length = rng.uniform(0.22, 0.42)
        middle = vec(foot) + vec([lean[0] * length / 2, length / 2, lean[1] * length / 2])
        along = turn(0.0, lean[1], -lean[0])
        twigs.append(Ellipsoid(tuple(middle), (0.0025, length / 2, 0.0025), "twig", along))
        tip = vec(foot) + vec([lean[0], 1, lean[1]]) * length
        twigs.append(Ellipsoid(tuple(tip), (0.014, 0.035, 0.014), "seed", along))
    return twigs


def _plant(foot: tuple[float, float, float]) -> list[Solid]:
    """A pot plant with large leaves, in front of the window."""
    rng = np.random.default_rng(5)
    x, y, z = foot
    parts: list[Solid] = [Cone((x, y + 0.22, z), (0.16, 0.22, 0.16), "pot", top=0.20)]
    for _ in range(46):
        angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 1.62)
        spread = rng.uniform(0.08, 0.42) * (1.25 - 0.4 * height / 1.6)
        centre = (x + spread * np.cos(angle), y + height, z + spread * np.sin(angle))
        size = rng.uniform(0.07, 0.15)
        tilt = turn(-angle, rng.normal(0, 0.5), -rng.uniform(0.1, 1.0))
        parts.append(Ellipsoid(centre, (size, 0.006, size * 0.42), "leaf", tilt))
    for _ in range(7):
        lean = rng.normal(0, 0.16, 2)
        parts.append(
            Ellipsoid(
                (x + lean[0] * 0.6, y + 0.95, z + lean[1] * 0.6),
                (0.008, 0.62, 0.008),
                "stem",
                turn(0, lean[1], -lean[0]),
            )
        )
    return parts
