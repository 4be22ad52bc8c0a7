"""Start-up times: of the front, of the worker, and of the client's import.

Method: best of N, each in fresh processes. "First client" is the time from starting the front's
process to the first accepted hello; "ready" is until a worker has rendered its warm-up frame;
"import" is what `import mattebridge.client` adds to a bare interpreter.
Goal: first client at most 0.5 s, import at most 0.25 s.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.daemon import connect, start


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args(arguments)
    accepted, ready = zip(*(_start_once() for _ in range(options.times)))
    bare = [_run("pass") for _ in range(options.times)]
    imported = [_run("import mattebridge.client") for _ in range(options.times)]
    print("| what | best s | median s |")
    print("|---|---|---|")
    for name, values in (
        ("front start to first client", accepted),
        ("front start to worker ready", ready),
        ("import mattebridge.client", [value - min(bare) for value in imported]),
    ):
        print(f"| {name} | **{min(values):.3f}** | {statistics.median(values):.3f} |", flush=True)


def _start_once() -> tuple[float, float]:
    home = Path(tempfile.mkdtemp(prefix="mb-bench-"))
    started = time.perf_counter()
    process = start(home / "run")
    try:
        with connect(home / "run", process) as client:
            accepted = time.perf_counter() - started
            while client.ping()["state"] == "starting":
                time.sleep(0.005)
            ready = time.perf_counter() - started
            client.shutdown()
        process.wait(30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)
    return accepted, ready


def _run(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1:])
