"""The names of results: those of the plate, and never those of an input."""

from __future__ import annotations

from pathlib import Path

import pytest

from mattebridge.errors import SequenceError
from mattebridge.image_io.output_names import output_path, refuse_collisions


def test_outputs_keep_the_name_number_and_padding_of_the_plate():
    path = output_path(Path("out"), "alpha", "plate_v2.00123", ".exr")
    assert path == Path("out/alpha/plate_v2.00123.exr")


def test_two_plates_of_one_output_and_an_output_on_an_input_are_refused(files):
    folder = files("a.jpg", "a.png")
    paths = [output_path(folder, "alpha", Path(name).stem, ".exr") for name in ("a.jpg", "a.png")]
    with pytest.raises(SequenceError, match=r"alpha/a\.exr"):
        refuse_collisions(paths, [])
    with pytest.raises(SequenceError, match="is an input"):
        refuse_collisions([folder / "alpha" / ".." / "a.png"], [folder / "a.png"])


def test_a_plate_that_leads_into_the_output_folder_is_never_written_over(files):
    folder = files("a.exr", "out/alpha/a.exr", "far/b.exr")
    (folder / "linked.exr").symlink_to("out/alpha/a.exr")
    (folder / "linked-twice.exr").symlink_to("linked.exr")
    (folder / "second-name.exr").hardlink_to(folder / "out" / "alpha" / "a.exr")
    output = folder / "out" / "alpha" / "a.exr"
    for name in ("linked.exr", "linked-twice.exr", "second-name.exr"):
        with pytest.raises(SequenceError, match=rf"is an input of this job \(.*{name} leads to it"):
            refuse_collisions([output], [folder / name])
    # Links that lead elsewhere, or nowhere, are no collision.
    (folder / "elsewhere.exr").symlink_to("far/b.exr")
    (folder / "nowhere.exr").symlink_to("gone.exr")
    refuse_collisions(
        [output], [folder / "a.exr", folder / "elsewhere.exr", folder / "nowhere.exr"]
    )
