"""The page of a matted shot: one HTML file that needs no other, for the screen and for paper.

    Shot, findings, pictures --page()--> HTML: wipe, frames to look at first, contact sheet,
                                         charts over the frames, how it was made, what failed

Pictures are in it as data, charts as inline SVG, and one small script moves the divider. A content
security policy in the page forbids every request, so it is the same page without a network. The
rule that must not be broken: all text from outside (names, messages, settings) goes through
`escape`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Optional

from mattebridge.image_io.frame_ranges import format_frames
from mattebridge.report.charts import chart
from mattebridge.report.page_style import SCRIPT, STYLE
from mattebridge.report.pictures import VIEWS, FramePictures
from mattebridge.report.records import Entry, Finding, Shot
from mattebridge.wire.labels import sentences
from mattebridge.wire.params import role_in_words

TITLES = {"plate": "Plate", "comp": "Comp", "alpha": "Alpha", "error": "Error"}


def page(
    shot: Shot,
    found: Sequence[Finding],
    pictures: Mapping[int, FramePictures],
    *,
    note: str = "",
    made_by: str = "",
) -> str:
    """The page as HTML.

    pictures: of the frames that are shown. note: which frames those are. made_by: for the footer.
    """
    # A frame that failed has a plate and nothing to compare it with.
    large = [f for f, made in sorted(pictures.items()) if {"plate"} < made.large.keys()]
    opening = next((f.frame for f in found if f.frame in large), next(iter(large), None))
    sections = [
        _wipe(pictures, large, opening),
        _look_first(found, pictures),
        _sheet(shot, pictures, large, note),
        _charts(shot, pictures),
        _how(shot),
        _problems(shot, pictures),
    ]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
        f" script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(shot.name)} - matte report</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#look">To the frames to look at first</a>
<header>
<h1>{escape(shot.name)}</h1>
<p class="lead">{escape(_lead(shot))}</p>
</header>
<main>
{"".join(sections)}
</main>
<footer>{escape(made_by)}</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _lead(shot: Shot) -> str:
    frames = [entry.frame for entry in shot.entries]
    good = len(frames) - shot.count("failed")
    parts = [f"frames {format_frames(frames)}", f"{good} of {len(frames)} matted"]
    if shot.count("failed"):
        parts.append(f"{shot.count('failed')} failed")
    less = sum(bool(entry.degraded or entry.held or entry.black) for entry in shot.entries)
    parts += [f"{less} less than asked for"] if less else []
    model = shot.model.get("name")
    return ", ".join(parts) + (f"; model {model}" if model else "")


def _data_uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


# --- pictures -------------------------------------------------------------------------------------


def _wipe(
    pictures: Mapping[int, FramePictures], large: Sequence[int], opening: Optional[int]
) -> str:
    if opening is None:
        return _section("wipe", "Wipe", "<p>No picture of the shot could be read.</p>")
    shown = pictures[opening]
    views = [view for view in VIEWS[1:] if any(view in pictures[f].large for f in large)]
    right = next((view for view in views if view in shown.large), "plate")
    options = "".join(
        f'<option value="{frame}"{" selected" if frame == opening else ""}>{frame}</option>'
        for frame in large
    )
    radios = "".join(
        f'<label><input type="radio" name="view" value="{view}"'
        f"{' checked' if view == right else ''}> {TITLES[view]}</label>"
        for view in views
    )
    data = {
        frame: {view: _data_uri(jpeg) for view, jpeg in pictures[frame].large.items()}
        for frame in large
    }
    wide, high = shown.size
    body = f"""
<div class="controls">
<label>Frame <select id="frame">{options}</select></label>
<span class="step"><button type="button" id="back" aria-label="Frame before">&#9664;</button>
<button type="button" id="on" aria-label="Next frame">&#9654;</button></span>
<fieldset><legend>On the right</legend>{radios}</fieldset>
</div>
<div class="stage" id="stage">
<img id="left" width="{wide}" height="{high}" draggable="false"
 alt="Plate, frame {opening}" src="{_data_uri(shown.large["plate"])}">
<img id="right" width="{wide}" height="{high}" draggable="false"
 alt="{TITLES[right]}, frame {opening}" src="{_data_uri(shown.large[right])}">
<span class="tag at-left" aria-hidden="true">Plate</span>
<span class="tag at-right" id="tag" aria-hidden="true">{TITLES[right]}</span>
<div id="divider" role="slider" tabindex="0" aria-label="Divider between plate and result"
 aria-orientation="horizontal" aria-valuemin="0" aria-valuemax="100" aria-valuenow="50"
 aria-valuetext="plate on the left 50 percent"></div>
