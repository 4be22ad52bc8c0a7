"""A shot to be matted: the job as `matte`, a farm task or a script describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

from mattebridge.shot.outputs import LAYERS
from mattebridge.wire.params import DEFAULT_OUTPUTS, INPUT_ROLES, MATTE_ROLES, RenderParams

# Room for three UHD frames at once, read, at the daemon and written: fewer do not overlap.
DEFAULT_MAX_BYTES = 1 << 30
# A black clean plate would make everything subject.
MAY_BE_BLACK = ("plate", *MATTE_ROLES)
# In place of a colour space: every file's own.
OF_THE_FILE = "of the file"
DEFAULT_PARAMS = RenderParams(colorspace=OF_THE_FILE)
NUMBERINGS = ("source", "image_sequences")
# Digits of the published scripts' numbers, which begin at 0.
PUBLISHED_DIGITS = 5


@dataclass(frozen=True)
class MatteJob:
    """One call of `mattebridge matte`: its options, with their defaults.

    Inputs are files, folders, patterns or videos; `output` is a folder. `params` mean what they do
    in a request; their `colorspace` may be `OF_THE_FILE`, and no `output_colorspace` leaves that to
    the formats. `fit_hint`: hints of another size are resized to that of their plates, instead of
    refused. `report` is a file for the records, or None. None elsewhere leaves the choice to
    the file or the preset.
    """

    plate: str
    output: Path
    clean_plate: Optional[str] = None
    alpha_hint: Optional[str] = None
    garbage_matte: Optional[str] = None
    core_matte: Optional[str] = None
    hint_channel: str = "auto"
    layer: Optional[str] = None
    clean_plate_layer: Optional[str] = None
    hint_layer: Optional[str] = None
    fit_hint: bool = False
    deinterlace: bool = False
    frames: Optional[str] = None
    within: Optional[str] = None
    offsets: Mapping[str, int] = field(default_factory=dict)
    recursive: bool = False
    outputs: Sequence[str] = DEFAULT_OUTPUTS
    layers: bool = False
    formats: Optional[str] = None
    background: Optional[str] = None
    preset: Optional[str] = None
    output_is_folder: bool = False
    numbering: str = "source"
    truncate: bool = False
    frame_rate: Optional[Fraction] = None
    audio: bool = True
    keep_data_window: bool = False
    model: str = "default"
    params: RenderParams = DEFAULT_PARAMS
    existing: str = "error"
    missing: str = "error"
    deadline_s: Optional[float] = None
    timeout_s: float = 600.0
    in_flight: int = 2
    max_bytes: int = DEFAULT_MAX_BYTES
    report: Optional[Path] = None

    def layer_of(self, role: str) -> Optional[str]:
        """The layer of an input's EXRs that is read; None for the one that is read by default."""
        if role in MATTE_ROLES:
            return self.hint_layer
        return {"plate": self.layer, "clean_plate": self.clean_plate_layer}.get(role)

    @property
    def roles_given(self) -> tuple[str, ...]:
        """The inputs that there are; a queue passes an option that was left empty as ""."""
        return tuple(role for role in INPUT_ROLES if getattr(self, role))

    @property
    def written(self) -> tuple[str, ...]:
        """The outputs that become files."""
        if not self.layers:
            return tuple(self.outputs)
        return (*(name for name in self.outputs if name not in DEFAULT_OUTPUTS), LAYERS)

    @property
    def render_params(self) -> dict[str, Any]:
        """The parameters that go with every request as they are: all but the colour spaces."""
        spaces = ("colorspace", "output_colorspace")
        return {name: value for name, value in self.params.given().items() if name not in spaces}
