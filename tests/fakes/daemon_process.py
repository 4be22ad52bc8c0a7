"""A real daemon in a folder of its own, for tests: started by exec, ended by pid, inspected."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional

from fakes.light_python import light_python, matted_light
from fakes.limits import SOON_S
from fakes.pictures import Image, matted_here
from mattebridge.client import MatteClient
from mattebridge.errors import ConnectionFailed

START_S = 60.0
STOP_S = 60.0
# One thread a worker, and no frame that a busy machine holds up is taken for one that hangs.
PATIENT = {"OMP_NUM_THREADS": "1", "MATTEBRIDGE_WATCHDOG_S": "900"}
# How often a test asks whether what it waits for has happened: at first, and after half a second.
SHORTEST_POLL_S, LONGEST_POLL_S = 0.005, 0.05
# The state of a connection in /proc/net/unix.
CONNECTED = "03"
# What /proc calls shared memory of ours, of the layer of Linux and of that of macOS.
ARENA_NAMES = ("/memfd:mattebridge", "/dev/shm/mb-")


class DaemonProcess:
    """`with DaemonProcess(hooks="model=sleep:0.5") as daemon: daemon.client().matte(...)`."""

    def __init__(
        self,
        *,
        hooks: str = "",
        folder: Optional[Path] = None,
        devices: str = "cpu",
        arguments: Sequence[str] = (),
        light: bool = False,
        **environment: str,
    ):
        """light: with workers of the light engine (light_python.py)."""
        # Short: a socket path ends at 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="mb-"))
        self.folder = folder or self.home / "run"
        self.environment = {**os.environ, **PATIENT, **environment}
        self.light = light
        self.python = light_python() if light else sys.executable
        self.program = [self.python, "-m", "mattebridge.daemon"]
        self.arguments = [f"--devices={devices}", *arguments]
        if hooks:
            self.environment["MATTEBRIDGE_TEST_HOOKS"] = hooks
        self.process: Optional[subprocess.Popen[bytes]] = None
        self._clients: list[MatteClient] = []

    # -- life -------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> DaemonProcess:
        """Start the front and wait until its door accepts."""
        with (self.home / "stderr").open("ab") as words:
            self.process = subprocess.Popen(
                [*self.program, f"--folder={self.folder}", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                env=self.environment,
            )
        if wait:
            wait_for(self.accepts, START_S, lambda: f"the daemon accepts: {self.words()}")
        return self

    def accepts(self) -> bool:
        """Whether a client can connect."""
        try:
            MatteClient.connect(str(self.folder)).close()
        except ConnectionFailed:
            return False
        return True

    def wait_ready(self) -> DaemonProcess:
        """Wait until a worker has rendered its warm-up frame."""
        with MatteClient.connect(str(self.folder)) as client:
            wait_for(
                lambda: client.ping()["state"] == "ready",
                START_S,
                lambda: f"a worker is ready: {self.words()}",
            )
        return self

    def client(self, **options: Any) -> MatteClient:
        """A client of this daemon, closed with it."""
        client = MatteClient.connect(str(self.folder), **options)
        self._clients.append(client)
        return client

    def kill(self) -> None:
        """SIGKILL the front, and reap it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_S)

    def stop(self) -> int:
        """SIGTERM the front; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def end(self) -> None:
        """Whatever happened: no process and no file of ours remains."""
        for client in self._clients:
            client.close()
        workers = self.worker_pids() if self.alive() else []
        if self.alive():
            self.kill()
        for pid in workers:
            wait_for(lambda pid=pid: not is_alive(pid), SOON_S, f"worker {pid} dies with its front")
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> DaemonProcess:
        return self.start()

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.end()

    def matted(self, plate: Image, clean_plate: Image) -> dict[str, Image]:
        """What its workers make of a frame with `PLAIN`, bit by bit."""
        return (matted_light if self.light else matted_here)(plate, clean_plate)

    # -- a look inside ------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the front."""
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        """Whether the front runs."""
        return self.process is not None and self.process.poll() is None

    def worker_pids(self) -> list[int]:
        """The front's children that are alive."""
        return [pid for pid in children(self.pid) if is_alive(pid)]

    def words(self) -> str:
        """The end of the log and of stderr, for a failed assertion."""
        parts = []
        for path in (self.folder / "log", self.home / "stderr"):
            if path.exists():
                parts.append(path.read_text("utf-8", "replace")[-2000:])
        return "\n".join(parts)

    def log(self) -> str:
        """The whole log."""
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def files(self) -> set[str]:
        """Names in the runtime folder."""
        return set(os.listdir(self.folder))

    def descriptors(self) -> int:
        """Open descriptors of the front."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def control_connections(self) -> int:
        """Clients that the front's control socket is connected with; it has noticed who left."""
        lines = Path("/proc/net/unix").read_text().splitlines()
        ends = [line.split()[5] for line in lines if line.endswith(f" {self.folder}/ctl")]
        return ends.count(CONNECTED)


# What the fixture `start_daemon` gives.
StartDaemon = Callable[..., DaemonProcess]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def children(pid: int) -> list[int]:
    """Pids of a process's children."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def slot_maps(pid: int) -> int:
    """How many arenas (or held plates) a process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sum(any(name in line for name in ARENA_NAMES) for line in maps)


def own_arenas() -> int:
    """How many arenas this process has mapped, without those that only await collection.

    An exception that a test expected keeps the frames of its traceback, and the arenas that these
    hold, until the cycle is collected.
    """
    gc.collect()
    return slot_maps(os.getpid())


def wait_for(
    condition: Callable[[], bool], timeout_s: float, what: str | Callable[[], str] = ""
) -> None:
    """Poll until true; an AssertionError that says what did not happen otherwise.

    What takes long is asked for less and less often: a condition costs the asked process time too,
    and a daemon would spend as much on being asked whether it is ready as on becoming so.
    """
    since = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - since
        if waited_s > timeout_s:
            said = what() if callable(what) else what
            raise AssertionError(f"not within {timeout_s:g} s: {said}")
        time.sleep(min(LONGEST_POLL_S, max(SHORTEST_POLL_S, waited_s / 10)))
