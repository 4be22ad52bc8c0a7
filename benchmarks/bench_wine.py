"""The bridge of Windows, as far as Wine shows it: `bridge` in a Windows Python, against memcpy.

Method: that of `bridge`, daemon, worker and client being Windows processes under Wine, with unnamed
sections and named pipes for sealed memory and sockets. The copies it is compared with run in the
same Windows process. Both are this machine's; what Windows itself takes, nobody has measured.
Needs `make windows`. Nothing else may run under Wine in `build/wine` meanwhile: it ends with this.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PLACE = ROOT / "build" / "wine"
LIMIT_S = 900

sys.path.insert(0, str(TESTS))

from windows import make_prefix  # noqa: E402


def main(arguments: list[str]) -> None:
    """Print the table."""
    if not (PLACE / "ready").exists():
        print("not measured: there is no Windows Python in build/wine; `make windows` lays one")
        return
    folders = (TESTS / "windows" / "without_torch", ROOT, ROOT / "bridge")
    environment = make_prefix.environment(PLACE, *folders)
    try:
        done = subprocess.run(
            [*make_prefix.python(PLACE), "-m", "benchmarks.bench_bridge", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=True,
        )
        print(done.stdout.strip(), flush=True)
    finally:
        subprocess.run(["wineserver", "-k"], env=environment, timeout=60, check=False)


if __name__ == "__main__":
    main(sys.argv[1:])
