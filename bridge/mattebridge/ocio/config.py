"""The OpenColorIO config of this machine: where it is, what it holds, and its conversions.

The config is that of `MATTEBRIDGE_OCIO`, else of `OCIO`, else the studio config that is built into
OpenColorIO. One that is named and cannot be loaded is an error: another one in its place would give
other colours under the same names. OpenColorIO itself takes an unknown name for no conversion, so
every name is looked up here before it is used.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

import numpy as np

from mattebridge.color import FloatImage, Pixels
from mattebridge.errors import ColorError, one_line
from mattebridge.ocio import primaries
from mattebridge.ocio.standard_names import OTHER_NAMES
from mattebridge.ocio.where import configured, digest, unloadable

# Scene-linear light with the primaries of Rec. 709, by the names that configs have for it.
_REC709_LIGHT = (
    "lin_rec709_scene",
    "lin_rec709_srgb",
    "lin_rec709",
    "Linear Rec.709 (sRGB)",
    "Utility - Linear - sRGB",
    "Utility - Linear - Rec.709",
    "lin_srgb",
)
# Other light that is known by its primaries: the role of ACES interchange, and names.
_OTHER_LIGHT = (
    (primaries.AP0, ("aces_interchange", "ACES2065-1", "ACES - ACES2065-1", "lin_ap0_scene")),
    (primaries.AP1, ("ACEScg", "ACES - ACEScg", "lin_ap1_scene")),
)
_NEAREST = 3


@dataclass(frozen=True)
class NamedSpace:
    """One colour space of a config.

    roles: the roles that it has. is_active: whether the config shows it in lists; one that is not
    is still found by its name, for shots of before.
    """

    name: str
    family: str
    aliases: tuple[str, ...]
    roles: tuple[str, ...]
    is_active: bool = True

    def described(self) -> dict[str, Any]:
        """The space as `colors` reports it: plain values only."""
        return {
            "name": self.name,
            "family": self.family,
            "aliases": list(self.aliases),
            "roles": list(self.roles),
        }


class Config:
    """One config that has been loaded.

    where: a path, or the `ocio://` name of a built-in one. Raises `ColorError` where it cannot be
    loaded.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        oiio = self._oiio = _library()
        # Not kept: its library prints a warning for each object that is left when Python ends.
        config = oiio.ColorConfig(where)
        problem = config.geterror()
        if problem:
            raise unloadable(where, problem)
        self.digest = digest(where)
        self._all = _spaces_of(config)
        self._others = _others_of(config, self._all)
        self._described: dict[str, tuple[str, Optional[tuple[float, ...]]]] = {}

    @classmethod
    def load(cls) -> Config:
        """The config of this process's environment."""
        return cls(configured())

    def described(self) -> dict[str, str]:
        """Where it is and its digest, as `status` and the files' metadata have them."""
        return {"config": one_line(self.where, 300), "digest": self.digest}

    @property
    def spaces(self) -> tuple[NamedSpace, ...]:
        """The spaces that the config shows, in its order."""
        return tuple(space for space in self._all if space.is_active)

    @cached_property
    def _by_name(self) -> Mapping[str, str]:
        """The space of every name, role and alias in lower case, as OpenColorIO compares them."""
        found: dict[str, str] = {}
        for pick in (lambda s: (s.name,), lambda s: s.roles, lambda s: s.aliases):
            for space in self._all:
                for name in pick(space):
                    found.setdefault(name.casefold(), space.name)
        for name, others in OTHER_NAMES.items():
            known = (found[other.casefold()] for other in others if other.casefold() in found)
            space_name = next(known, None)
            if space_name is not None:
                found.setdefault(name.casefold(), space_name)
        return found

    def find(self, name: str) -> str:
        """The name of the space that has this name, role or alias.

        Raises `ColorError` with the nearest three in `nearest` where there is none.
        """
        found = self._by_name.get(name.strip().casefold())
        if found is not None:
            return found
        nearest = self.nearest(name)
        raise ColorError(
            f"'{one_line(name, 128)}' {self.what_else(name)}; the"
            f" nearest are: {', '.join(nearest)} - `mattebridge colors` lists all of them",
            name=one_line(name, 128),
            nearest=nearest,
        )

    def what_else(self, name: str) -> str:
        """What a name is that no space has, as the verb of a sentence."""
        where, other = one_line(self.where, 200), self._others.get(name.strip().casefold())
        if other is None:
            return f"is no colour space of {where}"
        return f"is {other} of {where}, and no colour space"

    def knows(self, name: str) -> bool:
        """Whether a space, role or alias has this name."""
        return name.strip().casefold() in self._by_name

    def nearest(self, name: str) -> list[str]:
        """The three names of spaces that are most like a name."""
        wanted = name.strip().casefold()

        def likeness(space: NamedSpace) -> float:
            names = (space.name, *space.aliases, *space.roles)
            return max(_likeness(wanted, other.casefold()) for other in names)

        best = sorted(self.spaces or self._all, key=likeness, reverse=True)[:_NEAREST]
        return [space.name for space in best]

    @cached_property
    def light(self) -> tuple[str, Optional[Pixels]]:
        """A space of scene-linear light, and the matrix from it to Rec. 709 light, if any.

        Raises `ColorError` where the config has none whose primaries are known.
        """
        for places, names in ((primaries.REC709, _REC709_LIGHT), *_OTHER_LIGHT):
            found = next((name for name in names if self.knows(name)), None)
            if found is not None:
                is_ours = places == primaries.REC709
                matrix = None if is_ours else primaries.between(places, primaries.REC709)
                return self.find(found), matrix
        raise ColorError(
            f"the OpenColorIO config {one_line(self.where, 200)} has no scene-linear space whose"
            f" primaries are known, by way of which a model sees a plate: neither one of the names"
            f" {', '.join(_REC709_LIGHT[:3])} or ACEScg, nor the role aces_interchange - add one,"
            " or give the name as an alias",
            config=one_line(self.where, 300),
        )

    def light_of(self, pixels: FloatImage, name: str, *, exact: bool = False) -> FloatImage:
        """Colours of a space as scene-linear light with Rec. 709 primaries; see `convert`."""
        space, matrix = self.light
        light = self.convert(pixels, name, space, exact=exact)
        return light if matrix is None else _mixed(light, matrix)

    def of_light(self, light: FloatImage, name: str, *, exact: bool = False) -> FloatImage:
        """The inverse of `light_of`."""
        space, matrix = self.light
        light = light if matrix is None else _mixed(light, np.linalg.inv(matrix))
        return self.convert(light, space, name, exact=exact)

    def interop_id(self, name: str) -> str:
        """The short name that files carry for a space (`colorInteropID`), empty without one."""
        return self._as_files_say(name)[0]

    def chromaticities(self, name: str) -> Optional[tuple[float, ...]]:
        """x and y of red, green, blue and white of a space, where OpenImageIO knows them."""
        return self._as_files_say(name)[1]

    def _as_files_say(self, name: str) -> tuple[str, Optional[tuple[float, ...]]]:
        if name not in self._described:
            config = self._oiio.ColorConfig(self.where)
            places = config.get_chromaticities(name)
            self._described[name] = (
                str(config.get_color_interop_id(name) or ""),
                tuple(float(value) for value in places) if places else None,
            )
        return self._described[name]

    def convert(
        self, pixels: FloatImage, source: str, wanted: str, *, exact: bool = False
    ) -> FloatImage:
        """Colours of one space in another, computed by OpenColorIO; names as `find` gives them.

        pixels: (..., 3) float32; the result has the same shape, NaN and infinities are as
        OpenColorIO gives them. exact: with its exact powers, which take longer; its quick ones are
        off by up to 3e-5 of a value. Raises `ColorError` where the config cannot convert.
        """
        if source == wanted or not pixels.size:
            return pixels.astype(np.float32)
        oiio = self._oiio
        rows = np.ascontiguousarray(pixels, np.float32).reshape(-1, 3)
        # One long row would be one task for OpenColorIO; images of rows are shared by threads.
        width = next(w for w in (1024, 256, 64, 1) if len(rows) % w == 0)
        spec = oiio.ImageSpec(width, len(rows) // width, 3, "float")
        image, result = oiio.ImageBuf(spec), oiio.ImageBuf()
        image.set_pixels(oiio.ROI(), rows.reshape(-1, width, 3))
        with _exact_powers() if exact else contextlib.nullcontext():
            good = oiio.ImageBufAlgo.colorconvert(
                result, image, source, wanted, False, "", "", self.where
            )
        if not good or result.has_error:
            raise ColorError(
                f"the OpenColorIO config {one_line(self.where, 200)} cannot convert '{source}' to"
                f" '{wanted}': {one_line(result.geterror(), 300)}",
                name=source,
            )
        found: FloatImage = np.asarray(result.get_pixels(oiio.FLOAT), np.float32)
        return found.reshape(pixels.shape)


def _spaces_of(config: Any) -> tuple[NamedSpace, ...]:
    """The spaces that hold colour, in the config's order; data is none."""
    roles: dict[str, list[str]] = {}
    for role in config.getRoles():
        roles.setdefault(config.getColorSpaceNameByRole(role), []).append(role)
    return tuple(
        NamedSpace(
            name,
            str(config.getColorSpaceFamilyByName(name) or ""),
            tuple(config.getAliases(name)),
            tuple(roles.get(name, ())),
            bool(config.isColorSpaceActive(name)),
        )
        for name in config.getColorSpaceNames()
        if not config.isData(name)
    )


def _others_of(config: Any, spaces: Sequence[NamedSpace]) -> dict[str, str]:
    """By name in lower case, what else a config has under it than a space with colours."""
    displays = list(config.getDisplayNames())
    views = {view for display in displays for view in config.getViewNames(display)}
    known = {role for space in spaces for role in space.roles}
    roles = [role for role in config.getRoles() if role not in known]
    kinds = {
        "data": [name for name in (*config.getColorSpaceNames(), *roles) if config.isData(name)],
        "a role without a space": roles,
        "a view": sorted(views),
        "a display": displays,
        "a look": config.getLookNames(),
        "a named transform": config.getNamedTransformNames(),
    }
    found: dict[str, str] = {}
    for kind, names in kinds.items():
        for name in names:
            found.setdefault(str(name).casefold(), kind)
    return found


def _mixed(light: FloatImage, matrix: Pixels) -> FloatImage:
    with np.errstate(over="ignore", invalid="ignore"):
        mixed: FloatImage = (light.astype(np.float64) @ matrix.T).astype(np.float32)
    return mixed


def _library() -> Any:
    import OpenImageIO

    return OpenImageIO


@contextlib.contextmanager
def _exact_powers() -> Iterator[None]:
    """While this lasts, what OpenColorIO prepares has no approximation in it.

    Its Python interface has no such switch; this is the variable that it reads for it.
    """
    name = "OCIO_OPTIMIZATION_FLAGS"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _likeness(wanted: str, name: str) -> float:
    """How like two names are; a name that holds the other is very like it."""
    ratio = difflib.SequenceMatcher(None, wanted, name).ratio()
    return ratio + 0.5 * (bool(wanted) and (wanted in name or name in wanted))
