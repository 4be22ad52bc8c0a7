"""A space that is no single curve and matrix, as the chain of steps that OpenColorIO makes of it.

    code values --step--> ... --step--> Rec. 709 light, and another chain back

    Mix     a matrix and an offset
    Tables  a table for each channel (`table`): curves, powers, 1-D tables, cuts
    Log     the closed form (`log_curve`) of a table that is a camera's log, which costs less
    Cube    a 3-D table, with the grid and the interpolation that the config gives it

The steps are those of OpenColorIO's own list of operations, so that a cube is met at its own nodes
and a cut where it is made; sampled anew, neither could be. OpenImageIO does not show that list:
`opencolorio` does. A step of another kind (a tone scale of ACES, say) gives no chain. Whether a
chain holds is measured against the OpenColorIO inside OpenImageIO, which
computes every other conversion here: their versions may differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Callable, Optional, Union

import numpy as np

from mattebridge.color import FloatImage, Pixels
from mattebridge.errors import one_line
from mattebridge.ocio import log_curve, table
from mattebridge.ocio.log_curve import LogCurve

# Larger grids than any that is in use; one of this takes 100 MB.
_LARGEST_GRID = 200
# What the way back of a log may be off by, in code values, to be the inverse of the way there.
_SAME_CODE = 5e-5
_BUILT_IN_FAMILIES = {
    "ocio://default": "cg-config",
    "ocio://cg-config-latest": "cg-config",
    "ocio://studio-config-latest": "studio-config",
}


class NoChain(Exception):
    """Why a space has no chain, in words that complete "because"."""


@dataclass(frozen=True, eq=False)
class Mix:
    """Colours times a matrix, plus an offset: 3 x 3 and (3,) float64."""

    matrix: Pixels = field(repr=False)
    offset: Pixels = field(repr=False)

    @classmethod
    def of(cls, matrix: Pixels) -> Mix:
        """A matrix alone."""
        return cls(matrix, np.zeros(3))

    @cached_property
    def weights(self) -> FloatImage:
        """Matrix and offset, 3 x 4 float32; 3 x 3 without an offset."""
        columns = np.column_stack([self.matrix, self.offset]).astype(np.float32)
        return columns if self.offset.any() else np.ascontiguousarray(columns[:, :3])

    @property
    def is_nothing(self) -> bool:
        """Whether colours stay what they are."""
        return bool(np.abs(self.matrix - np.eye(3)).max() < 1e-7 and not self.offset.any())

    def __call__(self, colours: FloatImage) -> FloatImage:
        """Colours (N, 3) float32 behind this step."""
        bounded = np.clip(colours, -table.LARGEST, table.LARGEST).astype(np.float64)
        mixed: FloatImage = (bounded @ self.matrix.T + self.offset).astype(np.float32)
        return mixed


@dataclass(frozen=True, eq=False)
class Tables:
    """A table for each channel; three times the same one where they are equal."""

    channels: tuple[FloatImage, FloatImage, FloatImage] = field(repr=False)

    @property
    def is_one(self) -> bool:
        """Whether all channels have the same table."""
        return all(each is self.channels[0] for each in self.channels)

    def __call__(self, colours: FloatImage) -> FloatImage:
        """Colours (N, 3) float32 behind this step."""
        parts = [table.through(each, colours[:, i]) for i, each in enumerate(self.channels)]
        return np.stack(parts, 1)


@dataclass(frozen=True, eq=False)
class Log:
    """A camera's log: from code values to light, or back."""

    curve: LogCurve
    to_light: bool

    def __call__(self, colours: FloatImage) -> FloatImage:
        """Colours (N, 3) float32 behind this step."""
        run = self.curve.decoded if self.to_light else self.curve.encoded
        found: FloatImage = np.clip(run(colours), -table.LARGEST, table.LARGEST).astype(np.float32)
        return found


@dataclass(frozen=True, eq=False)
class Cube:
    """A 3-D table over 0..1, outside of which its faces hold.

    nodes: (N, N, N, 3) float32, by red, green and blue. tetrahedral: colours between nodes are
    those of one of the six tetrahedra of a cell, else of its eight corners. run: OpenColorIO's own
    arithmetic for it, which changes colours (N, 3) float32 in place; several times as quick on a
    CPU as tensors are, for any number of threads.
    """

    nodes: FloatImage = field(repr=False)
    tetrahedral: bool
    run: Callable[[FloatImage], None] = field(repr=False)

    def __call__(self, colours: FloatImage) -> FloatImage:
        """Colours (N, 3) float32 behind this step."""
        found: FloatImage = np.nan_to_num(colours)
        self.run(found)
        return found


