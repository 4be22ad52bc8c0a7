"""The contract on the wire: messages, limits, versions, packing and validation.

`docs/protocol.md` is the authority; this file has the same rules in code, and the golden messages
in `tests/golden/protocol/` have them in bytes. Control messages are msgpack maps of at most 64 KiB;
pixels never travel here. Everything that arrives is checked against a schema before it is used:
exact keys, types, ranges, finite numbers. An unknown key in a request is an error, because a typo
must not be ignored; in a reply it is skipped, so that a newer daemon can add keys.

Runs on Python 3.9; needs msgpack only (no numpy: the front does without it).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional, Union

import msgpack

from mattebridge.errors import (
    MattebridgeError,
    MessageError,
    MessageTooLarge,
    VersionError,
    from_wire,
    one_line,
)
from mattebridge.wire.params import validate_params
from mattebridge.wire.planes import Plane

# First frame of every control message: product tag and major version of the wire.
MAGIC = b"MTB1"
PROTOCOL_MIN, PROTOCOL_MAX = 1, 1

MAX_MESSAGE_BYTES = 65536  # above this ZeroMQ drops the connection without an error
MAX_HELLO_BYTES = 4096  # one record at the door
MAX_PARTS = 4  # a ROUTER message is identity, magic, body; reading stops here
MAX_TEXT = 4096
MAX_ERROR_TEXT = 1000  # of the sentence in an error reply, in characters
MAX_ITEMS = 64
MAX_DEPTH = 8
ID_BYTES = 16
MAX_SLOTS = 8
MAX_SLOT_BYTES = 1 << 40
MAX_DEADLINE_MS = 86_400_000  # a day

NAME = re.compile(r"[a-z0-9._-]{1,64}\Z")
CONTENT_KEY = re.compile(r"[!-~]{1,128}\Z")

PRIORITIES = ("interactive", "batch")

# The user of a daemon that was started by hand or by a client (docs/protocol.md, 2.1).
BY_HAND = "by-hand"


# ---------------------------------------------------------------------------------------------
# Packing


def pack(
    message: Mapping[str, Any], limit: int = MAX_MESSAGE_BYTES, *, check: bool = True
) -> bytes:
    """The bytes of one control message that the other end will accept.

    Raises, before anything is sent, `MessageTooLarge`, and `MessageError` for a value that no
    message can hold. Without `check` the caller guarantees that there is none.
    """
    try:
        data: bytes = msgpack.packb(message, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError(f"a message cannot hold this value: {error}", field="") from error
    if len(data) > limit:
        raise MessageTooLarge(
            f"the control message is {len(data)} bytes and the limit is {limit}: shorten "
            "settings or names",
            limit=limit,
        )
    if check:
        _check_tree(message, 1)
    return data


def unpack(data: bytes, limit: int = MAX_MESSAGE_BYTES) -> dict[str, Any]:
    """One control message from bytes that cannot be trusted.

    Raises `MessageError` for whatever is not one map with text keys: oversize, sizes announced and
    not sent, extension types, duplicate keys, NaN, trailing bytes, invalid text, over 8 levels.
    """
    if len(data) > limit:
        raise MessageError(f"message of {len(data)} bytes; the limit is {limit}", field="")
    try:
        message = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_str_len=MAX_TEXT,
            max_bin_len=MAX_TEXT,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
            ext_hook=_refuse_extension,
            object_pairs_hook=_unique_keys,
        )
    # msgpack raises many unrelated types on hostile input; all of them mean the same here.
    except Exception as error:
        raise MessageError(f"not a message: {type(error).__name__}", field="") from error
    if not isinstance(message, dict):
        raise MessageError("a message is a map", field="")
    _check_tree(message, 1)
    return message


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _unique_keys(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    mapping = {}
    for key, value in pairs:
        if not isinstance(key, str) or key in mapping:
            raise ValueError("keys are text and appear once")
        mapping[key] = value
    return mapping


def _check_tree(value: Any, depth: int) -> None:
    """Raise unless a value and all that is in it keep to the limits of a message."""
    kind = type(value)
    if kind is int or kind is bool or value is None:
        return
    if kind is str or kind is bytes:
        if len(value) * (4 if kind is str else 1) > MAX_TEXT:
            _check_length(value)
    elif kind is dict or kind is list or kind is tuple:
        if depth > MAX_DEPTH:
            raise MessageError(f"nested deeper than {MAX_DEPTH} levels", field="")
        if len(value) > MAX_ITEMS:
            raise MessageError(f"more than {MAX_ITEMS} items in one place", field="")
        for child in value.values() if kind is dict else value:
            _check_tree(child, depth + 1)
    elif kind is not float:
        raise MessageError(f"a message cannot hold a {kind.__name__}", field="")
    elif not math.isfinite(value):
        raise MessageError("numbers are finite", field="")


def _check_length(value: Union[str, bytes]) -> None:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    if len(data) > MAX_TEXT:
        raise MessageError(f"text of {len(data)} bytes; the limit is {MAX_TEXT}", field="")


# ---------------------------------------------------------------------------------------------
# Field checks: each takes (name, value) and returns the value or raises MessageError


def _fail(name: str, found: Any, wanted: str) -> MessageError:
    shown = repr(found)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return MessageError(f"{name!r} must be {wanted}; got {shown}", field=name)


def integer(low: int, high: int) -> Callable[[str, Any], int]:
    """A check for a whole number in low..high."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _fail(name, value, f"a whole number from {low} to {high}")
        return value

    return check


