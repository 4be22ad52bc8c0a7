"""The plugin's wire in C++ against the golden files that Python is held to as well."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import Any

import msgpack
import pytest

from fakes import ofx_build
from fakes.limits import SOON_S
from fakes.places import TESTS
from mattebridge.errors import MessageError
from mattebridge.wire import protocol
from mattebridge.wire.slots import HEADER

GOLDEN = TESTS / "golden" / "protocol"


def ask(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The C++ program's answer."""
    try:
        program = ofx_build.wire_test()
    except ofx_build.NoCompiler as missing:
        pytest.skip(str(missing))
    return subprocess.run([program, *arguments], input=data, capture_output=True, timeout=SOON_S)


def test_every_golden_message_reads_and_packs_to_the_same_bytes() -> None:
    done = ask(str(GOLDEN))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) == len(list(GOLDEN.glob("*.bin")))


def test_planes_lie_where_the_golden_layout_says() -> None:
    layout = json.loads((GOLDEN / "layout.json").read_text())
    for case in layout["cases"]:
        specs = [f"{role}:{channels}:{dtype}" for role, channels, dtype in case["specs"]]
        size, *planes = ask("layout", str(case["w"]), str(case["h"]), *specs).stdout.split(b"\n")
        assert int(size) == case["arena_bytes"]
        found = [tuple(map(int, line.split())) for line in planes if line]
        assert found == [(plane["off"], plane["stride"]) for plane in case["planes"]]


def test_the_header_of_an_arena_is_the_golden_one() -> None:
    layout = json.loads((GOLDEN / "layout.json").read_text())
    generation = HEADER.unpack_from(bytes.fromhex(layout["header"]))[2]
    assert ask("header", str(generation)).stdout.strip().decode() == layout["header"]


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else {}


HOSTILE = {
    "nothing": b"",
    "a number": b"\x07",
    "a list": msgpack.packb([1, 2]),
    "trailing bytes": msgpack.packb({"a": 1}) + b"\0",
    "cut short": msgpack.packb({"op": "done"})[:-1],
    "four billion items": b"\xdf\xff\xff\xff\xff",
    "four billion bytes": b"\x81\xa1a\xdb\xff\xff\xff\xff",
    "a long list": msgpack.packb({"a": [0] * 65}),
    "a big map": msgpack.packb({str(n): n for n in range(65)}),
    "a long text": msgpack.packb({"a": "x" * 4097}),
    "long binary": msgpack.packb({"a": b"x" * 300}),
    "nine levels": msgpack.packb(nested(9)),
    "a hundred thousand levels": b"\x91" * 60000,
    "an extension": msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
    "a timestamp": b"\x81\xa1a\xd6\xff\0\0\0\0",
    "duplicate keys": b"\x82\xa1a\x01\xa1a\x02",
    "a number as key": b"\x81\x01\x02",
    "not a number": msgpack.packb({"a": float("nan")}),
    "infinity": msgpack.packb({"a": float("inf")}),
    "single not a number": b"\x81\xa1a\xca\x7f\xc0\0\0",
    "invalid text": b"\x81\xa1a\xa2\xff\xfe",
    "a surrogate": b"\x81\xa1a\xa3\xed\xa0\x80",
    "overlong text": b"\x81\xa1a\xa2\xc0\x80",
    "the unused byte": b"\x81\xa1a\xc1",
    "too long": msgpack.packb({str(n): "x" * 4000 for n in range(17)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_message_is_refused_as_in_python(name: str) -> None:
    data = HOSTILE[name]
    assert ask("unpack", data=data).returncode == 3
    if name != "long binary":  # the plugin reads ids alone, which are 16 bytes
        with pytest.raises(MessageError):
            protocol.unpack(data)


@pytest.mark.parametrize(
    "message",
    [
        {"a": [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1]},
        {"a": [-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)]},
        {"a": [0.0, -0.5, 1e300, True, False, None, b"", b"x" * 255]},
        {"a": ["", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 4096]},
        {"key" + str(n): n for n in range(64)},
        {"a": list(range(64)), "b": "Käse 𝄞 中"},
        nested(7),
    ],
)
def test_both_languages_pack_alike(message: dict[str, Any]) -> None:
    done = ask("unpack", data=protocol.pack(message))
    assert done.returncode == 0, done.stderr


def test_halves_are_ieee_halves() -> None:
    assert ask("halves").returncode == 0


@pytest.mark.parametrize("text", ["", "abc", "Job 4711/Ü", "x" * 55, "x" * 56, "x" * 64, "x" * 500])
def test_the_digest_of_an_instances_name_is_sha256(text: str) -> None:
    found = ask("sha256", text).stdout.strip().decode()
    assert found == hashlib.sha256(text.encode()).hexdigest()