Step = Union[Mix, Tables, Log, Cube]


@dataclass(frozen=True, eq=False)
class Chain:
    """The steps from code values to Rec. 709 light, and those back."""

    to_light: tuple[Step, ...]
    to_code: tuple[Step, ...]

    @property
    def has_cube(self) -> bool:
        """Whether a 3-D table is among the steps."""
        return any(isinstance(step, Cube) for step in (*self.to_light, *self.to_code))


def through(steps: Sequence[Step], colours: Pixels) -> FloatImage:
    """Colours (N, 3) behind all steps, with numpy; `engine.space` has the same for tensors."""
    found: FloatImage = np.ascontiguousarray(colours, np.float32)
    for step in steps:
        found = step(found)
    return found


def read(where: str, name: str, light: str, matrix: Optional[Pixels]) -> Chain:
    """The chain of a space of the config at `where`.

    light, matrix: see `Config.light`. Raises `NoChain`
    where the space has an operation that no step can be.
    """
    reader = _Reader(where)
    matrix = np.eye(3) if matrix is None else matrix
    there, back = reader.steps(name, light), reader.steps(light, name)
    to_light = _joined([*there, Mix.of(matrix)])
    return _exact(to_light, _joined([Mix.of(np.linalg.inv(matrix)), *back]))


class _Reader:
    """The lists of operations of one config."""

    def __init__(self, where: str) -> None:
        try:
            import PyOpenColorIO
        except ImportError as error:
            raise NoChain("the package opencolorio is not installed") from error
        self._ocio = PyOpenColorIO
        self._errors = (PyOpenColorIO.Exception, PyOpenColorIO.ExceptionMissingFile)
        try:
            self._config = PyOpenColorIO.Config.CreateFromFile(self._same_version(where))
        except self._errors as error:
            raise NoChain(
                f"opencolorio cannot load the config ({one_line(str(error), 200)})"
            ) from error

    def _same_version(self, where: str) -> str:
        """The built-in config that the OpenColorIO of OpenImageIO has under this name."""
        family = _BUILT_IN_FAMILIES.get(where)
        if family is None:
            return where
        import OpenImageIO

        ours = _version(str(OpenImageIO.get_string_attribute("opencolorio_version")))
        names = [name for name, *_ in _listed(self._ocio.BuiltinConfigRegistry())]
        known = [name for name in names if name.startswith(family)]
        usable = [name for name in known if _version(name.rpartition("ocio-v")[2]) <= ours]
        if not usable:
            raise NoChain("opencolorio has no such built-in config")
        return "ocio://" + max(usable, key=lambda name: _version(name.rpartition("ocio-v")[2]))

    def steps(self, source: str, wanted: str) -> list[Step]:
        try:
            listed = self._config.getProcessor(source, wanted).createGroupTransform()
            return list(self._steps_of(list(listed)))
        except self._errors as error:
            raise NoChain(f"opencolorio cannot convert it ({one_line(str(error), 200)})") from error

    def _steps_of(self, operations: Sequence[Any]) -> Iterator[Step]:
        waiting: list[Any] = []
        for operation in operations:
            if self._is_by_channel(operation):
                waiting.append(operation)
                continue
            if waiting:
                yield self._tables(waiting)
            waiting = []
            yield from self._mixing(operation)
        if waiting:
            yield self._tables(waiting)

    def _is_by_channel(self, operation: Any) -> bool:
        if isinstance(operation, (self._ocio.MatrixTransform, self._ocio.Lut3DTransform)):
            return False
        return not self._config.getProcessor(operation).hasChannelCrosstalk()

    def _tables(self, operations: Sequence[Any]) -> Tables:
        group = self._ocio.GroupTransform()
        for operation in operations:
            group.appendTransform(operation)
        values = np.repeat(table.nodes()[:, None], 3, 1)
        self._exact(group).applyRGB(values)
        found = [table.usable(np.ascontiguousarray(values[:, i])) for i in range(3)]
        for i in (1, 2):
            if np.array_equal(found[i], found[0]):
                found[i] = found[0]
        return Tables((found[0], found[1], found[2]))

    def _mixing(self, operation: Any) -> Iterator[Step]:
        ocio = self._ocio
        is_forward = operation.getDirection() == ocio.TRANSFORM_DIR_FORWARD
        if isinstance(operation, ocio.MatrixTransform):
            matrix = np.array(operation.getMatrix(), np.float64).reshape(4, 4)[:3, :3]
            offset = np.array(operation.getOffset(), np.float64)[:3]
            forward = Mix(matrix, offset)
            yield forward if is_forward else _unmixing(forward)
        elif isinstance(operation, ocio.Lut3DTransform) and is_forward:
            yield self._cube(operation)
        elif isinstance(operation, ocio.Lut3DTransform):
            # As OpenColorIO inverts one: by another cube.
            quick = self._config.getProcessor(operation).getOptimizedProcessor(
                ocio.BIT_DEPTH_F32, ocio.BIT_DEPTH_F32, ocio.OPTIMIZATION_LUT_INV_FAST
            )
            inverted = list(quick.createGroupTransform())
            if any(each.getDirection() != ocio.TRANSFORM_DIR_FORWARD for each in inverted):
                raise NoChain("a 3-D table of it cannot be inverted")
            yield from self._steps_of(inverted)
        else:
            kind = type(operation).__name__
            raise NoChain(f"it has an operation that is neither a curve nor a table ({kind})")

    def _cube(self, operation: Any) -> Cube:
        size = operation.getGridSize()
        if size > _LARGEST_GRID:
            raise NoChain(f"its 3-D table of {size} is larger than {_LARGEST_GRID}")
        # In OpenColorIO's order blue changes fastest.
        nodes = np.array(operation.getData(), np.float32).reshape(size, size, size, 3)
        interpolation = operation.getInterpolation()
        kinds = (self._ocio.INTERP_TETRAHEDRAL, self._ocio.INTERP_BEST)
        if np.abs(nodes).max() > table.LARGEST:
            raise NoChain("its 3-D table has values beyond float32")
        return Cube(nodes, interpolation in kinds, self._exact(operation).applyRGB)

    def _exact(self, operation: Any) -> Any:
        """OpenColorIO's processor of some operations, without approximations."""
        processor = self._config.getProcessor(operation)
        return processor.getOptimizedCPUProcessor(self._ocio.OPTIMIZATION_NONE)