def text(maximum: int = MAX_TEXT, pattern: Optional[re.Pattern[str]] = None) -> Any:
    """A check for text, of a pattern when one is given."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > maximum:
            raise _fail(name, value, f"text of at most {maximum} characters")
        if pattern is not None and not pattern.match(value):
            raise _fail(name, value, f"text that matches {pattern.pattern}")
        return value

    return check


def one_of(choices: Sequence[str]) -> Callable[[str, Any], str]:
    """A check for one of a few words."""

    def check(name: str, value: Any) -> str:
        if value not in choices or not isinstance(value, str):
            raise _fail(name, value, "one of " + ", ".join(choices))
        return value

    return check


def nonce(name: str, value: Any) -> bytes:
    """A check for 16 bytes."""
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise _fail(name, value, f"{ID_BYTES} bytes")
    return value


def boolean(name: str, value: Any) -> bool:
    """A check for true or false."""
    if not isinstance(value, bool):
        raise _fail(name, value, "true or false")
    return value


def mapping(name: str, value: Any) -> dict[str, Any]:
    """A check for a map."""
    if not isinstance(value, dict):
        raise _fail(name, value, "a map")
    return value


def plane(name: str, value: Any) -> Plane:
    """A check for one plane's map; ranges against the arena come later (`check_planes`)."""
    return Plane(**map_of(_PLANE)(name, value))


def planes(name: str, value: Any) -> list[Plane]:
    """A check for a list of one to eight planes."""
    if not isinstance(value, list) or not 1 <= len(value) <= 8:
        raise _fail(name, value, "a list of one to eight planes")
    return [plane(f"{name}[{index}]", item) for index, item in enumerate(value)]


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _fail(name, value, "a whole number")
    return value


def _version_range(name: str, value: Any) -> list[int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    ):
        raise _fail(name, value, "two whole numbers: the lowest and highest version spoken")
    return value


def _params(name: str, value: Any) -> dict[str, Any]:
    return validate_params(mapping(name, value))


# ---------------------------------------------------------------------------------------------
# Schemas: the keys of each message


class Field(NamedTuple):
    """One key of a message: how to check it, and what it is when left out."""

    check: Callable[[str, Any], Any]
    required: bool = True
    default: Any = None


Schema = Mapping[str, Field]


