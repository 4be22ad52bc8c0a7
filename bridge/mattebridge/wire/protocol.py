"""The contract on the wire: messages, limits, versions, pack and unpack, validation.

`docs/protocol.md` is the authority; this file says the same in code, and the golden messages in
`tests/golden/protocol/` say it in bytes. Control messages are msgpack maps of at most 64 KiB;
pixels never travel here. Everything that arrives is checked against a schema before anything acts
on it: exact keys, types, ranges, finite numbers. An unknown key in a request is an error, because
a typo must not be ignored; in a reply it is skipped, so that a newer daemon can say more.

Runs on Python 3.9; needs msgpack only (no numpy: the front reads it too).
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
)
from mattebridge.wire.params import (
    validate_params,
)
from mattebridge.wire.planes import Plane

# First frame of every control message: product tag and wire major. Change = another product.
MAGIC = b"MTB1"
PROTOCOL_MIN, PROTOCOL_MAX = 1, 1

MAX_MESSAGE_BYTES = 65536  # ZeroMQ drops the connection above this and says nothing
MAX_HELLO_BYTES = 4096  # one record at the door
MAX_PARTS = 4  # a ROUTER message is identity, magic, body; reading stops here
MAX_TEXT = 4096
MAX_ITEMS = 64
MAX_DEPTH = 8
ID_BYTES = 16
MAX_SLOTS = 8
MAX_SLOT_BYTES = 1 << 40

NAME = re.compile(r"[a-z0-9._-]{1,64}\Z")
CONTENT_KEY = re.compile(r"[!-~]{1,128}\Z")

PRIORITIES = ("interactive", "batch")

# Whoever says no name of its own: people and their hosts.
BY_HAND = "by-hand"

TERMINAL_OPS = ("done", "error", "cancelled")


class Field(NamedTuple):
    """One key of a message: how to check it, and what it is when left out."""

    check: Callable[[str, Any], Any]
    required: bool = True
    default: Any = None


# ---------------------------------------------------------------------------------------------
# Packing


def pack(
    message: Mapping[str, Any], limit: int = MAX_MESSAGE_BYTES, *, check: bool = True
) -> bytes:
    """The bytes of one control message that the other end will read.

    Raises, before anything is sent, `MessageTooLarge`, and `MessageError` for a value that no
    message can hold. Without `check` the sender answers for what the message holds.
    """
    try:
        data: bytes = msgpack.packb(message, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError(f"a value fits no message: {error}", field="") from error
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
    """One control message from bytes that anybody may have sent.

    Refuses, as `MessageError`, whatever is not one flat-enough map of text keys: oversize, bombs,
    extension types, duplicate keys, NaN, trailing bytes, invalid text, more than 8 levels.
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
    # msgpack raises a family of unrelated types on hostile input; none of them may pass.
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
    """Raise unless the limits on what a message holds are kept."""
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
        raise MessageError(f"a {kind.__name__} fits no message", field="")
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
    fields = mapping(name, value)
    wanted = ("role", "off", "w", "h", "c", "dtype", "stride")
    _exact_keys(name, fields, wanted, wanted)
    for key in wanted:
        if key in ("role", "dtype"):
            text(32)(f"{name}.{key}", fields[key])
        elif isinstance(fields[key], bool) or not isinstance(fields[key], int):
            raise _fail(f"{name}.{key}", fields[key], "a whole number")
    return Plane(**fields)


def planes(name: str, value: Any) -> list[Plane]:
    """A check for a list of one to eight planes."""
    if not isinstance(value, list) or not 1 <= len(value) <= 8:
        raise _fail(name, value, "a list of one to eight planes")
    return [plane(f"{name}[{index}]", item) for index, item in enumerate(value)]


def _exact_keys(
    where: str, found: Mapping[str, Any], allowed: Sequence[str], required: Sequence[str]
) -> None:
    for key in found:
        if key not in allowed:
            raise MessageError(
                f"{where} has no key {key[:64]!r}; it takes {', '.join(allowed)}", field=key[:64]
            )
    for key in required:
        if key not in found:
            raise MessageError(f"{where} lacks the key {key!r}", field=key)


def _params(name: str, value: Any) -> dict[str, Any]:
    return validate_params(mapping(name, value))


_ENVELOPE = {
    "v": Field(integer(PROTOCOL_MIN, PROTOCOL_MAX)),
    "op": Field(text(32)),
    "id": Field(nonce),
    "sid": Field(nonce),
    "ext": Field(mapping, required=False, default={}),
}
_ARENA = {
    "slot": Field(integer(0, 2**31 - 1)),
    "gen": Field(integer(1, 2**63 - 1)),
}
_MODEL = text(64, NAME)

