"""The registry of models, their cards and their settings."""

import subprocess
import sys

import msgpack
import pytest

from mattebridge.errors import MessageError, ModelError
from mattebridge.models.base import MattingModel, ModelCard, Setting, SettingsSchema, SizeRule
from mattebridge.models.entry import Entry
from mattebridge.models.registry import DEFAULT_MODEL, VARIABLE, Registry

SCHEMA = SettingsSchema(
    tolerance=Setting(0.3, "How far an edge may move", minimum=0.0, maximum=4.0),
    band=Setting(10, "Width of the unknown band", minimum=1, maximum=64),
    shadows=Setting(True, "Leave shadows out"),
    mode=Setting("fast", "Which method", choices=("fast", "closed_form")),
    note=Setting("", "Free text"),
)
CARD = ModelCard(
    name="fake",
    family="fake",
    summary="For tests",
    digest="fake:1",
    licence="MIT",
    needs_alpha_hint=True,
    settings_schema=SCHEMA,
)


class Fake(MattingModel):
    def __init__(self, card):
        self.card = card


def registry():
    return Registry(lambda: {"fake": Entry(CARD, Fake)}, aliases={"default": "fake"})


def test_default_is_what_the_package_says(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    assert Registry().card("default").name == DEFAULT_MODEL


def test_the_owner_of_a_machine_chooses_its_default(monkeypatch):
    monkeypatch.setenv(VARIABLE, "difference")
    assert Registry().card("default") is Registry().card("difference")
    named = [card["name"] for card in Registry().describe() if "default" in card["aliases"]]
    assert named == ["difference"]


def test_a_default_that_is_not_there_is_told_with_its_reason(monkeypatch):
    monkeypatch.setenv(VARIABLE, "gone")
    with pytest.raises(ModelError, match=f"{VARIABLE} is 'gone', and there is no such model"):
        Registry().card("default")
    assert Registry().card("difference").name == "difference"


def test_an_unknown_model_is_answered_with_those_present():
    with pytest.raises(ModelError, match=r"there is no model 'resnet'; .*: fake") as caught:
        registry().card("resnet")
    assert caught.value.details == {"reason": "unknown", "present": ["fake"]}


@pytest.mark.parametrize("name", ["", "A", "../fake", "a/b", "x" * 65, "fake\n", "é", 3, None])
def test_what_can_be_no_name_is_a_message_error(name):
    with pytest.raises(MessageError) as caught:
        registry().card(name)
    assert caught.value.details["field"] == "model"
    assert "\n" not in caught.value.message


def test_a_model_is_made_anew_from_its_card():
    made = [registry().make("default"), registry().make("fake")]
    assert made[0] is not made[1]
    assert made[0].name == "fake"
    assert made[0].digest == "fake:1"
    assert made[0].card.needs_alpha_hint


def test_a_model_whose_parts_are_missing_says_what_to_install():
    broken = Registry(lambda: {"fake": Entry(CARD, "mattebridge.no_such_module:Model")})
    with pytest.raises(ModelError, match="pip install") as caught:
        broken.make("fake")
    assert caught.value.details["reason"] == "import"


def test_models_added_to_a_source_are_seen_without_a_restart():
    folder = {}
    models = Registry(lambda: folder, aliases={})
    assert models.names() == []
    folder["fake"] = Entry(CARD, Fake)
    assert models.names() == ["fake"]


def test_an_earlier_source_wins():
    other = ModelCard("fake", "fake", "", "other", "MIT")
    models = Registry(lambda: {"fake": Entry(CARD, Fake)}, lambda: {"fake": Entry(other, Fake)})
    assert models.card("fake") is CARD


def test_the_description_says_everything_in_plain_values():
    (described,) = registry().describe()
    assert described["name"] == "fake"
    assert described["aliases"] == ["default"]
    assert described["needs"] == ["plate", "clean_plate", "alpha_hint"]
    assert described["default_alignment"] == "off"
    assert described["licence"] == "MIT"
    assert described["settings"]["tolerance"] == {
        "type": "float",
        "default": 0.3,
        "min": 0.0,
        "max": 4.0,
        "help": "How far an edge may move",
    }
    assert described["settings"]["mode"]["choices"] == ["fast", "closed_form"]
    assert described["settings"]["shadows"]["type"] == "bool"


CARDS = [CARD, *map(Registry().card, Registry().names())]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_that_a_daemon_reported_refuses_the_same_settings(card):
    """A client sees descriptions alone, as messages carry them."""
    described = msgpack.unpackb(msgpack.packb(card.describe()["settings"]))
    schema = SettingsSchema.described(described)
    assert dict(schema) == dict(card.settings_schema)


def test_settings_are_laid_over_the_defaults():
    assert SCHEMA.validate({"band": 3, "tolerance": 1}, model="fake") == {
        "tolerance": 1.0,
        "band": 3,
        "shadows": True,
        "mode": "fast",
        "note": "",
    }
    assert isinstance(SCHEMA.validate({"tolerance": 1}, model="fake")["tolerance"], float)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("tolerance", 4.5, "a number from 0 to 4"),
        ("tolerance", float("nan"), "a number from 0 to 4"),
        ("tolerance", "1", "a number from 0 to 4"),
        ("tolerance", True, "a number from 0 to 4"),
        ("band", 0, "a whole number from 1 to 64"),
        ("band", 2.0, "a whole number from 1 to 64"),
        ("shadows", 1, "true or false"),
        ("mode", "slow", "one of fast, closed_form"),
        ("note", 3, "a text"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(name, value, allowed):
    with pytest.raises(ModelError, match=f"'{name}' of model 'fake' must be {allowed}") as caught:
        SCHEMA.validate({name: value}, model="fake")
    assert caught.value.details["field"] == f"params.settings.{name}"


def test_an_unknown_setting_is_refused_with_those_there_are():
    with pytest.raises(MessageError, match="its settings are: tolerance, band") as caught:
        SCHEMA.validate({"tolerence": 1}, model="fake")
    assert caught.value.details["field"] == "params.settings.tolerence"


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        (Setting(1, "", minimum=0), "a whole number of at least 0"),
        (Setting(1.0, "", maximum=2), "a number of at most 2"),
        (Setting(1.0, ""), "a number"),
    ],
)
def test_open_ranges_read_well(setting, allowed):
    assert setting.allowed == allowed


def test_a_default_outside_its_own_range_is_a_bug():
    with pytest.raises(ValueError, match="default"):
        SettingsSchema(band=Setting(0, "", minimum=1))


@pytest.mark.parametrize(
    ("rule", "length", "padded"),
    [((1, 1), 1, 1), ((4, 1), 1, 4), ((4, 1), 8, 8), ((16, 64), 3, 64), ((16, 70), 3, 80)],
)
def test_a_size_rule_names_the_next_size_the_model_takes(rule, length, padded):
    assert SizeRule(*rule).padded(length) == padded


def test_listing_the_models_imports_neither_torch_nor_cv2():
    script = (
        "import sys; from mattebridge.models.registry import Registry;"
        "assert Registry().describe();"
        "print([m for m in ('torch', 'cv2', 'numpy', 'OpenImageIO') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_card_says_whether_its_model_loads_torch():
    script = (
        "import sys; from mattebridge.models.registry import Registry\n"
        "sys.modules['torch'] = None\n"
        "registry = Registry()\n"
        "for name in registry.names():\n"
        "    try: registry.make(name)\n"
        "    except Exception: without = False\n"
        "    else: without = True\n"
        "    assert without is not registry.card(name).needs_torch, name\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
