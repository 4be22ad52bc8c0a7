"""Every figure that README states, measured here: `python -m benchmarks [NAME ...]`, `make bench`.

Each benchmark prints a table with its method above it. Figures are ratios within one run wherever
that is possible, because machines differ and are busy; quote the ratio, not the milliseconds.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys

# In the order in which README tells them.
NAMES = (
    "bridge",
    "ofx",
    "control",
    "start",
    "memory",
    "matte",
    "models",
    "shot",
    "loader",
    "background_matting",
)


def machine() -> str:
    """A line about the machine, to stand beside the figures."""
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


def main(names: list[str]) -> int:
    """Run the benchmarks named, or all of them."""
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
