"""Which pictures of several inputs belong together.

    match_frames:   FrameFiles by role   --> FrameInputs: the pictures of each frame

Inputs are matched by frame NUMBER, never by position: frame 1005 of the plate goes with frame 1005
of the clean plate, whichever file comes first. Folders of pictures without numbers, and folders
that are read with all folders in them, are matched by name: `sub/ada.png` of one, `sub/ada.jpg` of
the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from mattebridge.errors import SequenceError
from mattebridge.image_io.frame_ranges import expand, format_frames, shown_runs
from mattebridge.image_io.sequences import FrameFiles, Source
from mattebridge.wire.params import role_in_words


@dataclass(frozen=True)
class FrameInputs:
    """The pictures of one frame by role, and the name of its results.

    held: roles whose picture is that of an earlier frame. black: roles whose picture is missing and
    counts as black; that of another frame is here, for its size.
    """

    frame: int
    files: Mapping[str, Source]
    held: tuple[str, ...] = ()
    black: tuple[str, ...] = ()
    name: str = ""

    @property
    def plate(self) -> Source:
        return self.files["plate"]


def match_frames(
    inputs: Mapping[str, FrameFiles],
    *,
    frames: Optional[Sequence[int]] = None,
    hold: Collection[str] = (),
    black: Collection[str] = (),
) -> list[FrameInputs]:
    """The pictures of every frame, in frame order.

    inputs: by role, "plate" among them. frames: which; by default all of the plate, in which then
    no number may be missing. hold: roles where the last earlier frame replaces a missing one.
    black: roles whose missing frames count as black.
    Raises `SequenceError`, naming every missing frame of every input.
    """
    plate = inputs["plate"]
    wanted = list(frames) if frames is not None else _all_of(plate, "plate" in {*hold, *black})
    chosen: dict[str, dict[int, Source]] = {}
    gaps: list[str] = []
    stood_in: dict[str, dict[int, list[str]]] = {"hold": {}, "black": {}}
    for role, given in inputs.items():
        by_frame = _seen_from(plate, given, role, wanted)
        if role in hold:
            _fill(by_frame, given, role, wanted, stood_in["hold"])
        elif role in black:
            _fill(by_frame, given, role, wanted, stood_in["black"], also_before=True)
        missing = [number for number in wanted if number not in by_frame]
        if missing:
            gaps.append(_gap(role, given, missing))
        chosen[role] = by_frame
    if gaps:
        raise SequenceError("; ".join(gaps))
    return [
        FrameInputs(
            number,
            {role: by_frame[number] for role, by_frame in chosen.items()},
            tuple(stood_in["hold"].get(number, ())),
            tuple(stood_in["black"].get(number, ())),
            plate.name(number),
        )
        for number in wanted
    ]


def _all_of(plate: FrameFiles, filled: bool) -> list[int]:
    numbers = list(plate.files)
    if filled and plate.numbered:
        return list(expand(str(plate.source), str(numbers[0]), str(numbers[-1])))
    holes = [(a + 1, b - 1) for a, b in zip(numbers, numbers[1:]) if b - a > 1]
    if holes:
        raise SequenceError(
            f"plate {plate.source} is not complete: no frame {shown_runs(holes)};"
            f" render them, or choose frames with --frames{_aside(plate)}"
        )
    return numbers


def _seen_from(
    plate: FrameFiles, given: FrameFiles, role: str, wanted: Sequence[int]
) -> dict[int, Source]:
    """The input's pictures under the plate's frame numbers."""
    if given is plate:
        return dict(given.files)
    if given.still:
        return dict.fromkeys(wanted, given.first)
    if plate.numbered and given.numbered:
        return dict(given.files)
    if plate.numbered != given.numbered:
        bare, other = ("plate", given) if given.numbered else (role_in_words(role), plate)
        raise SequenceError(
            f"the {bare} has no frame numbers and {other.source} has; number its files, or give"
            " a single picture"
        )
    return _by_picture_name(plate, given, role)


def _by_picture_name(plate: FrameFiles, given: FrameFiles, role: str) -> dict[int, Source]:
    """Pictures of the same relative name; where no name is shared, those at the same position."""
    partners = {given.name(number): source for number, source in given.files.items()}
    names = {number: plate.name(number) for number in plate.files}
    found = {number: partners[name] for number, name in names.items() if name in partners}
    if len(found) == len(names):
        return found
    if found:
        lacking = [name for number, name in names.items() if number not in found]
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise SequenceError(
            f"{role_in_words(role)} {given.source} has no picture named"
            f" {', '.join(lacking[:3])}{more}"
        )
    if len(plate.files) != len(given.files):
        raise SequenceError(
            f"{role_in_words(role)} {given.source} has {len(given.files)} pictures and the plate"
            f" {len(plate.files)}: without frame numbers or shared names the counts must agree"
        )
    return dict(zip(plate.files, given.files.values()))


def _fill(
    by_frame: dict[int, Source],
    given: FrameFiles,
    role: str,
    wanted: Sequence[int],
    stood_in: dict[int, list[str]],
    *,
    also_before: bool = False,
) -> None:
    """Use an earlier picture where one is missing; also_before: the first one before all others."""
    numbers = sorted(by_frame)
    if given.still or not given.numbered or not numbers:
        return
    for number in wanted:
        before = bisect_right(numbers, number)
        if number not in given.files and (before or also_before):
            by_frame[number] = by_frame[numbers[max(0, before - 1)]]
            stood_in.setdefault(number, []).append(role)


def _gap(role: str, given: FrameFiles, missing: Sequence[int]) -> str:
    there = f"{given.source} holds {format_frames(given.files)}"
    noun = "frame" if len(missing) == 1 else "frames"
    return f"{role_in_words(role)} has no {noun} {format_frames(missing)} ({there}){_aside(given)}"


def _aside(given: FrameFiles) -> str:
    return f" ({given.left_out})" if given.left_out else ""
