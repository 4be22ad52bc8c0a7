"""The wire: golden messages byte for byte, and what the reader refuses."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from typing import Any

import msgpack
import pytest

from fakes.places import ROOT, TESTS
from mattebridge import errors
from mattebridge.wire import params, planes, protocol, slots
from mattebridge.wire.planes import Plane

GOLDEN = TESTS / "golden" / "protocol"
MESSAGES = sorted(path.stem for path in GOLDEN.glob("*.bin"))
PING = {"v": 1, "op": "ping", "id": bytes(16), "sid": bytes(16)}


def _golden(name: str) -> tuple[bytes, dict[str, Any]]:
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    return (GOLDEN / f"{name}.bin").read_bytes(), {**case, "message": _from_json(case["message"])}


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {key: _from_json(item) for key, item in value.items()}
    return [_from_json(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", MESSAGES)
def test_a_golden_message_reads_and_packs_to_the_same_bytes(name: str) -> None:
    data, case = _golden(name)
    assert protocol.unpack(data) == case["message"]
    assert protocol.pack(case["message"]) == data


@pytest.mark.parametrize("name", [name for name in MESSAGES if name.startswith("request_")])
def test_a_golden_request_gets_its_verdict(name: str) -> None:
    data, case = _golden(name)
    message = protocol.unpack(data)
    if case["verdict"] == "valid":
        request = protocol.validate_request(message)
        assert request["op"] == message["op"]
    else:
        with pytest.raises(errors.MattebridgeError) as caught:
            protocol.validate_request(message)
        assert caught.value.code == case["verdict"]
        assert caught.value.details["field"] == case["field"]


def test_the_golden_files_are_those_that_the_code_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert {f"{c['kind']}_{c['name']}" for c in make.cases()} == set(MESSAGES)
    for case in make.cases():
        stem = f"{case['kind']}_{case['name']}"
        assert (GOLDEN / f"{stem}.bin").read_bytes() == protocol.pack(case["message"]), stem
    assert json.loads((GOLDEN / "layout.json").read_text()) == make.layouts()


def test_a_request_comes_back_with_defaults_and_planes() -> None:
    data, _case = _golden("request_render_held_plate")
    request = protocol.validate_request(protocol.unpack(data))
    assert isinstance(request["in"][0], Plane)
    assert request["params"]["foreground"] == "model"
    assert request["clean_plate"] == "sh010-clean"
    assert request["ext"] == {}


BOMBS = {
    "array header of 4 G": b"\xdd\xff\xff\xff\xff",
    "map header of 4 G": b"\xdf\xff\xff\xff\xff",
    "bytes header of 4 G": b"\xc6\xff\xff\xff\xff",
    "text header of 4 G": b"\xdb\xff\xff\xff\xff",
    "depth 100,000": b"\x91" * 60000,
    "depth 500 in a map": b"\x81\xa1a" * 500 + b"\xc0",
    "64 KiB of empty arrays": b"\xdc\xff\xff" + b"\x90" * 65000,
    "extension type": msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
    "empty extension type": b"\x81\xa1a\xc7\x00\x05",
    "timestamp": msgpack.packb({"a": msgpack.Timestamp(1)}),
    "number as key": msgpack.packb({1: 2}),
    "duplicate keys": b"\x82\xa1a\x01\xa1a\x02",
    "NaN": msgpack.packb({"a": math.nan}),
    "infinity deep inside": msgpack.packb({"a": {"b": [math.inf]}}),
    "invalid UTF-8": b"\x81\xa1a\xa1\xff",
    "trailing bytes": msgpack.packb({"a": 1}) + b"\xc0",
    "nothing": b"",
    "not a map": msgpack.packb([1, 2]),
    "65 keys": msgpack.packb({str(n): n for n in range(65)}),
    "a text of 4097": msgpack.packb({"a": "x" * 4097}),
    "a ZMTP 1.0 greeting": b"\x01\x00\x00\x00\x00\x00\x00\x00\x05",
    "oversize": b"\x81\xa1a" + b"\xc4\xff" + b"x" * 70000,
}


@pytest.mark.parametrize("what", BOMBS)
def test_the_reader_refuses(what: str) -> None:
    started = time.process_time()
    with pytest.raises(errors.MessageError):
        protocol.unpack(BOMBS[what])
    # Measured at 1.5 ms at the worst; only a reader that swallowed the bomb takes this long.
    assert time.process_time() - started < 0.5


def test_an_oversize_message_is_refused_before_it_is_sent() -> None:
    with pytest.raises(errors.MessageTooLarge, match="65536"):
        protocol.pack({"a": "x" * 70000})


@pytest.mark.parametrize(
    ("offered", "expected"), [([1, 1], 1), ([1, 9], 1), ([0, 1], 1), ([-5, 3], 1)]
)
def test_a_common_version_is_found(offered: list[int], expected: int) -> None:
    assert protocol.negotiate(offered) == expected


@pytest.mark.parametrize(
    ("offered", "client"),
    [([2, 2], "newer"), ([2, 9], "newer"), ([0, 0], "older"), ([1, 0], "older")],
)
def test_no_common_version_names_both_ranges_and_the_older_side(
    offered: list[int], client: str
) -> None:
    ranges = f"{offered[0]}-{offered[1]}, this daemon 1-1. The client is {client}: "
    with pytest.raises(errors.VersionError, match=ranges) as caught:
        protocol.negotiate(offered)
    assert caught.value.details["want"] == offered


GOOD = Plane("plate", 64, 100, 50, 4, "f4", 1600)
SLOT_BYTES = 2 << 20


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"off": -64}, "in[0].off"),
        ({"off": 0}, "in[0].off"),
        ({"off": 65}, "in[0].off"),
        ({"off": 1 << 63}, "in[0].off"),
        ({"off": SLOT_BYTES}, "in[0].off"),
        ({"stride": 1599}, "in[0].stride"),
        ({"stride": 1601}, "in[0].stride"),
        ({"stride": 1 << 62}, "in[0].stride"),
        ({"stride": -1600}, "in[0].stride"),
        ({"w": 0}, "in[0].w"),
        ({"h": 0}, "in[0].h"),
        ({"h": -1}, "in[0].h"),
        ({"c": 0}, "in[0].c"),
        ({"c": 5}, "in[0].c"),
        ({"h": 2000}, "in[0].off"),
        ({"role": "premultiplied"}, "in[0].role"),
    ],
)
def test_a_plane_outside_its_arena_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    plane = Plane(**{**GOOD.to_wire(), **change})
    with pytest.raises(errors.GeometryError) as caught:
        planes.check_planes([plane], [], SLOT_BYTES, slots.HEADER_BYTES)
    assert caught.value.details["field"] == field


def test_a_good_plane_passes() -> None:
    planes.check_planes([GOOD], [], SLOT_BYTES, slots.HEADER_BYTES)


def test_the_largest_side_is_named() -> None:
    plane = Plane(**{**GOOD.to_wire(), "w": 32769, "stride": 32769 * 16})
    with pytest.raises(errors.TooLargeError, match="32768"):
        planes.check_planes([plane], [], 1 << 40, slots.HEADER_BYTES)


@pytest.mark.parametrize("dtype", ["f8", "u4", "i2", "", "f4f4f4f4f4"])
def test_a_strange_sample_type_is_refused(dtype: str) -> None:
    plane = Plane(**{**GOOD.to_wire(), "dtype": dtype})
    with pytest.raises(errors.DtypeError, match="u1, u2, f2, f4"):
        planes.check_planes([plane], [], SLOT_BYTES, slots.HEADER_BYTES)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_integers_are_no_output(dtype: str) -> None:
    plane = Plane("alpha", 64, 10, 10, 1, dtype, 64)
    with pytest.raises(errors.DtypeError, match="f2, f4"):
        planes.check_planes([], [plane], SLOT_BYTES, slots.HEADER_BYTES)


def test_planes_may_not_overlap_nor_repeat() -> None:
    other = Plane("alpha", 64 + 1600 * 49, 100, 50, 1, "f4", 448)
    with pytest.raises(errors.GeometryError, match="overlap"):
        planes.check_planes([GOOD], [other], SLOT_BYTES, slots.HEADER_BYTES)
    apart = Plane(**{**GOOD.to_wire(), "off": 640000})
    with pytest.raises(errors.GeometryError, match="two planes"):
        planes.check_planes([GOOD, apart], [], SLOT_BYTES, slots.HEADER_BYTES)


def test_a_reply_may_say_more_than_the_client_knows() -> None:
    data = protocol.pack({"op": "pong", "id": bytes(16), "epoch": 1, "news": [1, {"a": 2.5}]})
    assert protocol.unpack(data)["news"] == [1, {"a": 2.5}]


def test_every_wire_error_survives_the_way_to_the_client() -> None:
    for code, kind in errors.WIRE_ERRORS.items():
        sent = kind("a sentence\nwith a break\x1b[31m", field="x", limit=3)
        reply = protocol.unpack(protocol.pack({"op": "error", **protocol.error_fields(sent)}))
        assert reply["message"] == r"a sentence with a break\x1b[31m"
        got = errors.from_wire(
            reply["code"], reply["message"], reply["retry"], protocol.error_details(reply)
        )
        assert type(got) is kind
        assert got.code == code
        assert got.details == {"field": "x", "limit": 3}


def test_keys_of_an_additive_kind_are_dropped_and_others_refused() -> None:
    assert "x-new" not in protocol.validate_request({**PING, "x-new": 1})
    with pytest.raises(errors.MessageError, match="no key 'y-new'"):
        protocol.validate_request({**PING, "y-new": 1})


def test_the_document_names_every_operation_key_code_and_limit() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    words = {f"`{word}`" for word in protocol.REQUESTS}
    words |= {f"`{key}`" for schema in protocol.REQUESTS.values() for key in schema}
    words |= {f"`{role}`" for role in (*params.INPUT_CHANNELS, *params.OUTPUT_CHANNELS)}
    words |= {f"`{name}`" for name in params.NAMES}
    words |= {f"`{code}`" for code in errors.WIRE_ERRORS}
    words -= {"`in`", "`out`"}
    missing = sorted(word for word in words if word not in page)
    assert not missing
    for number in ("65,536", "4096", "32768", "107", "86,400,000"):
        assert number in page
