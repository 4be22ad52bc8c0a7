"""`mattebridge demo` on a small shot: everything of the real one, in a few seconds."""

from __future__ import annotations

import io
import tempfile

import numpy as np
import psutil
import pytest

from mattebridge.commands import demo
from mattebridge.errors import FrameWriteError
from mattebridge.image_io import read_frame

pytestmark = pytest.mark.slow


def _processes_of(folder):
    """Processes whose command line names the folder."""
    found = psutil.process_iter(["pid", "cmdline"])
    return {p.pid for p in found if str(folder) in " ".join(p.info["cmdline"] or ())}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    out = io.StringIO()
    seen = set()

    # The demo's daemon serves a folder in the system's runtime folder: here one with a short path.
    with tempfile.TemporaryDirectory(prefix="mb-") as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", home)
        stop = demo.private.control.stop

        def stop_and_look(instance):
            seen.update(_processes_of(home))
            return stop(instance)

        patch.setattr(demo.private.control, "stop", stop_and_look)
        status = demo.run_demo(folder, frames=3, width=256, height=144, out=out)
        left = _processes_of(home)
    assert seen, "the daemon of the demo was not seen while it ran"
    return folder, status, out.getvalue(), left


def test_the_demo_ends_well_and_says_where_to_look(run):
    folder, status, text, _ = run
    assert status == 0, text
    assert str(folder / "contact_sheet.png") in text
    assert f"mattebridge matte {folder}" in text
    assert "difference key" in text


def test_every_frame_has_its_three_files(run):
    folder, *_ = run
    for role, channels in (("alpha", 1), ("foreground", 3), ("premultiplied", 4)):
        files = sorted((folder / "matte" / role).glob("*.exr"))
        assert [path.name for path in files] == [
            f"plate.{frame}.exr" for frame in range(1001, 1004)
        ]
        assert read_frame(files[0]).pixels.shape == (144, 256, channels)


def test_the_contact_sheet_is_a_picture_with_a_row_for_each_frame_shown(run):
    folder, *_ = run
    sheet = read_frame(folder / "contact_sheet.png").pixels
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > 1900
    assert sheet.std() > 20


def test_nothing_of_the_demo_is_left_running(run):
    assert run[3] == set()


def test_a_second_demo_in_the_same_folder_replaces_the_first(run):
    folder, *_ = run
    assert demo.run_demo(folder, frames=1, width=128, height=72, out=io.StringIO()) == 0


def test_a_demo_that_cannot_write_says_so_in_one_sentence(tmp_path):
    place = tmp_path / "taken"
    (place / "shot" / "plate").mkdir(parents=True)
    (place / "shot" / "plate" / "mine.0001.exr").write_bytes(b"x")
    out = io.StringIO()
    assert demo.run_demo(place, frames=1, width=64, height=36, out=out) == 2
    assert "choose another folder" in out.getvalue().splitlines()[-1]


def test_a_premultiplied_picture_that_is_no_product_is_a_failure():
    alpha = np.full((2, 2, 1), 0.5, np.float32)
    foreground = np.full((2, 2, 3), 0.25, np.float32)
    good = np.concatenate([foreground * alpha, alpha], -1)
    demo._check_product(alpha, foreground, good, 1001)
    bad = good.copy()
    bad[1, 0, 2] *= 1.01
    with pytest.raises(FrameWriteError, match=r"frame 1001.*column 0, row 1"):
        demo._check_product(alpha, foreground, bad, 1001)
