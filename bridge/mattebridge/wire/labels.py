"""The labels of `degraded` in a reply, each with the sentence that a host shows for it.

A label is a word for programs: it says that a result is less than what was asked for. Artists are
never shown the word alone. Every host takes its sentences from this table: the Python nodes, the
command line and the report page through `sentences`, the plugin from the copy in its sources, which
a test compares with this one. A new label is entered here first.

    "no_set_visible" -> "no part of the plate matches the clean plate: ..."

Standard library only; a host without numpy uses it as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# The labels that a host itself gives; all others come from the daemon.
MATTE_FROM_LUMA = "matte_from_luma"
OTHER_COLOR_CONFIG = "other_color_config"

# What was found, and what to do.
SENTENCES: Mapping[str, str] = {
    "no_set_visible": "no part of the plate looks like the clean plate: check that both are of one "
    "shot and in one colour space",
    "clean_plate_unaligned": "the clean plate could not be aligned with the plate: give one from "
    "the same camera position, or turn alignment off",
    "clean_plate_does_not_cover": "part of the frame is outside the clean plate: give a larger "
    "clean plate, or check the matte at the frame's edge",
    "exposure_unmatched": "the exposure of the clean plate could not be matched to the plate: "
    "grade the clean plate, or turn the match off",
    "clean_plate_is_the_plate": "the clean plate is the same picture as the plate: give a picture "
    "of the set without the subject",
    "set_moved": "something on the set stands elsewhere in the clean plate and was left out of the "
    "matte: check it, or paint it in with a core matte if it belongs to the subject",
    "refiner_tiled": "the refiner worked in tiles for want of memory or because it was asked to: "
    "the pixels are the same and the frame took longer, so free memory if it is too slow",
    "half_precision_overflow": "the frame has values that half precision cannot hold and was "
    "computed again in float32: set precision to float32 or bfloat16 to save the first attempt",
    "refiner_scale_above_1": "the refiner's change was enlarged beyond its training: check the "
    "edges, or set its scale to 1 at most",
    MATTE_FROM_LUMA: "the alpha of a hint or matte is the same all over, so its luma was used: "
    "give it an alpha, or choose its channel",
    OTHER_COLOR_CONFIG: "the host has another OpenColorIO config than the daemon, where names may "
    "mean other colours: set OCIO alike for both",
}


def noted(notes: Mapping[str, Any]) -> tuple[str, ...]:
    """The notes of a reply that a host shows like a label: those that are true of the frame."""
    return tuple(label for label in SENTENCES if notes.get(label) is True)


def sentences(labels: Iterable[str]) -> list[str]:
    """The sentences of some labels, each once, in the order of the table; unknown ones last."""
    given = set(labels)
    known = [sentence for label, sentence in SENTENCES.items() if label in given]
    return known + [sentence_of(label) for label in sorted(given - set(SENTENCES))]


def sentence_of(label: str) -> str:
    """The sentence of a label.

    One that is not in the table is of a newer daemon: the sentence says so and names it.
    """
    unknown = f"the daemon reports '{label}', which this version does not know: update mattebridge"
    return SENTENCES.get(label, f"{unknown} here")
