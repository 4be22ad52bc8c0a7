"""Write the golden messages: run `python tests/golden/protocol/make.py` after a change of the wire.

Each message is a pair NAME.bin (the bytes of the msgpack map) and NAME.json (what it says; bytes
are `{"hex": "..."}`), with the expected verdict: `valid`, or the error code and field. The slot
layout is in layout.json. Both languages read these files; a change here is a change of the wire.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mattebridge.wire import protocol, slots

HERE = Path(__file__).parent
ID, SID, TARGET = bytes(range(16)), bytes(range(16, 32)), bytes(range(32, 48))
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ENVELOPE = {"v": 1, "id": ID, "sid": SID}
SPECS = [
    slots.PlaneSpec("plate", 4, "f4"),
    slots.PlaneSpec("clean_plate", 4, "f4"),
    slots.PlaneSpec("alpha_hint", 1, "f4"),
    slots.PlaneSpec("premultiplied", 4, "f4"),
]
PLACED = [plane.to_wire() for plane in slots.place(1920, 1080, SPECS)]
RENDER = {
    **ENVELOPE,
    "op": "render",
    "slot": 0,
    "gen": 7,
    "in": PLACED[:3],
    "out": PLACED[3:],
    "model": "default",
    "params": {"colorspace": "linear"},
    "priority": "interactive",
    "frame": 1001,
    "deadline_ms": 54000,
}
REPLY = {"id": ID, "epoch": 123456789012}

REQUESTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "render": (RENDER, "valid", ""),
    "render_all_params": (
        {
            **RENDER,
            "frame": -3,
            "priority": "batch",
            "params": {
                "colorspace": "srgb",
                "output_colorspace": "srgb",
                "premultiply": "display",
                "plate_alpha": "premultiplied",
                "foreground": "unmix",
                "alignment": "homography",
                "match_exposure": False,
                "nonfinite": "zero",
                "exact": True,
                "settings": {"method": "closed_form", "band": 10, "shadow": True, "gain": 0.5},
            },
            "ext": {"host": "test", "scale": [1.0, 0.5]},
        },
        "valid",
        "",
    ),
    "render_held_plate": (
        {**RENDER, "in": PLACED[:1], "clean_plate": "sh010-clean"},
        "valid",
        "",
    ),
    "render_content_key": ({**RENDER, "clean_plate_key": "op:5f3a9c"}, "valid", ""),
    "render_named_colorspace": (
        {**RENDER, "params": {"colorspace": "ACEScg", "output_colorspace": "ARRI LogC3 (EI800)"}},
        "valid",
        "",
    ),
    "render_additive_key": ({**RENDER, "x-colour-science": "later"}, "valid", ""),
    "cancel": ({**ENVELOPE, "op": "cancel", "target": TARGET}, "valid", ""),
    "ping": ({**ENVELOPE, "op": "ping"}, "valid", ""),
    "status": ({**ENVELOPE, "op": "status"}, "valid", ""),
    "models_list": ({**ENVELOPE, "op": "models_list"}, "valid", ""),
    "models_load": ({**ENVELOPE, "op": "models_load", "model": "difference"}, "valid", ""),
    "models_unload": ({**ENVELOPE, "op": "models_unload", "model": "difference"}, "valid", ""),
    "release": ({**ENVELOPE, "op": "release"}, "valid", ""),
    "colors": ({**ENVELOPE, "op": "colors", "first": 50}, "valid", ""),
    "plate_put": (
        {
            **ENVELOPE,
            "op": "plate_put",
            "slot": 1,
            "gen": 2,
            "name": "sh010-clean",
            "plane": PLACED[1],
        },
        "valid",
        "",
    ),
    "plate_put_replace": (
        {
            **ENVELOPE,
            "op": "plate_put",
            "slot": 1,
            "gen": 3,
            "name": "sh010-clean",
            "plane": PLACED[1],
            "replace": True,
        },
        "valid",
        "",
    ),
    "plate_list": ({**ENVELOPE, "op": "plate_list"}, "valid", ""),
    "plate_drop": ({**ENVELOPE, "op": "plate_drop", "name": "sh010-clean"}, "valid", ""),
    "shutdown": ({**ENVELOPE, "op": "shutdown", "if_unused": True}, "valid", ""),
    "shutdown_user": (
        {**ENVELOPE, "op": "shutdown", "if_unused": True, "user": "openjd-3f2a"},
        "valid",
        "",
    ),
    "bad_user": ({**ENVELOPE, "op": "shutdown", "user": "../x"}, "E_MESSAGE", "user"),
    "bad_unknown_key": ({**RENDER, "modle": "default"}, "E_MESSAGE", "modle"),
    "bad_missing_params": (
        {key: value for key, value in RENDER.items() if key != "params"},
        "E_MESSAGE",
        "params",
    ),
    "bad_colorspace": (
        {**RENDER, "params": {"colorspace": "two\nlines"}},
        "E_MESSAGE",
        "params.colorspace",
    ),
    "bad_premultiply": (
        {**RENDER, "params": {"colorspace": "linear", "premultiply": "display"}},
        "E_MESSAGE",
        "params.premultiply",
    ),
    "bad_op": ({**ENVELOPE, "op": "rendr"}, "E_MESSAGE", "op"),
    "bad_id_length": ({**ENVELOPE, "id": b"short", "op": "ping"}, "E_MESSAGE", "id"),
    "bad_version": ({**ENVELOPE, "v": 2, "op": "ping"}, "E_MESSAGE", "v"),
    "bad_model_name": ({**RENDER, "model": "../../x"}, "E_MESSAGE", "model"),
    "bad_content_key": (
        {**RENDER, "clean_plate_key": "two words"},
        "E_MESSAGE",
        "clean_plate_key",
    ),
    "bad_generation": ({**RENDER, "gen": 0}, "E_MESSAGE", "gen"),
    "bad_replace": (
        {
            **ENVELOPE,
            "op": "plate_put",
            "slot": 1,
            "gen": 2,
            "name": "sh010-clean",
            "plane": PLACED[1],
            "replace": 1,
        },
        "E_MESSAGE",
        "replace",
    ),
    "bad_priority": ({**RENDER, "priority": "urgent"}, "E_MESSAGE", "priority"),
    "bad_boolean_slot": ({**RENDER, "slot": True}, "E_MESSAGE", "slot"),
}

REPLIES: dict[str, dict[str, Any]] = {
    "done": {
        **REPLY,
        "op": "done",
        "held": False,
        "slot": 0,
        "gen": 7,
        "model": "difference",
        "digest": "none",
        "degraded": ["clean_plate_unaligned"],
        "notes": {"nonfinite": {"plate": 3}},
        "timings": {"queue_ms": 0.125, "render_ms": 412.5, "total_ms": 412.625},
        "device": "cpu",
    },
    "done_held_plate": {
        **REPLY,
        "op": "done",
        "held": False,
        "slot": 0,
        "gen": 8,
        "model": "difference",
        "digest": "none",
        "clean_plate_digest": DIGEST,
        "degraded": [],
        "notes": {},
        "timings": {"queue_ms": 0.125, "render_ms": 412.5, "total_ms": 412.625},
        "device": "cpu",
    },
    "error": {
        **REPLY,
        "op": "error",
        "held": False,
        "slot": 0,
        "gen": 7,
        "code": "E_GEOMETRY",
        "message": "in[0] (plate) ends at byte 99 of an arena of 64",
        "retry": False,
        "field": "in[0].off",
    },
    "error_busy": {
        **REPLY,
        "op": "error",
        "held": False,
        "slot": 0,
        "gen": 7,
        "code": "E_BUSY",
        "message": "256 requests are waiting",
        "retry": True,
        "retry_after_ms": 100,
    },
    "error_plate_name": {
        **REPLY,
        "op": "error",
        "held": False,
        "slot": 1,
        "gen": 2,
        "code": "E_PLATE",
        "message": "the daemon holds another clean plate called 'sh010-clean'",
        "retry": False,
        "name": "sh010-clean",
        "digest": DIGEST,
    },
    "error_color_name": {
        **REPLY,
        "op": "error",
        "held": False,
        "slot": 0,
        "gen": 7,
        "code": "E_COLOR",
        "message": "'ACECg' is no colour space of ocio://studio-config-latest",
        "retry": False,
        "name": "ACECg",
        "nearest": ["ACEScg", "ACEScc", "ACEScct"],
    },
    "error_deadline_held": {
        **REPLY,
        "op": "error",
        "held": True,
        "slot": 0,
        "gen": 7,
        "code": "E_DEADLINE",
        "message": "the deadline passed while it was being computed",
        "retry": True,
        "started": True,
    },
    "cancelled": {**REPLY, "op": "cancelled", "held": False, "slot": 0, "gen": 7},
    "released": {**REPLY, "op": "released", "slot": 0, "gen": 7},
    "progress": {**REPLY, "op": "progress", "stage": "model", "done": 3, "total": 8},
    "ack": {**REPLY, "op": "ack", "target": TARGET, "found": "running"},
    "plates": {
        **REPLY,
        "op": "plates",
        "plates": [
            {
                "name": "sh010-clean",
                "w": 1920,
                "h": 1080,
                "c": 4,
                "dtype": "f4",
                "bytes": 33177664,
                "digest": DIGEST,
            }
        ],
    },
    "colors": {
        **REPLY,
        "op": "colors",
        "config": "ocio://studio-config-latest",
        "digest": DIGEST,
        "total": 56,
        "spaces": [
            {
                "name": "ACEScg",
                "family": "ACES",
                "aliases": ["ACES - ACEScg", "lin_ap1"],
                "roles": ["scene_linear"],
            }
        ],
    },
    "freed": {
        **REPLY,
        "op": "freed",
        "workers": [
            {
                "device": "cuda:0",
                "resident_bytes": 412 << 20,
                "models": {"twoplate": 3 << 20},
                "caches": {"clean_plates": 253 << 20},
                "gpu": {
                    "total_bytes": 80 << 30,
                    "free_bytes": 60 << 30,
                    "used_bytes": 1 << 30,
                    "kept_bytes": 1 << 28,
                },
            }
        ],
    },
    "stopping": {**REPLY, "op": "stopping", "stopping": True},
}

DOOR: dict[str, dict[str, Any]] = {
    "hello": {
        "op": "hello",
        "proto": [1, 1],
        "client": {"name": "ofx", "ver": "1.0", "host": "uk.co.thefoundry.nuke", "pid": 4242},
        "want": {"slots": 1, "bytes": 142606336},
    },
    "hello_status_only": {
        "op": "hello",
        "proto": [1, 3],
        "client": {"name": "status", "ver": "1.0"},
        "want": {"slots": 0, "bytes": 0},
    },
    "hello_user": {
        "op": "hello",
        "proto": [1, 1],
        "client": {"name": "serve", "ver": "1.0"},
        "want": {"slots": 0, "bytes": 0},
        "user": "openjd-3f2a",
    },
    "resize": {"op": "resize", "want": {"slots": 2, "bytes": 564133888}},
    "welcome": {
        "op": "welcome",
        "proto": 1,
        "server": {"ver": "0.1.0", "pid": 99, "boot_id": "00ff", "epoch": 123456789012},
        "sid": SID,
        "ctl": "ipc:///run/user/1000/mattebridge/v1/ctl",
        "slots": [{"id": 0, "bytes": 142606336}],
    },
    "resized": {"op": "resized", "slots": [{"id": 1, "bytes": 564133888}]},
    "refused": {
        "op": "error",
        "code": "E_QUOTA",
        "message": "64 sessions are open and the daemon serves no more",
        "retry": True,
        "limit": "sessions",
    },
}

LAYOUTS = [
    (1920, 1080, SPECS),
    (
        3840,
        2160,
        [*SPECS, slots.PlaneSpec("alpha", 1, "f4"), slots.PlaneSpec("foreground", 3, "f4")],
    ),
    (1, 1, [slots.PlaneSpec("plate", 3, "u1"), slots.PlaneSpec("alpha", 1, "f2")]),
    (1919, 1079, [slots.PlaneSpec("plate", 3, "f2"), slots.PlaneSpec("premultiplied", 4, "f2")]),
    (1, 8192, [slots.PlaneSpec("plate", 4, "u2"), slots.PlaneSpec("alpha", 1, "f4")]),
]


def to_json(value: Any) -> Any:
    """Bytes become {"hex": ...}; everything else stays."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def cases() -> list[dict[str, Any]]:
    """Every golden message: name, kind, message, verdict, field."""
    found = [
        {"name": name, "kind": "request", "message": message, "verdict": verdict, "field": field}
        for name, (message, verdict, field) in REQUESTS.items()
    ]
    for kind, group in (("reply", REPLIES), ("door", DOOR)):
        found += [
            {"name": name, "kind": kind, "message": message, "verdict": "valid", "field": ""}
            for name, message in group.items()
        ]
    return found


def layouts() -> dict[str, Any]:
    """The slot layout by example: header, planes, arena sizes."""
    header = slots.HEADER.pack(slots.HEADER_MAGIC, slots.HEADER_VERSION, 7, 7)
    return {
        "header": (header + bytes(slots.HEADER_BYTES - len(header))).hex(),
        "size_classes": [list(pair) for pair in slots.SIZE_CLASSES],
        "cases": [
            {
                "w": width,
                "h": height,
                "specs": [list(spec) for spec in specs],
                "planes": [plane.to_wire() for plane in slots.place(width, height, specs)],
                "arena_bytes": slots.arena_bytes(width, height, specs),
            }
            for width, height, specs in LAYOUTS
        ],
    }


def main() -> None:
    """Write all files beside this one."""
    for case in cases():
        stem = HERE / f"{case['kind']}_{case['name']}"
        stem.with_suffix(".bin").write_bytes(protocol.pack(case["message"]))
        text = json.dumps({key: to_json(value) for key, value in case.items()}, indent=1)
        stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    (HERE / "layout.json").write_text(json.dumps(layouts(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
