"""The way from a host to the daemon: the client where its packages load, else the command line.

The command also reads what the small reader of scratch files refuses (a host may compress files
although it was asked not to): the request is then sent again through the command.

    with open_route(instance, host="nuke", folder=scratch) as route:
        made = route.matte(frames, render, store=..., settings=...)

Both ways give the same pixels into the same store. Needs the standard library; the client is
imported only where numpy, pyzmq and msgpack are installed.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from mattebridge.errors import FrameReadError
from mattebridge.hosts import command
from mattebridge.hosts.panel_line import line_of
from mattebridge.hosts.request import MadeFrame, Render, ShotSettings
from mattebridge.hosts.store import sweep

WHEELS = ("numpy", "msgpack", "zmq")


def why_no_client() -> str:
    """The import error of the package that is missing; empty where the client can be used."""
    try:
        for name in WHEELS:
            importlib.import_module(name)
    except ImportError as error:
        return str(error)
    return ""


@dataclass
class Route:
    """An open way to the daemon. `client` is None where it is the command line."""

    folder: Path
    instance: Optional[str]
    client: Optional[Any]

    @property
    def words(self) -> str:
        """The message for the artist about the way; empty for the usual one."""
        return "" if self.client is not None else "by the command line"

    def matte(
        self,
        frames: Iterable[tuple[int, str]],
        render: Render,
        *,
        store: Path,
        settings: ShotSettings,
        priority: str = "interactive",
        timeout_s: float = 600.0,
        cancelled: Callable[[], bool] = bool,
        on_frame: Callable[[MadeFrame], None] = lambda made: None,
    ) -> list[MadeFrame]:
        """Matte (frame, view) after (frame, view); all of them, or the error of the first."""
        sweep(store)
        wanted = list(frames)
        done: list[MadeFrame] = []

        def note(made: MadeFrame) -> None:
            done.append(made)
            on_frame(made)

        if self.client is not None:
            from mattebridge.hosts import shot

            try:
                return shot.matte_shot(
                    wanted,
                    render,
                    self.client,
                    store=store,
                    settings=settings,
                    priority=priority,
                    timeout_s=timeout_s,
                    cancelled=cancelled,
                    on_frame=note,
                )
            except FrameReadError as error:
                if done or not error.details.get("other_layout"):
                    raise
                self.client = None
        return command.matte_by_command(
            wanted,
            render,
            folder=self.folder,
            store=store,
            settings=settings,
            instance=self.instance,
            timeout_s=timeout_s,
            cancelled=cancelled,
            on_frame=on_frame,
        )


@contextlib.contextmanager
def open_route(instance: Optional[str], *, host: str, folder: Path) -> Iterator[Route]:
    """A way for one request. A daemon is started where none runs."""
    if why_no_client():
        yield Route(folder, instance, None)
        return
    from mattebridge.client import MatteClient

    with MatteClient.connect(instance, start=True, name=host, host=host) as client:
        yield Route(folder, instance, client)


def color_names(instance: Optional[str]) -> list[str]:
    """The colour spaces of the daemon's config by name; a daemon is started where none runs."""
    if why_no_client():
        return command.color_names_by_command(instance)
    from mattebridge.client import MatteClient

    with MatteClient.connect(instance, start=True, name="colors") as client:
        return [str(space["name"]) for space in client.colors()["spaces"]]


def status_line(instance: Optional[str]) -> str:
    """Which daemon there is and what it does, in one line; `ConnectionFailed` where none runs."""
    if why_no_client():
        return line_of(command.status_by_command(instance))
    from mattebridge.client import MatteClient

    with MatteClient.connect(instance, name="status") as client:
        return line_of(client.status())


def start_daemon(instance: Optional[str]) -> str:
    """Start the configured daemon where none runs; `status_line` of the one there is then.

    It waits until that one accepts connections, so it is not called on a thread that draws. Raises
    `ConnectionFailed` that says why none was started.
    """
    if why_no_client():
        command.start_by_command(instance)
    else:
        from mattebridge.client import MatteClient

        MatteClient.connect(instance, start=True, name="start").close()
    return status_line(instance)
