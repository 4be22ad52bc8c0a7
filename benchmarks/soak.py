"""A soak: several clients, models and sizes for a given time, processes killed at random.

    python -m benchmarks.soak --seconds 3600 --clients 3 --models difference twoplate

Method: each client is a process that mattes frames of random sizes, two in flight, some of them
with a clean plate held by name, and compares each result with the first one of the same frame. Now
and then a client, the worker or the front is killed with SIGKILL and replaced. Memory, descriptors
and threads of every process are read once a second, latencies come from the clients. The slopes are
least-squares fits within each life of a process after it has settled, over all lives, by 10,000
frames of the whole soak. A worker takes seconds to start: kill rarely, or few frames are matted.
What was replaced has finished a frame before the next process is killed.

Goal: no wrong frame, no client that stands still, and slopes of 0 but for the allocators.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from benchmarks.daemon import connect, start
from mattebridge.client import MatteClient
from mattebridge.errors import ConnectionFailed, MattebridgeError

SIZES = ((64, 48), (160, 90), (240, 135), (333, 187), (480, 270))
PICTURES = 4
SETTLE_S = 5.0
SAMPLE_S = 1.0
# A client that reports no frame for so long stands still; models load within it.
STILL_S = 90.0
FRAMES = 10_000
PROCESSES = ("front", "worker", "client")
METRICS_READ = ("MB", "descriptors", "threads")
METRICS = (*METRICS_READ, "latency ms")


class Sample(NamedTuple):
    """One reading of one process: its life, frames of the whole soak so far, the value."""

    life: int
    frames: int
    value: float


def slope(samples: Iterable[Sample]) -> float:
    """The common slope within the lives, by `FRAMES` frames; 0 where there are too few samples."""
    lives = defaultdict(list)
    for sample in samples:
        lives[sample.life].append((sample.frames, sample.value))
    above = below = 0.0
    for readings in lives.values():
        frames, values = np.array(readings, np.float64).T
        frames -= frames.mean()
        above += float(frames @ (values - values.mean()))
        below += float(frames @ frames)
    return FRAMES * above / below if below else 0.0


# -- a client ---------------------------------------------------------------------------------


def _picture(number: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng([number, width, height])
    clean_plate = dice.random((height, width, 3), np.float32)
    plate = clean_plate.copy()
    plate[height // 4 : height // 2, width // 4 : width // 2] = dice.random(3, np.float32)
    return plate, clean_plate


def run_client(folder: str, models: Sequence[str], seed: int) -> None:
    """Matte frames until the process is killed; a line of JSON for each that is finished."""
    dice, known = random.Random(seed), dict[tuple[Any, ...], str]()
    while True:
        try:
            with MatteClient.connect(folder, name=f"soak-{seed}") as client:
                _matte_frames(client, models, dice, known)
        except MattebridgeError as error:
            print(json.dumps({"error": error.code}), flush=True)
            time.sleep(0.1)


def _matte_frames(
    client: MatteClient, models: Sequence[str], dice: random.Random, known: dict[Any, str]
) -> None:
    out: deque[tuple[Any, float, Any]] = deque()
    while True:
        key = (dice.choice(models), dice.choice(SIZES), dice.randrange(PICTURES))
        model, size, number = key
        plate, clean_plate = _picture(number, *size)
        given: Any = clean_plate
        if dice.random() < 0.3:
            given = f"soak-{number}-{size[0]}x{size[1]}"
            client.hold_clean_plate(given, clean_plate)
        began = time.monotonic()
        out.append((key, began, client.submit(plate, given, model=model, alignment="off")))
        if len(out) > 1:
            _finish(*out.popleft(), known)


def _finish(key: Any, began: float, handle: Any, known: dict[Any, str]) -> None:
    matte = handle.result()
    digest = hashlib.sha256(matte.premultiplied.tobytes()).hexdigest()
    right = known.setdefault(key, digest) == digest
    latency_ms = (time.monotonic() - began) * 1000
    print(json.dumps({"ms": latency_ms, "right": right}), flush=True)


class ClientProcess:
    """A client in a process of its own, and what it has reported."""

    def __init__(self, folder: Path, models: Sequence[str], seed: int) -> None:
        command = [sys.executable, "-m", "benchmarks.soak", "--client", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--seed", str(seed), "--models", *models],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.frames = self.wrong = self.errors = 0
        self.latencies_ms: list[float] = []
        self.last = time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "error" in said:
                self.errors += 1
                continue
            self.last = time.monotonic()
            self.frames += 1
            self.wrong += not said["right"]
            self.latencies_ms.append(said["ms"])

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


# -- the soak ---------------------------------------------------------------------------------


class Soak:
    """The daemon, its clients, and the readings of all of them."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        self._dice = random.Random(options.seed)
        self._began = dict[tuple[str, int], float]()
        self.samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)
        self.kills: dict[str, int] = defaultdict(int)
        self.ended: list[ClientProcess] = []
        self._front = start(folder)
        connect(folder, self._front).close()
        self._clients = [self._client() for _ in range(options.clients)]

    def _client(self) -> ClientProcess:
        return ClientProcess(self._folder, self._options.models, self._dice.randrange(2**31))

    @property
    def everyone(self) -> list[ClientProcess]:
        """All clients, those that were killed too."""
        return [*self.ended, *self._clients]

    @property
    def frames(self) -> int:
        """Of all clients so far."""
        return sum(client.frames for client in self.everyone)

    @property
    def _enough(self) -> bool:
        """Whether what was asked for with `--enough` is reached, and each kind of process read."""
        if self._options.enough is None:
            return False
        frames, kills = self._options.enough
        read = all(self.samples[name, metric] for name in PROCESSES for metric in METRICS_READ)
        return read and self.frames >= frames and sum(self.kills.values()) >= kills

    def run(self) -> None:
        """Until the time is up, or enough; raises `RuntimeError` for a client that stands still."""
        until = time.monotonic() + self._options.seconds
        next_kill, before = time.monotonic() + self._options.kill_every, 0
        while time.monotonic() < until and not self._enough:
            time.sleep(SAMPLE_S)
            self._read()
            if time.monotonic() > next_kill and self.frames > before:
                next_kill += self._options.kill_every * self._dice.uniform(0.5, 1.5)
                before = self.frames
                self._kill(self._dice.choice(("client", "worker", "front")))
            for client in self._clients:
                if time.monotonic() - client.last > STILL_S:
                    raise RuntimeError(f"a client has finished no frame for {STILL_S:g} s")

    def close(self) -> None:
        """End everything."""
        for client in self._clients:
            client.kill()
        self._front.send_signal(signal.SIGTERM)
        self._front.wait(60)

    def _worker_pid(self) -> Optional[int]:
        try:
            with MatteClient.connect(str(self._folder), name="soak") as client:
                return int(client.ping()["workers"][0]["pid"] or 0) or None
        except (MattebridgeError, TypeError):
            return None

    def _kill(self, what: str) -> None:
        if what == "client":
            index = self._dice.randrange(len(self._clients))
            self._clients[index].kill()
            self.ended.append(self._clients[index])
            self._clients[index] = self._client()
        elif what == "worker":
            pid = self._worker_pid()
            if pid is None:
                return
            os.kill(pid, signal.SIGKILL)
        else:
            self._front.kill()
            self._front.wait()
            self._front = start(self._folder)
            try:
                connect(self._folder, self._front).close()
            except ConnectionFailed as error:
                raise RuntimeError(f"the front did not start again: {error}") from error
        self.kills[what] += 1

    def _read(self) -> None:
        pids = [("front", self._front.pid), ("worker", self._worker_pid())]
        pids += [("client", client.process.pid) for client in self._clients]
        frames, now = self.frames, time.monotonic()
        for name, pid in pids:
            if pid is None or now - self._began.setdefault((name, pid), now) < SETTLE_S:
                continue
            for metric, value in _readings(pid).items():
                self.samples[name, metric].append(Sample(pid, frames, value))
        for client in self._clients:
            waiting, client.latencies_ms = client.latencies_ms, []
            settled = now - self._began.get(("client", client.process.pid), now) >= SETTLE_S
            if waiting and settled:
                median = float(np.median(waiting))
                sample = Sample(client.process.pid, frames, median)
                self.samples["client", "latency ms"].append(sample)


