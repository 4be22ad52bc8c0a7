"""A range of frames through the `mattebridge` command: for a host that cannot load the client.

    host renders some frames --> scratch EXRs --> mattebridge matte --progress json --> one EXR each
                                                                                           |
                                                       mattes/frames/<key>.exr <-----------+

The command runs in the daemon's environment, as a child in a process session of its own, which a
cancel ends. Its output goes into a file that is read ten times a second: there is no pipe that can
fill up, and no thread that can outlive the request. Frames keep their numbers; a key is a digest of
the pixels in the scratch files.

Standard library only.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from mattebridge.errors import (
    Cancelled,
    ConnectionFailed,
    DaemonError,
    FrameError,
    FrameReadError,
    FrameWriteError,
    MattebridgeError,
    RequestError,
    UsageError,
)
from mattebridge.hosts.exr_header import WrongHeader, read_attributes
from mattebridge.hosts.request import (
    MadeFrame,
    Render,
    ScratchFiles,
    ShotSettings,
    check_needs,
    find_card,
)
from mattebridge.hosts.store import frame_file, keep_frame
from mattebridge.interpreter import clean_environment, daemon_command
from mattebridge.wire import oslayer
from mattebridge.wire.params import INPUT_ROLES, PARAMS, Param

POLL_S = 0.1
# Frames of one command: they share its start, and scratch holds no more of them.
CHUNK_FRAMES = 8
# The command ends within 4.5 s of a cancel; its start may start a daemon and load a model.
CANCEL_LIMIT_S = 6.0
START_LIMIT_S = 120.0
OUT_PREFIX = ".command-"
# An output folder of this age was left behind by a host that was killed.
ABANDONED_AGE_S = 86400.0
PIXEL_ATTRIBUTES = (
    "channels", "compression", "dataWindow", "displayWindow", "lineOrder", "pixelAspectRatio",
)  # fmt: skip
STATUS_ERRORS: Mapping[int, type[MattebridgeError]] = {
    2: RequestError,
    3: FrameError,
    4: Cancelled,
    5: DaemonError,
}


def matte_by_command(
    frames: Iterable[tuple[int, str]],
    render: Render,
    *,
    folder: Path,
    store: Path,
    settings: ShotSettings,
    instance: Optional[str] = None,
    timeout_s: float = 600.0,
    cancelled: Callable[[], bool] = bool,
    on_frame: Callable[[MadeFrame], None] = lambda made: None,
) -> list[MadeFrame]:
    """Matte (frame, view) after (frame, view), view by view, as `shot.matte_shot` does.

    `folder` is the scratch folder; inputs are moved into it. Raises the same errors, except for
    those of single frames: they have the command's message and the class `FrameError`.
    """
    _refuse_unsupported(settings)
    # A daemon that starts knows its models when torch is loaded: as long as its first frame waits.
    listed = _output_of(["models", "--json"], instance, START_LIMIT_S + timeout_s, cancelled)
    card = find_card(json.loads(listed), settings.model)
    made: list[MadeFrame] = []
    for view, numbers in _chunks(frames):
        if cancelled():
            raise Cancelled("cancelled")
        with _folder_in(folder, "chunk-") as place:
            chunk = _Chunk(place, view, settings, card, store)
            for frame in numbers:
                if cancelled():
                    raise Cancelled("cancelled")
                chunk.add(frame, render(frame, view))
            made += chunk.matte(instance, timeout_s, cancelled, on_frame)
    return made


def status_by_command(instance: Optional[str] = None) -> dict[str, Any]:
    """What `mattebridge status` says; the daemon's error where it refuses the command's version."""
    found: dict[str, Any] = json.loads(_output_of(["status", "--json"], instance))
    if found.get("refusal"):
        raise RequestError(str(found["refusal"]))
    return found


def start_by_command(instance: Optional[str] = None) -> None:
    """Start a daemon as a client does; it ends when it was not used for an hour."""
    _output_of(["serve", "--detach", "--auto"], instance)


def color_names_by_command(instance: Optional[str] = None) -> list[str]:
    """The names of `mattebridge colors`."""
    found = json.loads(_output_of(["colors", "--json"], instance))
    return [str(space["name"]) for space in found["spaces"]]


def _refuse_unsupported(settings: ShotSettings) -> None:
    if settings.overscan:
        raise UsageError("Overscan needs numpy, pyzmq and msgpack in the host: run the installer")
    if settings.held_clean_plate:
        raise UsageError(
            "a held clean plate needs numpy, pyzmq and msgpack in the host: run the installer, or "
            "connect the clean plate"
        )


def _chunks(frames: Iterable[tuple[int, str]]) -> Iterator[tuple[str, list[int]]]:
    by_view: dict[str, list[int]] = {}
    for frame, view in frames:
        by_view.setdefault(view, []).append(frame)
    for view, numbers in by_view.items():
        for at in range(0, len(numbers), CHUNK_FRAMES):
            yield view, numbers[at : at + CHUNK_FRAMES]


class _Chunk:
    """Some frames of one view: their scratch files and keys, and the command that mattes them."""

    def __init__(
        self,
        place: Path,
        view: str,
        settings: ShotSettings,
        card: Mapping[str, Any],
        store: Path,
    ) -> None:
        self.place, self.view, self.settings, self.card = place, view, settings, card
        self.store = store
        self.keys: dict[int, str] = {}
        self.roles: tuple[str, ...] = ()
        self.hint_channel = "auto"

    def add(self, frame: int, inputs: ScratchFiles) -> None:
        """Take over the files of a frame; those of a frame that is matted already are removed."""
        files = inputs.files()
        check_needs(self.card, files, self.settings)
        self.roles = tuple(files)
        # The command takes names of one letter; a longer one is the only channel in its file. Of
        # itself it takes alpha, or luma where alpha says nothing, as shot.py does for "A".
        plain = len(inputs.hint_channel) == 1 and inputs.hint_channel != "A"
        self.hint_channel = inputs.hint_channel if plain else "auto"
        self.keys[frame] = self._key(inputs)
        for role, path in files.items():
            if frame_file(self.store, self.keys[frame]).is_file():
                path.unlink()
                continue
            (self.place / role).mkdir(exist_ok=True)
            os.replace(path, self.place / role / f"frame.{frame:04d}.exr")

    def _key(self, inputs: ScratchFiles) -> str:
        decided_by = {
            "settings": self.settings.deciding(),
            "model": [self.card.get("name"), self.card.get("digest")],
            "channel": inputs.hint_channel,
            "way": "command",
        }
        digest = hashlib.blake2b(json.dumps(decided_by, sort_keys=True).encode(), digest_size=20)
        for role, path in sorted(inputs.files().items()):
            digest.update(role.encode())
            _add_pixels(digest, path)
        return digest.hexdigest()

    def matte(
        self,
        instance: Optional[str],
        timeout_s: float,
        cancelled: Callable[[], bool],
        on_frame: Callable[[MadeFrame], None],
    ) -> list[MadeFrame]:
        """Run the command for the frames that have no result file yet."""
        made: list[MadeFrame] = []

        def finish(frame: int, *, found: bool, degraded: Sequence[str] = ()) -> None:
            path = frame_file(self.store, self.keys[frame])
            one = MadeFrame(frame, self.view, self.keys[frame], path, found, tuple(degraded))
            made.append(one)
            on_frame(one)

        todo = []
        for frame, key in self.keys.items():
            if frame_file(self.store, key).is_file():
                finish(frame, found=True)
            else:
                todo.append(frame)
        if not todo:
            return made
        _sweep(self.store)
        # In the store, on one file system with its frames, so that keeping one copies nothing.
        with _folder_in(self.store, OUT_PREFIX) as out:
            words = [*self._arguments(todo, out), "--timeout", f"{timeout_s:g}"]
            for event in _events(words, instance, self.place, timeout_s, cancelled):
                if event.get("event") == "frame" and event.get("status") == "done":
                    frame = int(event["frame"])
                    # The command checks its files once more before it ends, so they stay there.
                    keep_frame(self.store, self.keys[frame], Path(*event["outputs"].values()))
                    finish(frame, found=False, degraded=event.get("degraded", ()))
        missing = [
            frame for frame in todo if not frame_file(self.store, self.keys[frame]).is_file()
        ]
        if missing:
            raise FrameError(f"the mattebridge command made no matte of frame {missing[0]}")
        return made

    def _arguments(self, frames: Sequence[int], out: Path) -> list[str]:
        asked = self.settings
        words = ["matte", self._pattern("plate"), "-o", str(out), "--layers"]
        for role in INPUT_ROLES[1:]:
            if role in self.roles:
                words += [f"--{role.replace('_', '-')}", self._pattern(role)]
        words += ["--format", "exr-float" if asked.precision == "float32" else "exr-none"]
        words += [f"--frames={','.join(map(str, frames))}", "--progress", "json"]
        words += ["--hint-channel", self.hint_channel, "--model", asked.model]
        # By default the command writes linear light; a host gets back the colour space it gave.
        values = {**asked.params(), "output_colorspace": asked.colorspace}
        for param in PARAMS:
            words += _option(param, values.get(param.name))
        return words

    def _pattern(self, role: str) -> str:
        return str(self.place / role / "frame.####.exr")


def _option(param: Param, value: Any) -> list[str]:
    """A render parameter as arguments of the command."""
    if value is None:
        return []
    if param.kind in ("choice", "space", "whole", "number"):
        return [param.option, str(value)]
    if param.kind == "map":
        return [f"{param.option}={name}={_as_text(each)}" for name, each in value.items()]
    if param.unset:
        return [param.option if value else f"--no-{param.option[2:]}"]
    return [param.option] if value else []


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _add_pixels(digest: Any, path: Path) -> None:
    """The pixels of a scratch file and the attributes that place them; not dates or node names."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameReadError(f"cannot read {path}: {error.strerror}") from error
    try:
        attributes, start = read_attributes(data)
        top, bottom = struct.unpack("<4i", attributes["dataWindow"][1])[1::2]
        # Uncompressed: before the rows a table with an offset each, which depends on the header.
        plain = attributes["compression"][1] == b"\0"
        table_bytes = 8 * max(0, bottom - top + 1) if plain else 0
    except (WrongHeader, struct.error, KeyError):
        digest.update(data)  # a layout that only the command reads: the whole file
        return
    for name in PIXEL_ATTRIBUTES:
        digest.update(repr(attributes.get(name)).encode())
    digest.update(memoryview(data)[start + table_bytes :])


