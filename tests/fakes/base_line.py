"""The base line of a daemon: what it holds when nobody misbehaves, taken before and after a row.

`AbusedDaemon` is a daemon whose workers misbehave on demand (`misbehave`), beside which a polite
client renders all the time. `measured` is put around every fault: inside it anything may happen;
after it the front, its descriptors, its memory, its children and its files are what they were, and
the polite client has seen its own frames, bit for bit, or an error, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

from fakes.daemon_process import ARENA_NAMES, DaemonProcess, is_alive, slot_maps, wait_for
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, same, shot
from mattebridge.client import MatteClient
from mattebridge.errors import BusyError, DeadlineError, MattebridgeError, WorkerLostError

# What may lie in a runtime folder after any death.
SMALL_FILES = {"door", "ctl", "lock", "status.json", "log"}
# A front that took a hundred thousand hostile messages has not grown by more than this.
RSS_SLACK_BYTES = 24 << 20
# What a polite client may be told while somebody else breaks the only worker.
FORGIVEN = (WorkerLostError, DeadlineError, BusyError)
# Turns of the loops in which a host, a worker or a whole daemon is killed; KILL_TURNS=100 for a
# release.
KILL_TURNS = int(os.environ.get("KILL_TURNS", "10"))


class Gate:
    """A place where a frame waits in the worker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def wait_reached(self) -> None:
        """Wait until a frame stands at the gate."""
        reached = self.path.with_name(f"{self.path.name}.reached")
        wait_for(reached.exists, SOON_S, "a frame reaches the gate")
        reached.unlink()

    def open(self) -> None:
        """Let it go on."""
        self.path.unlink(missing_ok=True)


class AbusedDaemon(DaemonProcess):
    """A daemon with hooks that a test can change while it runs, and a polite client beside it."""

    def __init__(self, *, light: bool = False, **environment: str) -> None:
        # Should the tests themselves be killed, it leaves by itself.
        super().__init__(arguments=["--idle-exit=900"], light=light, **environment)
        self.hooks = self.home / "hooks"
        self.environment["MATTEBRIDGE_TEST_HOOKS"] = f"@{self.hooks}"
        self._gates = 0
        self.base_line: dict[str, Any] = {}
        self.base_resident_bytes = 0

    def misbehave(self, *hooks: str) -> None:
        """From the next stage on, workers do this (daemon/hooks.py); nothing behaves again."""
        temporary = self.hooks.with_suffix(".new")
        temporary.write_text(",".join(hooks))
        temporary.replace(self.hooks)

    @contextlib.contextmanager
    def gate(self, action: str = "gate", stage: str = "model", frame: int = 13) -> Iterator[Gate]:
        """Frames of this number wait at a stage until the block ends, or the gate is opened."""
        self._gates += 1
        gate = Gate(self.home / f"gate-{self._gates}")
        self.misbehave(f"{stage}#{frame}={action}:{gate.path}")
        try:
            yield gate
        finally:
            gate.open()
            self.misbehave()

    def connect(self, **options: Any) -> MatteClient:
        """A client for a `with` block."""
        return MatteClient.connect(str(self.folder), **options)

    def accepts_everything(self) -> bool:
        """Whether a new client is let in and gets its frame."""
        try:
            with self.connect() as client:
                return same(client.matte(*shot(), **PLAIN), self.matted(*shot()))
        except MattebridgeError:
            return False

    def resident_bytes(self) -> int:
        """Memory of the front."""
        return resident_bytes(self.pid)

    def holdings(self) -> dict[str, Any]:
        """Everything that must be as before once a fault is over."""
        workers = self.worker_pids()
        return {
            "front": self.pid,
            "descriptors": self.descriptors(),
            "arenas": arena_descriptors(self.pid),
            "workers": len(workers),
            "worker maps": [slot_maps(pid) for pid in workers],
            "worker descriptors": [len(os.listdir(f"/proc/{pid}/fd")) for pid in workers],
            "other files": self.files() - SMALL_FILES,
        }


# What the fixture `start_abused` gives.
StartAbused = Callable[..., AbusedDaemon]


def arena_descriptors(pid: int) -> int:
    """How many pieces of shared memory a process holds open."""
    found = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(fd).startswith(ARENA_NAMES)
    return found


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class PoliteClient:
    """Renders four known frames over and over, and keeps what went wrong."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.client = MatteClient.connect(str(daemon.folder), name="polite")
        self._shots = [shot(seed=seed) for seed in range(4)]
        self._expected = [daemon.matted(*one) for one in self._shots]
        self.frames = 0
        self.wrong: list[str] = []
        self.forgiven: list[MattebridgeError] = []

    def render(self, index: int) -> None:
        """One frame; a wrong pixel is noted, an error raised."""
        one = self._shots[index % len(self._shots)]
        matte = self.client.matte(*one, frame=1000 + index, timeout_s=60, **PLAIN)
        self.frames += 1
        if not same(matte, self._expected[index % len(self._expected)]):
            self.wrong.append(f"frame {index} is another picture")

    @contextlib.contextmanager
    def rendering(self) -> Iterator[None]:
        """Renders in a thread while the block runs."""
        over = threading.Event()

        def work() -> None:
            index = 0
            while not over.is_set():
                index += 1
                try:
                    self.render(index)
                except FORGIVEN as error:
                    self.forgiven.append(error)
                except Exception as error:
                    self.wrong.append(repr(error))
                    return
                over.wait(0.03)

        thread = threading.Thread(target=work, name="polite", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(70)
            if thread.is_alive():
                self.wrong.append("its last frame never came back")


@contextlib.contextmanager
def measured(daemon: AbusedDaemon, polite: PoliteClient) -> Iterator[None]:
    """The base line around one row: before == after, and the polite client unharmed."""
    polite.frames, polite.wrong, polite.forgiven = 0, [], []
    for index in range(2):
        polite.render(index)
    if not daemon.base_line:
        daemon.base_line, daemon.base_resident_bytes = daemon.holdings(), daemon.resident_bytes()
    with polite.rendering():
        yield
    daemon.misbehave()
    settle(daemon, polite)
    assert not polite.wrong, polite.wrong
    assert polite.frames > 2
    assert daemon.resident_bytes() < daemon.base_resident_bytes + RSS_SLACK_BYTES
    status = polite.client.status()
    assert [entry["client"] for entry in status["sessions"]] == ["polite"]
    assert status["queue"]["interactive"] == status["queue"]["batch"] == 0
    assert status["state"] == "ready"


def settle(daemon: AbusedDaemon, polite: PoliteClient) -> None:
    """Wait until the daemon holds what it held when it was new; say what it does not."""
    before = daemon.base_line
    until = time.monotonic() + SOON_S
    while True:
        # Its arenas are mapped anew by a worker that was replaced.
        polite.render(0)
        now = daemon.holdings()
        if now == before:
            return
        if time.monotonic() > until:
            changed = {key: (before[key], now[key]) for key in now if before[key] != now[key]}
            raise AssertionError(f"not as before: {changed}\n{daemon.words()}")
        time.sleep(0.02)


def assert_nothing_remains(daemon: DaemonProcess, workers: list[int]) -> None:
    """After a front died: no worker, no memory, and in its folder nothing but small files."""
    for pid in workers:
        wait_for(lambda pid=pid: not is_alive(pid), SOON_S, f"worker {pid} dies with its front")
    assert daemon.files() <= SMALL_FILES
