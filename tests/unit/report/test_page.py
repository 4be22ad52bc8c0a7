"""The page of a matted shot: what is on it, what it points out, and what it must never hold."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fakes.matted_shot import matted_shot
from mattebridge import color
from mattebridge.cli import main
from mattebridge.errors import InternalError, NonFiniteError, UsageError
from mattebridge.image_io import Encoding, read_frame, write_frame
from mattebridge.image_io.sources import Pictures
from mattebridge.report.make import make_page
from mattebridge.report.pictures import picture_frame
from mattebridge.report.records import Entry, findings, read_shot, spread
from mattebridge.shot.summary import write_report
from mattebridge.wire.labels import SENTENCES

VOID = {"meta", "img", "input", "line", "path"}


class Outline(HTMLParser):
    """Elements by name, and whether every one is closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def ledger(folder: Path, name: str = "plate") -> Path:
    return folder / "out" / f"{name}.mattebridge.jsonl"


def page_of(folder: Path, *, frames: int = 36, limit_bytes: int = 12 << 20) -> str:
    return make_page(read_shot(ledger(folder)), frames=frames, limit_bytes=limit_bytes)[0]


# -------------------------------------------------------------------------------- what a job leaves


def test_a_job_leaves_how_each_frame_ended_in_its_ledger(tmp_path):
    matted_shot(tmp_path, frames=3, fail={1002: NonFiniteError("frame 1002 holds NaN")})
    lines = [json.loads(line) for line in ledger(tmp_path).read_text().split("\n") if line]
    records = [line["record"] for line in lines if "record" in line]
    assert [(r["frame"], r["status"]) for r in records] == [
        (1001, "done"),
        (1002, "failed"),
        (1003, "done"),
    ]
    done = records[0]
    alpha = read_frame(tmp_path / "out/alpha/plate.1001.exr").pixels.astype(np.float32)
    assert done["area"] == pytest.approx(alpha[::4, ::4].mean(), abs=1e-4)
    assert done["memory"] > 1 << 20
    assert done["daemon_memory"] == 300 << 20
    assert done["timings"]["render_ms"] > 0
    assert done["inputs"]["plate"] == str(tmp_path / "in/plate.1001.exr")
    assert records[1]["message"] == "frame 1002 holds NaN"


def test_a_resumed_job_still_takes_its_frames_for_good(tmp_path):
    matted_shot(tmp_path, frames=3)
    again = matted_shot(tmp_path, frames=3, existing="verify")
    # The plates were written anew, so they are matted anew; then they are found.
    assert again.exit_status == 0
    shot = read_shot(ledger(tmp_path))
    assert [entry.status for entry in shot.entries] == ["done"] * 3


# ------------------------------------------------------------------------------ where to look first


def test_failures_jumps_errors_and_degraded_frames_are_to_be_looked_at_first(tmp_path):
    matted_shot(
        tmp_path,
        frames=9,
        jump_at=1006,
        fail={1003: InternalError("the model gave up")},
        degraded={1004: ("exposure_unmatched",), 1007: ("exposure_unmatched",)},
        outputs=("alpha", "error"),
    )
    found = findings(read_shot(ledger(tmp_path)))
    said = {(finding.frame, finding.kind) for finding in found}
    assert {(1003, "failed"), (1006, "jump"), (1004, "less")} <= said
    assert "error" in {finding.kind for finding in found}
    texts = {finding.frame: finding.text for finding in found if finding.kind != "error"}
    assert texts[1003] == "the model gave up"
    assert "more than the frame before" in texts[1006]
    says = SENTENCES["exposure_unmatched"]
    assert texts[1004] == f"less than asked for in 2 frames from here: {says}"


def test_a_steady_shot_has_no_jump_and_no_failure(tmp_path):
    matted_shot(tmp_path, frames=6)
    assert findings(read_shot(ledger(tmp_path))) == []


def test_frames_are_spread_evenly_with_both_ends():
    assert spread(5, 9) == [0, 1, 2, 3, 4]
    assert spread(1000, 5) == [0, 250, 500, 749, 999]
    assert spread(10, 1) == [5]
    assert spread(0, 4) == []


# -------------------------------------------------------------------------------------- the page


