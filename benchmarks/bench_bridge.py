"""The bridge alone: a frame to the daemon and back, against memcpy in + memcpy out.

Method: a float RGBA plate goes through `MatteClient.matte` to a worker that replies without reading
the pixels (the `bridge_probe` hook), and a float RGBA result of the same size comes back into an
array that is reused: exactly one copy into the arena and one out of it. It is compared with the
same two copies, numpy to warm shared memory and (from where a result would lie) back, in this
process. Both are run in turn, after warm-up, and compared by their best and by their median.
Goal: at most 1.1 at UHD and 1.4 at HD, on an otherwise idle machine, best of N.
"""

from __future__ import annotations

import argparse
import mmap
import statistics
import sys
import time

import numpy as np

from benchmarks.daemon import running

SIZES = {"HD": (1920, 1080), "UHD": (3840, 2160)}


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=25)
    options = parser.parse_args(arguments)
    print(
        "| frame | bridge ms, best (median) | copies ms, best (median) | ratio of best (median) |"
    )
    print("|---|---|---|---|")
    with running(MATTEBRIDGE_TEST_HOOKS="bridge_probe") as (client, _process):
        for name, (width, height) in SIZES.items():
            plate = np.random.default_rng(0).random((height, width, 4), np.float32)
            result = np.empty_like(plate)
            shared = mmap.mmap(-1, 2 * plate.nbytes)
            there = np.ndarray(plate.shape, plate.dtype, buffer=shared)
            here = np.ndarray(plate.shape, plate.dtype, buffer=shared, offset=plate.nbytes)
            back = np.empty_like(plate)
            bridge, copies = [], []
            for turn in range(options.turns + 3):
                started = time.perf_counter()
                client.matte(
                    plate,
                    model="bridge_probe",
                    outputs=["premultiplied"],
                    out={"premultiplied": result},
                )
                between = time.perf_counter()
                np.copyto(there, plate)
                np.copyto(back, here)
                ended = time.perf_counter()
                if turn >= 3:
                    bridge.append((between - started) * 1e3)
                    copies.append((ended - between) * 1e3)
            best, median = min(bridge) / min(copies), _median(bridge) / _median(copies)
            print(
                f"| {name} RGBA float | {min(bridge):.1f} ({_median(bridge):.1f}) "
                f"| {min(copies):.1f} ({_median(copies):.1f}) | **{best:.2f}** ({median:.2f}) |",
                flush=True,
            )


def _median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main(sys.argv[1:])
