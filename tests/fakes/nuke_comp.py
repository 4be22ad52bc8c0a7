"""A script of the fake Nuke with our node in it, and the same frames by the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fakes.host_shot import HostShot
from fakes.nuke_host import NukeHost, Picture, load
from fakes.places import ROOT

NUKE_FOLDER = ROOT / "nuke"


class Comp:
    """A script: Reads of a shot into a MatteBridge node that keeps its mattes in `store`."""

    def __init__(self, host: NukeHost, shot: HostShot, instance: str, store: Path) -> None:
        import mattebridge_nuke

        self.host, self.shot, self.tool = host, shot, mattebridge_nuke
        mattebridge_nuke.LOOK_LIMIT_S = 60.0  # the machine may be busy
        nuke = host.module
        self.plate = nuke.nodes.Read(name="plate", file=shot.plate, first=-100, last=9999)
        self.clean_plate = nuke.nodes.Read(name="clean", file=shot.clean_plate)
        self.node = mattebridge_nuke.create()
        self.node.setInput(0, self.plate)
        self.node.setInput(1, self.clean_plate)
        for name, value in {
            "instance": instance, "store": str(store), "model": "difference",
            "first": 1, "last": 2,
        }.items():  # fmt: skip
            self.node[name].setValue(value)

    def range(self, first: int, last: int, step: int = 1) -> None:
        for name, value in (("first", first), ("last", last), ("increment", step)):
            self.node[name].setValue(value)
        self.host.press(self.node, "matte_range")

    def wait(self) -> str:
        self.host.pump(lambda: not self.tool._jobs)
        return self.status

    @property
    def status(self) -> str:
        return str(self.node["status"].value())

    @property
    def found(self) -> str:
        return str(self.node["daemon_found"].value())

    def frame(self, number: int, view: str = "main") -> Picture:
        return self.host.frame_of(self.node, number, view)


def offline(tmp_path: Path, instance: str, shot: HostShot, frames: str, *more: str) -> Path:
    """The same frames by the command; the folder of its multi-layer EXRs."""
    from mattebridge import cli  # the daemon's half: not under every Python

    out = tmp_path / "offline"
    words = ["matte", shot.plate.replace("%V", "main"), "--clean-plate", shot.clean_plate]
    words += ["--layers", "--format", "exr-none", "--model", "difference", "-o", str(out)]
    words += [f"--frames={frames}", "--instance", instance, "--no-spawn", "--progress", "none"]
    assert cli.main([*words, *more]) == 0
    return next(path.parent for path in out.rglob("*.exr"))


def assert_same(picture: Picture, path: Path) -> None:
    expected = load(str(path))
    assert set(picture.channels) == set(expected.channels)
    for name, plane in expected.channels.items():
        np.testing.assert_array_equal(picture.channels[name], plane, err_msg=name)


def all_nodes(group: Any) -> list[Any]:
    return [node for child in group._children for node in (child, *all_nodes(child))]
