"""What the plugin declares to a host, and that it needs no daemon for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes.ofx_host import (
    DEFAULT,
    FAILED,
    FILTER,
    GENERAL,
    OK,
    PARAM_TYPES,
    Effect,
    HostImage,
    OfxHost,
    PropertySet,
)
from fakes.ofx_scene import scene


@pytest.fixture
def host_name() -> str:
    return "org.mattebridge.testhost"  # none whose ways the plugin knows


def option_names(effect: Effect, name: str) -> list[Any]:
    return effect.params[name].properties.values["OfxParamPropChoiceOption"]


def test_the_plugin_names_itself(host: OfxHost) -> None:
    assert host._library.OfxGetNumberOfPlugins() == 1
    assert host._library.OfxGetPlugin(1) is None
    assert host._library.OfxGetPlugin(-1) is None
    plugin = host.plugin
    assert (plugin.pluginApi, plugin.apiVersion) == (b"OfxImageEffectPluginAPI", 1)
    assert plugin.pluginIdentifier == b"org.mattebridge.MatteBridge"
    assert (plugin.pluginVersionMajor, plugin.pluginVersionMinor) == (1, 0)


def test_the_descriptor_leaves_nothing_to_what_hosts_assume(host: OfxHost) -> None:
    values = host.describe().properties.values
    assert values["OfxPropLabel"] == ["MatteBridge"]
    assert values["OfxImageEffectPluginPropGrouping"] == ["Keyer"]
    assert values["OfxPropVersion"] == [1, 0]
    assert values["OfxImageEffectPropSupportedContexts"] == [FILTER, GENERAL]
    depths = values["OfxImageEffectPropSupportedPixelDepths"]
    assert depths == [f"OfxBitDepth{word}" for word in ("Float", "Half", "Short", "Byte")]
    assert values["OfxImageEffectPluginRenderThreadSafety"] == ["OfxImageEffectRenderInstanceSafe"]
    off = [
        "OfxImageEffectPluginPropSingleInstance", "OfxImageEffectPluginPropHostFrameThreading",
        "OfxImageEffectPropSupportsTiles", "OfxImageEffectPropTemporalClipAccess",
        "OfxImageEffectPluginPropFieldRenderTwiceAlways", "OfxImageEffectPropMultipleClipDepths",
        "OfxImageEffectPropSupportsMultipleClipPARs", "OfxImageEffectInstancePropSequentialRender",
    ]  # fmt: skip
    assert {name: values[name] for name in off} == {name: [0] for name in off}
    assert values["OfxImageEffectPropSupportsMultiResolution"] == [1]
    assert values["OfxImageEffectPropClipPreferencesSlaveParam"] == ["outputMode"]
    assert not [name for name in values if "Colour" in name]  # Nuke 17 crashes on them


@pytest.mark.parametrize("context", [FILTER, GENERAL])
def test_both_contexts_have_the_same_clips(host: OfxHost, context: str) -> None:
    clips = host.describe(context).clips
    assert set(clips) == {"Output", "Source", "Background", "AlphaHint"}
    components = {
        name: [word[len("OfxImageComponent") :] for word in clip.values[
            "OfxImageEffectPropSupportedComponents"]]
        for name, clip in clips.items()
    }  # fmt: skip
    assert components["Output"] == ["RGBA"]
    assert components["Source"] == (["RGBA"] if context == FILTER else ["RGBA", "RGB"])
    assert components["Background"] == ["RGBA", "RGB"]
    assert components["AlphaHint"] == ["RGBA", "RGB", "Alpha"]
    for name in ("Background", "AlphaHint"):
        assert clips[name].get("OfxImageClipPropOptional") == 1
    assert clips["Source"].get("OfxImageClipPropOptional") is None
    assert clips["AlphaHint"].get("OfxImageClipPropIsMask") == int(context == GENERAL)
    assert all(clip.get("OfxImageEffectPropSupportsTiles") == 0 for clip in clips.values())


# Scripts and projects hold these names, types and numbers: they never change, they only grow.
PANEL = {
    "model": ("String", "default"),
    "outputMode": ("Choice", 0),
    "inputColor": ("Choice", 1),
    "foregroundSource": ("Choice", 0),
    "alignment": ("Choice", 3),
    "useBackground": ("Boolean", 1),
    "useHint": ("Boolean", 1),
    "cleanPlate": ("String", ""),
    "startDaemon": ("PushButton", None),
    "daemonStatus": ("PushButton", None),
    "daemonFound": ("String", "not looked for yet"),
    "cleanUp": ("Group", None),
    "hintSharpen": ("Boolean", 0),
    "hintSharpenDilation": ("Integer", 3),
    "hintBlur": ("Integer", 0),
    "sourcePassthrough": ("Boolean", 0),
    "edgeErode": ("Integer", 3),
    "edgeBlur": ("Integer", 7),
    "autoDespeckle": ("Boolean", 0),
    "despeckleSize": ("Integer", 400),
    "despeckleDilation": ("Integer", 25),
    "despeckleBlur": ("Integer", 5),
    "despeckleThreshold": ("Double", 0.5),
    "despeckleHysteresis": ("Boolean", 0),
    "despillStrength": ("Double", 0.0),
    "spillMethod": ("Choice", 0),
    "screen": ("Choice", 2),
    "advanced": ("Group", None),
    "hintChannel": ("Choice", 0),
    "onError": ("Choice", 0),
    "nonfinite": ("Choice", 0),
    "premultiply": ("Choice", 0),
    "timeout": ("Double", 60.0),
    "endpoint": ("String", ""),
    "refresh": ("PushButton", None),
    "refreshCount": ("Integer", 0),
    "Controls": ("Page", None),
}


def test_the_panel_is_the_one_that_saved_scripts_know(host: OfxHost) -> None:
    effect = host.describe()
    found = {
        name: (param.kind, param.properties.get("OfxParamPropDefault"))
        for name, param in effect.params.items()
    }
    assert found == PANEL
    assert list(found) == list(PANEL)
    assert option_names(effect, "outputMode")[0] == "Premultiplied RGBA"
    assert len(option_names(effect, "outputMode")) == 3
    assert option_names(effect, "inputColor") == ["Linear Rec.709", "sRGB display"]
    assert option_names(effect, "foregroundSource") == ["Model", "Unmix", "Plate"]
    assert option_names(effect, "alignment") == ["Off", "Automatic", "Homography", "Model's own"]
    assert option_names(effect, "onError") == ["Fail", "Pass source", "Transparent black"]
    assert option_names(effect, "hintChannel") == ["Alpha", "Red", "Luma"]


def test_every_knob_has_a_hint_a_range_and_its_place(host: OfxHost) -> None:
    effect = host.describe()
    for name, param in effect.params.items():
        values = param.properties.values
        assert values["OfxParamPropHint"][0].endswith("."), name
        assert values["OfxPropLabel"][0]
        if PARAM_TYPES[param.kind][0]:
            assert values["OfxParamPropAnimates"] == [0], name
        if param.kind in ("Integer", "Double"):
            low, high = values["OfxParamPropMin"][0], values["OfxParamPropMax"][0]
            shown = values["OfxParamPropDisplayMin"][0], values["OfxParamPropDisplayMax"][0]
            assert low <= shown[0] <= values["OfxParamPropDefault"][0] <= shown[1] <= high, name
    parents = {n: p.properties.get("OfxParamPropParent") for n, p in effect.params.items()}
    names = list(PANEL)
    clean_up = names[names.index("hintSharpen") : names.index("advanced")]
    assert [name for name, parent in parents.items() if parent == "cleanUp"] == clean_up
    assert effect.params["cleanUp"].properties.get("OfxParamPropGroupOpen") == 0
    assert [name for name, parent in parents.items() if parent == "advanced"] == [
        *("hintChannel", "onError", "nonfinite", "premultiply", "timeout", "endpoint"),
        *("refresh", "refreshCount"),
    ]
    assert effect.params["advanced"].properties.get("OfxParamPropGroupOpen") == 0
    assert effect.params["refreshCount"].properties.get("OfxParamPropSecret") == 1
    found = effect.params["daemonFound"].properties
    for name in ("Enabled", "Persistant", "EvaluateOnChange"):
        assert found.get(f"OfxParamProp{name}") == 0  # it is shown, and changes no picture
    page = effect.params["Controls"].properties.values["OfxParamPropPageChild"]
    assert page == [name for name in PANEL if name != "Controls"]


@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("uk.co.thefoundry.nuke", 0),
        ("fr.inria.Natron", 0),
        ("com.blackmagicdesign.Fusion", 0),
        ("DaVinciResolveLite", 1),
        ("MLT", 1),
        (None, 1),
    ],
)
def test_the_input_colour_is_what_the_host_usually_hands_out(
    binary: Path, name: Any, color: int
) -> None:
    with OfxHost(binary, name=name) as host:
        effect = host.describe()
        assert effect.params["inputColor"].properties.get("OfxParamPropDefault") == color


@pytest.mark.parametrize(("name", "output"), [("MLT", 1), ("uk.co.thefoundry.nuke", 0), (None, 0)])
def test_a_host_that_multiplies_by_alpha_itself_gets_straight_colour(
    binary: Path, name: Any, output: int
) -> None:
    with OfxHost(binary, name=name) as host:
        effect = host.describe()
        assert effect.params["outputMode"].properties.get("OfxParamPropDefault") == output


def test_a_natron_that_fakes_its_name_is_still_natron(binary: Path) -> None:
    with OfxHost(binary, NatronOfxHostIsNatron=1) as host:
        effect = host.describe()
        assert effect.params["inputColor"].properties.get("OfxParamPropDefault") == 0


@pytest.mark.parametrize(
    ("mode", "state"), [(0, "Premultiplied"), (1, "UnPremultiplied"), (2, "Premultiplied")]
)
def test_clip_preferences_follow_the_output_mode(host: OfxHost, mode: int, state: str) -> None:
    status, wanted = host.create(GENERAL, outputMode=mode).clip_preferences()
    assert status == OK
    assert wanted.values == {
        "OfxImageClipPropComponents_Output": ["OfxImageComponentRGBA"],
        "OfxImageEffectPropPreMultiplication": [f"OfxImageAlpha{state}"],
    }
    _status, wanted = host.create(FILTER).clip_preferences()
    assert set(wanted.values) == {"OfxImageEffectPropPreMultiplication"}


def test_the_region_of_interest_is_each_connected_inputs_whole_frame(host: OfxHost) -> None:
    plate, clean = scene()
    node = host.create()
    node.connect(Source=HostImage(plate), Background=HostImage(clean, rod=(-5, -6, 40, 50)))
    assert node.regions_of_interest((3.0, 3.0, 5.0, 5.0)) == {
        "Source": [0.0, 0.0, 32.0, 24.0],
        "Background": [-5.0, -6.0, 40.0, 50.0],
    }
    node.connect(Source=HostImage(plate, rod=(0, 0, 0, 0)))
    assert set(node.regions_of_interest((3.0, 3.0, 5.0, 5.0))) == {"Background"}


def test_the_button_makes_the_host_render_again(host: OfxHost, tmp_path: Path) -> None:
    node = host.create(endpoint=str(tmp_path / "none"))
    counter = node.effect.params["refreshCount"]
    assert node.changed("refresh") == OK
    assert node.changed("refresh") == OK
    assert counter.value == 2
    assert node.changed("refresh", "OfxChangePluginEdited") == DEFAULT
    node.changed("model")
    assert counter.value == 2
    counter.value = 2**31 - 1
    node.changed("refresh")
    assert counter.value == 0


@pytest.mark.parametrize(
    "action",
    [
        "OfxImageEffectActionGetRegionOfDefinition",
        "OfxImageEffectActionIsIdentity",
        "OfxImageEffectActionBeginSequenceRender",
        "OfxImageEffectActionEndSequenceRender",
        "OfxImageEffectActionGetFramesNeeded",
        "OfxActionPurgeCaches",
        "OfxActionSyncPrivateData",
        "OfxActionBeginInstanceEdit",
        "OfxActionSomethingNew",
    ],
)
def test_what_is_not_ours_is_left_to_the_host(host: OfxHost, action: str) -> None:
    assert host.create().act(action) == DEFAULT


@pytest.mark.parametrize("suite", ["OfxPropertySuite", "OfxImageEffectSuite", "OfxParameterSuite"])
def test_a_host_without_a_needed_suite_is_told_so(binary: Path, suite: str) -> None:
    host = OfxHost(binary, suites_missing=[suite])
    assert host.load() == 4
    assert host.unload() == OK


def test_a_descriptor_that_is_described_twice_is_the_same(binary: Path) -> None:
    with OfxHost(binary, separate_descriptors=False) as host:
        first = host.describe(FILTER)
        handle = host._handle(first)
        host.call("OfxActionDescribe", handle)
        again = PropertySet(OfxImageEffectPropContext=GENERAL)
        assert host.call("OfxImageEffectActionDescribeInContext", handle, again) == OK
        assert list(first.params) == list(PANEL)


REFUSALS = [
    {"OfxPropPluginDescription", "OfxImageEffectPropClipPreferencesSlaveParam"},
    {"OfxParamTypePushButton", "OfxParamTypePage", "OfxParamTypeGroup"},
    {"timeout", "endpoint", "model", "outputMode", "onError"},
    {"AlphaHint", "Background"},
    {"OfxParamPropHint", "OfxParamPropParent", "OfxParamPropDisplayMax", "OfxPropLabel"},
    {"OfxPropInstanceData"},
]


@pytest.mark.parametrize("refused", REFUSALS, ids=lambda names: sorted(names)[0])
def test_a_host_that_refuses_things_still_gets_a_node(
    binary: Path, refused: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", str(tmp_path / "none"))
    with OfxHost(binary, refuse=refused) as host:
        node = host.create()
        node.clip_preferences()
        plate, _clean = scene()
        status, output = node.connect(Source=HostImage(plate)).render()
        assert status == FAILED
        assert not output.pixels().any()
        node.destroy()
        assert host.complaints == []


def test_knobs_without_a_daemon_open_nothing(
    binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder that would be refused loudly if anybody looked at it.
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", "not/absolute")
    with OfxHost(binary) as host:
        node = host.create()
        node.clip_preferences()
        node.regions_of_interest((0.0, 0.0, 1.0, 1.0))
        node.changed("refresh")
        assert node.message is None
        node.destroy()
