"""The `params` map of a render request, as both the front and the engine check it."""

import subprocess
import sys
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.places import ROOT
from mattebridge.errors import MessageError
from mattebridge.wire import params
from mattebridge.wire.params import PARAMS, Param, RenderParams, validate_params


def test_a_colour_space_alone_gives_every_parameter_with_its_default():
    assert validate_params({"colorspace": "linear"}) == {
        "colorspace": "linear",
        "output_colorspace": None,
        "premultiply": "linear",
        "plate_alpha": "opaque",
        "foreground": "model",
        "alignment": None,
        "match_exposure": None,
        "nonfinite": "error",
        "exact": False,
        "hint_sharpen": False,
        "hint_sharpen_dilation": 3,
        "hint_blur_px": 0,
        "source_passthrough": False,
        "edge_erode_px": 3,
        "edge_blur_px": 7,
        "auto_despeckle": False,
        "despeckle_size": 400,
        "despeckle_dilation": 25,
        "despeckle_blur": 5,
        "despeckle_threshold": 0.5,
        "despeckle_hysteresis": False,
        "despill_strength": 0.0,
        "spill_method": "average",
        "screen": None,
        "settings": {},
    }


def test_the_colour_space_is_never_guessed():
    with pytest.raises(MessageError, match="colorspace is missing") as caught:
        validate_params({})
    assert caught.value.details["field"] == "params.colorspace"


def test_given_values_win_over_defaults():
    given_values = {
        "colorspace": "srgb",
        "output_colorspace": "srgb",
        "premultiply": "display",
        "plate_alpha": "premultiplied",
        "foreground": "unmix",
        "alignment": "homography",
        "match_exposure": False,
        "nonfinite": "zero",
        "exact": True,
        "hint_sharpen": True,
        "hint_sharpen_dilation": 0,
        "hint_blur_px": 500,
        "source_passthrough": True,
        "edge_erode_px": 0,
        "edge_blur_px": 1,
        "auto_despeckle": True,
        "despeckle_size": 0,
        "despeckle_dilation": 2,
        "despeckle_blur": 0,
        "despeckle_threshold": 0.25,
        "despeckle_hysteresis": True,
        "despill_strength": 1.0,
        "spill_method": "double_limit",
        "screen": "blue",
        "settings": {"tolerance": 0.3, "band": 10, "shadows": True, "mode": "fast"},
    }
    assert validate_params(given_values) == given_values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("colorspace", ""),
        ("colorspace", " ACEScg"),
        ("colorspace", "two\nlines"),
        ("colorspace", "x" * 129),
        ("colorspace", None),
        ("colorspace", ["linear"]),
        ("output_colorspace", 1),
        ("premultiply", "srgb"),
        ("premultiply", None),
        ("plate_alpha", "associated"),
        ("foreground", ""),
        ("alignment", True),
        ("match_exposure", 1),
        ("nonfinite", "ignore"),
        ("exact", "yes"),
        ("exact", None),
        ("hint_sharpen", 1),
        ("hint_blur_px", -1),
        ("hint_blur_px", 501),
        ("hint_blur_px", 2.0),
        ("despeckle_size", True),
        ("despeckle_size", None),
        ("despill_strength", 1.01),
        ("despill_strength", -0.01),
        ("despill_strength", float("nan")),
        ("despill_strength", "0.5"),
        ("despill_strength", False),
        ("spill_method", "max"),
        ("screen", "red"),
        ("settings", []),
        ("settings", None),
    ],
)
def test_a_bad_value_is_refused_by_name(key, value):
    with pytest.raises(MessageError) as caught:
        validate_params({"colorspace": "linear", key: value})
    assert caught.value.details["field"] == f"params.{key}"


@pytest.mark.parametrize("spaces", [("linear", None), ("linear", "linear"), ("srgb", "linear")])
def test_linear_results_cannot_be_multiplied_in_display_values(spaces):
    space, result_space = spaces
    asked = {"colorspace": space, "output_colorspace": result_space, "premultiply": "display"}
    with pytest.raises(MessageError, match="the results are linear - ask for srgb") as caught:
        validate_params(asked)
    assert caught.value.details["field"] == "params.premultiply"
    assert validate_params({**asked, "output_colorspace": "srgb"})["premultiply"] == "display"


def test_an_unknown_parameter_is_an_error_and_not_ignored():
    with pytest.raises(MessageError, match="not a render parameter") as caught:
        validate_params({"colorspace": "linear", "foregruond": "unmix"})
    assert caught.value.details["field"] == "params.foregruond"


