"""The first node after an installation gives a matte, and nobody has typed a command to start it.

    python first_node.py FOLDER       in the environment that has the wheel; PYTHONPATH: tests/

    FOLDER/nuke      what `mattebridge install nuke --to` laid: its node is made in the test's Nuke,
                     which mattes a frame when its button is pressed
    FOLDER/plugins   what `mattebridge install ofx --to` laid: it is loaded by the test's OpenFX
                     host; *Start daemon* is pressed, and a frame is rendered

Nothing names the daemon but the note that the installer wrote. Neither host runs its own program:
`sys.executable` names one that cannot be run. The model is the default one. No daemon remains.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fakes.daemon_panel import found, pressed
from fakes.host_shot import make_shot
from fakes.nuke_host import NukeHost, load
from fakes.ofx_host import GENERAL, OK, HostImage, OfxHost
from mattebridge.daemon import control
from mattebridge.errors import MattebridgeError

# Only a hang takes so long, however busy the machine.
LIMIT_S = 1800
POLL_S = 0.5


def main(folder: Path) -> int:
    """Both hosts, one after the other; the exit status."""
    sys.executable = str(folder / "the host itself")
    shot = make_shot(folder, (1,), width=120, height=68)
    with no_daemon_left():
        print(f"Nuke: {in_nuke(folder / 'nuke', shot.plate, shot.clean_plate)}")
    with no_daemon_left():
        plate, clean_plate = (
            pixels(name.replace("%V", "main").replace("%04d", "0001"))
            for name in (shot.plate, shot.clean_plate)
        )
        print(f"OpenFX: {in_openfx(folder / 'plugins', plate, clean_plate)}")
    print("the first node of Nuke and of OpenFX: a matte")
    return 0


@contextmanager
def no_daemon_left() -> Iterator[None]:
    """None before, and none afterwards."""
    assert control.stop() is control.Outcome.NONE, "a daemon runs already"
    try:
        yield
    finally:
        control.stop()


def in_nuke(installed: Path, plate: str, clean_plate: str) -> str:
    """What the panel says when *Matte frame* has given a matte."""
    host = NukeHost(gui=True)
    with host.running(installed / "mattebridge"):
        import mattebridge_nuke

        nodes = host.module.nodes
        node = mattebridge_nuke.create()
        node.setInput(0, nodes.Read(file=plate))
        node.setInput(1, nodes.Read(file=clean_plate))
        node["store"].setValue(str(installed.parent / "mattes"))
        host.press(node, "matte_frame")
        host.pump(lambda: not mattebridge_nuke._jobs, LIMIT_S)
        host.settle()
        said = str(node["status"].value())
        try:
            frame = host.frame_of(node, 1, "main")
        except RuntimeError as error:  # the host's, which knows no reason
            raise AssertionError(f"no frame ({error}): {said}") from error
        is_a_matte(frame.channels["rgba.alpha"], said)
    return said


def in_openfx(plugins: Path, plate: np.ndarray, clean_plate: np.ndarray) -> str:
    """What the panel says when *Start daemon* was pressed and the frame after it has a matte."""
    (binary,) = plugins.glob("*.ofx.bundle/Contents/*/MatteBridge.ofx")
    with OfxHost(binary) as host:
        node = host.create(GENERAL, timeout=LIMIT_S)
        node.connect(Source=HostImage(plate), Background=HostImage(clean_plate))
        pressed(node)
        wait_for(lambda: pressed(node, "daemonStatus").startswith("daemon "), lambda: found(node))
        said = found(node)
        status, output = node.render()
        assert status == OK, node.message
        is_a_matte(output.pixels()[..., 3], said)
        assert host.complaints == [], host.complaints
    return said


def wait_for(condition: Callable[[], bool], said: Callable[[], str]) -> None:
    """Until it is true; what the panel says is the error where it never is."""
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until, said()
        time.sleep(POLL_S)


def is_a_matte(alpha: np.ndarray, said: str) -> None:
    """A subject, which covers 4 % of the plate, and what is around it."""
    inside, outside = float((alpha > 0.9).mean()), float((alpha < 0.1).mean())
    whole = 0.02 < inside < 0.1 and outside > 0.8
    assert whole, f"{said}: {inside:.3f} of the frame inside, {outside:.3f} outside"


def pixels(path: str) -> np.ndarray:
    """RGBA float32 of a frame of the shot, top row first."""
    channels = load(path).channels
    planes = [channels[f"rgba.{name}"] for name in ("red", "green", "blue")]
    return np.stack([*planes, np.ones_like(planes[0])], axis=-1).astype(np.float32)


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except MattebridgeError as error:
        sys.exit(f"mattebridge: {error.message}")