def _readings(pid: int) -> dict[str, float]:
    """What a process holds; empty when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return {
            # Without shared memory: an arena that a session has is no growth of a process.
            "MB": int(fields["RssAnon"].split()[0]) / 1000,
            "threads": float(fields["Threads"]),
            "descriptors": float(len(os.listdir(f"/proc/{pid}/fd"))),
        }
    except (OSError, KeyError):
        return {}


def report(soak: Soak) -> dict[str, Any]:
    """The figures of a soak."""
    table = {
        name: {
            metric: {
                "slope": slope(soak.samples[name, metric]),
                "last": soak.samples[name, metric][-1].value,
                "most": max(sample.value for sample in soak.samples[name, metric]),
                "samples": len(soak.samples[name, metric]),
            }
            for metric in METRICS
            if soak.samples[name, metric]
        }
        for name in PROCESSES
    }
    return {
        "frames": soak.frames,
        "wrong": sum(client.wrong for client in soak.everyone),
        "errors": sum(client.errors for client in soak.everyone),
        "kills": dict(soak.kills),
        "processes": table,
    }


def _print(found: dict[str, Any]) -> None:
    kills = ", ".join(f"{name} {count}" for name, count in sorted(found["kills"].items()))
    print(
        f"{found['frames']} frames, {found['wrong']} wrong; {found['errors']} errors reached"
        f" clients; killed: {kills or 'none'}\n"
    )
    heads = " | ".join(f"{metric} / 10,000 frames (last, most)" for metric in METRICS)
    print(f"| process | {heads} |")
    print("|---" * (len(METRICS) + 1) + "|")
    for name, metrics in found["processes"].items():
        cells = [
            f"{metrics[m]['slope']:+.2f} ({metrics[m]['last']:.1f}, {metrics[m]['most']:.1f})"
            if m in metrics
            else ""
            for m in METRICS
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def main(arguments: Sequence[str]) -> int:
    """Run a soak; 1 for a frame that was wrong or a client that stood still."""
    parser = argparse.ArgumentParser("python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument(
        "--enough",
        type=int,
        nargs=2,
        metavar=("FRAMES", "KILLS"),
        help="end sooner, after so many frames and kills, when each kind of process was read",
    )
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["difference", "twoplate"])
    parser.add_argument("--kill-every", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--client", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.client:
        run_client(options.client, options.models, options.seed)
    home = Path(tempfile.mkdtemp(prefix="mb-soak-"))
    soak = Soak(home / "run", options)
    still = ""
    try:
        soak.run()
    except RuntimeError as error:
        still = str(error)
    finally:
        soak.close()
        shutil.rmtree(home, ignore_errors=True)
    found = {**report(soak), "still": still}
    if options.json:
        print(json.dumps(found))
    else:
        _print(found)
    if still:
        print(f"soak: {still}", file=sys.stderr)
    return 1 if still or found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
