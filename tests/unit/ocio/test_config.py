"""The OpenColorIO config: which one, its names, and what is said where one is wrong."""

import hashlib

import numpy as np
import pytest

from mattebridge.errors import ColorError
from mattebridge.ocio import where
from mattebridge.ocio.config import Config
from mattebridge.ocio.space import LINEAR, Spaces
from mattebridge.ocio.standard_names import OTHER_NAMES

# A config of a few lines: a wide gamut, a curve with a kink, and no space for data.
SMALL = """\
ocio_profile_version: 2
roles: {default: wide, scene_linear: wide}
colorspaces:
  - !<ColorSpace>
    name: lin_rec709
  - !<ColorSpace>
    name: wide
    family: Rendered Light
    aliases: [Wide Light, breit]
    to_scene_reference: !<MatrixTransform>
      {matrix: [1.5, -0.4, -0.1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]}
"""


@pytest.fixture
def no_config(monkeypatch):
    for variable in where.VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def built_in():
    return Config(where.BUILT_IN)


def small(folder):
    path = folder / "small.ocio"
    path.write_text(SMALL)
    return path


def test_the_config_is_ours_then_that_of_ocio_then_the_built_in_one(no_config, monkeypatch):
    assert where.configured() == "ocio://studio-config-latest"
    assert not where.is_named()
    monkeypatch.setenv("OCIO", "/shop/config.ocio")
    assert where.configured() == "/shop/config.ocio"
    assert where.is_named()
    monkeypatch.setenv("MATTEBRIDGE_OCIO", "/mine/config.ocio")
    assert where.configured() == "/mine/config.ocio"


def test_a_path_that_is_given_holds_from_any_folder(no_config, monkeypatch, tmp_path):
    monkeypatch.setenv("MATTEBRIDGE_OCIO", "")
    monkeypatch.chdir(tmp_path)
    where.settle("shop.ocio")
    assert where.configured() == str(tmp_path / "shop.ocio")
    where.settle("ocio://default")
    assert where.configured() == "ocio://default"
    monkeypatch.setenv("MATTEBRIDGE_OCIO", "")
    where.settle()
    assert not where.is_named()
    monkeypatch.setenv("OCIO", "show.ocio")
    where.settle()
    assert where.configured() == str(tmp_path / "show.ocio")


def test_a_config_that_is_given_comes_before_the_variables(no_config, monkeypatch, tmp_path):
    monkeypatch.setenv("OCIO", "/show/a.ocio")
    monkeypatch.setenv("MATTEBRIDGE_OCIO", "/ours/b.ocio")
    where.settle(str(tmp_path / "c.ocio"))
    assert where.configured() == str(tmp_path / "c.ocio")


def test_a_space_is_found_by_name_role_and_alias_in_any_case(built_in):
    for name in ("ACEScg", "acescg", "scene_linear", "lin_ap1", " ACES - ACEScg "):
        assert built_in.find(name) == "ACEScg"


def test_an_unknown_name_is_refused_with_the_nearest_three(built_in):
    with pytest.raises(ColorError, match=r"'ACECg' is no colour space .* ACEScg") as refused:
        built_in.find("ACECg")
    assert len(refused.value.details["nearest"]) == 3
    assert "ACEScg" in refused.value.details["nearest"]
    assert "ARRI LogC3 (EI800)" in built_in.nearest("logc3")


def test_data_is_no_colour_space(built_in):
    assert not built_in.knows("Raw")
    assert "Raw" not in [space.name for space in built_in.spaces]


def test_a_config_of_ones_own_with_its_digest(tmp_path):
    path = small(tmp_path)
    config = Config(str(path))
    assert config.described() == {
        "config": str(path),
        "digest": hashlib.sha256(SMALL.encode()).hexdigest(),
    }
    assert config.find("BREIT") == config.find("scene_linear") == "wide"
    entry = next(space for space in config.spaces if space.name == "wide").described()
    assert entry["family"] == "Rendered Light"
    assert entry["aliases"] == ["Wide Light", "breit"]
    assert "scene_linear" in entry["roles"]