def test_the_page_is_sound_html_with_pictures_charts_and_words(tmp_path):
    matted_shot(tmp_path, settings={"gain": 2.0})
    outline = Outline(page_of(tmp_path))
    for image in outline.all("img"):
        assert image["src"].startswith("data:image/jpeg;base64,")
        assert image["alt"]
    assert len(outline.all("figure")) == 8 + 8
    for chart in outline.all("svg"):
        assert "frame by frame: median" in chart["aria-label"]
    for words in (
        "frames 1001-1008, 8 of 8 matted",
        "model difference",
        "sha256:of-the-fake",
        "Rendering in the daemon",
        "Memory of the job",
        "Memory of the daemon's workers, MiB",
        "median 300 MiB",
        "Writing and checking",
        "Matte area",
        "setting gain",
        "0.1.0",
        "Nothing stands out",
    ):
        assert words in outline.text
    assert {section["aria-labelledby"] for section in outline.all("section")} >= {"wipe-title"}
    identifiers = [e["id"] for _, e in outline.elements if "id" in e]
    assert len(identifiers) == len(set(identifiers))


def test_every_link_leads_somewhere_on_the_page(tmp_path):
    matted_shot(tmp_path, jump_at=1005, fail={1003: InternalError("no")})
    outline = Outline(page_of(tmp_path))
    places = {element["id"] for _, element in outline.elements if "id" in element}
    links = [link["href"] for link in outline.all("a")]
    assert len(links) > 8
    assert all(link[0] == "#" and link[1:] in places for link in links)


