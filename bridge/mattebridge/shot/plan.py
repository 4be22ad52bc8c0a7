"""The plan of a shot: every frame with its files, sizes and outputs, checked before the first one.

    MatteJob (what was asked) --preflight--> Plan --run--> files, Summary

It is made by `preflight.py`, which checks the job; each frame's task by `tasks.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import MattebridgeError
from mattebridge.image_io import FrameHeader
from mattebridge.image_io.matching import FrameInputs
from mattebridge.image_io.sequences import Source
from mattebridge.ocio.space import Curve, Spaces
from mattebridge.shot.background import Background
from mattebridge.shot.job import MatteJob
from mattebridge.shot.ledger import Ledger
from mattebridge.shot.outputs import COLOURS, LAYERS, OutputFormat, needed_from_daemon
from mattebridge.shot.videos import VideoPlan
from mattebridge.wire.params import COLORSPACES


@dataclass(frozen=True)
class FrameTask:
    """One frame: where it comes from, where it goes, and what is known to be wrong with it.

    outputs: the files of this frame alone, by output; videos are in the plan. backdrop: the picture
    behind its comp. header: of the plate. colorspaces: of plate, clean plate and background.
    unread_tags: by role, see `FrameHeader.unread_tag`. identity: size and time of every input.
    size_bytes: memory that the frame takes at most on its way. resized: roles whose picture is
    brought to the size of the plate. problem: why it will fail.
    """

    inputs: FrameInputs
    outputs: Mapping[str, Path]
    backdrop: Optional[Source] = None
    header: Optional[FrameHeader] = None
    colorspaces: Mapping[str, str] = field(default_factory=dict)
    unread_tags: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    resized: tuple[str, ...] = ()
    problem: Optional[MattebridgeError] = None

    @property
    def frame(self) -> int:
        return self.inputs.frame

    @property
    def header_of_outputs(self) -> FrameHeader:
        """The plate's header with the metadata that are true of its results, too.

        The primaries of a plate are not those of the results where it is converted by its space.
        """
        assert self.header is not None
        carried, space = dict(self.header.metadata), self.colorspaces.get("plate", "linear")
        if space != "linear":
            carried.pop("oiio:ColorSpace", None)
        if space not in COLORSPACES:
            carried.pop("chromaticities", None)
        return replace(self.header, metadata=carried)


@dataclass(frozen=True)
class Plan:
    """A job that can be run: its frames in order, and what they have in common.

    formats: by output. stills: roles with one picture for every frame. sources: by role, the name
    of the sequence, folder or video. notes: sentences for the artist about the
    inputs, shown before the first frame.
    """

    job: MatteJob
    tasks: Sequence[FrameTask]
    formats: Mapping[str, OutputFormat]
    background: Background
    stills: frozenset[str]
    sources: Mapping[str, str]
    ledger: Ledger
    spaces: Spaces = field(default_factory=Spaces, repr=False)
    videos: Sequence[VideoPlan] = ()
    notes: Sequence[str] = ()

    @property
    def asked(self) -> tuple[str, ...]:
        """The planes to ask the daemon for."""
        return needed_from_daemon(self.formats, self.background)

    @property
    def output_dtype(self) -> str:
        """The sample type to ask for."""
        return output_dtype(self.formats)

    @cached_property
    def space(self) -> str:
        """The colour space to ask for: that of the files, or linear where they differ.

        Light of a named space, such as ACEScg, stays in it where nothing else is asked for.
        """
        space, plates = asked_space(self.job, self.formats), self.plate_spaces
        if space != "linear" or self.job.params.output_colorspace or len(plates) != 1:
            return space
        (own,) = plates
        return own if self.spaces.of(own).curve is Curve.NONE else space

    def white_of(self, task: FrameTask) -> float:
        """The light that is white in the results of a frame, whose plate may be HDR video."""
        plate = self.spaces.of(task.colorspaces.get("plate", "linear"))
        return self.spaces.of_results(self.space, plate).white

    @property
    def plate_spaces(self) -> set[str]:
        """The colour spaces of the plates."""
        return {task.colorspaces["plate"] for task in self.tasks if task.colorspaces}

    @cached_property
    def color_config(self) -> dict[str, str]:
        """Config and digest, where a colour space of the config is used; else empty."""
        used = {self.space, *(s for task in self.tasks for s in task.colorspaces.values())}
        return self.spaces.config.described() if used - {*COLORSPACES} else {}

    @property
    def render_params(self) -> dict[str, Any]:
        """What goes with every request, besides the colour space of the frame."""
        return {"output_colorspace": self.space, **self.job.render_params}

    @property
    def folders(self) -> list[Path]:
        """The folders that are written to."""
        paths = {path.parent for task in self.tasks for path in task.outputs.values()}
        return sorted(paths | {video.path.parent for video in self.videos})

    def settings(self, model: str) -> dict[str, Any]:
        """Everything that decides the pixels, by name, for the ledger and the metadata."""
        job = self.job
        params = {
            "output_colorspace": job.params.output_colorspace or self._noted_space,
            **job.render_params,
            "colorspace": job.params.colorspace,
        }
        shared = {"model": model, "hint_channel": job.hint_channel, "missing": job.missing}
        given = {**params, **shared, **self.sources, "keep_data_window": job.keep_data_window}
        if self.color_config:
            given["color_config"] = self.color_config
        if job.deinterlace:
            given["deinterlace"] = True
        if job.truncate:
            given["quantise"] = "truncate"
        layers = {role: job.layer_of(role) for role in job.roles_given if job.layer_of(role)}
        if layers:
            given["layers"] = layers
        if job.offsets:
            given["offsets"] = dict(job.offsets)
        return given

    @property
    def _noted_space(self) -> str:
        """Where none was asked for: `linear` also stands for the files' own, as it always did."""
        return "linear" if self.space in COLORSPACES else self.space

    def form_of(self, output: str) -> str:
        """The format of an output as the ledger has it."""
        name = self.formats[output].name
        for video in self.videos:
            if video.output == output:
                sound = " with sound" if video.audio is not None else ""
                name = f"{name} at {video.times.rate}{sound}"
        return f"{name} over {self.background.text}" if output == "comp" else name

    def wanted(self, task: FrameTask) -> dict[str, tuple[str, Path]]:
        """By output, the format and path of all that this frame goes into."""
        paths = {**task.outputs, **{video.output: video.path for video in self.videos}}
        return {name: (self.form_of(name), path) for name, path in paths.items()}

    def is_good(
        self, task: FrameTask, digest: str, outputs: Optional[Collection[str]] = None
    ) -> bool:
        """Whether a frame's outputs are on disk, whole, and made by the job of this digest.

        outputs: those to check, by default all.
        """
        if task.header is None:
            return False
        wanted = self.wanted(task)
        return self.ledger.is_good(
            task.frame,
            job=digest,
            inputs=task.identity,
            outputs={name: wanted[name] for name in (wanted if outputs is None else outputs)},
            size_px=(task.header.width, task.header.height),
        )

    def note(self, task: FrameTask, digest: str, sizes: Mapping[str, int]) -> None:
        """Note in the ledger a frame whose outputs are on disk: their sizes in bytes, by name."""
        outputs = {name: (self.form_of(name), size) for name, size in sizes.items()}
        self.ledger.note(task.frame, job=digest, inputs=task.identity, outputs=outputs)


def asked_space(job: MatteJob, formats: Mapping[str, OutputFormat]) -> str:
    """The colour space that the job asks for, or that its formats store."""
    if job.params.output_colorspace is not None:
        return job.params.output_colorspace
    return stored_space(formats)


def stored_space(formats: Mapping[str, OutputFormat]) -> str:
    """The colour space of results for these formats where none is asked for: linear or srgb."""
    stored = {formats[name].is_linear for name in (*COLOURS, LAYERS) if name in formats}
    return "srgb" if stored == {False} else "linear"


def output_dtype(formats: Mapping[str, OutputFormat]) -> str:
    """The sample type to ask for: float16, half the memory, where every output is half."""
    only_half = all(form.dtype == "half" for form in formats.values())
    return "float16" if only_half and "comp" not in formats else "float32"