def _sweep(store: Path) -> None:
    for left in store.glob(f"{OUT_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > ABANDONED_AGE_S:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _folder_in(parent: Path, prefix: str) -> Iterator[Path]:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise FrameWriteError(f"cannot write in {parent}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------------------------------- the child


def _output_of(
    words: Sequence[str],
    instance: Optional[str],
    limit_s: float = START_LIMIT_S,
    cancelled: Callable[[], bool] = bool,
) -> str:
    """What a short command prints. Raises the error that it ends with."""
    # Files, not pipes: a daemon that the command starts, or another child of the host that
    # inherited a pipe, would keep it open.
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as errors:
        child = _start(_command(words, instance), printed, errors)
        try:
            _wait(child, f"mattebridge {words[0]}", limit_s, cancelled)
        finally:
            _end(child)
        texts = []
        for file in (printed, errors):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    if child.returncode:
        raise _error_of(child.returncode, texts[1])
    return texts[0]


def _wait(
    child: subprocess.Popen[bytes], name: str, limit_s: float, cancelled: Callable[[], bool]
) -> None:
    """Until the child has ended. Raises `Cancelled`; `ConnectionFailed` at the limit."""
    until = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL_S)
            return
        if cancelled():
            raise Cancelled("cancelled")
        if time.monotonic() > until:
            raise ConnectionFailed(
                f"`{name}` did not end within {limit_s:.0f} s; run it in a terminal to see why"
            )


