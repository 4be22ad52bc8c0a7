"""The `params` map of a render request, as both the front and the engine check it."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattebridge.errors import MessageError
from mattebridge.wire import params
from mattebridge.wire.params import validate_params


def test_a_colour_space_alone_gives_every_parameter_with_its_default():
    assert validate_params({"colorspace": "linear"}) == {
        "colorspace": "linear",
        "output_colorspace": None,
        "plate_alpha": "opaque",
        "foreground": "model",
        "alignment": None,
        "match_exposure": None,
        "nonfinite": "error",
        "exact": False,
        "settings": {},
    }


def test_the_colour_space_is_never_guessed():
    with pytest.raises(MessageError, match="colorspace is missing") as caught:
        validate_params({})
    assert caught.value.details["field"] == "params.colorspace"


def test_given_values_win_over_defaults():
    given_values = {
        "colorspace": "srgb",
        "output_colorspace": "linear",
        "plate_alpha": "premultiplied",
        "foreground": "unmix",
        "alignment": "homography",
        "match_exposure": False,
        "nonfinite": "zero",
        "exact": True,
        "settings": {"tolerance": 0.3, "band": 10, "shadows": True, "mode": "fast"},
    }
    assert validate_params(given_values) == given_values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("colorspace", "rec709"),
        ("colorspace", None),
        ("colorspace", ["linear"]),
        ("output_colorspace", 1),
        ("plate_alpha", "associated"),
        ("foreground", ""),
        ("alignment", True),
        ("match_exposure", 1),
        ("nonfinite", "ignore"),
        ("exact", "yes"),
        ("exact", None),
        ("settings", []),
        ("settings", None),
    ],
)
def test_a_bad_value_is_refused_by_name(key, value):
    with pytest.raises(MessageError) as caught:
        validate_params({"colorspace": "linear", key: value})
    assert caught.value.details["field"] == f"params.{key}"


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
    script = "import sys, mattebridge.params; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
