"""Colour management of OpenFX 1.5: what the plugin tells a host, and which space it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess
from fakes.ofx_daemon import FakeDaemon
from fakes.ofx_host import (
    DEFAULT,
    FAILED,
    FILTER,
    GENERAL,
    NATIVE_CONFIG,
    NUKE,
    OK,
    HostImage,
    Instance,
    OfxHost,
)
from fakes.ofx_scene import matted, scene

STYLE = "OfxImageEffectPropColourManagementStyle"
CONFIGS = "OfxImageEffectPropColourManagementAvailableConfigs"
PREFERRED = "OfxImageClipPropPreferredColourspaces_"
STUDIO = "ocio://studio-config-latest"


def offering(style: str) -> dict[str, Any]:
    """The properties of a host that manages colours."""
    return {STYLE: f"OfxImageEffectColourManagement{style}", CONFIGS: [NATIVE_CONFIG]}


@pytest.fixture
def host(binary: Path) -> Iterator[OfxHost]:
    with OfxHost(binary, **offering("OCIO")) as host:
        yield host
    assert host.complaints == []


@pytest.fixture
def fake(host: OfxHost) -> Iterator[tuple[FakeDaemon, Instance]]:
    with FakeDaemon() as daemon:
        node = host.create(GENERAL, endpoint=str(daemon.folder), inputColor=1)
        plate, clean = scene()
        yield daemon, node.connect(Source=HostImage(plate), Background=HostImage(clean))


def space_asked_for(fake: tuple[FakeDaemon, Instance]) -> str:
    daemon, node = fake
    status, _ = node.render()
    assert (status, node.message) == (OK, None)
    return str(daemon.requests[-1]["params"]["colorspace"])


def test_a_host_that_manages_colours_is_told_that_any_space_will_do(host: OfxHost) -> None:
    values = host.describe().properties.values
    assert values[STYLE] == ["OfxImageEffectColourManagementOCIO"]
    assert values[CONFIGS] == [NATIVE_CONFIG]


@pytest.mark.parametrize("how", [{}, offering("None"), {"name": NUKE, **offering("OCIO")}], ids=str)
def test_other_hosts_and_nuke_see_none_of_these_properties(binary: Path, how: Any) -> None:
    with OfxHost(binary, **how) as host:
        assert not [name for name in host.describe().properties.values if "Colour" in name]
        node = host.create(GENERAL)
        if "name" in how:
            node.manage_colours("OCIO", STUDIO, Source="ACEScg")
        assert not [name for name in node.clip_preferences()[1].values if "Colour" in name]
        assert node.output_colourspace() == (DEFAULT, None)
    assert host.complaints == []


@pytest.mark.parametrize(
    ("style", "given", "asked"),
    [
        ("Core", "ACEScg", "ACEScg"),
        ("Core", "lin_rec709_srgb", "linear"),
        ("Core", "srgb_tx", "srgb"),
        ("Full", "arri_logc4", "arri_logc4"),
        ("OCIO", "Show Log", "Show Log"),
        # In a config of one's own a name means what the config says.
        ("OCIO", "srgb_tx", "srgb_tx"),
        # These say of which kind a space is; the knob is set to sRGB.
        ("Basic", "ofx_scene_linear", "srgb"),
        ("Core", "ofx_raw", "srgb"),
        ("Core", None, "srgb"),
        ("None", "ACEScg", "srgb"),
    ],
)
def test_a_request_names_the_space_of_the_clip_else_that_of_the_knob(
    fake: tuple[FakeDaemon, Instance], style: str, given: str, asked: str
) -> None:
    fake[1].manage_colours(style, Source=given, Background=given)
    assert space_asked_for(fake) == asked


def test_inputs_in_two_spaces_are_refused(fake: tuple[FakeDaemon, Instance]) -> None:
    _, node = fake
    node.manage_colours("Core", Source="ACEScg", Background="ACEScct")
    status, _ = node.render()
    assert status == FAILED
    assert node.message is not None
    assert "Background in 'ACEScct' and Source in 'ACEScg'" in node.message[1]
    node.manage_colours("Core", Source="ACEScg", Background=None)
    assert space_asked_for(fake) == "ACEScg"


def test_preferences_ask_for_the_clean_plate_in_the_plates_space(host: OfxHost) -> None:
    for context, of_hint in ((GENERAL, None), (FILTER, ["ofx_raw"])):
        node = host.create(context).manage_colours("Core", Source="ACEScg")
        values = node.clip_preferences()[1].values
        assert values[f"{PREFERRED}Background"] == ["OfxColourspace_Source"]
        assert values.get(f"{PREFERRED}AlphaHint") == of_hint
        assert f"{PREFERRED}Source" not in values
        assert node.output_colourspace() == (OK, "OfxColourspace_Source")
        assert node.set(outputMode=2).output_colourspace() == (OK, "ofx_raw")


def test_a_frame_in_acescg_is_the_python_clients(
    host: OfxHost, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    node = host.create(GENERAL, endpoint=str(shared_daemon.folder))
    node.connect(Source=HostImage(plate), Background=HostImage(clean))
    node.manage_colours("OCIO", STUDIO, Source="ACEScg", Background="ACEScg")
    status, output = node.render()
    assert (status, node.message) == (OK, None)
    expected = matted(shared_daemon, plate, clean, colorspace="ACEScg").premultiplied
    assert np.array_equal(output.pixels(), expected)
    node.manage_colours("OCIO", "/show/config.ocio")
    status, output = node.render()
    assert status == OK
    assert node.message is not None
    assert "the host has another OpenColorIO config than the daemon" in node.message[1]
    node.manage_colours("OCIO", STUDIO, Source="ACECg", Background=None)
    status, _ = node.render()
    assert status == FAILED
    assert "nearest are: " in node.message[1]
