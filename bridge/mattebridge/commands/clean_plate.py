"""`mattebridge clean-plate`: a clean plate from the shot itself, written whole or not at all."""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mattebridge.commands.options import DEINTERLACE, add_layer, path_to_write, space
from mattebridge.commands.terminal import drop_lost_terminal, ending_signals
from mattebridge.errors import Cancelled, InputsError, OutputExistsError, UsageError
from mattebridge.wire import oslayer

if TYPE_CHECKING:
    from mattebridge.checkpoint import Checkpoint
    from mattebridge.clean_plate.estimate import CleanPlate
    from mattebridge.color import FloatImage
    from mattebridge.image_io import Frame
    from mattebridge.image_io.matching import FrameInputs

# Enough to see past a subject that covers a pixel half of the time; more only takes longer.
DEFAULT_SAMPLES = 41
DEFAULT_MAX_HIDDEN = 0.5
DEFAULT_MEMORY_MIB = 1024

EPILOG = """\
examples:
  mattebridge clean-plate plate.####.exr -o clean.exr
  mattebridge clean-plate plate.####.exr -o clean.exr --frames 1001-1200 --samples 61
  mattebridge matte plate.####.exr --clean-plate clean.exr --alignment auto -o mattes

  mattebridge clean-plate plate.####.exr -o screen.exr --screen
      the empty green or blue screen, for `mattebridge matte --model screen`

Each pixel of the clean plate is what most of the frames show there, once they are aligned to one of
them. An EXR has the confidence (0 to 1) as the layer `confidence`; for other types it is written
beside the clean plate. A subject that does not move at all is taken for the set.

exit status: 0 the clean plate is on disk; 2 wrong options, or more of the frame is never visible
than --max-hidden allows; 3 a frame is unreadable, or a file cannot be written; 4 cancelled.
"""