def map_of(schema: Schema) -> Callable[[str, Any], dict[str, Any]]:
    """A check for a map with these keys and no others."""

    def check(name: str, value: Any) -> dict[str, Any]:
        return _checked(name, mapping(name, value), schema, f"{name}.")

    return check


_PLANE: Schema = {
    "role": Field(text(32)),
    "off": Field(_whole),
    "w": Field(_whole),
    "h": Field(_whole),
    "c": Field(_whole),
    "dtype": Field(text(32)),
    "stride": Field(_whole),
}
_WANT: Schema = {
    "slots": Field(integer(0, MAX_SLOTS)),
    "bytes": Field(integer(0, MAX_SLOT_BYTES)),
}
_CLIENT: Schema = {
    "name": Field(text(128)),
    "ver": Field(text(128)),
    "host": Field(text(128), required=False, default=""),
    "pid": Field(integer(0, 2**31 - 1), required=False, default=0),
}

_ENVELOPE: Schema = {
    "v": Field(integer(PROTOCOL_MIN, PROTOCOL_MAX)),
    "op": Field(text(32)),
    "id": Field(nonce),
    "sid": Field(nonce),
    "ext": Field(mapping, required=False, default={}),
}
_ARENA: Schema = {
    "slot": Field(integer(0, 2**31 - 1)),
    "gen": Field(integer(1, 2**63 - 1)),
}
_MODEL = text(64, NAME)

REQUESTS: dict[str, Schema] = {
    "render": {
        **_ENVELOPE,
        **_ARENA,
        "in": Field(planes),
        "out": Field(planes),
        "model": Field(_MODEL, required=False, default="default"),
        "params": Field(_params),
        "priority": Field(one_of(PRIORITIES), required=False, default="interactive"),
        "frame": Field(integer(-(2**31), 2**31 - 1), required=False),
        "deadline_ms": Field(integer(1, MAX_DEADLINE_MS), required=False),
        "clean_plate": Field(text(64, NAME), required=False),
        "clean_plate_key": Field(text(128, CONTENT_KEY), required=False),
    },
    "cancel": {**_ENVELOPE, "target": Field(nonce)},
    "ping": _ENVELOPE,
    "status": _ENVELOPE,
    "models_list": _ENVELOPE,
    "models_load": {**_ENVELOPE, "model": Field(_MODEL)},
    "models_unload": {**_ENVELOPE, "model": Field(_MODEL)},
    "release": _ENVELOPE,
    "colors": {**_ENVELOPE, "first": Field(integer(0, 2**31 - 1), required=False, default=0)},
    "plate_put": {
        **_ENVELOPE,
        **_ARENA,
        "name": Field(text(64, NAME)),
        "plane": Field(plane),
        "replace": Field(boolean, required=False, default=False),
    },
    "plate_list": _ENVELOPE,
    "plate_drop": {**_ENVELOPE, "name": Field(text(64, NAME))},
    "shutdown": {
        **_ENVELOPE,
        "if_unused": Field(boolean, required=False, default=False),
        "user": Field(text(64, NAME), required=False, default=BY_HAND),
    },
}


# What a client sends through the door: `hello` first, `resize` after it.
_DOOR: dict[str, Schema] = {
    "hello": {
        "op": Field(text(32)),
        "proto": Field(_version_range),
        "client": Field(map_of(_CLIENT)),
        "want": Field(map_of(_WANT)),
        "user": Field(text(64, NAME), required=False),
        "ext": Field(mapping, required=False, default={}),
    },
    "resize": {"op": Field(text(32)), "want": Field(map_of(_WANT))},
}


def validate_request(message: Mapping[str, Any]) -> dict[str, Any]:
    """A request with every key checked and every default filled in.

    Planes become `Plane`, params become the full map of `params.py`. Raises `MessageError` with
    `field`; keys that start with `x-` are allowed at the top level and dropped.
    """
    op = message.get("op")
    schema = REQUESTS.get(op) if isinstance(op, str) else None
    if schema is None:
        raise _fail("op", op, "one of " + ", ".join(REQUESTS))
    known = {key: value for key, value in message.items() if not key.startswith("x-")}
    return _checked(f"a {op} request", known, schema)


