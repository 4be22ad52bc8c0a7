"""A range of frames through the `mattebridge` command: the way of a host without the three wheels.

    host renders some frames --> scratch EXRs --> mattebridge matte --progress json --> one EXR each
                                                                                           |
                                                       mattes/frames/<key>.exr <-----------+

The command runs in the daemon's environment, as a child of its own session that a cancel ends. It
writes what it says into a file, which is read ten times a second: no pipe to fill, no thread to
outlive the request. Frames keep their numbers; a key is a digest of the scratch files as they are.

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
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Optional

from mattebridge.client.autostart import clean_environment, daemon_command
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
    FrameInputs,
    MadeFrame,
    Render,
    ShotSettings,
    check_needs,
    find_card,
)
from mattebridge.hosts.store import frame_file, keep_frame

POLL_S = 0.1
# Frames of one command: it starts once for them, and scratch holds no more.
CHUNK_FRAMES = 8
# The command answers a cancel within 4.5 s; its start may load a model.
CANCEL_LIMIT_S = 6.0
START_LIMIT_S = 120.0
CARDS_LIMIT_S = 60.0
OUT_PREFIX = ".command-"
# A folder of this age was left by a host that was killed.
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

    `folder` is the scratch folder; inputs are moved into it. Raises the same errors, besides those
    of frames: there the command's sentence is kept and its class is `FrameError`.
    """
    _refuse(settings)
    card = find_card(json.loads(_said(["models", "--json"], instance)), settings.model)
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


def status_by_command(instance: Optional[str] = None) -> str:
    """What `mattebridge status` says first."""
    lines = _said(["status"], instance).splitlines()
    return lines[0] if lines else "the daemon says nothing"


def _refuse(settings: ShotSettings) -> None:
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
    """Some frames of one view: their scratch files, what is known of them, the command for it."""

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

    def add(self, frame: int, inputs: FrameInputs) -> None:
        """Take over the files of a frame; those of one that is matted already are dropped."""
        files = inputs.files()
        check_needs(self.card, files, self.settings)
        self.roles = tuple(files)
        # The command knows channels of one letter; another one is the only one in its file.
        plain = len(inputs.hint_channel) == 1
        self.hint_channel = inputs.hint_channel if plain else "auto"
        self.keys[frame] = self._key(inputs)
        for role, path in files.items():
            if frame_file(self.store, self.keys[frame]).is_file():
                path.unlink()
                continue
            (self.place / role).mkdir(exist_ok=True)
            os.replace(path, self.place / role / f"frame.{frame:04d}.exr")

    def _key(self, inputs: FrameInputs) -> str:
        words = {
            "settings": asdict(self.settings),
            "model": [self.card.get("name"), self.card.get("digest")],
            "channel": inputs.hint_channel,
            "way": "command",
        }
        digest = hashlib.blake2b(json.dumps(words, sort_keys=True).encode(), digest_size=20)
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
        """Run the command for the frames that have no file yet."""
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
        # Beside the place of the frames, so that taking them in copies nothing.
        with _folder_in(self.store, OUT_PREFIX) as out:
            words = [*self._words(todo, out), "--timeout", f"{timeout_s:g}"]
            for event in _events(words, instance, self.place, timeout_s, cancelled):
                if event.get("event") == "frame" and event.get("status") == "done":
                    frame = int(event["frame"])
                    # It looks at its files once more before it ends: they stay there till then.
                    keep_frame(self.store, self.keys[frame], Path(*event["outputs"].values()))
                    finish(frame, found=False, degraded=event.get("degraded", ()))
        missing = [
            frame for frame in todo if not frame_file(self.store, self.keys[frame]).is_file()
        ]
        if missing:
            raise FrameError(f"the mattebridge command made no matte of frame {missing[0]}")
        return made

    def _words(self, frames: Sequence[int], out: Path) -> list[str]:
        asked, place = self.settings, self.place
        options = {
            "--clean-plate": "clean_plate",
            "--alpha-hint": "alpha_hint",
            "--garbage-matte": "garbage_matte",
            "--core-matte": "core_matte",
        }
        words = ["matte", str(place / "plate" / "frame.####.exr"), "-o", str(out), "--layers"]
        for option, role in options.items():
            if role in self.roles:
                words += [option, str(place / role / "frame.####.exr")]
        words += ["--format", "exr-float" if asked.precision == "float32" else "exr-none"]
        words += [f"--frames={','.join(map(str, frames))}", "--progress", "json"]
        words += ["--hint-channel", self.hint_channel, "--model", asked.model]
        words += ["--colorspace", asked.colorspace, "--output-colorspace", asked.colorspace]
        words += ["--foreground", asked.foreground, "--plate-alpha", asked.plate_alpha]
        words += ["--nonfinite", asked.nonfinite]
        words += ["--alignment", asked.alignment] if asked.alignment is not None else []
        if asked.match_exposure is not None:
            words.append("--match-exposure" if asked.match_exposure else "--no-match-exposure")
        words += ["--exact"] if asked.exact else []
        return words + [f"--set={name}={_shown(value)}" for name, value in asked.settings.items()]