@pytest.mark.parametrize("content", [None, "", "ocio_profile_version: 2\nroles: [\n", "\0\1\2"])
def test_a_config_that_cannot_be_loaded_is_an_error_and_not_another_config(tmp_path, content):
    path = tmp_path / "broken.ocio"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ColorError, match=r"broken\.ocio cannot be loaded") as refused:
        Config(str(path))
    assert refused.value.details["config"] == str(path)
    with pytest.raises(ColorError, match="cannot be loaded"):
        Config("ocio://no-such-config")


def test_a_config_without_light_of_known_primaries_says_what_it_lacks(tmp_path):
    path = tmp_path / "without.ocio"
    path.write_text(SMALL.replace("lin_rec709", "house light"))
    with pytest.raises(ColorError, match=r"neither one of the names .* nor the role aces_interch"):
        Spaces(Config(str(path))).of("wide")


@pytest.mark.parametrize("how", ["role", "name"])
def test_rec709_light_is_found_by_way_of_aces(tmp_path, built_in, how):
    path = tmp_path / "aces.ocio"
    text = SMALL.replace("lin_rec709", "house light" if how == "role" else "ACES - ACEScg")
    if how == "role":
        text = text.replace("{default: wide", "{aces_interchange: house light, default: wide")
    path.write_text(text)
    config = Config(str(path))
    reference = "ACES2065-1" if how == "role" else "ACEScg"
    colours = np.random.default_rng(3).uniform(-0.5, 64, (500, 3)).astype(np.float32)
    expected = built_in.convert(
        config.convert(colours, "wide", config.find(text.split("name: ")[1].split("\n")[0])),
        reference,
        "Linear Rec.709 (sRGB)",
    )
    largest = np.abs(expected).max(1, keepdims=True)
    # The matrix of the primaries beside OpenColorIO's: measured 4e-7 of the largest channel.
    found = config.light_of(colours, "wide")
    assert (np.abs(found - expected) / largest).max() < 2e-6
    assert (np.abs(config.of_light(found, "wide") - colours) / largest).max() < 2e-6
    pixels = colours.reshape(20, 25, 3)
    light = Spaces(config).converted(pixels, "wide", "linear")
    assert np.array_equal(light.reshape(-1, 3), found)


@pytest.mark.parametrize("search", ["luts", ":luts:more", '"luts"', "\n  - more\n  - luts"])
def test_the_digest_is_that_of_the_tables_too(tmp_path, search):
    (tmp_path / "luts").mkdir()
    (tmp_path / "beside.cube").write_text("1")
    (tmp_path / "luts" / "look.cube").write_text("2")
    (tmp_path / "luts" / "unused.cube").write_text("3")
    path = tmp_path / "shop.ocio"
    path.write_text(
        f"ocio_profile_version: 2\nsearch_path: {search}\nroles: {{default: a}}\ncolorspaces:\n"
        "  - !<ColorSpace>\n    name: a\n"
        "    from_scene_reference: !<GroupTransform>\n      children:\n"
        "        - !<FileTransform> {src: look.cube, interpolation: linear}\n"
        "        - !<FileTransform>\n          src: beside.cube\n"
        "        - !<FileTransform> {src: $SHOT_OF_NOBODY.cube}\n"
    )
    digests = [where.digest(str(path))]
    for name in ("luts/look.cube", "beside.cube", "luts/unused.cube", "shop.ocio"):
        changed = tmp_path / name
        changed.write_text(changed.read_text() + "0 # longer\n")
        digests.append(where.digest(str(path)))
    assert digests[2] == digests[3]
    assert len(set(digests)) == 4
    (tmp_path / "luts" / "look.cube").unlink()
    assert where.digest(str(path)) not in digests