def _events(
    words: Sequence[str],
    instance: Optional[str],
    place: Path,
    timeout_s: float,
    cancelled: Callable[[], bool],
) -> Iterator[dict[str, Any]]:
    """The command's JSON lines as they come. Raises the error that it ends with."""
    failed = ""
    stdout, stderr = place / "stdout", place / "stderr"
    with stdout.open("wb") as printed, stderr.open("wb") as errors:
        child = _start(_command(words, instance), printed, errors)
    # A host that quits in the middle does not wait for the child: it only signals it to stop.
    atexit.register(child.terminate)
    try:
        with stdout.open("rb") as lines:
            for event in _tail(child, lines, START_LIMIT_S + timeout_s, cancelled):
                if event.get("event") == "frame" and event.get("status") == "failed":
                    failed = failed or f"frame {event['frame']}: {event.get('message', '')}"
                yield event
    finally:
        atexit.unregister(child.terminate)
        _end(child)
    if child.returncode:
        raise _error_of(child.returncode, failed or stderr.read_text("utf-8"))


def _command(words: Sequence[str], instance: Optional[str]) -> list[str]:
    return [*daemon_command(), *words, *(["--instance", instance] if instance else [])]


def _neutral_folder() -> str:
    # Not the host's working folder, which may be removed: nothing here depends on it.
    return tempfile.gettempdir()


def _start(command: Sequence[str], stdout: Any, stderr: Any) -> subprocess.Popen[bytes]:
    try:
        return oslayer.current().start_detached(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            env=clean_environment(), cwd=_neutral_folder(), close_fds=True,
        )  # fmt: skip
    except OSError as error:
        raise ConnectionFailed(
            f"cannot start {command[0]}: {error.strerror}; check MATTEBRIDGE_DAEMON_PYTHON"
        ) from error


def _tail(
    child: subprocess.Popen[bytes], lines: Any, quiet_s: float, cancelled: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """JSON objects from a file that grows, until the child has ended and all of it is read."""
    rest, until = b"", time.monotonic() + quiet_s
    while True:
        ended = child.poll() is not None
        rest += lines.read()
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            until = time.monotonic() + quiet_s
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event
        if ended:
            return
        if cancelled():
            raise Cancelled("cancelled")
        if time.monotonic() > until:
            raise FrameError(f"the mattebridge command printed nothing for {quiet_s:.0f} s")
        time.sleep(POLL_S)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Terminate the child, kill it where it does not end: none outlives its request."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(CANCEL_LIMIT_S)
    if child.poll() is None:
        child.kill()
    child.wait()


def _error_of(status: int, text: str) -> MattebridgeError:
    """The error of a command by its exit status and the last line that it printed."""
    lines = [line for line in text.strip().splitlines() if line]
    message = lines[-1] if lines else f"the mattebridge command ended with exit status {status}"
    prefix = "mattebridge: "
    if message.startswith(prefix):
        message = message[len(prefix) :]
    return STATUS_ERRORS.get(status, MattebridgeError)(message)
