"""A model's alpha and foreground as the planes that were asked for.

    alpha --clean-up, mattes--> rounded to its plane's type
          --> foreground --passthrough, despill--> rounded --> premultiplied

Rule: each result is computed from those before it, as they were rounded. So `premultiplied` is the
product of the foreground and alpha that the host receives, in half as in float, and the unmix is
exact for the alpha that the host receives. (Where a float foreground was encoded into a space of
the config, its light is known, and is not found again from the code values.) All steps but the
clean-up of alpha (clean_up.py) are pointwise: on the CPU the frame is done in blocks of rows (see
`blocks`), so that this takes a few megabytes whatever the size of the frame.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.color import HALF_MAX, FloatImage
from mattebridge.engine import in_memory
from mattebridge.engine.blocks import is_surely_within, row_blocks
from mattebridge.engine.channels import copy_channels, write_product
from mattebridge.engine.clean_up import (
    CleanAlpha,
    Despill,
    clean_alpha,
    despill_of,
    despilled,
    passed_through,
)
from mattebridge.engine.infer import InferredFrame
from mattebridge.engine.light import FLOAT_MAX, decoded, encoded, unmix, unpremultiply
from mattebridge.engine.maps import spread
from mattebridge.engine.preprocess import PreparedFrame
from mattebridge.engine.space import code_of, in_rec709, light_of, light_of_display
from mattebridge.errors import ModelError
from mattebridge.models.later import Later
from mattebridge.models.pytorch.frames import arrays_of
from mattebridge.ocio.space import LINEAR, SRGB, ColorSpace, Curve
from mattebridge.wire.params import EXTRA_OUTPUTS

# A highlight behind almost no alpha is mostly the set's: at alpha 0 the foreground may be as bright
# as the plate, and more by this slope, which reaches plate / alpha, all that unmixing can give, at
# alpha 0.1. Without it a lamp beside the subject would sparkle through noise in the alpha.
_HIGHLIGHT_SLOPE = 90.0
_HIGHLIGHT_MIN_ALPHA = 1e-6
# Encoded colours within this in both signs are light that is far from float32's limits.
_MODERATE_DISPLAY = 1e6
# Of a plate whose light and a model whose colours are nearer to 0 than this, no result in `linear`
# or `srgb` is beyond its type: highlights add at most light * (1 + slope), and despill moves a
# channel by no more than the distance of two others (half: 28 encoded, 3,000 as light).
_SMALL = {torch.float32: 1e6, torch.float16: 2.0}
# Counts reach main memory in two parts: so many bits, and the rest.
_BITS = 20
# A cancelled frame is noticed after so many blocks of rows.
_BLOCKS_BETWEEN_CHECKPOINTS = 16

# Writes a result into its target, (h, W, C).
_Writer = Callable[[Tensor], None]


@dataclass(frozen=True)
class FinishedFrame:
    """What was found while the results were made.

    clamped: by output, how many values its type could not hold. clean_up: what was removed, see
    `CleanAlpha.notes`. write_s: the seconds that writing into the targets alone took. later: gives
    this with the counts, which are not known yet.
    """

    clamped: Mapping[str, int]
    clean_up: Mapping[str, Any]
    write_s: float
    later: Optional[Later[FinishedFrame]] = None


@torch.inference_mode()
def postprocess(
    made: InferredFrame,
    prepared: PreparedFrame,
    targets: Mapping[str, Tensor],
    *,
    copies: Optional[Mapping[str, Tensor]] = None,
    checkpoint: Checkpoint = no_checkpoint,
    settles_later: bool = False,
) -> FinishedFrame:
    """Fill the targets: alpha, foreground, premultiplied and the model's maps, as asked for.

    targets: (H, W, C) half or float32 on the frame's device, rows may be strided (see
    `device.targets_for`). copies: as many more, of the same types, that get the same; the targets
    are private memory then. settles_later: the device is not waited for to count what was clamped;
    the caller takes `FinishedFrame.later`. Raises `ModelError` for a map that the model did not
    give.
    """
    request = prepared.request
    clean = clean_alpha(made.alpha, prepared.mattes.get("alpha_hint"), request.params)
    despill = despill_of(request.params, request.settings, made.notes)
    finish = _Finish(made, prepared, targets, copies or {}, clean, despill)
    finish.fill(checkpoint)
    _fill_maps(made, prepared, targets)
    for role in EXTRA_OUTPUTS:
        if copies is not None and role in copies:
            copies[role].copy_(targets[role])
    return finish.finished(settles_later)


def _fill_maps(made: InferredFrame, prepared: PreparedFrame, targets: Mapping[str, Tensor]) -> None:
    for role in EXTRA_OUTPUTS:
        if role not in targets:
            continue
        if role not in made.extra:
            raise ModelError(
                f"model '{prepared.request.card.name}' gives no {role} map with these settings"
                f" - leave '{role}' out of the outputs",
                reason="output",
            )
        height, width = targets[role].shape[:2]
        whole = spread(made.extra[role], (height, width), made.covered, smooth=role == "error")
        targets[role][..., 0].copy_(whole)


@dataclass
class _Colour:
    """The straight colours of a block in the output's space; one of both is known at first.

    code: their code values, made of the light when they are asked for. light: theirs, in the
    primaries of the space, as long as it is known.
    """

    space: ColorSpace
    code: Optional[Tensor] = None
    light: Optional[Tensor] = None

    @property
    def colour(self) -> Tensor:
        """The code values."""
        if self.code is None:
            assert self.light is not None
            self.code = code_of(self.light, self.space)
        return self.code


@dataclass
class _Finish:
    """The results of one frame, block by block of rows."""

    made: InferredFrame
    prepared: PreparedFrame
    targets: Mapping[str, Tensor]
    copies: Mapping[str, Tensor]
    clean: CleanAlpha
    despill: Optional[Despill]
    write_s: float = 0.0
    beyond: dict[str, list[Tensor]] = field(default_factory=dict)
    _black: Optional[FloatImage] = None

    def fill(self, checkpoint: Checkpoint) -> None:
        height = self.made.alpha.shape[0]
        for number, rows in enumerate(self._blocks()):
            if number % _BLOCKS_BETWEEN_CHECKPOINTS == 0:
                checkpoint("finish", rows.start, height)
            results = self._results(rows)
            start = time.perf_counter()
            for role, write in results.items():
                target = self.targets[role][rows]
                write(target)
                if role in self.copies:
                    self.copies[role][rows].copy_(target)
            self.write_s += time.perf_counter() - start

    def _blocks(self) -> Iterator[slice]:
        """Rows that are done at once: all of them where OpenColorIO converts, which it prepares."""
        if self._space.curve is Curve.WHOLE:
            return iter([slice(0, self.made.alpha.shape[0])])
        return row_blocks(self.made.foreground)

    def finished(self, settles_later: bool) -> FinishedFrame:
        """What was found; one wait for what was clamped, if anything was looked at for that."""
        finished = FinishedFrame({}, self.clean.notes, self.write_s)
        if not self.beyond:
            return finished
        roles = tuple(self.beyond)
        sums = torch.stack([torch.stack(counts).sum() for counts in self.beyond.values()])
        # In two parts, each of which float32 holds exactly.
        parts = torch.stack([sums >> _BITS, sums & ((1 << _BITS) - 1)]).to(torch.float32)

        def counted(arrays: Sequence[FloatImage]) -> FinishedFrame:
            large, rest = arrays[0].astype(np.int64)
            counts = zip(roles, ((large << _BITS) + rest).tolist())
            return replace(finished, clamped={role: count for role, count in counts if count})

        if settles_later:
            return replace(finished, later=Later((parts,), counted))
        return counted(arrays_of(parts))

    def _results(self, rows: slice) -> dict[str, _Writer]:
        """The results of a block that have a target, each within the range of its type, as what
        writes them there."""
        alpha = _rounded(self._alpha(rows)[..., None], self._type_of("alpha"))
        results: dict[str, _Writer] = {"alpha": partial(copy_channels, alpha)}
        if "foreground" in self.targets or "premultiplied" in self.targets:
            room = self._room(rows)
            made = self._colour(rows, alpha, room)
            colour = self._returned(made)
            if colour is not None and colour is room:
                results["foreground"] = _leave
            elif colour is not None:
                results["foreground"] = partial(copy_channels, colour)
        if "premultiplied" in self.targets:
            results["premultiplied"] = self._premultiplied(made, colour, alpha)
        return {role: write for role, write in results.items() if role in self.targets}

    # --- alpha ------------------------------------------------------------------------------------

    def _alpha(self, rows: slice) -> Tensor:
        """Alpha with the artist's mattes applied: core makes it 1, garbage makes it 0.

        Soft mattes: `1 - (1 - alpha) * (1 - core)`, then times `1 - garbage`, so that garbage wins
        where both are set.
        """
        alpha, mattes = self.clean.alpha[rows], self.prepared.mattes
        if "core_matte" in mattes:
            core = mattes["core_matte"][rows]
            # Rounding may leave the sum just off 1 where the core is 1.
            alpha = torch.where(core >= 1, 1.0, alpha + (1 - alpha) * core)
        if "garbage_matte" in mattes:
            alpha = alpha * (1 - mattes["garbage_matte"][rows])
        return alpha.clamp(0, 1)

    # --- colour -----------------------------------------------------------------------------------

    def _room(self, rows: slice) -> Optional[Tensor]:
        """Where the foreground of a block may be computed at once: its target, where that is
        private memory and holds what is computed as it is."""
        target = self.targets.get("foreground")
        if not self.copies or target is None or target.dtype != torch.float32:
            return None
        return target[rows] if self._is_small(target.dtype) else None

    def _colour(self, rows: slice, alpha: Tensor, room: Optional[Tensor]) -> _Colour:
        """The straight foreground of a block in the output's colour space, not yet rounded; in
        `room` where that can be."""
        if self.prepared.request.params.foreground == "model":
            return self._of_display(self._less_spill(self._model_colour(rows, alpha)), room)
        made, space = self._colour_of_plates(rows, alpha), self._space
        if self.despill is None:
            return made
        if space is SRGB:
            return _Colour(space, self._less_spill(made.colour))
        display = encoded(in_rec709(light_of(made.colour, space), space))
        less = self._less_spill(display)
        # A curve there and back would change the last bits of colours without spill.
        is_same = (less == display).all(2, keepdim=True)
        return _Colour(space, torch.where(is_same, made.colour, self._of_display(less).colour))

    def _less_spill(self, display: Tensor) -> Tensor:
        return display if self.despill is None else despilled(display, self.despill)

    def _of_display(self, display: Tensor, room: Optional[Tensor] = None) -> _Colour:
        """Display-encoded colours in the output's colour space."""
        space = self._space
        if space is SRGB:
            return _Colour(space, display)
        if room is not None and space is LINEAR:
            return _Colour(space, decoded(display, room))
        light = light_of_display(display, space, is_moderate=self._is_moderate)
        return _of_light(light, space)

    @cached_property
    def _is_moderate(self) -> bool:
        """Whether no colour of the model can be near what float32 can hold, as light."""
        pictures = (self.prepared.plate, self.prepared.clean_plate)
        plates = all(picture is None or picture.is_moderate for picture in pictures)
        return plates and max(map(abs, self._reach)) <= _MODERATE_DISPLAY

    @property
    def _reach(self) -> tuple[float, float]:
        """How far the colours of the model reach, as far as that is known."""
        return self.made.foreground_range or (-math.inf, math.inf)

    def _colour_of_plates(self, rows: slice, alpha: Tensor) -> _Colour:
        """The foreground with its spill, from the plate itself or unmixed from both plates."""
        space, plate = self._space, self.prepared.plate
        if self.prepared.request.params.foreground == "plate":
            return _Colour(space, plate.in_space(space)[rows])
        clean_plate = self.prepared.clean_plate
        assert clean_plate is not None
        light = unmix(plate.light_in(space)[rows], clean_plate.light_in(space)[rows], alpha)
        return _of_light(unpremultiply(light, alpha), space)

    @cached_property
    def _space(self) -> ColorSpace:
        return self.prepared.request.output_space

    def _model_colour(self, rows: slice, alpha: Tensor) -> Tensor:
        """The model's foreground with the plate's highlights, display-encoded.

        Where a core matte makes alpha 1, all light is the subject's, whatever the model found:
        there the plate itself is the foreground, as it is inside with `source_passthrough`.
        """
        colour = self.made.foreground[rows]
        if not self.prepared.request.card.keeps_highlights:
            lowest, highest = self._reach
            if lowest < 0 or highest > 1:
                colour = colour.clamp(0, 1)
            colour = self._with_highlights(colour, rows, alpha)
        colour = self._with_wide_gamut(colour, rows, alpha)
        if self.clean.inside is not None:
            inside = self.clean.inside[rows][..., None]
            colour = passed_through(colour, self.prepared.plate.encoded[rows], inside)
        if "core_matte" in self.prepared.mattes:
            core = self.prepared.mattes["core_matte"][rows][..., None]
            whole = self.prepared.plate.encoded[rows]
            mixed = torch.where(core < 1, colour + core * (whole - colour), whole)
            colour = torch.where(core > 0, mixed, colour)
        return colour

    def _with_highlights(self, colour: Tensor, rows: slice, alpha: Tensor) -> Tensor:
        """Add back what the clipped plate lacked, as far as the clean plate does not explain it."""
        plate, clean_plate = self.prepared.plate, self.prepared.clean_plate
        if not plate.has_highlights:
            return colour
        if colour.device.type != "cpu":
            over = plate.display[rows] > 1
            behind = None if clean_plate is None else clean_plate.linear[rows]
            excess = _excess(plate.linear_rows(rows), behind, alpha)
            return colour + excess * over.any(2, keepdim=True)
        # They are few: on the CPU nothing is computed for the other pixels.
        places = plate.above_white(rows)
        if not len(places):
            return colour
        light = plate.linear_at(rows, places)
        behind = None if clean_plate is None else clean_plate.linear_at(rows, places)
        excess = _excess(light, behind, alpha.reshape(-1, 1)[places])
        brighter = colour.reshape(-1, 3).clone().index_add_(0, places, excess)
        return brighter.view(colour.shape)

    def _with_wide_gamut(self, colour: Tensor, rows: slice, alpha: Tensor) -> Tensor:
        """Add back what a wider gamut has below 0 in Rec. 709, where the clean plate explains none.

        As `_with_highlights` at the other end of what a model sees. In `linear` and `srgb` what is
        below 0 is noise, not a colour, and no model returns it.
        """
        plate, clean_plate = self.prepared.plate, self.prepared.clean_plate
        if not plate.is_wide(rows):
            return colour
        light = plate.linear_rows(rows)
        outside = light < 0
        if clean_plate is not None:
            own = _own_light(light, clean_plate.linear[rows], alpha)
            light = torch.maximum(own, light * (1 + _HIGHLIGHT_SLOPE * alpha))
        return colour + encoded(light).clamp_(max=0) * outside

    def _returned(self, made: _Colour) -> Optional[Tensor]:
        """The foreground as its plane stores it; None where it is not asked for nor needed."""
        dtype = self._type_of("foreground")
        is_exact = made.light is not None and dtype == torch.float32 and not self._is_display
        if is_exact and "foreground" not in self.targets and self._space.curve is not Curve.NONE:
            return None
        return _rounded(self._clamped("foreground", made.colour, dtype), dtype)

    @property
    def _is_display(self) -> bool:
        return self.prepared.request.params.premultiply == "display"

    @property
    def _is_code_product(self) -> bool:
        """Whether `premultiplied` is alpha times what is returned as the foreground."""
        return self._space.curve is Curve.NONE or self._is_display

    def _premultiplied(self, made: _Colour, colour: Optional[Tensor], alpha: Tensor) -> _Writer:
        """See `_product`."""
        dtype = self.targets["premultiplied"].dtype
        if self._is_code_product and _limit(dtype) >= _limit(self._type_of("foreground")):
            # No larger than the foreground, whose values have been looked at.
            assert colour is not None
            return partial(_write_rgba, partial(write_product, colour, alpha), alpha)
        product = self._product(made, colour, alpha)
        product = self._clamped("premultiplied", product, dtype)
        return partial(_write_rgba, partial(copy_channels, product), alpha)

    def _product(self, made: _Colour, colour: Optional[Tensor], alpha: Tensor) -> Tensor:
        """Foreground x alpha in linear light, then encoded where the output is.

        colour: as it is returned; where that is `made` unchanged, its light need not be found
        again. With `premultiply` display, colours are multiplied as they are encoded.
        """
        space = self._space
        if colour is None:
            assert made.light is not None
            return self._coded_product(made.light, None, alpha)
        if self._is_code_product:
            return colour * alpha
        known = made.light if colour is made.code else None
        light = light_of(colour, space) if known is None else known
        if known is None or not self._is_moderate:
            # Finite, so that it is 0 and not NaN where alpha is 0.
            light = light.clamp_(max=FLOAT_MAX)
        if space.is_built_in:
            return code_of(light.mul_(alpha), space)
        if known is not None and (space.curve is Curve.LOG or space.hlg is not None):
            # In closed form: of all pixels it takes less than to find the soft ones.
            return self._code_of_all(light, alpha)
        return self._coded_product(light, colour, alpha)

    def _coded_product(self, light: Tensor, colour: Optional[Tensor], alpha: Tensor) -> Tensor:
        """Light times alpha as code values of the output's space.

        colour: the code values of `light`, where they are known. Most pixels of a matte are solid
        or empty: on a CPU, which has no wait for their number, the curve is taken of the others
        alone. (That of a log is taken of all, which takes less than to find them.)
        """
        space = self._space
        if light.device.type != "cpu" or (space.curve is Curve.LOG and colour is None):
            return self._code_of_all(light, alpha)
        plane = alpha[..., 0].contiguous().numpy()
        is_soft = plane > 0 if colour is None else (plane > 0) & (plane < 1)
        soft = np.flatnonzero(is_soft)
        if 2 * len(soft) > plane.size:
            return self._code_of_all(light, alpha)
        black = self._black_rows(len(plane), plane.shape[1])
        if colour is None:
            product = black.copy()
        else:
            product = in_memory.where_covered(colour.contiguous().numpy(), plane, black)
        own = light.numpy().reshape(-1, 3).take(soft, axis=0) * plane.reshape(-1, 1)[soft]
        product.reshape(-1, 3)[soft] = code_of(torch.from_numpy(own), space).numpy()
        return torch.from_numpy(product)

    def _code_of_all(self, light: Tensor, alpha: Tensor) -> Tensor:
        if light.device.type != "cpu":
            return code_of(light * alpha, self._space)
        plane = alpha[..., 0].contiguous().numpy()
        return code_of(torch.from_numpy(in_memory.times(light.numpy(), plane)), self._space)

    def _black_rows(self, height: int, width: int) -> FloatImage:
        """Rows of no light, as code values of the output's space."""
        if self._black is None or len(self._black) < height:
            black = code_of(torch.zeros(1, 3), self._space).numpy()[0]
            self._black = np.ascontiguousarray(np.broadcast_to(black, (height, width, 3)))
        return self._black[:height]

    # --- types ------------------------------------------------------------------------------------

    def _type_of(self, role: str) -> torch.dtype:
        """The type that a result is rounded to: of its plane, else of the product made of it."""
        plane = self.targets.get(role, self.targets.get("premultiplied"))
        return torch.float32 if plane is None else plane.dtype

    def _clamped(self, role: str, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Values within what `dtype` can hold; those that were beyond it are counted."""
        limit = _limit(dtype)
        if self._is_small(dtype) or is_surely_within(values, -limit, limit):
            return values
        self.beyond.setdefault(role, []).append(torch.count_nonzero(values.abs() > limit))
        return values.clamp(-limit, limit)

    def _is_small(self, dtype: torch.dtype) -> bool:
        """Whether no colour can be beyond a type, as far as is known without looking at them."""
        request, limit = self.prepared.request, _SMALL[dtype]
        if self._space.codes_are_bounded and dtype == torch.float32:
            return True  # whatever the light is
        return (
            request.params.foreground == "model"
            and self._space.is_built_in
            and self.prepared.plate.is_within(limit)
            and max(map(abs, self._reach)) < limit
        )


def _limit(dtype: torch.dtype) -> float:
    """The largest value of a plane of this type."""
    return HALF_MAX if dtype == torch.float16 else FLOAT_MAX


def _excess(light: Tensor, behind: Optional[Tensor], alpha: Tensor) -> Tensor:
    """How far the subject's own light (..., 3) is above white, encoded; behind: the clean plate."""
    if behind is not None:
        own = _own_light(light, behind, alpha)
        light = torch.minimum(own, light * (1 + _HIGHLIGHT_SLOPE * alpha))
        light.clamp_(max=FLOAT_MAX)
    return encoded(light).sub_(1).clamp_(min=0)


def _own_light(light: Tensor, behind: Tensor, alpha: Tensor) -> Tensor:
    """The subject's own part of light (..., 3) in front of a clean plate."""
    own = light - (1 - alpha) * behind
    own /= alpha.clamp(min=_HIGHLIGHT_MIN_ALPHA)
    return own


def _leave(target: Tensor) -> None:
    """Writes nothing: the target has its result already."""


def _write_rgba(write_colour: _Writer, alpha: Tensor, target: Tensor) -> None:
    write_colour(target[..., :3])
    copy_channels(alpha, target[..., 3:])


def _of_light(light: Tensor, space: ColorSpace) -> _Colour:
    # The curve of sRGB there and back is not bit for bit the same, and `srgb` is to stay so.
    if space.is_built_in:
        return _Colour(space, code_of(light, space))
    return _Colour(space, light=light)


def _rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The values as a plane of this type stores them, in float32 for what is computed from them."""
    return values if dtype == torch.float32 else values.to(dtype).to(torch.float32)
