"""The plugin's own time: a whole render call minus the daemon's time, against memcpy.

Method: the compiled plugin renders in the tests' host (ctypes), float RGBA, plate and clean plate
in and one premultiplied picture out, with a worker that replies without reading the pixels (the
`bridge_probe` hook). Its own time is the render call minus the daemon's `total_ms`, which is read
from the daemon's log. It is compared with memcpy of the same three planes, numpy into warm shared
memory and back, in this process, in turn with the renders. Goal: at most 1.5 at UHD and 2 at HD.
"""

from __future__ import annotations

import argparse
import mmap
import re
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.daemon import running

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fakes import ofx_build  # noqa: E402 - the tests' host and compiler
from fakes.ofx_host import GENERAL, OK, HostImage, OfxHost, blank  # noqa: E402

SIZES = {"HD": (1920, 1080, 2.0), "UHD": (3840, 2160, 1.5)}
RELEASE = ROOT / "build/plugin/x86_64-linux-gnu.2.17/MatteBridge.ofx.bundle/Contents"


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--development", action="store_true", help="the tests' build")
    options = parser.parse_args(arguments)
    release = RELEASE / "Linux-x86-64" / "MatteBridge.ofx"
    binary = release if release.exists() and not options.development else ofx_build.plugin()
    print(f"{'the release build' if binary == release else 'a development build'}\n")
    print(
        "| frame | plugin ms, best (median) | memcpy ms, best (median) | ratio of best (median) |"
    )
    print("|---|---|---|---|")
    with running(MATTEBRIDGE_TEST_HOOKS="bridge_probe") as (client, _process):
        for name, (width, height, goal) in SIZES.items():
            own, copies = _measure(binary, client.folder, width, height, options.turns)
            best, median = min(own) / min(copies), _median(own) / _median(copies)
            print(
                f"| {name} RGBA float | {min(own):.1f} ({_median(own):.1f}) | {min(copies):.1f} "
                f"({_median(copies):.1f}) | **{best:.2f}** ({median:.2f}), goal {goal} |",
                flush=True,
            )


def _measure(
    binary: Path, folder: Path, width: int, height: int, turns: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of the plugin and of memcpy, turn by turn."""
    pixels = np.random.default_rng(0).random((height, width, 4), np.float32)
    shared = mmap.mmap(-1, 3 * pixels.nbytes)
    arena = [
        np.ndarray(pixels.shape, pixels.dtype, shared, index * pixels.nbytes) for index in range(3)
    ]
    plate, clean, output = HostImage(pixels), HostImage(pixels), blank(height, width)
    # Both use the same memory: the host's bottom-up rows, here one memcpy per plane.
    planes = [image.rows.reshape(-1).view(np.float32) for image in (plate, clean, output)]
    flat = [plane.reshape(-1) for plane in arena]
    own, copies = [], []
    with OfxHost(binary, name="uk.co.thefoundry.nuke") as host:
        node = host.create(GENERAL, endpoint=str(folder), model="bridge_probe")
        node.connect(Source=plate, Background=clean)
        for turn in range(turns + 3):
            before = _frames(folder)
            started = time.perf_counter()
            status = node.render(output)[0]
            took_ms = (time.perf_counter() - started) * 1e3
            assert status == OK, node.message
            started = time.perf_counter()
            np.copyto(flat[0], planes[0])
            np.copyto(flat[1], planes[1])
            np.copyto(planes[2], flat[2])
            if turn >= 3:
                copies.append((time.perf_counter() - started) * 1e3)
                own.append(took_ms - _total_ms(folder, before))
    return own, copies


def _frames(folder: Path) -> int:
    return len(re.findall(r"total_ms=", (folder / "log").read_text("utf-8", "replace")))


def _total_ms(folder: Path, before: int) -> float:
    """The `total_ms` in the daemon's log of the first frame after the first `before` frames."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        found = re.findall(r"total_ms=([\d.]+)", (folder / "log").read_text("utf-8", "replace"))
        if len(found) > before:
            return float(found[before])
        time.sleep(0.001)
    raise AssertionError(f"no line about the frame in the log in {folder}")


def _median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main(sys.argv[1:])