def validate_door(message: Mapping[str, Any], expected: str) -> dict[str, Any]:
    """A record that came through the door, checked like a request."""
    if message.get("op") != expected:
        raise _fail("op", message.get("op"), f"{expected!r} at this point")
    return _checked(f"a {expected}", message, _DOOR[expected])


def _checked(
    where: str, found: Mapping[str, Any], schema: Schema, prefix: str = ""
) -> dict[str, Any]:
    """The keys of one map against its schema; `prefix` stands before them in a message."""
    for key in found:
        if key not in schema:
            raise MessageError(
                f"{where} has no key {key[:64]!r}; it takes {', '.join(schema)}", field=key[:64]
            )
    for key, field in schema.items():
        if field.required and key not in found:
            raise MessageError(f"{where} lacks the key {key!r}", field=key)
    return {
        key: field.check(prefix + key, found[key]) if key in found else field.default
        for key, field in schema.items()
    }


def negotiate(offered: Sequence[int]) -> int:
    """The highest version both sides speak; `VersionError` names both ranges."""
    low, high = offered
    version = min(high, PROTOCOL_MAX)
    if version < max(low, PROTOCOL_MIN):
        # Older clients show this sentence as it is.
        what = (
            "is older: install it again (`mattebridge install`) and restart the host"
            if high < PROTOCOL_MIN
            else "is newer: stop this daemon and start the new one"
        )
        raise VersionError(
            f"no protocol in common: the client speaks {low}-{high}, this daemon "
            f"{PROTOCOL_MIN}-{PROTOCOL_MAX}. The client {what}",
            have=[PROTOCOL_MIN, PROTOCOL_MAX],
            want=list(offered),
        )
    return version


# ---------------------------------------------------------------------------------------------
# Replies


