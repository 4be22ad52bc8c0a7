"""A shot, and the commands that matte it: run on both systems, they have to give equal pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mattebridge.image_io import read_frame, write_frame
from mattebridge.image_io.sequences import find_frames
from mattebridge.image_io.sources import Pictures
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video
from windows import digests

FRAMES = (1001, 1002, 1003)
MODEL = ("--model", "difference")
# More than the 260 characters that Windows takes without its prefix of long paths.
LONG = "/".join(["a folder with a long name, as productions have them, for many words"] * 4)


def write_shot(folder: Path) -> None:
    """Frames as half EXR, 16-bit PNG and a lossless video, and a clip of them."""
    form = VIDEO_FORMATS["ffv1-16"]
    size = {"width": digests.WIDTH, "height": digests.HEIGHT}
    video = open_video(folder / "take.mkv", form, times=VideoTimes(Fraction(24)), **size)
    for number, frame in enumerate(FRAMES):
        for name, pixels in zip(("plate", "clean"), digests.frame(number)):
            light = pixels.astype(np.float16)
            codes = np.round(np.minimum(pixels / 2, 1) * 65535).astype(np.uint16)
            write_frame(folder / "exr" / f"{name}.{frame}.exr", light)
            write_frame(folder / LONG / f"{name}.{frame}.exr", light)
            write_frame(folder / "png" / f"{name}.{frame}.png", codes)
            clip = "Input" if name == "plate" else "CleanPlate"
            write_frame(folder / "clips" / "Élodie 1" / clip / f"{name}.{frame}.exr", light)
            if name == "plate":
                video.add(codes)
    video.close()


def commands(shot: Path, out: Path) -> dict[str, list[str]]:
    """The arguments of `mattebridge`, by a name for each."""
    png = str(shot / "png" / "clean.1001.png")
    return {
        "exr": ["matte", str(shot / "exr" / "plate.####.exr"), "--clean-plate",
                str(shot / "exr" / "clean.%04d.exr"), "-o", str(out / "exr"), *MODEL],
        "long": ["matte", str(shot / LONG / "plate.####.exr"), "--clean-plate",
                 str(shot / LONG / "clean.####.exr"), "--format", "exr,alpha=ffv1-16",
                 "-o", str(out / "long" / LONG), *MODEL],
        "png": ["matte", str(shot / "png" / "plate.$F4.png"), "--clean-plate", png, "--format",
                "png", "--outputs", "alpha,premultiplied", "-o", str(out / "png"), *MODEL],
        "video": ["matte", str(shot / "take.mkv"), "--clean-plate", png, "--format",
                  "png,premultiplied=ffv1-16", "--outputs", "alpha,premultiplied", "-o",
                  str(out / "video"), *MODEL],
        "clips": ["clips", str(shot / "clips"), "-o", str(out / "clips"), "--outputs",
                  "alpha,premultiplied", *MODEL],
        "long clips": ["clips", str(shot / "clips"), "-o", str(out / "long clips" / LONG),
                       "--outputs", "alpha,premultiplied", *MODEL],
    }  # fmt: skip


def pictures(out: Path) -> dict[str, Any]:
    """Every picture below a folder as its samples: by its name, that of a video with a number."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".mkv":
            reader = Pictures()
            for number, source in find_frames(path).files.items():
                found[f"{name} {number}"] = reader.frame(source).pixels
            reader.close()
        elif path.suffix in (".exr", ".png"):
            found[name] = read_frame(path).pixels
    return found