def add_parser(commands: Any, shared: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge clean-plate`."""
    command = commands.add_parser(
        "clean-plate",
        parents=[shared],
        usage="mattebridge clean-plate SHOT -o PLATE [options]",
        help="make a clean plate from a shot whose subject moves",
        description="Make a clean plate from the shot itself, where none was shot.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_clean_plate)
    command.add_argument("shot", metavar="SHOT", help="a folder, or a pattern: plate.####.exr")
    command.add_argument(
        "-o",
        "--output",
        metavar="PLATE",
        type=path_to_write,
        required=True,
        help="the file to write",
    )
    add_layer(command, "the shot's EXRs")
    command.add_argument("--hint-layer", metavar="NAME", help="the same for the rough mattes")
    command.add_argument("--frames", metavar="RANGE", help="1001-1100, 1001-1100x2 (default: all)")
    command.add_argument(
        "--samples",
        metavar="N",
        type=int,
        default=DEFAULT_SAMPLES,
        help="at most so many frames, evenly taken (default: %(default)s)",
    )
    command.add_argument(
        "--reference", metavar="F", type=int, help="the frame to be in register with (the middle)"
    )
    command.add_argument(
        "--alpha-hint", metavar="P", help="rough mattes: pixels that they cover are not used"
    )
    command.add_argument(
        "--screen",
        nargs="?",
        const="auto",
        choices=("auto", "green", "blue"),
        help="of a green or blue screen: only what shows nothing but screen is used, and is"
        " continued where the subject never leaves",
    )
    command.add_argument("--deinterlace", action="store_true", help=DEINTERLACE)
    command.add_argument("--no-align", action="store_true", help="the camera is known not to move")
    command.add_argument(
        "--colorspace",
        "--input-space",
        type=space,
        metavar="SPACE",
        help="of the shot: linear, srgb, or a name of `mattebridge colors` (default: what the files"
        " say, else EXR and float TIFF linear, 8- and 16-bit srgb)",
    )
    command.add_argument(
        "--max-hidden",
        metavar="PERCENT",
        type=_percent,
        default=DEFAULT_MAX_HIDDEN,
        help="refuse where more of the frame is never visible (default: %(default)s)",
    )
    command.add_argument(
        "--existing",
        choices=("error", "overwrite"),
        default="error",
        help="where the file exists: refuse (default), or make it again",
    )
    command.add_argument(
        "--memory",
        metavar="MIB",
        type=int,
        default=DEFAULT_MEMORY_MIB,
        help="for samples; with less, frames are read more often (default: %(default)s)",
    )


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"'{text}' is not a percentage from 0 to 100")
    return value


def run_clean_plate(options: argparse.Namespace) -> int:
    """`mattebridge clean-plate`: writes nothing where too much of the set is never visible."""
    from mattebridge.clean_plate.estimate import make_clean_plate
    from mattebridge.clean_plate.screen import NotScreen, continued_screen
    from mattebridge.image_io.sources import path_of

    if options.screen and options.alpha_hint:
        raise UsageError("--screen finds the subject by itself; leave out --alpha-hint")
    files = _files(options)
    used = [source for entry in files for source in entry.files.values()]
    _check_output(options, [path_of(source) for source in used])
    shot = _ShotOnDisk(files, options)
    numbers = [entry.frame for entry in files]
    reference = None if options.reference is None else numbers.index(options.reference)
    with _ends_on_sigterm():
        screen = NotScreen(shot.light, options.screen) if options.screen else None
        made = make_clean_plate(
            shot.light,
            len(files),
            reference=reference,
            subject=screen or (shot.hint if options.alpha_hint else None),
            align=not options.no_align,
            memory_bytes=max(1, options.memory) << 20,
            checkpoint=_progress(),
        )
        if screen is None:
            _refuse_hidden(made, options.max_hidden)
        else:
            screen.refuse_none()
            made = continued_screen(made)
        _write(made, options.output, shot.header(made.reference))
    _report(made, options, numbers)
    return 0


# ------------------------------------------------------------------------------------- the inputs


def _files(options: argparse.Namespace) -> list[FrameInputs]:
    """The frames to use: evenly spaced among those asked for, and the reference."""
    from mattebridge.image_io.frame_ranges import parse_frames
    from mattebridge.image_io.matching import match_frames
    from mattebridge.image_io.sequences import find_frames
    from mattebridge.shot.videos import refuse_without_video

    inputs = {"plate": find_frames(options.shot)}
    if options.alpha_hint:
        inputs["alpha_hint"] = find_frames(options.alpha_hint, role="alpha_hint")
    if options.deinterlace:
        refuse_without_video(inputs.values())
    wanted = parse_frames(options.frames) if options.frames else list(inputs["plate"].files)
    must = [] if options.reference is None else [options.reference]
    if must and options.reference not in wanted:
        raise UsageError(f"--reference {options.reference} is not among the frames")
    chosen = set(_evenly(wanted, options.samples, must))
    return [entry for entry in match_frames(inputs, frames=wanted) if entry.frame in chosen]


def _evenly(frames: Sequence[int], most: int, must: Sequence[int]) -> list[int]:
    """At most `most` of the frames, evenly spaced from first to last, and those in `must`."""
    if most < 1:
        raise UsageError(f"--samples takes a number of frames, not {most}")
    if len(frames) <= most:
        return list(frames)
    step = (len(frames) - 1) / max(1, most - 1)
    return sorted({frames[round(index * step)] for index in range(most)} | set(must))


class _ShotOnDisk:
    """Frames and hints from disk as `make_clean_plate` takes them, read when they are needed."""

    def __init__(self, files: Sequence[FrameInputs], options: argparse.Namespace) -> None:
        from mattebridge.image_io.sources import Pictures
        from mattebridge.ocio.space import Spaces

        self._spaces = Spaces()
        self._files, self._colorspace = files, options.colorspace
        self._layer, self._hint_layer = options.layer, options.hint_layer
        self._pictures = Pictures(deinterlace=options.deinterlace)

    def light(self, index: int) -> FloatImage:
        """(H, W, 3) float32, scene-linear."""
        from mattebridge import color

        frame = self._pictures.frame(self._files[index].plate, layer=self._layer)
        space = self._space_of(frame, index)
        return color.to_float(self._spaces.converted(frame.rgb, space, "linear"))

    def hint(self, index: int) -> FloatImage:
        """(H, W) float32 coverage."""
        from mattebridge import color

        source = self._files[index].files["alpha_hint"]
        hint = self._pictures.matte(source, layer=self._hint_layer)
        return color.to_float(hint[..., 0])

    def header(self, index: int) -> Any:
        from mattebridge.image_io.sources import read_header

        return read_header(self._files[index].plate, layer=self._layer)

    def _space_of(self, frame: Frame, index: int) -> str:
        space = self._colorspace or frame.colorspace
        if space == "unknown":
            why = self.header(index).unknown_because or "does not name its colour space"
            raise InputsError(
                f"{self._files[index].plate} {why}; give --colorspace, with a name of"
                " `mattebridge colors`, linear or srgb",
                field="plate",
            )
        return space


# ------------------------------------------------------------------------------------- the output


def _check_output(options: argparse.Namespace, inputs: Sequence[Path]) -> None:
    from mattebridge.image_io import EXTENSIONS

    path: Path = options.output
    if path.suffix.lower() not in EXTENSIONS:
        raise UsageError(f"-o takes a file of type {', '.join(EXTENSIONS)}; got {path.name}")
    written, real_path = {path, _beside(path)}, oslayer.current().real_path
    if {real_path(each) for each in written} & set(map(real_path, inputs)):
        raise UsageError(f"{path} is a frame of the shot; choose another -o")
    there = [each for each in written if each.exists()]
    if there and options.existing == "error":
        raise OutputExistsError(
            f"{there[0]} exists already; use --existing overwrite to make it again, or another -o"
        )


def _beside(path: Path) -> Path:
    """The file of the confidence: the EXR itself, else a picture beside the clean plate."""
    if path.suffix.lower() == ".exr":
        return path
    suffix = ".png" if path.suffix.lower() in (".jpg", ".jpeg") else path.suffix
    return path.with_name(f"{path.stem}.confidence{suffix}")


def _write(made: CleanPlate, path: Path, header: Any) -> None:
    from mattebridge.image_io import Encoding, write_frame

    confidence = made.confidence[..., None]
    layers = {"confidence": confidence} if _beside(path) == path else {}
    if not layers:
        write_frame(_beside(path), confidence)
    # Last: where the clean plate is on disk, everything is.
    write_frame(
        path, made.pixels, Encoding(alpha="opaque", layers=layers, pixel_aspect=header.pixel_aspect)
    )


def _refuse_hidden(made: CleanPlate, max_hidden: float) -> None:
    if made.hidden_share * 100 <= max_hidden:
        return
    rows, columns = made.hidden.nonzero()
    box = f"x {columns.min()}-{columns.max()}, y {rows.min()}-{rows.max()} from the top"
    share = made.hidden_share * 100
    raise InputsError(
        f"the set behind {share:.1f} % of the frame is never visible (within {box}): the subject,"
        " or something else that moves, never leaves there - use more of the shot, or rough mattes"
        f" with --alpha-hint, or accept a guess there with --max-hidden {math.ceil(share)}",
        field="plate",
        share=round(made.hidden_share, 5),
    )


def _report(made: CleanPlate, options: argparse.Namespace, numbers: Sequence[int]) -> None:
    from mattebridge.image_io.frame_ranges import format_frames

    path = options.output
    print(
        f"mattebridge: {path} is the set of {len(made.used)} frames, as frame"
        f" {numbers[made.reference]} shows it"
    )
    share = made.hidden_share * 100
    if share >= 0.005:
        how = "continued from the screen around it" if options.screen else "guessed"
        print(f"  {share:.2f} % of the frame is never visible and was {how}")
    if made.left_out:
        frames = format_frames([numbers[index] for index in made.left_out])
        print(f"  left out, since they could not be aligned: {frames}")
    if _beside(path) != path:
        print(f"  confidence: {_beside(path)}")
    model = "--model screen" if options.screen else "--alignment auto"
    print(f"  mattebridge matte {options.shot} --clean-plate {path} {model} -o mattes")


def _progress() -> Checkpoint:
    from mattebridge.shot.progress import counter

    counters = {
        "align": counter("frames aligned", sys.stdout),
        "read": counter("frames read for a band", sys.stdout),
    }

    def checkpoint(stage: str, done: int = 0, total: int = 0) -> None:
        if stage in counters:
            counters[stage](done + 1, total)

    return checkpoint


@contextlib.contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Exit status 4 and no half-written file when a render queue or a closed terminal ends it."""

    def end(number: int, frame: Any) -> None:
        drop_lost_terminal(number)
        raise Cancelled("the command was ended")

    try:
        before = {number: signal.signal(number, end) for number in ending_signals()}
    except ValueError:  # not the main thread: signals do not arrive there
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