def _list_of(check: Callable[[str, Any], Any]) -> Callable[[str, Any], list[Any]]:
    """A check for a list; its items are checked, and stay as they are."""

    def check_all(name: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _fail(name, value, "a list")
        for index, item in enumerate(value):
            check(f"{name}[{index}]", item)
        return value

    return check_all


def _known(schema: Schema) -> Callable[[str, Any], dict[str, Any]]:
    """A check for a map whose listed keys are right; it may have others."""

    def check(name: str, value: Any) -> dict[str, Any]:
        found = mapping(name, value)
        for key, field in schema.items():
            if key in found:
                field.check(f"{name}.{key}" if name else key, found[key])
            elif field.required:
                raise MessageError(f"{name or 'the reply'} lacks the key {key!r}", field=key)
        return found

    return check


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _fail(name, value, "a number")
    return value


def _numbers(name: str, value: Any) -> dict[str, Any]:
    found = mapping(name, value)
    for key, item in found.items():
        _number(f"{name}.{key}", item)
    return found


def _optional(check: Callable[[str, Any], Any]) -> Field:
    return Field(check, required=False)


_LENT: Schema = {
    "held": _optional(boolean),
    "slot": _optional(integer(0, 2**31 - 1)),
    "gen": _optional(integer(1, 2**63 - 1)),
}
_MAPS = _list_of(mapping)
_PROGRESS: Schema = {
    "stage": Field(text()),
    "done": Field(integer(0, 2**63 - 1)),
    "total": Field(integer(0, 2**63 - 1)),
}
_HELD_PLATE: Schema = {
    "name": Field(text()),
    **{key: Field(integer(0, 2**63 - 1)) for key in ("w", "h", "c", "bytes")},
    "dtype": Field(text()),
    "digest": _optional(text()),
}
_COLOR_SPACE: Schema = {
    "name": Field(text()),
    "family": _optional(text()),
    **{key: _optional(_list_of(text())) for key in ("aliases", "roles")},
}
_STATE: Schema = {
    "state": _optional(text()),
    "uptime_s": _optional(_number),
    **{key: _optional(_MAPS) for key in ("workers", "sessions", "plates")},
    "notes": _optional(_list_of(text())),
    **{key: _optional(mapping) for key in ("frames", "timings", "memory", "refused", "color")},
}
_ARENAS: Schema = {
    "slots": Field(
        _list_of(
            _known({"id": Field(integer(0, 2**31 - 1)), "bytes": Field(integer(1, MAX_SLOT_BYTES))})
        )
    )
}
_SERVER: Schema = {"epoch": Field(integer(0, 2**63 - 1))}

# What a client relies on in each reply. Further keys are skipped.
REPLIES: dict[str, Schema] = {
    "done": {
        **_LENT,
        **{key: _optional(text()) for key in ("model", "digest", "clean_plate_digest", "device")},
        "degraded": _optional(_list_of(text())),
        "notes": _optional(mapping),
        "timings": _optional(_numbers),
    },
    "error": {
        **_LENT,
        "code": Field(text()),
        "message": Field(text()),
        "retry": _optional(boolean),
        "retry_after_ms": _optional(integer(0, MAX_DEADLINE_MS)),
        "started": _optional(boolean),
    },
    "cancelled": _LENT,
    "released": {"slot": Field(integer(0, 2**31 - 1)), "gen": Field(integer(1, 2**63 - 1))},
    "progress": _PROGRESS,
    "ack": {},
    "pong": _STATE,
    "status": _STATE,
    "models": {"models": Field(_list_of(_known({"name": Field(text())})))},
    "plates": {"plates": Field(_list_of(_known(_HELD_PLATE)))},
    "colors": {
        "config": Field(text()),
        "digest": Field(text()),
        "total": Field(integer(0, 2**31 - 1)),
        "spaces": Field(_list_of(_known(_COLOR_SPACE))),
    },
    "freed": {"workers": Field(_list_of(_known({"device": Field(text())})))},
    "stopping": {"stopping": Field(boolean)},
    "welcome": {
        **_ARENAS,
        "proto": Field(integer(PROTOCOL_MIN, PROTOCOL_MAX)),
        "server": Field(_known(_SERVER)),
        "sid": Field(nonce),
        "ctl": Field(text()),
    },
    "resized": _ARENAS,
}

# The reply that carries the result of each request.
RESULTS = {
    "render": "done",
    "cancel": "ack",
    "ping": "pong",
    "status": "status",
    **dict.fromkeys(("models_list", "models_load", "models_unload"), "models"),
    "release": "freed",
    "colors": "colors",
    **dict.fromkeys(("plate_put", "plate_list", "plate_drop"), "plates"),
    "shutdown": "stopping",
}


def validate_reply(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply whose keys have the types that its reader relies on; raises `MessageError`."""
    op = reply.get("op")
    schema = REPLIES.get(op) if isinstance(op, str) else None
    if schema is None:
        raise _fail("op", op, "one of " + ", ".join(REPLIES))
    return _known(schema)("", reply)


_ERROR_KEYS = ("op", "id", "epoch", "code", "message", "retry", "held", "slot", "gen")


def error_fields(error: MattebridgeError) -> dict[str, Any]:
    """The keys that an error adds to its reply: code, message, retry and its own details."""
    details = {key: value for key, value in error.details.items() if key not in _ERROR_KEYS}
    return {
        **details,
        "code": error.code,
        "message": one_line(error.message, MAX_ERROR_TEXT),
        "retry": error.retry,
    }


def error_of(reply: Mapping[str, Any]) -> MattebridgeError:
    """The exception that an error reply stands for; the reply has passed `validate_reply`."""
    retry = reply.get("retry", False)
    return from_wire(reply["code"], reply["message"], retry, error_details(reply))


def error_details(reply: Mapping[str, Any]) -> dict[str, Any]:
    """What an error reply holds beyond its common keys (`field`, `count`, `retry_after_ms`...)."""
    return {key: value for key, value in reply.items() if key not in _ERROR_KEYS}
