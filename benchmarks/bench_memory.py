"""Memory over a long shot: whether any process grows with the number of frames.

Method: 2,000 small frames of changing content through one client, two in flight; resident memory
of the client, the front and the worker after 200 frames and at the end.
Goal: flat (growth of a few MB at most, from the allocators).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque

import numpy as np

from benchmarks.daemon import running

SETTLED = 200


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=2000)
    options = parser.parse_args(arguments)
    with running(keeps_frames=True) as (client, process):
        pids = {
            "client": os.getpid(),
            "front": process.pid,
            "worker": client.ping()["workers"][0]["pid"],
        }
        clean_plate = np.random.default_rng(1).random((135, 240, 3), np.float32)
        early: dict[str, float] = {}
        handles: deque = deque()
        for frame in range(options.frames):
            plate = clean_plate.copy()
            left = frame % 160
            plate[40:100, left : left + 60] = 0.5
            handles.append(client.submit(plate, clean_plate, frame=frame, model="difference"))
            if len(handles) > 1:
                handles.popleft().result()
            if frame == SETTLED:
                early = {name: _resident_mb(pid) for name, pid in pids.items()}
        while handles:
            handles.popleft().result()
        late = {name: _resident_mb(pid) for name, pid in pids.items()}
    print(f"| process | MB after {SETTLED} | MB after {options.frames} | growth MB |")
    print("|---|---|---|---|")
    for name in pids:
        growth = late[name] - early[name]
        print(f"| {name} | {early[name]:.1f} | {late[name]:.1f} | **{growth:+.1f}** |", flush=True)


def _resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main(sys.argv[1:])