@pytest.mark.parametrize(
    "settings",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": [1]},
        {"a": {"b": 1}},
        {"a": None},
        {"a": b"x"},
        {"a": "x" * 2000},
        {"": 1},
        {"n" * 65: 1},
        {7: 1},
        {f"s{i}": i for i in range(65)},
    ],
)
def test_settings_hold_only_a_few_short_scalars(settings):
    with pytest.raises(MessageError) as caught:
        validate_params({"colorspace": "linear", "settings": settings})
    assert caught.value.details["field"].startswith("params.settings")


def test_what_came_over_the_wire_is_escaped_and_cut_in_messages():
    with pytest.raises(MessageError) as caught:
        validate_params({"colorspace": "linear", "\x1b[31m\n" + "x" * 500: 1})
    assert "\x1b" not in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.details["field"]) < 100


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(params.NAMES) | st.text(max_size=12), _anything, max_size=8))
def test_any_map_gives_either_valid_parameters_or_a_message_error(candidate):
    refused = None
    try:
        checked = validate_params(candidate)
    except MessageError as error:
        refused = error
    if refused is not None:
        assert refused.details["field"].startswith("params")
    else:
        assert sorted(checked) == sorted(params.NAMES)
        assert validate_params(checked) == checked


def test_integers_are_display_encoded_and_floats_linear_unless_said_otherwise():
    assert [params.default_colorspace(d) for d in params.INPUT_DTYPES] == [
        "srgb",
        "srgb",
        "linear",
        "linear",
    ]


def test_checking_parameters_needs_no_numpy():
    script = "import sys, mattebridge.wire.params; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# --------------------------------------------------------------------------------------- the table


def test_the_dataclass_has_a_field_for_each_row_with_its_default():
    assert [field.name for field in fields(RenderParams)] == [param.name for param in PARAMS]
    made = RenderParams("srgb")
    assert {name: getattr(made, name) for name in params.DEFAULTS} == params.DEFAULTS
    assert made == RenderParams(**params.validate_params({"colorspace": "srgb"}))


def test_what_is_left_to_the_model_is_not_given():
    assert "alignment" not in RenderParams("srgb").given()
    assert RenderParams("srgb", alignment="off").given()["alignment"] == "off"


def test_the_clean_up_is_given_where_it_is_not_the_default():
    assert not set(RenderParams("srgb").given()) & set(params.CLEAN_UP_NAMES)
    asked = RenderParams("srgb", despill_strength=0.5, edge_blur_px=7, screen="green").given()
    assert {name: asked[name] for name in params.CLEAN_UP_NAMES if name in asked} == {
        "despill_strength": 0.5,
        "screen": "green",
    }


def test_a_number_may_be_a_whole_one():
    checked = validate_params({"colorspace": "srgb", "despill_strength": 1})
    assert isinstance(checked["despill_strength"], float)


def test_none_is_allowed_where_the_table_says_what_it_stands_for():
    for param in PARAMS:
        request = {"colorspace": "linear", param.name: None}
        if param.unset:
            assert validate_params(request)[param.name] is None
        else:
            with pytest.raises(MessageError):
                validate_params(request)


def test_every_row_is_complete():
    for param in PARAMS:
        assert param.help
        assert bool(param.choices) == (param.kind in ("choice", "space")), param.name
        assert (param.default is None) == (param.required or bool(param.unset)), param.name
        assert (param.lowest < param.highest) == (param.kind in ("whole", "number"))
        assert param.kind != "choice" or param.default in (None, *param.choices)


def test_the_protocol_page_has_the_table():
    head = "| key | type | values | default | meaning |\n|---|---|---|---|---|"
    table = "\n".join([head, *map(row_of_the_page, PARAMS)])
    assert f"### 4.3 params\n\n{table}\n\n" in (ROOT / "docs" / "protocol.md").read_text("utf-8")


def row_of_the_page(param: Param) -> str:
    kinds = {"choice": "text", "space": "text", "flag": "boolean", "whole": "integer"}
    kind = kinds.get(param.kind, param.kind)
    values = ", ".join(f"`{choice}`" for choice in param.choices)
    if param.kind == "space":
        values += ", a name"
    default = f"`{param.default}`"
    if param.required:
        default = "**required**"
    elif param.unset:
        kind, default = f"{kind}, nil", f"nil: {param.unset}"
    elif param.kind == "flag":
        default = str(param.default).lower()
    elif param.kind == "map":
        values, default = "scalars", "{}"
    elif param.kind in ("whole", "number"):
        values, default = param.range, f"{param.default:g}"
    row = f"| `{param.name}` | {kind} | {values} | {default} | {param.help} |"
    return row.replace("|  |", "| |")


def test_the_roles_are_those_of_the_planes():
    assert (*params.DEFAULT_OUTPUTS, *params.EXTRA_OUTPUTS) == tuple(params.OUTPUT_CHANNELS)
    mattes = [role for role, counts in params.INPUT_CHANNELS.items() if counts == (1,)]
    assert list(params.MATTE_ROLES) == mattes
