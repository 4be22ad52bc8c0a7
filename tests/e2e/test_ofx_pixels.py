"""The plugin's pixels: a frame through it is the same frame through the Python client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess
from fakes.ofx_daemon import FakeDaemon
from fakes.ofx_host import (
    FAILED,
    FILTER,
    GENERAL,
    NUKE,
    OK,
    OPAQUE,
    PREMULTIPLIED,
    STRAIGHT,
    HostImage,
    Instance,
    Missing,
    OfxHost,
    blank,
)
from fakes.ofx_scene import matted, scene
from mattebridge.wire.labels import SENTENCES


@pytest.fixture
def node(host: OfxHost, shared_daemon: DaemonProcess) -> Iterator[Instance]:
    instance = host.create(GENERAL, endpoint=str(shared_daemon.folder))
    yield instance
    instance.destroy()


@pytest.fixture
def fake(host: OfxHost) -> Iterator[tuple[FakeDaemon, Instance]]:
    with FakeDaemon() as daemon:
        yield daemon, host.create(GENERAL, endpoint=str(daemon.folder))


def rendered(node: Instance, output: Any = None, **how: Any) -> np.ndarray:
    """A render that must succeed without a word."""
    status, output = node.render(output, **how)
    assert (status, node.message) == (OK, None)
    return output.pixels()


LAYOUTS = {
    "bottom-up": {},
    "top-down with negative rowBytes": {"negative": True},
    "padded rows": {"padding": 48},
    "padded by an odd number": {"padding": 7},
    "padded and negative": {"padding": 16, "negative": True},
    "bounds off the origin": {"origin": (100, 50)},
    "bounds at negative coordinates": {"origin": (-17, -9), "padding": 4},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_float_frame_is_bit_equal_to_the_python_client_whatever_its_memory_layout(
    node: Instance, shared_daemon: DaemonProcess, layout: str
) -> None:
    plate, clean = scene()
    how = LAYOUTS[layout]
    node.connect(Source=HostImage(plate, **how), Background=HostImage(clean, **how))
    found = rendered(node, blank(24, 32, **how))
    assert np.array_equal(found, matted(shared_daemon, plate, clean).premultiplied)
    assert found[..., 3].min() < 0.1 < 0.9 < found[..., 3].max()


@pytest.mark.parametrize("how", [{}, {"padding": 7}, {"padding": 20, "negative": True}], ids=str)
def test_a_frame_too_large_for_the_cache_goes_there_and_back_unharmed(
    fake: tuple[FakeDaemon, Instance], how: dict[str, Any]
) -> None:
    daemon, node = fake
    plate = np.random.default_rng(1).random((701, 803, 4), np.float32)

    def answer(request: dict[str, Any]) -> list[Any]:
        daemon.array(request["slot"], request["out"][0])[...] = daemon.inputs[-1]["plate"] + 1
        return [daemon.reply(request, "done")]

    daemon.answer = answer  # type: ignore[method-assign]
    node.connect(Source=HostImage(plate, **how))
    found = rendered(node, blank(701, 803, **how))
    assert np.array_equal(daemon.inputs[0]["plate"], plate)
    assert np.array_equal(found, plate + 1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 1), (13, 17), (31, 33)])
def test_odd_sizes_are_bit_equal(
    node: Instance, shared_daemon: DaemonProcess, height: int, width: int
) -> None:
    plate, clean = scene(height, width)
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    matte = matted(shared_daemon, plate, clean)
    status, output = node.render()
    assert status == OK
    assert np.array_equal(output.pixels(), matte.premultiplied)
    # So small a frame may be less than was asked for, and then both say so.
    assert (node.message is None) == (not matte.degraded)


def test_the_filter_context_renders_as_the_general_one(
    host: OfxHost, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    node = host.create(FILTER, endpoint=str(shared_daemon.folder))
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    assert np.array_equal(rendered(node), matted(shared_daemon, plate, clean).premultiplied)


def test_each_clip_has_bounds_of_its_own(node: Instance, shared_daemon: DaemonProcess) -> None:
    plate, clean = scene(30, 40)
    node.connect(
        Source=HostImage(plate[4:24, 6:36].copy(), origin=(6, 6)),  # y1 = 30 - 24
        Background=HostImage(clean, padding=32, negative=True),
    )
    found = rendered(node)
    assert np.array_equal(
        found, matted(shared_daemon, plate[4:24, 6:36], clean[4:24, 6:36]).premultiplied
    )


def test_a_background_that_does_not_cover_the_source_is_an_error_with_both_rectangles(
    node: Instance,
) -> None:
    plate, clean = scene()
    node.connect(Source=HostImage(plate), Background=HostImage(clean, origin=(1, 0)))
    status, output = node.render()
    assert status == FAILED
    assert node.message is not None
    kind, text = node.message
    assert kind == "OfxMessageError"
    assert "(1, 0)-(33, 24)" in text
    assert "(0, 0)-(32, 24)" in text
    assert not output.pixels().any()


def test_a_partial_source_is_asked_for_whole(node: Instance, shared_daemon: DaemonProcess) -> None:
    plate, clean = scene()
    whole = HostImage(plate)
    node.connect(
        Source=HostImage(plate[:, :16].copy(), rod=(0, 0, 32, 24), whole=whole),
        Background=HostImage(clean),
    )
    found = rendered(node, blank(24, 32))
    assert np.array_equal(found, matted(shared_daemon, plate, clean).premultiplied)
    clip = node.clip("Source")
    assert clip is not None
    assert [by_region for _time, by_region in clip.asked] == [False, True]


def test_a_source_that_stays_partial_is_an_error_with_both_rectangles(node: Instance) -> None:
    plate, clean = scene()
    node.connect(
        Source=HostImage(plate[:, :16].copy(), rod=(0, 0, 32, 24)), Background=HostImage(clean)
    )
    status, _output = node.render(blank(24, 32))
    assert status == FAILED
    assert node.message is not None
    assert "(0, 0)-(16, 24)" in node.message[1]
    assert "(0, 0)-(32, 24)" in node.message[1]


def test_tiles_of_a_frame_add_up_to_the_whole_of_it(
    node: Instance, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    output = blank(24, 32, padding=8)
    for window in ((0, 0, 20, 10), (20, 0, 32, 10), (0, 10, 5, 24), (5, 10, 32, 24)):
        rendered(node, output, window=window)
    assert np.array_equal(output.pixels(), matted(shared_daemon, plate, clean).premultiplied)


def test_an_output_larger_than_the_source_is_black_and_transparent_around_it(
    node: Instance, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    found = rendered(node, blank(40, 50, origin=(-5, -6)))
    inside = found[40 - 6 - 24 : 40 - 6, 5:37].copy()
    assert np.array_equal(inside, matted(shared_daemon, plate, clean).premultiplied)
    found[40 - 6 - 24 : 40 - 6, 5:37] = 0
    assert not found.any()


@pytest.mark.parametrize("dtype", ["float16", "uint16", "uint8"])
def test_other_depths_are_the_nearest_there_is(
    node: Instance, shared_daemon: DaemonProcess, dtype: str
) -> None:
    plate, clean = scene(dtype=dtype)
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    found = rendered(node)
    expected = matted(shared_daemon, plate, clean).premultiplied
    assert expected is not None
    scale = {"uint8": 255, "uint16": 65535}.get(dtype)
    if scale:
        expected = np.floor(expected.clip(0, 1) * np.float32(scale) + np.float32(0.5))
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, expected.astype(dtype))


@pytest.mark.parametrize(("dtype", "bar"), [("float16", 5e-4), ("uint16", 1 / 65535)])
def test_half_and_short_frames_are_near_the_float_one(
    node: Instance, shared_daemon: DaemonProcess, dtype: str, bar: float
) -> None:
    plate, clean = scene(dtype=dtype)
    scale = {"uint16": 65535}.get(dtype, 1)
    exact = [(picture.astype(np.float64) / scale).astype(np.float32) for picture in (plate, clean)]
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    found = rendered(node).astype(np.float64) / scale
    expected = matted(shared_daemon, *exact).premultiplied
    assert np.abs(found - expected).max() <= bar


def test_an_rgb_plate_and_clean_plate_give_rgba(
    node: Instance, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene(channels=3)
    node.connect(
        Source=HostImage(plate, state=OPAQUE), Background=HostImage(clean, state=OPAQUE, padding=4)
    )
    assert np.array_equal(rendered(node), matted(shared_daemon, plate, clean).premultiplied)


@pytest.mark.parametrize("channels", [3, 1])
def test_an_output_of_fewer_components_gets_its_part(
    node: Instance, shared_daemon: DaemonProcess, channels: int
) -> None:
    plate, clean = scene()
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    found = rendered(node, blank(24, 32, channels))
    expected = matted(shared_daemon, plate, clean).premultiplied
    assert expected is not None
    part = expected[..., 3:] if channels == 1 else expected[..., :3]
    assert np.array_equal(found, part)


def test_a_premultiplied_source_says_so_to_the_daemon(
    node: Instance, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    plate[..., 3] = np.linspace(0, 1, 32, dtype=np.float32)
    plate[..., :3] *= plate[..., 3:]
    node.connect(
        Source=HostImage(plate, state=PREMULTIPLIED),
        Background=HostImage(clean, state=PREMULTIPLIED),
    )
    expected = matted(shared_daemon, plate, clean, plate_alpha="premultiplied").premultiplied
    assert np.array_equal(rendered(node), expected)
    other = matted(shared_daemon, plate, clean).premultiplied
    assert not np.array_equal(expected, other)


@pytest.mark.parametrize("premultiplied", ["Source", "Background"])
def test_one_premultiplied_input_beside_a_straight_one_keeps_both_meanings(
    node: Instance, shared_daemon: DaemonProcess, premultiplied: str
) -> None:
    plate, clean = scene()
    alpha = np.linspace(0.2, 1, 32, dtype=np.float32)[:, None]
    half_there = {"Source": plate, "Background": clean}[premultiplied]
    other = {"Source": clean, "Background": plate}[premultiplied]
    half_there[..., 3:] = alpha
    half_there[..., :3] *= alpha
    other[..., 3] = 0.5  # straight: means nothing
    states = dict.fromkeys(("Source", "Background"), STRAIGHT)
    states[premultiplied] = PREMULTIPLIED
    node.connect(
        Source=HostImage(plate, state=states["Source"]),
        Background=HostImage(clean, state=states["Background"]),
    )
    other[..., 3] = 1
    expected = matted(shared_daemon, plate, clean, plate_alpha="premultiplied").premultiplied
    assert np.array_equal(rendered(node), expected)


def test_an_image_without_a_state_takes_its_clips_and_else_counts_as_straight(
    node: Instance, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    plate[..., 3] = 0.5
    node.connect(Source=HostImage(plate, state=None), Background=HostImage(clean))
    assert np.array_equal(rendered(node), matted(shared_daemon, plate, clean).premultiplied)


def test_the_output_modes_are_premultiplied_straight_and_matte(
    node: Instance, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    matte = matted(shared_daemon, plate, clean, outputs=["foreground", "alpha"])
    assert matte.foreground is not None
    straight = np.concatenate([matte.foreground, matte.alpha], axis=2)
    assert np.array_equal(rendered(node.set(outputMode=1)), straight)
    assert np.array_equal(rendered(node.set(outputMode=2)), np.repeat(matte.alpha, 4, axis=2))


@pytest.mark.parametrize(
    ("knobs", "params"),
    [
        ({"inputColor": 1}, {"colorspace": "srgb"}),
        (
            {"inputColor": 1, "premultiply": 1},
            {"colorspace": "srgb", "premultiply": "display"},
        ),
        ({"foregroundSource": 1}, {"foreground": "unmix"}),
        ({"foregroundSource": 2}, {"foreground": "plate"}),
        ({"alignment": 0}, {"alignment": "off"}),
        ({"alignment": 1}, {"alignment": "auto"}),
        ({"model": "difference"}, {"model": "difference"}),
        ({"despillStrength": 0.5}, {"despill_strength": 0.5}),
        (
            {"despillStrength": 1.0, "spillMethod": 1, "screen": 1, "edgeBlur": 2},
            {"despill_strength": 1.0, "spill_method": "double_limit", "screen": "blue"},
        ),
        (
            {"autoDespeckle": True, "despeckleSize": 60, "despeckleDilation": 2},
            {"auto_despeckle": True, "despeckle_size": 60, "despeckle_dilation": 2},
        ),
        (
            {"sourcePassthrough": True, "edgeErode": 1, "edgeBlur": 0},
            {"source_passthrough": True, "edge_erode_px": 1, "edge_blur_px": 0},
        ),
    ],
)
def test_a_knob_is_the_clients_parameter(
    node: Instance, shared_daemon: DaemonProcess, knobs: dict[str, Any], params: dict[str, Any]
) -> None:
    plate, clean = scene(64, 80)
    node.set(**knobs).connect(Source=HostImage(plate), Background=HostImage(clean))
    status, output = node.render()
    matte = matted(shared_daemon, plate, clean, **params)
    assert status == OK
    assert np.array_equal(output.pixels(), matte.premultiplied)
    assert (node.message is None) == (not matte.degraded)


def test_a_pixel_that_is_no_number_fails_the_frame_unless_the_knob_makes_it_zero(
    node: Instance,
) -> None:
    plate, clean = scene(64, 80)
    plate = plate.copy()
    plate[3, 5] = np.nan
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    assert node.render()[0] == FAILED
    assert "nonfinite" in node.message[1]
    assert node.set(nonfinite=1).render()[0] == OK


def test_a_hint_whose_alpha_is_the_same_all_over_is_taken_from_its_luma(node: Instance) -> None:
    plate, clean = scene(64, 80)
    matte = np.zeros((64, 80, 4), np.float32)
    matte[16:48, 20:60] = 1
    black_and_white = matte.copy()
    black_and_white[..., 3] = 1
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    wanted = rendered(node.connect(AlphaHint=HostImage(matte)))
    status, output = node.connect(AlphaHint=HostImage(black_and_white)).render()
    assert status == OK
    assert np.array_equal(output.pixels(), wanted)
    assert SENTENCES["matte_from_luma"] in node.message[1]


# ---------------------------------------------------------------------------------------------
# Inputs that are not there


@pytest.mark.parametrize("how", list(Missing))
def test_a_background_missing_in_any_hosts_way_is_absent(
    host: OfxHost, shared_daemon: DaemonProcess, how: Missing
) -> None:
    host.unload()
    host.properties.values["OfxPropName"] = ["DaVinciResolveLite"]
    host.load()
    plate, _clean = scene()
    node = host.create(GENERAL, endpoint=str(shared_daemon.folder), inputColor=0)
    status, output = node.connect(Source=HostImage(plate), Background=how).render()
    assert status == FAILED
    assert node.message is not None
    assert "clean plate" in node.message[1]
    assert not output.pixels().any()


@pytest.mark.parametrize("how", [Missing.STATUS, Missing.NULL_DATA, Missing.BARE])
def test_a_source_that_is_missing_is_an_error_that_says_so(node: Instance, how: Missing) -> None:
    status, output = node.connect(Source=how).render(blank(8, 8))
    assert status == FAILED
    assert node.message is not None
    assert "Source" in node.message[1]
    assert not output.pixels().any()


def test_a_held_clean_plate_serves_where_nothing_is_connected_to_background(
    host: OfxHost, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    node = host.create(FILTER, endpoint=str(shared_daemon.folder), cleanPlate="ofx-test")
    node.connect(Source=HostImage(plate), Background=Missing.BARE)
    status, _output = node.render()
    assert status == FAILED
    assert node.message is not None
    assert "ofx-test" in node.message[1]
    with shared_daemon.client() as client:
        client.hold_clean_plate("ofx-test", clean)
        expected = client.matte(plate, clean, colorspace="linear").premultiplied
    assert np.array_equal(rendered(node), expected)
    # What is connected wins.
    other = scene(seed=5)[1]
    node.connect(Background=HostImage(other))
    assert np.array_equal(rendered(node), matted(shared_daemon, plate, other).premultiplied)
    with shared_daemon.client() as client:
        client.drop_clean_plate("ofx-test")


def test_a_held_clean_plate_serves_a_host_that_renders_at_half_size(
    host: OfxHost, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    node = host.create(FILTER, endpoint=str(shared_daemon.folder), cleanPlate="ofx-proxy")
    node.connect(Source=HostImage(plate), Background=Missing.BARE)
    with shared_daemon.client() as client:
        # Every pixel four times: its mean is the clean plate of the small frame again, exactly.
        client.hold_clean_plate("ofx-proxy", clean.repeat(2, axis=0).repeat(2, axis=1))
        expected = client.matte(plate, clean, colorspace="linear").premultiplied
        found = rendered(node, scale=(0.5, 0.5))
        client.drop_clean_plate("ofx-proxy")
    # The means are exact but for a rounding of float32, which the keyer may enlarge a little.
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_useBackground_off_is_as_if_nothing_were_connected(  # noqa: N802
    fake: tuple[FakeDaemon, Instance],
) -> None:
    daemon, node = fake
    plate, clean = scene()
    node.set(useBackground=0, useHint=0, cleanPlate="held")
    node.connect(
        Source=HostImage(plate), Background=HostImage(clean), AlphaHint=HostImage(plate[..., :1])
    )
    rendered(node)
    assert set(daemon.inputs[0]) == {"plate"}
    assert "clean_plate" not in daemon.requests[0]


# ---------------------------------------------------------------------------------------------
# What arrives at the daemon


def test_the_rows_of_a_slot_are_top_down_and_bit_equal_to_the_hosts(
    fake: tuple[FakeDaemon, Instance],
) -> None:
    daemon, node = fake
    plate, clean = scene()
    node.connect(Source=HostImage(plate, padding=12), Background=HostImage(clean, negative=True))
    assert (rendered(node) == np.float32(0.25)).all()
    assert np.array_equal(daemon.inputs[0]["plate"], plate)
    assert np.array_equal(daemon.inputs[0]["clean_plate"], clean)


@pytest.mark.parametrize(
    ("pixels", "channel", "picked"),
    [
        ("rgba", 0, "alpha"),
        ("rgba", 1, "red"),
        ("rgba", 2, "luma"),
        ("rgb", 0, "red"),
        ("rgb", 1, "red"),
        ("rgb", 2, "luma"),
        ("alpha", 2, "red"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16", "uint8"])
def test_the_hint_is_the_channel_that_was_chosen(
    fake: tuple[FakeDaemon, Instance], pixels: str, channel: int, picked: str, dtype: str
) -> None:
    daemon, node = fake
    plate, _clean = scene()
    count = {"rgba": 4, "rgb": 3, "alpha": 1}[pixels]
    scale = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    random = np.random.default_rng(3).random((24, 32, count))
    hint = np.round(random * scale).astype(dtype) if scale > 1 else random.astype(dtype)
    node.set(hintChannel=channel).connect(Source=HostImage(plate), AlphaHint=HostImage(hint))
    rendered(node)
    found = daemon.inputs[0]["alpha_hint"]
    if picked == "luma":
        luma = (hint[..., :3].astype(np.float64) / scale) @ [0.2126, 0.7152, 0.0722]
        assert np.allclose(found[..., 0], luma, atol=1e-6)
    else:
        index = count - 1 if picked == "alpha" else 0
        assert found.dtype == hint.dtype
        assert np.array_equal(found[..., 0], hint[..., index])


def test_the_hint_is_zero_outside_of_its_bounds(fake: tuple[FakeDaemon, Instance]) -> None:
    daemon, node = fake
    plate, _clean = scene()
    hint = np.full((10, 12, 1), 0.75, np.float32)
    node.connect(Source=HostImage(plate), AlphaHint=HostImage(hint, origin=(-4, 20)))
    rendered(node)
    expected = np.zeros((24, 32), np.float32)
    expected[:4, :8] = 0.75  # x -4..8, y 20..30, of a frame 32 wide and 24 high
    assert np.array_equal(daemon.inputs[0]["alpha_hint"][..., 0], expected)


def test_a_request_says_frame_time_scale_and_priority(fake: tuple[FakeDaemon, Instance]) -> None:
    daemon, node = fake
    plate, _clean = scene()
    node.connect(Source=HostImage(plate, OfxImagePropPixelAspectRatio=2.0))
    rendered(node, time=1001.5, scale=(0.5, 0.25), interactive=True)
    rendered(node, time=-3.0)
    first, second = daemon.requests
    assert (first["frame"], first["priority"]) == (1001, "interactive")
    assert first["ext"] == {
        "host": NUKE, "draft": False, "time": 1001.5, "par": 2.0, "scale": [0.5, 0.25],
    }  # fmt: skip
    assert (second["frame"], second["priority"]) == (-3, "batch")
    assert 50_000 < first["deadline_ms"] < 60_000
    assert (first["gen"], second["gen"]) == (1, 2)
    assert daemon.hellos[0]["client"]["host"] == NUKE
    assert len(daemon.hellos) == 1


def test_images_at_another_scale_than_the_render_are_taken_as_they_are(
    node: Instance, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    how = {"OfxImageEffectPropRenderScale": (3.0, 3.0), "OfxImagePropField": "OfxFieldBoth"}
    node.connect(Source=HostImage(plate, **how), Background=HostImage(clean, **how))
    found = rendered(node, scale=(1 / 3, 1 / 3))
    assert np.array_equal(found, matted(shared_daemon, plate, clean).premultiplied)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"OfxImagePropRowBytes": 8}, "rows of 8 bytes"),
        ({"OfxImagePropRowBytes": -8}, "rows of -8 bytes"),
        ({"OfxImageEffectPropPixelDepth": "OfxBitDepthNone"}, "OfxBitDepthNone"),
        ({"OfxImageEffectPropComponents": "uk.co.thefoundry.OfxImageComponentMotionVectors"}, "uk"),
        ({"OfxImagePropBounds": (0, 0, 0, 0)}, "bounds"),
        ({"OfxImagePropBounds": (0, 0, 40000, 24)}, "40000"),
        ({"OfxImagePropBounds": (-(2**31), -(2**31), 2**31 - 1, 2**31 - 1)}, "bounds"),
        ({"OfxImagePropBounds": None}, "bounds"),
    ],
)
def test_an_image_that_cannot_be_right_is_an_error_and_is_not_read(
    fake: tuple[FakeDaemon, Instance], changes: dict[str, Any], word: str
) -> None:
    daemon, node = fake
    plate, _clean = scene()
    if "OfxImageEffectPropComponents" in changes or "OfxImagePropBounds" in changes:
        changes = {"OfxImagePropRegionOfDefinition": None, **changes}
    status, _output = node.connect(Source=HostImage(plate, **changes)).render(blank(24, 32))
    assert status == FAILED
    assert node.message is not None
    assert word in node.message[1]
    assert daemon.requests == []
