"""Each host offers the render parameters of `wire/params.py`: names, choices and defaults.

A parameter that is added to the table fails here until Nuke, Fusion and the OFX plugin offer it, or
until it stands in the list of those that a host leaves out, with the reason.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import pytest

from fakes.fusion_host import Comp
from fakes.nuke_host import NukeHost
from fakes.places import ROOT
from mattebridge.hosts import command
from mattebridge.hosts.request import ScratchFiles, ShotSettings
from mattebridge.wire.params import CLEAN_UP, CLEAN_UP_NAMES, INPUT_ROLES, NAMES, PARAMS, Param

AS_THE_MODEL = "as the model wants"
ROWS: Mapping[str, Param] = {param.name: param for param in PARAMS}
# The clean-up's switches and numbers; its choices are like all others.
PLAIN_CLEAN_UP = {param.name for param in CLEAN_UP if param.kind != "choice"}
SWITCHES = {param.name for param in CLEAN_UP if param.kind == "flag"}
# Not the default of any parameter of the clean-up.
ALL_CLEAN_UP: Mapping[str, Any] = {
    **dict.fromkeys(SWITCHES, True),
    **dict.fromkeys(PLAIN_CLEAN_UP - SWITCHES, 1),
    "spill_method": "double_limit",
    "screen": "blue",
}

# What a host does not offer, and why.
NO_SPACE_OF_RESULTS = "results are in the colour space of the plate"
NOT_FOR_ARTISTS = "for comparing the two ways to compute; artists want the fast one"
HOSTS_LACK = {"output_colorspace": NO_SPACE_OF_RESULTS}
NUKE_LACKS = {"output_colorspace": NO_SPACE_OF_RESULTS, "exact": NOT_FOR_ARTISTS}
SHORT_DIALOG = "the dialog of the script asks only what every shot needs"
FUSION_LACKS = {
    **NUKE_LACKS,
    **dict.fromkeys(("plate_alpha", "alignment", "match_exposure", "nonfinite"), SHORT_DIALOG),
}
NO_KNOB_YET = "the panel has no knob for it: the daemon's default is used"
OFX_LACKS = {
    **NUKE_LACKS,
    "plate_alpha": "the host says how the plate is premultiplied",
    **dict.fromkeys(("match_exposure", "settings"), NO_KNOB_YET),
}


def assert_all_but(lacking: Mapping[str, str], offered: set[str]) -> None:
    assert offered | set(lacking) == set(NAMES)
    assert not offered & set(lacking)
    assert all(lacking.values())


# ------------------------------------------------------------------------------- what hosts share


def test_the_settings_of_a_shot_have_every_parameter_with_its_default() -> None:
    defaults = {
        field.name: getattr(ShotSettings(), field.name)
        for field in fields(ShotSettings)
        if field.name in NAMES and field.init
    }
    assert_all_but(HOSTS_LACK, set(defaults))
    for name, value in defaults.items():
        assert value == ("linear" if name == "colorspace" else ROWS[name].default), name
    # The clean-up goes along where it is not the default.
    assert set(ShotSettings().params()) == {"model", *defaults} - set(CLEAN_UP_NAMES)
    assert set(ShotSettings(**ALL_CLEAN_UP).params()) == {"model", *defaults}
    assert set(ShotSettings().deciding()) - set(defaults) == {
        "model",
        "precision",
        "overscan",
        "held_clean_plate",
    }


def test_the_scratch_files_have_every_role() -> None:
    names = [field.name for field in fields(ScratchFiles)]
    assert names == [*INPUT_ROLES, "hint_channel"]


def test_the_command_is_given_every_parameter(tmp_path: Any) -> None:
    asked = ShotSettings(
        alignment="off", match_exposure=False, exact=True, settings={"a": True}, **ALL_CLEAN_UP
    )
    chunk = command._Chunk(tmp_path, "main", asked, {}, tmp_path)
    chunk.roles = INPUT_ROLES
    words = " ".join(chunk._arguments([1], tmp_path))
    for param in PARAMS:
        option = "--no-match-exposure" if param.name == "match_exposure" else param.option
        assert f" {option}" in words, param.name
    assert "--colorspace linear --output-colorspace linear" in words
    assert "--despill-strength 1 --spill-method double_limit --screen blue" in words
    assert words.endswith("--set=a=true")
    for role in INPUT_ROLES[1:]:
        assert f" --{role.replace('_', '-')} " in words


# ------------------------------------------------------------------------------------------- Nuke


@pytest.fixture
def nuke_tool() -> Iterator[Any]:
    with NukeHost(gui=True).running(ROOT / "nuke"):
        import mattebridge_nuke

        yield mattebridge_nuke


def nuke_choices(param: Param) -> tuple[str, ...]:
    choices = ("on", "off") if param.kind == "flag" else param.choices
    return (AS_THE_MODEL, *choices) if param.unset else choices


def test_the_node_of_nuke_has_a_knob_for_each_parameter(nuke_tool: Any) -> None:
    knobs = {knob.name() for knob in nuke_tool._knobs()}
    assert_all_but(NUKE_LACKS, knobs & set(NAMES))
    listed = (*nuke_tool._CHOICES, *nuke_tool._CLEAN_UP_CHOICES)
    offered = {name: tuple(choices) for name, _, choices, _ in listed}
    plain = {name: default for name, _, _, default, _ in nuke_tool._CLEAN_UP}
    assert plain == {name: ROWS[name].default for name in PLAIN_CLEAN_UP}
    assert [*plain] == [name for name in CLEAN_UP_NAMES if name in plain]
    for name in knobs & set(NAMES) - {"settings"} - PLAIN_CLEAN_UP:
        assert offered[name] == nuke_choices(ROWS[name]), name
        assert offered[name][0] == (ROWS[name].default or offered[name][0])
    assert knobs & set(NAMES) <= set(nuke_tool.PIXEL_KNOBS)
    assert tuple(nuke_tool.INPUTS.values()) == INPUT_ROLES


def test_every_choice_of_the_node_of_nuke_reaches_the_request(nuke_tool: Any) -> None:
    node = nuke_tool.create()
    assert nuke_tool._settings_of(node, ShotSettings) == ShotSettings()
    for name in PLAIN_CLEAN_UP:
        node[name].setValue(ALL_CLEAN_UP[name])
        assert getattr(nuke_tool._settings_of(node, ShotSettings), name) == ALL_CLEAN_UP[name]
    for name in set(NAMES) - set(NUKE_LACKS) - {"settings"} - PLAIN_CLEAN_UP:
        for choice in nuke_choices(ROWS[name]):
            node[name].setValue(choice)
            value: Any = None if choice == AS_THE_MODEL else choice
            if ROWS[name].kind == "flag" and value is not None:
                value = value == "on"
            assert getattr(nuke_tool._settings_of(node, ShotSettings), name) == value
    node["settings"].setValue("band = 3\nfast=true")
    assert nuke_tool._settings_of(node, ShotSettings).settings == {"band": 3, "fast": True}


# ----------------------------------------------------------------------------------------- Fusion


@pytest.fixture
def fusion_tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "resolve"))
    import mattebridge_fusion

    yield mattebridge_fusion
    del sys.modules["mattebridge_fusion"]


def test_the_script_of_fusion_has_an_option_for_each_parameter(fusion_tool: Any) -> None:
    options = fusion_tool.Options(plate="Plate1")
    offered = {field.name for field in fields(options)} & set(NAMES)
    assert_all_but(FUSION_LACKS, offered)
    for name in offered:
        assert getattr(options, name) == getattr(ShotSettings(), name), name
    assert fusion_tool.ROLES == INPUT_ROLES


def test_the_dialog_of_fusion_has_the_choices_of_the_table(fusion_tool: Any) -> None:
    asked: dict[str, Any] = {}

    class Asked(Comp):
        def AskUser(self, title: str, given: Any) -> None:  # noqa: N802 - the host's name
            asked.update({each[1]: each for each in given.values()})

    fusion_tool._ask(Asked.__new__(Asked), fusion_tool.Options(plate="Plate1"))
    dropdowns = {name: each for name, each in asked.items() if each[2] == "Dropdown"}
    assert set(dropdowns) == set(NAMES) - set(FUSION_LACKS) - {"settings"} - PLAIN_CLEAN_UP
    for name, each in dropdowns.items():
        choices = (AS_THE_MODEL,) if ROWS[name].unset else ()
        assert tuple(each["Options"].values()) == (*choices, *ROWS[name].choices)
        first = each["Options"][1 + each["Default"]]
        assert first == (getattr(ShotSettings(), name) or AS_THE_MODEL)
    for name in PLAIN_CLEAN_UP:
        assert asked[name]["Default"] == ROWS[name].default
        assert (asked[name][2] == "Checkbox") == (name in SWITCHES)
        if name not in SWITCHES:
            assert asked[name]["Integer"] == (ROWS[name].kind == "whole")


@pytest.mark.parametrize("screen", [0, 1, AS_THE_MODEL])
def test_the_answer_of_the_dialog_becomes_the_options(fusion_tool: Any, screen: Any) -> None:
    class Answered(Comp):
        def AskUser(self, title: str, given: Any) -> Any:  # noqa: N802 - the host's name
            answer = {each[1]: each["Default"] for each in given.values()}
            # Fusion gives numbers of controls as floats.
            plain = {name: float(ALL_CLEAN_UP[name]) for name in PLAIN_CLEAN_UP}
            return {**answer, **plain, "spill_method": 1.0, "screen": screen}

    options = fusion_tool._ask(Answered.__new__(Answered), fusion_tool.Options(plate="Plate1"))
    found = {name: getattr(options, name) for name in CLEAN_UP_NAMES}
    assert found == {**ALL_CLEAN_UP, "screen": "green" if screen == 1 else None}
    assert all(type(found[name]) is type(ROWS[name].default) for name in PLAIN_CLEAN_UP)


# --------------------------------------------------------------------------------- the OFX plugin

# Knob, its choices in the order of the table's, and the number of its default; the plugin's own
# default of the input colour depends on the host.
OFX = {
    "colorspace": ("inputColor", ("Linear Rec.709", "sRGB display"), None),
    "foreground": ("foregroundSource", ("Model", "Unmix", "Plate"), "0"),
    "alignment": ("alignment", ("Off", "Automatic", "Homography", "Model's own"), "3"),
    "nonfinite": ("nonfinite", ("Error", "Zero"), "0"),
    "premultiply": ("premultiply", ("Linear light", "Display values"), "0"),
    "spill_method": ("spillMethod", ("Average", "Double limit", "Screen only"), "0"),
    "screen": ("screen", ("Green", "Blue", "Model's own"), "2"),
}


def ofx_choices() -> dict[str, tuple[tuple[str, ...], str]]:
    """The choices and the default of each choice knob, out of describe.cpp."""
    text = (ROOT / "plugin_shim" / "src" / "describe.cpp").read_text("utf-8")
    texts = r'(?:\s*"[^"]*"\s*,?)+'
    found = re.finditer(
        rf'made\.choice\(\{{"(\w+)",{texts}\}},\s*\{{({texts})\}},\s*(\d+|\w+\(\))', text
    )
    return {one[1]: (tuple(re.findall(r'"([^"]*)"', one[2])), one[3].strip()) for one in found}


def ofx_values(name: str) -> tuple[str, ...]:
    """An array of describe.h: what the plugin sends for each choice."""
    text = (ROOT / "plugin_shim" / "src" / "describe.h").read_text("utf-8")
    found = re.search(rf"{name}\[\] = \{{([^}}]*)\}}", text)
    assert found is not None
    return tuple(re.findall(r'"([^"]*)"', found[1]))


def test_the_plugin_has_a_knob_for_each_parameter() -> None:
    assert_all_but(OFX_LACKS, set(OFX) | PLAIN_CLEAN_UP)
    described = ofx_choices()
    assert len(described) == 10, "another choice knob: is it a render parameter?"
    for name, (knob, choices, default) in OFX.items():
        assert described[knob][0] == choices, name
        assert described[knob][1] == (default or "default_input_color()")
        assert len(choices) == len(ROWS[name].choices) + bool(ROWS[name].unset)
        number = len(choices) - 1 if ROWS[name].unset else 0
        assert default in (None, str(number)), name


def test_the_plugin_sends_the_values_of_the_table() -> None:
    assert ofx_values("kForegroundSources") == ROWS["foreground"].choices
    assert ofx_values("kNonFinite") == ROWS["nonfinite"].choices
    assert ofx_values("kPremultiplies") == ROWS["premultiply"].choices
    assert ofx_values("kAlignments") == ROWS["alignment"].choices
    source = (ROOT / "plugin_shim" / "src" / "render.cpp").read_text("utf-8")
    assert 'knobs.color == kLinear ? "linear" : "srgb"' in source
    params = source[source.index("mpack::Map params{") : source.index("mpack::Map notes{")]
    sent = set(re.findall(r'\{"(\w+)", ', params))
    sent |= set(re.findall(r'params\.emplace_back\("(\w+)"', params))
    clean_up = {param.name for param in CLEAN_UP}
    assert sent == set(OFX) - clean_up | {"plate_alpha"}
    assert ofx_values("kSpillMethods") == ROWS["spill_method"].choices
    assert ofx_values("kScreens") == ROWS["screen"].choices


def test_the_plugin_has_the_clean_up_of_the_table() -> None:
    text = (ROOT / "plugin_shim" / "src" / "describe.h").read_text("utf-8")
    rows = re.findall(r'\{"(\w+)",\s*"(\w+)"(?:, ([\d.]+))?(?:, (\d+|1 << 28))?\}', text)
    rows = [row for row in rows if row[1] in NAMES]
    assert {param for _, param, _, _ in rows} == PLAIN_CLEAN_UP
    for _, param, default, highest in rows:
        row = ROWS[param]
        assert float(default or 0) == row.default, param
        if row.kind == "whole":
            assert (1 << 28 if "<<" in highest else int(highest)) == row.highest, param


def test_the_node_of_nuke_knows_the_clean_up_of_the_plugin(nuke_tool: Any) -> None:
    text = (ROOT / "plugin_shim" / "src" / "describe.h").read_text("utf-8")
    theirs = {param: knob for knob, param in re.findall(r'\{"(\w+)",\s*"(\w+)"', text)}
    assert {name: knob for name, knob, *_ in nuke_tool._CLEAN_UP} == {
        name: theirs[name] for name in PLAIN_CLEAN_UP
    }


def test_the_node_of_nuke_gives_the_plugin_the_same_choices(nuke_tool: Any) -> None:
    for name, (knob, numbers) in nuke_tool._LIVE_CHOICES.items():
        param = ROWS[name]
        assert knob == OFX[name][0]
        wanted = (*param.choices, AS_THE_MODEL) if param.unset else param.choices
        assert tuple(numbers) == wanted
        assert list(numbers.values()) == list(range(len(wanted)))
    live = {*nuke_tool._LIVE_CHOICES, *nuke_tool._NOT_LIVE} & set(NAMES) | PLAIN_CLEAN_UP
    assert live == set(NAMES) - set(NUKE_LACKS)