REQUESTS: dict[str, dict[str, Field]] = {
    "render": {
        **_ENVELOPE,
        **_ARENA,
        "in": Field(planes),
        "out": Field(planes),
        "model": Field(_MODEL, required=False, default="default"),
        "params": Field(_params),
        "priority": Field(one_of(PRIORITIES), required=False, default="interactive"),
        "frame": Field(integer(-(2**31), 2**31 - 1), required=False),
        "deadline_ms": Field(integer(1, 86_400_000), required=False),
        "clean_plate": Field(text(64, NAME), required=False),
        "clean_plate_key": Field(text(128, CONTENT_KEY), required=False),
    },
    "cancel": {**_ENVELOPE, "target": Field(nonce)},
    "ping": _ENVELOPE,
    "status": _ENVELOPE,
    "models_list": _ENVELOPE,
    "models_load": {**_ENVELOPE, "model": Field(_MODEL)},
    "models_unload": {**_ENVELOPE, "model": Field(_MODEL)},
    "plate_put": {
        **_ENVELOPE,
        **_ARENA,
        "name": Field(text(64, NAME)),
        "plane": Field(plane),
    },
    "plate_list": _ENVELOPE,
    "plate_drop": {**_ENVELOPE, "name": Field(text(64, NAME))},
    "shutdown": {
        **_ENVELOPE,
        "if_unused": Field(boolean, required=False, default=False),
        "user": Field(text(64, NAME), required=False, default=BY_HAND),
    },
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
    required = [key for key, field in schema.items() if field.required]
    _exact_keys(f"a {op} request", known, list(schema), required)
    request = {}
    for key, field in schema.items():
        if key in known:
            request[key] = field.check(key, known[key])
        else:
            request[key] = field.default
    return request


# ---------------------------------------------------------------------------------------------
# The door


_WANT = {
    "slots": Field(integer(0, MAX_SLOTS)),
    "bytes": Field(integer(0, MAX_SLOT_BYTES)),
}


def _want(name: str, value: Any) -> dict[str, Any]:
    fields = mapping(name, value)
    _exact_keys(name, fields, list(_WANT), list(_WANT))
    return {key: field.check(f"{name}.{key}", fields[key]) for key, field in _WANT.items()}


def _client(name: str, value: Any) -> dict[str, Any]:
    fields = mapping(name, value)
    allowed = ("name", "ver", "host", "pid")
    _exact_keys(name, fields, allowed, ("name", "ver"))
    for key in ("name", "ver", "host"):
        if key in fields:
            text(128)(f"{name}.{key}", fields[key])
    if "pid" in fields:
        integer(0, 2**31 - 1)(f"{name}.pid", fields["pid"])
    return fields


def _version_range(name: str, value: Any) -> list[int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    ):
        raise _fail(name, value, "two whole numbers: the lowest and highest version spoken")
    return value


_DOOR: dict[str, dict[str, Field]] = {
    "hello": {
        "op": Field(text(32)),
        "proto": Field(_version_range),
        "client": Field(_client),
        "want": Field(_want),
        "user": Field(text(64, NAME), required=False),
        "ext": Field(mapping, required=False, default={}),
    },
    "resize": {"op": Field(text(32)), "want": Field(_want)},
}


def validate_door(message: Mapping[str, Any], expected: str) -> dict[str, Any]:
    """A record that a client sent through the door: `hello` first, `resize` after it."""
    if message.get("op") != expected:
        raise _fail("op", message.get("op"), f"{expected!r} at this point")
    schema = _DOOR[expected]
    required = [key for key, field in schema.items() if field.required]
    _exact_keys(f"a {expected}", message, list(schema), required)
    return {
        key: field.check(key, message[key]) if key in message else field.default
        for key, field in schema.items()
    }


def negotiate(offered: Sequence[int]) -> int:
    """The highest version both sides speak; `VersionError` names both ranges."""
    low, high = offered
    version = min(high, PROTOCOL_MAX)
    if version < max(low, PROTOCOL_MIN):
        raise VersionError(
            f"no protocol in common: the client speaks {low}-{high}, this daemon "
            f"{PROTOCOL_MIN}-{PROTOCOL_MAX}; install the same mattebridge on both sides",
            have=[PROTOCOL_MIN, PROTOCOL_MAX],
            want=list(offered),
        )
    return version


# ---------------------------------------------------------------------------------------------
# Geometry: plain integers, checked in full before a byte is touched


# ---------------------------------------------------------------------------------------------
# Replies


_ERROR_KEYS = ("op", "id", "epoch", "code", "message", "retry", "held", "slot", "gen")


def error_fields(error: MattebridgeError) -> dict[str, Any]:
    """The keys that an error adds to its reply: code, message, retry and its own details."""
    details = {key: value for key, value in error.details.items() if key not in _ERROR_KEYS}
    return {
        **details,
        "code": error.code,
        "message": clean_text(error.message),
        "retry": error.retry,
    }


def error_details(reply: Mapping[str, Any]) -> dict[str, Any]:
    """What an error reply says beyond its common keys (`field`, `count`, `retry_after_ms`...)."""
    return {key: value for key, value in reply.items() if key not in _ERROR_KEYS}


def clean_text(words: str, limit: int = 1000) -> str:
    """Text that can stand in a log line or a reply: no line breaks, no terminal codes, bounded."""
    printable = "".join(char if char.isprintable() else " " for char in words)
    return printable if len(printable) <= limit else printable[: limit - 3] + "..."
