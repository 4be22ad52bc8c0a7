"""The layer of macOS, run on Linux: the daemon, its clients and the commands with the real parts.

Two things of it are not Linux's: how a peer is asked for its credentials, and that macOS refuses to
change the size of shared memory. Linux does not, so here a client can do what it cannot on macOS.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.base_line import AbusedDaemon, arena_descriptors
from fakes.daemon_process import ARENA_NAMES, SOON_S, DaemonProcess, is_alive, wait_for
from fakes.pictures import PLAIN, same, shot
from fakes.places import TESTS
from fakes.raw_client import RawClient, ask_door, connect_to_door, hello
from mattebridge.errors import QuotaError
from mattebridge.wire import oslayer, posix
from mattebridge.wire.oslayer import TEST_VARIABLE
from mattebridge.wire.slots import SlotMap

pytestmark = pytest.mark.slow

FOUR_MIB = 4 << 20

# What is run again under this layer, in one pytest of its own: sessions, arenas and frames of
# clients, commands and the plugin, and processes that are killed, a few times and not many.
FILES = (
    "e2e/test_client.py",
    "e2e/test_matte_command.py",
    "e2e/test_ofx_hostile.py",
    "e2e/test_ofx_life.py",
    "e2e/test_ofx_pixels.py",
    "e2e/test_ofx_start_daemon.py",
    "e2e/test_other_versions.py",
    "faults/test_process_death.py",
    "faults/test_slots_and_geometry.py",
    "faults/test_start_and_environment.py",
    "faults/test_wire.py",
)
CHOICE = (
    "any_order or same_pixels_as_one or may_be_closed or starts_the_daemon"
    " or one_command or another_users_door or could_vanish or at_the_door_ends"
    " or changes_fills_the_line"
    " or older_release or stop_ends_it"
    " or good_reply or killed_under or larger_frame_exchanges or odd_sizes_are"
    " or f01 or f02 or f03 or f08 or f10 or f41"
    " or bombs_at_the_door or f19_descriptors or f19_silent_connections or f20_no or f46_a"
)
RUN_S = 600


@pytest.fixture(autouse=True, scope="module")
def _under_this_layer() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TEST_VARIABLE, "posix")
        yield


@pytest.fixture(scope="module")
def daemon(_under_this_layer: None) -> Iterator[DaemonProcess]:
    with DaemonProcess(light=True) as daemon:
        daemon.wait_ready()
        yield daemon


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[RawClient]:
    """A client with one arena, whose descriptor it kept."""
    found = RawClient(daemon.folder)
    found.door.close()
    found.door = connect_to_door(daemon.folder)
    found.welcome, (found.memory,) = ask_door(found.door, hello(1, FOUR_MIB))
    found.sid = found.welcome["sid"]
    found.arenas = {0: SlotMap(os.dup(found.memory), FOUR_MIB)}
    yield found
    os.close(found.memory)
    found.close()


def _serves_others(daemon: DaemonProcess) -> bool:
    with daemon.client() as other:
        return same(other.matte(*shot(), timeout_s=SOON_S, **PLAIN), daemon.matted(*shot()))


def test_a_clean_plate_in_memory_that_was_made_smaller_is_an_error_of_its_client_alone(
    daemon: DaemonProcess, client: RawClient
) -> None:
    message = client.render()
    put = {"op": "plate_put", "name": "mine", "slot": 0, "gen": 1, "plane": message["in"][1]}
    os.ftruncate(client.memory, 4096)  # the header is left
    reply = client.terminal(client.send(put))
    assert (reply["code"], reply["held"]) == ("E_GEOMETRY", False)
    os.ftruncate(client.memory, 0)
    assert client.terminal(client.send(put, gen=2))["code"] == "E_GEOMETRY"
    assert daemon.alive()
    assert _serves_others(daemon)


def test_a_frame_in_memory_that_was_made_smaller_costs_a_worker_and_no_daemon(
    daemon: DaemonProcess, client: RawClient
) -> None:
    message = client.render()
    (worker,) = daemon.worker_pids()
    os.ftruncate(client.memory, 0)
    reply = client.terminal(client.send(message), timeout_s=SOON_S)
    assert (reply["code"], reply["held"]) == ("E_WORKER_LOST", False)
    assert not is_alive(worker)
    assert _serves_others(daemon)


def test_memory_that_runs_out_while_it_is_allocated_is_an_answer() -> None:
    before = _open_memory()
    steps = oslayer.current().allocate_memory(2 * posix.STEP_BYTES)
    next(steps)
    memory = (_open_memory() - before).pop()
    # What is behind this cannot be had: the kernel says the same of a full machine.
    os.truncate(f"/proc/self/fd/{memory}", posix.STEP_BYTES)
    with pytest.raises(QuotaError, match="no 64 MiB of shared memory left") as caught:
        next(steps)
    assert caught.value.details["limit"] == "memory"
    assert _open_memory() == before


def _open_memory() -> set[str]:
    """This process's descriptors of shared memory."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(ARENA_NAMES):
                found.add(name)
    return found


def test_killed_daemons_leave_no_name_no_process_and_no_memory() -> None:
    before = _names()
    for _turn in range(2):
        daemon = AbusedDaemon(light=True)
        try:
            daemon.start()
            daemon.wait_ready()
            with daemon.connect() as client, daemon.gate("hang") as gate:
                handle = client.submit(*shot(), frame=13, **PLAIN)
                gate.wait_reached()
                workers = daemon.worker_pids()
                assert arena_descriptors(daemon.pid) > 0
                daemon.kill()
                # The worker hangs in the frame and reads no message: it looks for its parent.
                for pid in workers:
                    wait_for(lambda pid=pid: not is_alive(pid), SOON_S, "the worker ends")
                del handle
        finally:
            daemon.end()
    wait_for(lambda: _names() <= before, SOON_S, "no name is left")


def _names() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("mb-")}


@pytest.mark.timeout(RUN_S + 60)
def test_daemons_clients_and_commands_behave_under_this_layer() -> None:
    assert TEST_VARIABLE in os.environ
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "slow or not slow",
            "-k",
            CHOICE,
            *(str(TESTS / name) for name in FILES),
        ],
        cwd=Path(TESTS).parent,
        env={"KILL_TURNS": "3", **os.environ},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
