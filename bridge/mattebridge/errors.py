"""The errors of mattebridge, as one tree.

Each class has a stable code: the one that the daemon sends and `docs/protocol.md` lists, or, for
errors that never cross the wire, another. A message is one sentence for the artist: what was asked,
what was found, what to do. `details` holds the rest for programs (sizes, limits, the name of the
field at fault), `retry` says whether the same request may succeed later.

    MattebridgeError
    ├── RequestError        the request cannot be served as it is       (exit status 2)
    ├── FrameError          this frame failed, others may succeed        (exit status 3)
    ├── Cancelled           the caller asked to stop                     (exit status 4)
    └── DaemonError         the daemon is gone, full or unreachable      (exit status 5)

Imports nothing else of mattebridge; runs on Python 3.9.
"""

from __future__ import annotations

from typing import Any, ClassVar, Optional


class MattebridgeError(Exception):
    """Root of the tree; `code` is for programs and stable, `message` is for people."""

    code: ClassVar[str] = "E_INTERNAL"
    exit_status: ClassVar[int] = 1
    default_retry: ClassVar[bool] = False

    def __init__(self, message: str, /, *, retry: Optional[bool] = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.retry = self.default_retry if retry is None else retry
        self.details = details

    def __reduce__(self) -> Any:
        return (_rebuild, (type(self), self.message, self.retry, self.details))


class InternalError(MattebridgeError):
    """A bug in mattebridge; `details['ref']` finds it in the daemon's log."""


class RequestError(MattebridgeError):
    """The request is wrong: sending it again changes nothing."""

    exit_status = 2


class MessageError(RequestError):
    """A control message breaks the schema; `details['field']` names the place."""

    code = "E_MESSAGE"


class MessageTooLarge(RequestError):
    """A control message has over 65,536 bytes; refused before it is sent (client side only)."""

    code = "E_MESSAGE_TOO_LARGE"


class VersionError(RequestError):
    """No protocol version in common; `have` and `want` hold both ranges."""

    code = "E_VERSION"


class GeometryError(RequestError):
    """Offset, stride, size or layout of a plane is impossible; `field` names it."""

    code = "E_GEOMETRY"


class DtypeError(RequestError):
    """The sample type of a plane is not one that its role allows."""

    code = "E_DTYPE"


class InputsError(RequestError):
    """An input is missing, superfluous, or of another size than the plate."""

    code = "E_INPUTS"


class TooLargeError(RequestError):
    """The frame is over the size limit, or cannot fit into memory even in tiles."""

    code = "E_TOO_LARGE"


class ModelError(RequestError):
    """The model is unknown, its weights are unusable, or it has no such setting."""

    code = "E_MODEL"


class ColorError(RequestError):
    """A colour space is unknown (`name`, `nearest`), or the colour config is unusable."""

    code = "E_COLOR"


class IdReuseError(RequestError):
    """A request id came a second time with other content."""

    code = "E_ID_REUSE"


class PlateError(RequestError):
    """A held clean plate of that name is not (or no longer) with the daemon."""

    code = "E_PLATE"


class UsageError(RequestError):
    """The command line or a folder of frames leaves open what to do, or contradicts itself."""

    code = "E_USAGE"


class ArgumentError(UsageError, ValueError):
    """An argument of a Python call is invalid; a `ValueError` too."""


class SequenceError(UsageError):
    """A sequence is empty, has holes, or two inputs do not match frame by frame."""

    code = "E_SEQUENCE"


class OutputExistsError(UsageError):
    """The output exists already and the caller chose neither to keep nor to replace it."""

    code = "E_EXISTS"


class FrameError(MattebridgeError):
    """One frame failed; the daemon and the other frames are not affected."""

    exit_status = 3


class FrameReadError(FrameError):
    """A frame on disk is missing, damaged or not an image."""

    code = "E_READ"


class FrameWriteError(FrameError):
    """A frame could not be written completely; no part of it was left in its place."""

    code = "E_WRITE"


class NonFiniteError(FrameError):
    """NaN or infinity in an input and the policy is `error`; `count` says how many values."""

    code = "E_NONFINITE"


class TornError(FrameError):
    """The arena changed while the frame was being read."""

    code = "E_TORN"
    default_retry = True


class OutOfMemoryError(FrameError):
    """The device could not hold the frame, tiled or not."""

    code = "E_OOM"


class DeadlineError(FrameError):
    """The deadline passed; `started` says whether the frame was already being worked on."""

    code = "E_DEADLINE"
    default_retry = True


class Cancelled(MattebridgeError):
    """The request was cancelled before it was done."""

    code = "E_CANCELLED"
    exit_status = 4


class DaemonError(MattebridgeError):
    """The daemon, or the way to it, is missing, full or stopped."""

    exit_status = 5


class ConnectionFailed(DaemonError):
    """No daemon answers (client side only)."""

    code = "E_CONNECTION"


class DaemonLost(DaemonError):
    """The daemon went away while a request was out: the lease is lost (client side only)."""

    code = "E_DAEMON_LOST"
    default_retry = True


class UnsafeRuntimeError(DaemonError):
    """The runtime folder cannot be trusted or used."""

    code = "E_RUNTIME"


class UidError(DaemonError):
    """The peer at the door belongs to another user."""

    code = "E_UID"


class QuotaError(DaemonError):
    """Sessions, arenas, bytes or file descriptors are used up; `limit` says which."""

    code = "E_QUOTA"
    default_retry = True


class DrainingError(DaemonError):
    """The daemon is stopping and takes no new work."""

    code = "E_DRAINING"
    default_retry = True


class LeaseError(DaemonError):
    """The session is unknown to the daemon or belongs to another process."""

    code = "E_LEASE"


class BusyError(DaemonError):
    """The queue is full; `retry_after_ms` says when to try again."""

    code = "E_BUSY"
    default_retry = True


class SlotBusyError(DaemonError):
    """The arena named in the request is still lent to the daemon."""

    code = "E_SLOT_BUSY"
    default_retry = True


class WorkerLostError(DaemonError):
    """The process that computed the frame ended or was killed; it is being replaced."""

    code = "E_WORKER_LOST"
    default_retry = True


def one_line(text: str, limit: Optional[int] = None) -> str:
    """Text as one printable line, for a message, a log or a terminal.

    Line breaks and tabs become spaces, anything else that is not printable is escaped, and what is
    longer than `limit` characters ends in three dots.
    """
    line = "".join(char if char.isprintable() else _printable(char) for char in text.strip())
    return line if limit is None or len(line) <= limit else line[: limit - 3] + "..."


def _printable(char: str) -> str:
    if char.isspace():
        return " "
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _rebuild(
    kind: type[MattebridgeError], message: str, retry: bool, details: dict[str, Any]
) -> MattebridgeError:
    return kind(message, retry=retry, **details)


def _all_subclasses(root: type[MattebridgeError]) -> list[type[MattebridgeError]]:
    found: list[type[MattebridgeError]] = [root]
    for child in root.__subclasses__():
        found += _all_subclasses(child)
    return found


# Only codes that the daemon may send; the client-side ones never cross the wire.
CLIENT_SIDE: tuple[type[MattebridgeError], ...] = (
    ConnectionFailed,
    DaemonLost,
    MessageTooLarge,
    UnsafeRuntimeError,
    Cancelled,
)
LOCAL_CODES: set[str] = {kind.code for kind in (*CLIENT_SIDE, *_all_subclasses(UsageError))} | {
    FrameReadError.code,
    FrameWriteError.code,
}
WIRE_ERRORS: dict[str, type[MattebridgeError]] = {
    kind.code: kind
    for kind in _all_subclasses(MattebridgeError)
    if kind.code not in LOCAL_CODES and "code" in vars(kind) and kind is not MattebridgeError
}
WIRE_ERRORS["E_INTERNAL"] = InternalError


def from_wire(code: str, message: str, retry: bool, details: dict[str, Any]) -> MattebridgeError:
    """The exception for an error reply; an unknown code becomes an `InternalError` naming it."""
    kind = WIRE_ERRORS.get(code)
    if kind is None:
        return InternalError(f"{code}: {message}", retry=retry, **details)
    return kind(message, retry=retry, **details)
