"""Which subjects are drawn, and how often: one recipe for training, one for the validation set.

Both use the same drawing code. A recipe holds the probabilities, and turns on what was added to the
drawing code after the validation set had been fixed.

`VALIDATION_2026` and its pixels never change, so that figures of different days compare. An
addition to the drawing code therefore gets a field here that is 0 or absent in `VALIDATION_2026`,
and must not draw from the random generator while it is 0: all later random numbers would change.
`tests/unit/training/test_validation.py` fails if the pixels change.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Probabilities of what `draw_subject` draws.

    kinds: share and name of each kind of subject, a name of `subjects`; shares need not sum to 1.
    framing: shares of persons seen whole, to the waist, and head and shoulders. things: names of
    `things`, equally likely. wispy: probability that a sheet of hair is half transparent. thin:
    probability that long hair has no opaque core behind the neck.
    """

    kinds: tuple[tuple[float, str], ...]
    framing: tuple[float, float, float]
    things: tuple[str, ...]
    wispy: float = 0.0
    thin: float = 0.0


# More hair than in the validation set, hair that the set shows through, and fringes.
TRAINING = Recipe(
    kinds=(
        (0.38, "person"),
        (0.12, "head_of_hair"),
        (0.15, "animal"),
        (0.08, "plant"),
        (0.03, "foliage"),
        (0.13, "thing"),
        (0.05, "blob"),
        (0.03, "cloth"),
        (0.015, "glass"),
        (0.01, "smoke"),
        (0.005, "drops"),
    ),
    framing=(0.3, 0.34, 0.36),
    things=(
        *("furniture", "wheel", "lattice", "cables", "fringe", "fringe"),
        *("box", "turned", "letters", "clutter"),
    ),
    wispy=0.45,
    thin=0.45,
)

# Never edit this: see above.
VALIDATION_2026 = Recipe(
    kinds=(
        (0.36, "person"),
        (0.07, "head_of_hair"),
        (0.15, "animal"),
        (0.07, "plant"),
        (0.03, "foliage"),
        (0.14, "thing"),
        (0.08, "blob"),
        (0.04, "cloth"),
        (0.03, "glass"),
        (0.02, "smoke"),
        (0.01, "drops"),
    ),
    framing=(0.4, 0.34, 0.26),
    things=("furniture", "wheel", "lattice", "cables", "box", "turned", "letters", "clutter"),
)