def _add_pixels(digest: Any, path: Path) -> None:
    """The pixels of a scratch file, and what says where they lie; no dates, no names of nodes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameReadError(f"cannot read {path}: {error.strerror}") from error
    try:
        attributes, start = read_attributes(data)
        top, bottom = struct.unpack("<4i", attributes["dataWindow"][1])[1::2]
        # Uncompressed: a table of an offset a row, which the length of the header moves.
        plain = attributes["compression"][1] == b"\0"
        table_bytes = 8 * max(0, bottom - top + 1) if plain else 0
    except (WrongHeader, struct.error, KeyError):
        digest.update(data)  # of a layout that only the command knows: all of it
        return
    for name in PIXEL_ATTRIBUTES:
        digest.update(repr(attributes.get(name)).encode())
    digest.update(memoryview(data)[start + table_bytes :])


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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


def _said(words: Sequence[str], instance: Optional[str]) -> str:
    """What a short command prints; its error raised."""
    try:
        done = subprocess.run(
            _line(words, instance), capture_output=True, text=True, timeout=CARDS_LIMIT_S,
            check=False, stdin=subprocess.DEVNULL, env=clean_environment(), cwd=_anywhere(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConnectionFailed(f"the mattebridge command did not run: {error}") from error
    if done.returncode:
        raise _error_of(done.returncode, done.stderr)
    return done.stdout


def _events(
    words: Sequence[str],
    instance: Optional[str],
    place: Path,
    timeout_s: float,
    cancelled: Callable[[], bool],
) -> Iterator[dict[str, Any]]:
    """The command's JSON lines as they come; raises how it ended."""
    failed = ""
    with (place / "said").open("wb") as said, (place / "complained").open("wb") as complained:
        child = _start(_line(words, instance), said, complained)
    # A host that quits in the middle does not wait; the child is asked to stop and does so alone.
    atexit.register(child.terminate)
    try:
        with (place / "said").open("rb") as lines:
            for event in _tail(child, lines, START_LIMIT_S + timeout_s, cancelled):
                if event.get("event") == "frame" and event.get("status") == "failed":
                    failed = failed or f"frame {event['frame']}: {event.get('message', '')}"
                yield event
    finally:
        atexit.unregister(child.terminate)
        _end(child)
    if child.returncode:
        raise _error_of(child.returncode, failed or (place / "complained").read_text("utf-8"))


def _line(words: Sequence[str], instance: Optional[str]) -> list[str]:
    return [*daemon_command(), *words, *(["--instance", instance] if instance else [])]


def _anywhere() -> str:
    # Not the folder of the host: nothing of ours depends on it, and it may be gone.
    return tempfile.gettempdir()


def _start(line: Sequence[str], said: Any, complained: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=said, stderr=complained,
            env=clean_environment(), cwd=_anywhere(), close_fds=True, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ConnectionFailed(
            f"cannot start {line[0]}: {error.strerror}; check MATTEBRIDGE_DAEMON_PYTHON"
        ) from error


def _tail(
    child: subprocess.Popen[bytes], lines: Any, quiet_s: float, cancelled: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """JSON objects from a file that grows, until the child has ended and all is read."""
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
            raise FrameError(f"the mattebridge command said nothing for {quiet_s:.0f} s")
        time.sleep(POLL_S)


def _end(child: subprocess.Popen[bytes]) -> None:
    """No child outlives its request: asked to stop, then killed."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(CANCEL_LIMIT_S)
    if child.poll() is None:
        child.kill()
    child.wait()


def _error_of(status: int, words: str) -> MattebridgeError:
    lines = [line for line in words.strip().splitlines() if line]
    said = lines[-1] if lines else f"exit status {status}"
    prefix = "mattebridge: "
    said = said[len(prefix) :] if said.startswith(prefix) else said
    return STATUS_ERRORS.get(status, MattebridgeError)(said)
