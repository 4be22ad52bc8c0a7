"""The sentences for what is less than was asked for: one for each label of the daemon."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fakes.places import PACKAGE, ROOT
from mattebridge.clean_plate import match
from mattebridge.hosts.request import MadeFrame, warnings_of
from mattebridge.models.difference import keyer
from mattebridge.wire import labels


@pytest.mark.parametrize(
    "label",
    [keyer.NO_SET, match.UNALIGNED, match.PARTLY_OUTSIDE, match.EXPOSURE_UNMATCHED],
)
def test_a_label_of_the_engine_has_a_sentence(label: str) -> None:
    assert label in labels.SENTENCES


def test_every_constant_that_ends_up_in_degraded_has_a_sentence() -> None:
    """The constants under the comment `# Labels of `degraded`` of every module of the daemon."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        lines = path.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.strip() != "# Labels of `degraded`.":
                continue
            for text in lines[number + 1 :]:
                if " = " not in text:
                    break
                found[ast.literal_eval(text.partition(" = ")[2])] = path.name
    assert len(found) >= 4
    assert set(found) <= set(labels.SENTENCES), found


def test_a_sentence_says_what_was_found_and_what_to_do_and_not_the_label() -> None:
    for label, sentence in labels.SENTENCES.items():
        assert label not in sentence
        assert "_" not in sentence
        assert ": " in sentence
        assert not sentence.endswith(".")


def test_each_sentence_is_shown_once_and_an_unknown_label_is_never_alone() -> None:
    made = [
        MadeFrame(number, "main", "k", Path("k.exr"), False, given)
        for number, given in enumerate(
            [("exposure_unmatched",), ("new_word", "exposure_unmatched")]
        )
    ]
    assert warnings_of(made) == [
        labels.SENTENCES["exposure_unmatched"],
        "the daemon reports 'new_word', which this version does not know: update mattebridge here",
    ]
    assert warnings_of([]) == []


def test_a_note_with_a_sentence_counts_where_it_is_true() -> None:
    notes = {"clean_plate_is_the_plate": True, "exposure_unmatched": False, "refined_share": 0.5}
    assert labels.noted(notes) == ("clean_plate_is_the_plate",)
    assert labels.noted({}) == ()


def test_the_plugin_has_the_same_sentences() -> None:
    text = (ROOT / "plugin_shim" / "src" / "labels.h").read_text("utf-8")
    rows = re.findall(r'\{"(\w+)",((?:\s*"[^"]*")+)\}', text)
    found = {label: "".join(re.findall(r'"([^"]*)"', sentence)) for label, sentence in rows}
    assert found == dict(labels.SENTENCES)
