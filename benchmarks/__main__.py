"""Measures the figures in README: `python -m benchmarks [NAME ...]`, `make bench`.

Each benchmark prints its method and a table. Figures are ratios within one run wherever that is
possible, because machines differ and are busy; quote the ratio, not the milliseconds.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys

# In the order of README's table.
NAMES = (
    "bridge",
    "wine",
    "ofx",
    "control",
    "workers",
    "start",
    "memory",
    "matte",
    "models",
    "again",
    "colour",
    "shot",
    "clips",
    "loader",
    "background_matting",
    "greenformer",
    "gpu",
)


def machine() -> str:
    """A line about the machine, printed with the figures."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next(line.split(":", 1)[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load {load:.1f}"
    )


def main(arguments: list[str]) -> int:
    """Run the benchmarks named, or all of them."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    names = parser.parse_args(arguments).names
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    print(machine(), flush=True)
    for name in names or NAMES:
        module = importlib.import_module(f"benchmarks.bench_{name}")
        print(f"\n== {name}\n\n{(module.__doc__ or '').strip()}\n", flush=True)
        module.main([])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
