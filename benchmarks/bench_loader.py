"""The batch loader against SPDL's `load_image_batch` and against a plain loop, on the same files.

Method: 16 synthetic HD pictures of each type (smooth shapes with grain). Each loader runs in its
own process, and they take turns, so that all have the same load: one batch each, the page cache
warm, the first turn not counted. Wall and CPU are milliseconds per picture, medians of the turns;
the ratios are SPDL's or the loop's figures over ours, above 1 where ours is faster.
SPDL (0.8) loads on one thread and needs FFmpeg's shared libraries on the machine; it is installed
into a temporary environment (`--spdl PYTHON` names one that has it). If that fails, the reason is
printed and only the loop is compared: `read_frame` and `cv2.resize`, one file after another.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np

from mattebridge.image_io import Encoding, write_frame

WIDTH, HEIGHT = 1920, 1080
PICTURES = 16
# Name, suffix, sample type, keyword arguments of the call.
CASES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("JPEG q95, HD, rgb24", ".jpg", "uint8", {"pix_fmt": "rgb24"}),
    ("JPEG q95, HD to 480x270", ".jpg", "uint8", {"width": 480, "height": 270}),
    ("the same, draft", ".jpg", "uint8", {"width": 480, "height": 270, "filter": "draft"}),
    ("PNG 8-bit, HD, rgb24", ".png", "uint8", {"pix_fmt": "rgb24"}),
    ("PNG 8-bit, HD to 480x270", ".png", "uint8", {"width": 480, "height": 270}),
    ("PNG 16-bit, HD, rgb48", "16.png", "uint16", {"pix_fmt": "rgb48"}),
    ("EXR half zip, HD, rgbf16", ".exr", "float16", {"pix_fmt": "rgbf16"}),
)

SERVER = """
import json, sys, time
{setup}
for line in sys.stdin:
    sources, options = json.loads(line)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        shape = load(sources, options)
    except Exception as error:
        answer = {{"error": str(error).strip().splitlines()[-1][:90]}}
    else:
        answer = {{"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}}
        answer["shape"] = shape
    sys.stdout.write(json.dumps(answer) + chr(10))
    sys.stdout.flush()
"""
OURS = """
from mattebridge.image_batch import load_image_batch
def load(sources, options):
    return list(load_image_batch(sources, **options).array.shape)
"""
LOOP = """
import cv2, numpy as np
from mattebridge.image_io import read_frame
def load(sources, options):
    pictures = [read_frame(source).pixels for source in sources]
    if "width" in options:
        size = options["width"], options["height"]
        pictures = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in pictures]
    return list(np.stack(pictures).shape)
"""
SPDL = """
import spdl.io
def load(sources, options):
    options = {"width": None, "height": None, "pix_fmt": "rgb24", **options}
    options.pop("filter", None)
    return list(spdl.io.to_numpy(spdl.io.load_image_batch(sources, **options)).shape)
"""


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--spdl", metavar="PYTHON", help="an interpreter that has SPDL")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mb-bench-")))
        files = _paint(home)
        ways = {"ours": _Way(sys.executable, OURS), "loop": _Way(sys.executable, LOOP)}
        spdl = options.spdl or _install(home)
        if spdl is not None:
            ways["spdl"] = _Way(spdl, SPDL)
        for way in ways.values():
            stack.callback(way.close)
        _print_table(ways, files, options.turns)


def _paint(home: Path) -> dict[str, list[str]]:
    """Pictures of every type, all with the same content."""
    rng = np.random.default_rng(1)
    coarse = rng.random((18, 32, 3), dtype=np.float32)
    smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    files: dict[str, list[str]] = {}
    for number in range(PICTURES):
        grain = rng.normal(0.0, 0.01, smooth.shape).astype(np.float32)
        picture = np.clip(np.roll(smooth, 60 * number, axis=1) + grain, 0, 1)
        for suffix, dtype in {(case[1], case[2]) for case in CASES}:
            path = home / f"{number:02d}{suffix}"
            write_frame(path, picture, Encoding(colorspace="srgb", alpha="opaque", dtype=dtype))
            files.setdefault(suffix, []).append(str(path))
    return files


def _install(home: Path) -> Optional[str]:
    """The Python of an environment with SPDL; None, with a printed reason, if there is none."""
    python = home / "spdl" / "bin" / "python"
    try:
        subprocess.run([sys.executable, "-m", "venv", str(home / "spdl")], check=True, timeout=120)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in ([*pip, "spdl", "numpy"], [str(python), "-c", SPDL + "spdl.io.demux_image"]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            if done.returncode:
                raise OSError(done.stderr.strip().splitlines()[-1])
        _try(str(python), home)
    except (OSError, subprocess.SubprocessError, IndexError) as failure:
        print(f"SPDL cannot run here ({failure}); it needs FFmpeg's shared libraries.\n")
        shutil.rmtree(home / "spdl", ignore_errors=True)
        return None
    return str(python)


def _try(python: str, home: Path) -> None:
    """Load one picture: without FFmpeg SPDL installs and imports, but its first call fails."""
    way = _Way(python, SPDL)
    try:
        answer = way.ask([str(home / "00.jpg")], {})
        if "error" in answer:
            raise OSError(answer["error"])
    finally:
        way.close()


class _Way:
    """A loader in its own process."""

    def __init__(self, python: str, setup: str) -> None:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [python, "-c", SERVER.format(setup=setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, sources: list[str], options: dict[str, Any]) -> dict[str, Any]:
        """One batch; its times, or the error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([sources, options]) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _print_table(ways: dict[str, _Way], files: dict[str, list[str]], turns: int) -> None:
    print("| files | ours, wall / CPU ms | SPDL | loop | SPDL: ours | loop: ours |")
    print("|---|---|---|---|---|---|")
    for name, suffix, _, options in CASES:
        times: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for turn in range(turns + 1):
            for way, server in ways.items():
                answer = server.ask(files[suffix], options)
                if turn:
                    times[way].append(answer)
        cells = {way: _medians(answers) for way, answers in times.items()}
        shown = [_shown(cells.get(way)) for way in ("ours", "spdl", "loop")]
        ratios = [_ratio(cells.get(way), cells["ours"]) for way in ("spdl", "loop")]
        print(f"| {name} | {' | '.join([*shown, *ratios])} |", flush=True)


def _medians(answers: list[dict[str, Any]]) -> Optional[tuple[float, float]]:
    if any("error" in answer for answer in answers):
        return None
    wall, cpu = (statistics.median(answer[what] for answer in answers) for what in ("wall", "cpu"))
    return wall / PICTURES * 1000, cpu / PICTURES * 1000


def _shown(cell: Optional[tuple[float, float]]) -> str:
    return "cannot" if cell is None else f"{cell[0]:.1f} / {cell[1]:.1f}"


def _ratio(other: Optional[tuple[float, float]], ours: Optional[tuple[float, float]]) -> str:
    if other is None or ours is None:
        return "-"
    return f"**{other[0] / ours[0]:.2f}** / {other[1] / ours[1]:.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