def test_the_page_asks_for_nothing_from_outside_and_forbids_it(tmp_path):
    matted_shot(tmp_path, frames=2)
    html = page_of(tmp_path)
    assert not re.search(r"https?://|@import|url\(|<link|<iframe|srcset", html)
    (policy,) = [m["content"] for m in Outline(html).all("meta") if m.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")


NASTY = "a<b>&\"'</script><script>window.hacked=1"


def test_names_and_messages_from_outside_are_only_ever_text(tmp_path):
    name = NASTY.replace("/", "\u2215")
    matted_shot(
        tmp_path,
        frames=3,
        name=name,
        fail={1002: InternalError(NASTY)},
        degraded={1001: (NASTY,)},
        settings={NASTY: NASTY},
    )
    html, found = make_page(read_shot(ledger(tmp_path, name)), frames=9, limit_bytes=12 << 20)
    outline = Outline(html)
    assert found[0].text == NASTY
    assert [tag for tag, _ in outline.elements if tag == "script"] == ["script"] * 2
    assert name in outline.text
    assert outline.all("h1") == [{}]
    assert html.count("window.hacked") > 3
    assert "<script>window.hacked" not in html


@pytest.mark.slow
def test_a_long_shot_shows_some_frames_and_charts_all_within_its_size(tmp_path):
    matted_shot(tmp_path, frames=3)
    path = ledger(tmp_path)
    lines = path.read_text().strip().split("\n")
    record = next(json.loads(line) for line in lines if '"record"' in line)["record"]
    many = [
        json.dumps({"record": {**record, "frame": frame, "area": 0.1 + 0.2 * (frame == 4000)}})
        for frame in range(1001, 6001)
    ]
    path.write_text("\n".join([lines[0], *many]))
    html = page_of(tmp_path, frames=24, limit_bytes=2 << 20)
    assert len(html) < 2 << 20
    outline = Outline(html)
    shown = [f["id"] for f in outline.all("figure") if "id" in f]
    assert len(shown) == 24
    assert {"frame-1001", "frame-4000", "frame-4001", "frame-6000"} <= set(shown)
    assert "24 of 5000 frames" in outline.text
    assert max(len(line["d"]) for line in outline.all("path")) < 16000


def test_pictures_that_do_not_fit_are_left_out_least_wanted_first(tmp_path):
    matted_shot(tmp_path, frames=12, jump_at=1007)
    full, small = page_of(tmp_path), page_of(tmp_path, limit_bytes=(1 << 20) + 24000)
    assert len(small) < len(full)
    outline = Outline(small)
    shown = [f["id"] for f in outline.all("figure") if "id" in f]
    assert "frame-1007" in shown
    assert len(shown) < 12
    assert f"{len(shown)} of 12 frames" in outline.text


def test_pictures_that_are_gone_are_named_and_the_rest_is_shown(tmp_path):
    matted_shot(tmp_path, frames=3)
    (tmp_path / "in/plate.1002.exr").unlink()
    (tmp_path / "out/comp/plate.1003.exr").write_bytes(b"cut short")
    (tmp_path / "out/alpha/plate.1001.exr").unlink()
    outline = Outline(page_of(tmp_path))
    assert "not shown here" in outline.text
    assert "plate.1002.exr: no such file" in outline.text
    assert "comp/plate.1003.exr" in outline.text
    assert "alpha/plate.1001.exr: no such file" in outline.text
    assert len([f for f in outline.all("figure") if "id" in f]) == 3


def test_a_folder_that_was_moved_still_has_its_pictures(tmp_path):
    matted_shot(tmp_path, frames=2)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    shot = read_shot(tmp_path / "elsewhere" / "plate.mattebridge.jsonl")
    assert shot.entries[0].outputs["comp"] == tmp_path / "elsewhere/comp/plate.1001.exr"


def test_a_comp_is_made_where_none_was_written(tmp_path):
    matted_shot(tmp_path, frames=2, outputs=("alpha",))
    outline = Outline(page_of(tmp_path))
    names = {image["alt"].split(",")[0] for image in outline.all("img")}
    assert names == {"Plate", "Comp", "Alpha", "Error"}
    assert "leaves unexplained" in outline.text


def test_a_picture_multiplied_in_display_values_is_shown_as_the_one_multiplied_in_light(tmp_path):
    colour, alpha = np.full((4, 4, 3), 0.8, np.float32), np.full((4, 4, 1), 0.5, np.float32)
    light = color.srgb_encode(color.srgb_decode(colour) * alpha)
    shown = {}
    for premultiply, product in (("linear", light), ("display", colour * alpha)):
        path = tmp_path / f"{premultiply}.exr"
        how = {"mattebridge:settings": json.dumps({"premultiply": premultiply})}
        encoding = Encoding(colorspace="srgb", dtype="float32", metadata=how)
        write_frame(path, np.concatenate([product, alpha], axis=2), encoding)
        entry = Entry(1, outputs={"premultiplied": path})
        shown[premultiply] = picture_frame(entry, Pictures()).large["comp"]
    assert shown["linear"] == shown["display"]


def test_pictures_are_found_in_videos_too(tmp_path):
    pytest.importorskip("av")
    assert matted_shot(tmp_path, frames=4, formats="exr,comp=ffv1").exit_status == 0
    shot = read_shot(ledger(tmp_path))
    places = [entry.outputs["comp"] for entry in shot.entries]
    assert [place.index for place in places] == [0, 1, 2, 3]
    outline = Outline(page_of(tmp_path))
    assert "not shown here" not in outline.text
    assert sum(image["alt"].startswith("Comp") for image in outline.all("img")) == 4 + 1


def test_a_ledger_without_records_is_read_from_its_folders(tmp_path):
    matted_shot(tmp_path, frames=3)
    path = ledger(tmp_path)
    kept = [line for line in path.read_text().split("\n") if '"record"' not in line]
    path.write_text("\n".join(kept) + '\n{"torn": [1, 2')
    shot = read_shot(path)
    assert [entry.frame for entry in shot.entries] == [1001, 1002, 1003]
    assert shot.entries[1].outputs["alpha"] == tmp_path / "out/alpha/plate.1002.exr"
    Outline(make_page(shot, frames=9, limit_bytes=12 << 20)[0])


# -------------------------------------------------------------------------------------- the command


def test_the_command_writes_a_page_and_says_where_to_look(tmp_path, capsys):
    matted_shot(tmp_path, jump_at=1005)
    assert main(["report", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    page = tmp_path / "out" / "plate.report.html"
    assert f"mattebridge: {page}, 0." in said
    assert "frame 1005: the matte covers" in said
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_records_of_a_report_file_are_taken_too(tmp_path, capsys):
    summary = matted_shot(tmp_path, fail={1002: InternalError("no")})
    path = ledger(tmp_path)
    path.write_text("\n".join(x for x in path.read_text().split("\n") if '"record"' not in x))
    write_report(tmp_path / "frames.jsonl", summary.records)
    arguments = ["report", str(tmp_path / "out"), "--records", str(tmp_path / "frames.jsonl")]
    assert main([*arguments, "-o", str(tmp_path / "p.html")]) == 0
    assert "frame 1002: no" in capsys.readouterr().out
    assert "7 of 8 matted, 1 failed" in (tmp_path / "p.html").read_text()


def test_two_shots_in_a_folder_get_a_page_each(tmp_path, capsys):
    for name in ("plate", "other"):
        matted_shot(tmp_path, frames=2, name=name)
    assert main(["report", str(tmp_path / "out")]) == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("*.html"))
    assert names == ["other.report.html", "plate.report.html"]
    assert main(["report", str(tmp_path / "out"), "-o", "x.html"]) == 2
    assert "holds several shots" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["nowhere"], "is not a folder"),
        (["."], "holds no *.mattebridge.jsonl"),
        ([".", "--frames", "0"], "--frames takes 1 or more"),
    ],
)
def test_what_cannot_be_reported_on_is_one_sentence(tmp_path, monkeypatch, capsys, wrong, said):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *wrong]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_ledger_is_refused(tmp_path):
    (tmp_path / "plate.mattebridge.jsonl").write_text("{}\nno json\n")
    with pytest.raises(UsageError, match="has no frame"):
        read_shot(tmp_path / "plate.mattebridge.jsonl")
