"""What a subject may be, and how often: one recipe for training, another for the validation set.

The drawing code is the same for both. A recipe says how likely each kind of subject is, and turns
on what was added after the validation set had been fixed.

`VALIDATION_2026` never changes, so that figures of different days compare. Something new in the
drawing code therefore comes with a field here that is 0 or absent in `VALIDATION_2026`, and code
that takes no random number while it is 0: every later number of the stream would be another.
tests/unit/training/test_validation.py notices a change of the validation set's pixels.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Probabilities of what `draw_subject` draws.

    kinds: (share, name) of each kind of subject; `subjects` has the names. The shares need not sum
    to 1. framing: shares of a person seen whole, to the waist, and head and shoulders. wispy:
    probability that a layer of hair is half transparent. thin: probability that long hair has no
    opaque core behind the neck. things: names of the things, equally likely; `things` has them.
    """

    kinds: tuple[tuple[float, str], ...]
    framing: tuple[float, float, float]
    things: tuple[str, ...]
    wispy: float = 0.0
    thin: float = 0.0


# Hair and fringes are what the keyer gets wrong most: more of both than in the validation set, and
# hair that the set shows through.
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

# Never edit: see above.
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