</div>
<p class="hint" id="hint">Drag the divider, or use the arrow keys (with Shift for larger steps),
Home and End.</p>
<script type="application/json" id="views">{_json(data)}</script>
"""
    return _section("wipe", "Wipe: plate and result", body)


def _json(value: Any) -> str:
    """JSON that cannot end the element that it is in."""
    text = json.dumps(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _look_first(found: Sequence[Finding], pictures: Mapping[int, FramePictures]) -> str:
    if not found:
        body = "<p>Nothing stands out: no frame failed, and no matte changes suddenly.</p>"
        return _section("look", "Look at these first", body)
    rows = "".join(
        f'<li class="{escape(finding.kind)}">{_link(finding.frame, pictures)}'
        f' <span class="why">{escape(finding.text)}</span></li>'
        for finding in found
    )
    return _section("look", "Look at these first", f'<ul class="found">{rows}</ul>')


def _link(frame: int, pictures: Mapping[int, FramePictures]) -> str:
    if frame not in pictures:
        return f"<b>{frame}</b>"
    return f'<a href="#frame-{frame}" data-frame="{frame}">{frame}</a>'


def _sheet(
    shot: Shot, pictures: Mapping[int, FramePictures], large: Sequence[int], note: str
) -> str:
    entries = {entry.frame: entry for entry in shot.entries}
    figures = "".join(
        _figure(entries[frame], made, frame in large) for frame, made in sorted(pictures.items())
    )
    above = f"<p>{escape(note)}</p>" if note else ""
    return _section("sheet", "Contact sheet", f'{above}<div class="sheet">{figures}</div>')


def _figure(entry: Entry, made: FramePictures, in_wipe: bool) -> str:
    cells = "".join(
        f'<img loading="lazy" src="{_data_uri(made.thumbs[view])}" width="{made.size[0]}"'
        f' height="{made.size[1]}" alt="{TITLES[view]}, frame {entry.frame}">'
        for view in VIEWS
        if view in made.thumbs
    )
    words = [entry.status] if entry.status not in ("done", "found") else []
    words += ["less than asked for"] if entry.degraded else []
    words += [role_in_words(role) for role in (*entry.held, *entry.black)]
    if entry.area is not None:
        words.append(f"area {100 * entry.area:.1f} %")
    caption = escape(", ".join(words))
    number = (
        f'<a href="#wipe" data-frame="{entry.frame}">{entry.frame}</a>'
        if in_wipe
        else f"{entry.frame}"
    )
    empty = "" if cells else '<p class="none">no picture</p>'
    return (
        f'<figure id="frame-{entry.frame}"><div class="cells">{cells}{empty}</div>'
        f"<figcaption><b>{number}</b> {caption}</figcaption></figure>"
    )


# --- charts ---------------------------------------------------------------------------------------


def _charts(shot: Shot, pictures: Mapping[int, FramePictures]) -> str:
    frames = [entry.frame for entry in shot.entries]
    failed = [entry.frame for entry in shot.entries if entry.status == "failed"]
    kinds = sorted({made.error_kind for made in pictures.values()} - {""})
    error = "Error" + (f": {kinds[0]}" if kinds else "")
    drawn: list[tuple[str, str, Callable[[Entry], Optional[float]]]] = [
        ("Rendering in the daemon", "ms", lambda entry: entry.timings.get("render_ms")),
        ("Reading", "ms", lambda entry: entry.timings.get("room_read_ms")),
        ("Writing and checking", "ms", lambda entry: entry.timings.get("room_write_ms")),
        ("Whole frame, waiting for others included", "ms", lambda entry: entry.ms),
        ("Memory of the job", "MiB", lambda entry: _mebibytes(entry.memory)),
        ("Memory of the daemon's workers", "MiB", lambda entry: _mebibytes(entry.daemon_memory)),
        ("Matte area", "% of the picture", lambda entry: _percent(entry.area)),
        (error, "mean of the picture", lambda entry: entry.error),
    ]
    charts = "".join(
        chart(title, unit, frames, [value(entry) for entry in shot.entries], failed)
        for title, unit, value in drawn
    )
    body = f'<div class="charts">{charts}</div>' if charts else "<p>No figures were recorded.</p>"
    return _section("charts", "Over the frames", body)


def _mebibytes(size: Optional[float]) -> Optional[float]:
    return None if size is None else size / 2**20


def _percent(share: Optional[float]) -> Optional[float]:
    return None if share is None else 100 * share


# --- tables ---------------------------------------------------------------------------------------


def _how(shot: Shot) -> str:
    rows = [
        ("model", shot.model.get("name")),
        ("model digest", shot.model.get("digest")),
        ("mattebridge", shot.version),
        ("folder", shot.folder),
    ]
    settings = dict(shot.settings)
    own = settings.pop("settings", None)
    settings.pop("model", None)
    rows += [(name.replace("_", " "), _plain(value)) for name, value in settings.items()]
    if isinstance(own, dict):
        rows += [(f"setting {name}", _plain(value)) for name, value in own.items()]
    cells = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(str(value))}</td></tr>'
        for name, value in rows
        if value not in (None, "")
    )
    table = f"<table><caption>Settings, model and versions</caption>{cells}</table>"
    return _section("how", "How it was made", table)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)


def _problems(shot: Shot, pictures: Mapping[int, FramePictures]) -> str:
    """What failed or is less than was asked for, a row for each reason with its frames."""
    gathered: dict[tuple[str, str], list[int]] = {}
    for entry in shot.entries:
        if entry.status not in ("done", "found"):
            key = (entry.status, entry.message or "no reason was recorded")
            gathered.setdefault(key, []).append(entry.frame)
        for why in sentences(entry.degraded):
            gathered.setdefault(("less than asked for", why), []).append(entry.frame)
        for what, roles in (("held", entry.held), ("black", entry.black)):
            for role in roles:
                gathered.setdefault((what, role_in_words(role)), []).append(entry.frame)
    for frame, made in pictures.items():
        for why in made.missing:
            gathered.setdefault(("not shown here", why), []).append(frame)
    if not gathered:
        return _section("problems", "Failed or degraded", "<p>Nothing.</p>")
    rows = "".join(
        f'<tr><th scope="row">{escape(what)}</th><td>{escape(why)}</td>'
        f"<td>{escape(format_frames(frames))}</td></tr>"
        for (what, why), frames in gathered.items()
    )
    head = '<tr><th scope="col">What</th><th scope="col">Why</th><th scope="col">Frames</th></tr>'
    table = (
        "<table><caption>Frames that failed, or are less than was asked for</caption>"
        f"<thead>{head}</thead><tbody>{rows}</tbody></table>"
    )
    return _section("problems", "Failed or degraded", table)


def _section(name: str, title: str, body: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title}</h2>{body}</section>\n'
    )
