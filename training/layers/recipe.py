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
    probability that long hair has no opaque core behind the neck. fine: probability of hair of a
    pixel's width and several times as many strands, in a picture of any size. backlit: that light
    from behind shines through hair beyond the body. swung: that a part of the subject is strongly
    blurred by its motion. screens: that the set is a flat green or blue screen.
    """

    kinds: tuple[tuple[float, str], ...]
    framing: tuple[float, float, float]
    things: tuple[str, ...]
    wispy: float = 0.0
    thin: float = 0.0
    fine: float = 0.0
    backlit: float = 0.0
    swung: float = 0.0
    screens: float = 0.0


# More hair than in the validation set, hair that the set shows through or that is lit from behind,
# strongly blurred limbs and flat screens; fewer nets and veils, which taught the network fog.
TRAINING = Recipe(
    kinds=(
        (0.41, "person"),
        (0.16, "head_of_hair"),
        (0.15, "animal"),
        (0.07, "plant"),
        (0.025, "foliage"),
        (0.1, "thing"),
        (0.05, "blob"),
        (0.015, "cloth"),
        (0.01, "glass"),
        (0.005, "smoke"),
        (0.005, "drops"),
    ),
    framing=(0.3, 0.34, 0.36),
    things=(
        *("furniture", "furniture", "wheel", "lattice", "cables", "fringe", "fringe"),
        *("box", "box", "turned", "letters", "clutter"),
    ),
    wispy=0.35,
    thin=0.45,
    fine=0.4,
    backlit=0.3,
    swung=0.12,
    screens=0.12,
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

# Of the validation set `production`. Never edit this either.
PRODUCTION_2026 = Recipe(
    kinds=(
        (0.45, "person"),
        (0.3, "head_of_hair"),
        (0.17, "animal"),
        (0.08, "plant"),
    ),
    framing=(0.1, 0.3, 0.6),
    things=("furniture",),
    wispy=0.4,
    thin=0.5,
    fine=0.5,
)
