"""A shot to be matted: the job as `matte`, a farm task or a script describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

from mattebridge.shot.outputs import DEFAULT_OUTPUTS, LAYERS

# Room for three UHD frames at once, read, at the daemon and written: fewer do not overlap.
DEFAULT_MAX_BYTES = 1 << 30
MATTE_ROLES = ("alpha_hint", "garbage_matte", "core_matte")
ROLES = ("plate", "clean_plate", *MATTE_ROLES)
# A black clean plate would make everything subject.
MAY_BE_BLACK = ("plate", *MATTE_ROLES)
NUMBERINGS = ("source", "image_sequences")
# Digits of the published scripts' numbers, which begin at 0.
PUBLISHED_DIGITS = 5


@dataclass(frozen=True)
class MatteJob:
    """One call of `mattebridge matte`: a field for each option, with its default.

    Inputs are files, folders, patterns or videos; `output` is a folder. `colorspace` and the other
    render parameters mean what they do in a request; None leaves the choice to the file, the model
    or the preset.
    """

    plate: str
    output: Path
    clean_plate: Optional[str] = None
    alpha_hint: Optional[str] = None
    garbage_matte: Optional[str] = None
    core_matte: Optional[str] = None
    hint_channel: str = "auto"
    frames: Optional[str] = None
    within: Optional[str] = None
    offsets: Mapping[str, int] = field(default_factory=dict)
    recursive: bool = False
    outputs: Sequence[str] = DEFAULT_OUTPUTS
    layers: bool = False
    formats: Optional[str] = None
    background: Optional[str] = None
    preset: Optional[str] = None
    numbering: str = "source"
    truncate: bool = False
    frame_rate: Optional[Fraction] = None
    audio: bool = True
    keep_data_window: bool = False
    model: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict)
    colorspace: Optional[str] = None
    output_colorspace: Optional[str] = None
    plate_alpha: str = "opaque"
    foreground: str = "model"
    alignment: Optional[str] = None
    match_exposure: Optional[bool] = None
    nonfinite: str = "error"
    exact: bool = False
    existing: str = "error"
    missing: str = "error"
    deadline_s: Optional[float] = None
    timeout_s: float = 600.0
    in_flight: int = 2
    max_bytes: int = DEFAULT_MAX_BYTES

    @property
    def written(self) -> tuple[str, ...]:
        """The outputs that become files."""
        if not self.layers:
            return tuple(self.outputs)
        inside = ("alpha", "foreground", "premultiplied")
        return (*(name for name in self.outputs if name not in inside), LAYERS)

    @property
    def render_params(self) -> dict[str, Any]:
        """What goes with every request, besides the colour space of the frame."""
        given = {
            "plate_alpha": self.plate_alpha,
            "foreground": self.foreground,
            "alignment": self.alignment,
            "match_exposure": self.match_exposure,
            "nonfinite": self.nonfinite,
            "exact": self.exact,
            "settings": dict(self.settings),
        }
        return {name: value for name, value in given.items() if value is not None}