def _joined(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps with matrices that follow each other as one, and without those that do nothing."""
    found: list[Step] = []
    for step in steps:
        last = found[-1] if found else None
        if isinstance(step, Mix) and isinstance(last, Mix):
            step = Mix(step.matrix @ last.matrix, step.matrix @ last.offset + step.offset)
            found.pop()
        found.append(step)
    return tuple(step for step in found if not (isinstance(step, Mix) and step.is_nothing))


def _exact(to_light: tuple[Step, ...], to_code: tuple[Step, ...]) -> Chain:
    """The chain of some steps: tables that undo each other do it exactly, or are a log."""
    back = tuple(reversed(to_code))
    if [type(step) for step in to_light] != [type(step) for step in back]:
        return Chain(to_light, to_code)
    pairs = [_paired(forward, step) for forward, step in zip(to_light, back)]
    return Chain(tuple(there for there, _ in pairs), tuple(back for _, back in reversed(pairs)))


def _paired(forward: Step, back: Step) -> tuple[Step, Step]:
    """A step and the one that undoes it."""
    if not (isinstance(forward, Tables) and isinstance(back, Tables)):
        return forward, back
    is_one = forward.is_one and back.is_one
    if is_one and (curve := _log_of(forward, back)) is not None:
        return Log(curve, True), Log(curve, False)
    if is_one and (curve := _log_of(back, forward)) is not None:
        return Log(curve, False), Log(curve, True)
    channels = [table.inverse(*each) for each in zip(forward.channels, back.channels)]
    if is_one:
        channels = [channels[0]] * 3
    return forward, Tables((channels[0], channels[1], channels[2]))


def _log_of(to_light: Tables, to_code: Tables) -> Optional[LogCurve]:
    curve = log_curve.fitted(table.through(to_light.channels[0], log_curve.PROBES))
    if curve is None:
        return None
    light = curve.decoded(log_curve.PROBES).astype(np.float32)
    off = np.abs(table.through(to_code.channels[0], light) - log_curve.PROBES).max()
    return curve if off <= _SAME_CODE else None


def _unmixing(forward: Mix) -> Mix:
    matrix: Pixels = np.linalg.inv(forward.matrix)
    return Mix(matrix, -matrix @ forward.offset)


def _listed(registry: Any) -> Iterator[tuple[str, ...]]:
    for each in registry:
        yield (each,) if isinstance(each, str) else tuple(each)


def _version(text: str) -> tuple[int, ...]:
    """Major and minor number at the beginning of a text."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