def test_a_conversion_keeps_the_shape(tmp_path):
    config = Config(str(small(tmp_path)))
    picture = np.random.default_rng(1).random((5, 7, 3), np.float32)
    converted = config.convert(picture, "wide", "lin_rec709")
    expected = picture @ np.float32([[1.5, 0, 0], [-0.4, 1, 0], [-0.1, 0, 1]])
    assert np.abs(converted - expected).max() < 1e-6  # of three products in float32
    assert converted.shape == picture.shape


OLD = (
    "ocio://studio-config-v1.0.0_aces-v1.3_ocio-v2.1",
    "ocio://cg-config-v2.1.0_aces-v1.3_ocio-v2.3",
)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_what_files_call_a_space_is_found_in_older_configs_too(built_in, name):
    assert built_in.knows(name)
    light = np.random.default_rng(4).uniform(0, 1, (50, 3)).astype(np.float32)
    for where_it_is in OLD:
        older = Config(where_it_is)
        if not older.knows(name):
            # The first configs have fewer displays and textures.
            assert name not in ("lin_ap0_scene", "lin_ap1_scene", "lin_p3d65_scene"), where_it_is
            continue
        expected = built_in.light_of(light, built_in.find(name), exact=True)
        found = older.light_of(light, older.find(name), exact=True)
        assert np.abs(found - expected).max() <= 2e-4 * max(1, np.abs(expected).max()), where_it_is


ODD = """\
ocio_profile_version: 2
roles: {default: wide, scene_linear: gone, matte: Alpha}
displays:
  Projector:
    - !<View> {name: Film Look, colorspace: wide}
looks:
  - !<Look> {name: Warm, process_space: wide}
inactive_colorspaces: [Old Log]
colorspaces:
  - !<ColorSpace> {name: lin_rec709}
  - !<ColorSpace> {name: wide, aliases: [Wide Light]}
  - !<ColorSpace> {name: Old Log, aliases: [ol]}
  - !<ColorSpace> {name: Alpha, isdata: true}
named_transforms:
  - !<NamedTransform> {name: Curve of Log, transform: !<MatrixTransform> {}}
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "odd.ocio"
    path.write_text(ODD)
    return Config(str(path))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Film Look", "a view"),
        ("projector", "a display"),
        ("Warm", "a look"),
        ("curve of log", "a named transform"),
        ("Alpha", "data"),
        ("matte", "data"),
        ("scene_linear", "a role without a space"),
    ],
)
def test_a_name_that_stands_for_something_else_is_refused_with_what_it_is(odd, name, what):
    with pytest.raises(
        ColorError, match=rf"'{name}' is {what} of .*odd\.ocio, and no colour"
    ) as no:
        odd.find(name)
    assert set(no.value.details["nearest"]) <= {"lin_rec709", "wide"}


def test_a_space_that_is_not_active_is_found_by_its_name_and_not_listed(odd):
    assert odd.find("old log") == odd.find("OL") == "Old Log"
    assert [space.name for space in odd.spaces] == ["lin_rec709", "wide"]
    assert "Old Log" not in odd.nearest("old logs")


def test_our_own_names_are_read_in_any_letters_unless_the_config_has_them(odd, tmp_path):
    spaces = Spaces(odd)
    for name in ("sRGB", "SRGB", "Linear"):
        assert spaces.of(name) is spaces.of(name.lower())
        assert spaces.settled(name) == name.lower()
        assert spaces.is_known(name)
    assert spaces.settled("Wide Light") == "Wide Light"
    path = tmp_path / "theirs.ocio"
    path.write_text(
        ODD.replace("name: wide, aliases: [Wide Light]", "name: Linear")
        .replace("default: wide", "default: Linear")
        .replace("colorspace: wide", "colorspace: Linear")
    )
    theirs = Spaces(Config(str(path)))
    assert theirs.settled("Linear") == "Linear"
    assert theirs.of("linear") is LINEAR
    assert theirs.of("Linear") is not LINEAR
