"""The page of a matted shot: one HTML file that needs nothing else, on a screen and on paper.

    Shot, findings, pictures --page()--> HTML: wipe, frames to look at first, contact sheet,
                                         charts over frames, how it was made

Pictures lie in it as data, charts are inline SVG, and one small script moves the divider. A content
security policy in the page itself forbids every request, so that it shows the same on a farm's wall
as on a laptop without a network. The rule that must not be broken: every word that came from
outside (names, messages, settings) goes through `escape`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Callable, Optional

from mattebridge.image_io.sequences import format_frames
from mattebridge.report.pictures import VIEWS, FramePictures
from mattebridge.report.records import Entry, Finding, Shot

# Points of a line in a chart: more than a screen has columns tell nothing.
CHART_POINTS = 480
CHART_WIDTH, CHART_HEIGHT = 640, 170
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 62, 14, 12, 26
TITLES = {"plate": "Plate", "comp": "Comp", "alpha": "Alpha", "error": "Error"}


def page(
    shot: Shot,
    found: Sequence[Finding],
    pictures: Mapping[int, FramePictures],
    *,
    note: str = "",
    made_by: str = "",
) -> str:
    """The whole page. pictures: of the frames that are shown; note: what was left out."""
    # A frame that failed has a plate and nothing to compare it with.
    large = [f for f, made in sorted(pictures.items()) if {"plate"} < made.large.keys()]
    opening = next((f.frame for f in found if f.frame in large), next(iter(large), None))
    sections = [
        _wipe(pictures, large, opening),
        _look_first(found, pictures),
        _sheet(shot, pictures, large, note),
        _charts(shot, pictures),
        _how(shot),
        _unwell(shot, pictures),
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


# ------------------------------------------------------------------------------------- the pictures


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
    """JSON that cannot end the element it stands in."""
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
    said = f"<p>{escape(note)}</p>" if note else ""
    return _section("sheet", "Contact sheet", f'{said}<div class="sheet">{figures}</div>')


def _figure(entry: Entry, made: FramePictures, in_wipe: bool) -> str:
    cells = "".join(
        f'<img loading="lazy" src="{_data_uri(made.thumbs[view])}" width="{made.size[0]}"'
        f' height="{made.size[1]}" alt="{TITLES[view]}, frame {entry.frame}">'
        for view in VIEWS
        if view in made.thumbs
    )
    words = [entry.status] if entry.status not in ("done", "found") else []
    words += [label.replace("_", " ") for label in (*entry.degraded, *entry.held, *entry.black)]
    if entry.area is not None:
        words.append(f"area {100 * entry.area:.1f} %")
    told = escape(", ".join(words))
    number = (
        f'<a href="#wipe" data-frame="{entry.frame}">{entry.frame}</a>'
        if in_wipe
        else f"{entry.frame}"
    )
    empty = "" if cells else '<p class="none">no picture</p>'
    return (
        f'<figure id="frame-{entry.frame}"><div class="cells">{cells}{empty}</div>'
        f"<figcaption><b>{number}</b> {told}</figcaption></figure>"
    )


# --------------------------------------------------------------------------------------- the charts


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
        _chart(title, unit, frames, [value(entry) for entry in shot.entries], failed)
        for title, unit, value in drawn
    )
    body = f'<div class="charts">{charts}</div>' if charts else "<p>No figures were recorded.</p>"
    return _section("charts", "Over the frames", body)


def _mebibytes(size: Optional[float]) -> Optional[float]:
    return None if size is None else size / 2**20


def _percent(share: Optional[float]) -> Optional[float]:
    return None if share is None else 100 * share


def _chart(
    title: str,
    unit: str,
    frames: Sequence[int],
    values: Sequence[Optional[float]],
    failed: Sequence[int],
) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    top = _round_up(max(known))
    across, down = _scales(frames, top)
    drawn = f'<path class="line" d="{_path(frames, values, across, down)}"/>'
    marks = "".join(
        f'<line class="failed" x1="{across(f):.1f}" x2="{across(f):.1f}" y1="{MARGIN_TOP}"'
        f' y2="{down(0):.1f}"><title>frame {f} failed</title></line>'
        for f in failed[:CHART_POINTS]
    )
    told = _summary(values, frames, unit)
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b>, {escape(unit)}</figcaption>'
        f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img"'
        f' aria-label="{escape(f"{title}, frame by frame: {told}")}">'
        f"{_grid(frames, top, across, down)}{drawn}{marks}</svg>"
        f'<p class="told">{escape(told)}</p></figure>'
    )


def _scales(
    frames: Sequence[int], top: float
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    first, span = frames[0], max(1, frames[-1] - frames[0])
    wide = CHART_WIDTH - MARGIN_LEFT - MARGIN_RIGHT
    high = CHART_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM
    return (
        lambda frame: MARGIN_LEFT + wide * (frame - first) / span,
        lambda value: MARGIN_TOP + high * (1 - value / top),
    )


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 with zeros; a scale that people can read."""
    step = 1e-6
    while True:
        for digit in (1, 2, 5):
            if value <= digit * step:
                return digit * step
        step *= 10


def _grid(
    frames: Sequence[int],
    top: float,
    across: Callable[[float], float],
    down: Callable[[float], float],
) -> str:
    right, parts = CHART_WIDTH - MARGIN_RIGHT, []
    for share in (0.0, 0.5, 1.0):
        y = down(share * top)
        parts.append(
            f'<line class="grid" x1="{MARGIN_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{MARGIN_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{share * top:,.6g}</text>"
        )
    anchors = {0: "start", len(frames) - 1: "end"}
    for place in sorted({0, len(frames) // 2, len(frames) - 1}):
        parts.append(
            f'<text x="{across(frames[place]):.1f}" y="{CHART_HEIGHT - 6}"'
            f' text-anchor="{anchors.get(place, "middle")}">{frames[place]}</text>'
        )
    return "".join(parts)


def _path(
    frames: Sequence[int],
    values: Sequence[Optional[float]],
    across: Callable[[float], float],
    down: Callable[[float], float],
) -> str:
    """An SVG path; of many frames the lowest and highest of each column: no peak is lost."""
    points, moved = [], False
    for group in _columns(list(zip(frames, values))):
        known = [(frame, value) for frame, value in group if value is not None]
        if not known:
            moved = False
            continue
        ends = {min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])}
        for frame, value in sorted(ends):
            points.append(f"{'L' if moved else 'M'}{across(frame):.1f} {down(value):.1f}")
            moved = True
    # A lone point is drawn as a dot by its round cap.
    return " ".join(points) + (" h0" if len(points) == 1 else "")


def _columns(points: list[Any]) -> Iterable[list[Any]]:
    size = max(1, -(-2 * len(points) // CHART_POINTS))
    size = 1 if len(points) <= CHART_POINTS else size
    return (points[start : start + size] for start in range(0, len(points), size))


def _summary(values: Sequence[Optional[float]], frames: Sequence[int], unit: str) -> str:
    known = [(value, frame) for value, frame in zip(values, frames) if value is not None]
    middle = statistics.median(value for value, _ in known)
    most, frame = max(known)
    return f"median {_figure_text(middle)} {unit}, most {_figure_text(most)} at frame {frame}"


def _figure_text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# ---------------------------------------------------------------------------------------- the words


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


def _unwell(shot: Shot, pictures: Mapping[int, FramePictures]) -> str:
    """Everything that failed or is less than was asked for, frame numbers gathered."""
    gathered: dict[tuple[str, str], list[int]] = {}
    for entry in shot.entries:
        if entry.status not in ("done", "found"):
            key = (entry.status, entry.message or "no reason was recorded")
            gathered.setdefault(key, []).append(entry.frame)
        for what, labels in (
            ("less than asked for", entry.degraded),
            ("held", entry.held),
            ("black", entry.black),
        ):
            for label in labels:
                gathered.setdefault((what, label.replace("_", " ")), []).append(entry.frame)
    for frame, made in pictures.items():
        for why in made.missing:
            gathered.setdefault(("not shown here", why), []).append(frame)
    if not gathered:
        return _section("unwell", "Failed or degraded", "<p>Nothing.</p>")
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
    return _section("unwell", "Failed or degraded", table)


def _section(name: str, title: str, body: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title}</h2>{body}</section>\n'
    )


# A neutral grey room, as for grading: no hue of its own beside the pictures.
STYLE = """
:root { color-scheme: dark; --paper: #1c1c1c; --panel: #262626; --ink: #d8d8d8; --faint: #a0a0a0;
  --line: #444; --bad: #e0705c; --first: #e0e0e0; }
* { box-sizing: border-box; }
html { accent-color: #bbb; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 1120px; padding: 20px 24px 40px; }
h1 { font-size: 1.6rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; font-weight: 600; margin: 2.2rem 0 .7rem; }
.lead, .told, .hint, footer { color: var(--faint); margin: .3rem 0; }
.told, .hint, footer { font-size: .87rem; }
footer { margin-top: 3rem; }
a { color: var(--ink); text-decoration-color: var(--faint); }
a:hover { text-decoration-color: currentColor; }
:focus-visible { outline: 2px solid #fff; outline-offset: 2px; }
.skip { position: absolute; left: -999em; }
.skip:focus { position: static; }
.controls { display: flex; flex-wrap: wrap; gap: .6rem 1.4rem; align-items: center;
  margin-bottom: .7rem; }
fieldset { border: 0; margin: 0; padding: 0; display: flex; gap: .3rem .9rem; flex-wrap: wrap; }
legend { float: left; color: var(--faint); margin-right: .9rem; padding: 0; }
select, button { font: inherit; color: var(--ink); background: var(--panel);
  border: 1px solid var(--line); border-radius: 4px; padding: .25rem .6rem; min-height: 2rem; }
.stage { position: relative; background: #000; line-height: 0; overflow: hidden; cursor: ew-resize;
  touch-action: pan-y; user-select: none; -webkit-user-select: none; --cut: 50%; }
.stage img { width: 100%; height: auto; display: block; }
#right { position: absolute; inset: 0; height: 100%; clip-path: inset(0 0 0 var(--cut)); }
#divider { position: absolute; top: 0; bottom: 0; left: var(--cut); width: 44px;
  transform: translateX(-50%); }
#divider::before { content: ""; position: absolute; left: 50%; top: 0; bottom: 0; width: 2px;
  margin-left: -1px; background: #fff; box-shadow: 0 0 0 1px rgba(0, 0, 0, .6); }
#divider::after { content: "\\2194"; position: absolute; left: 50%; top: 50%; width: 34px;
  height: 34px; margin: -17px 0 0 -17px; border-radius: 50%; background: #fff; color: #222;
  font: 20px/34px sans-serif; text-align: center; box-shadow: 0 0 0 1px rgba(0, 0, 0, .6); }
#divider:focus-visible { outline: none; }
#divider:focus-visible::after { outline: 3px solid #fff; outline-offset: 3px; }
.tag { position: absolute; bottom: 10px; padding: 2px 9px; line-height: 1.5; font-size: .85rem;
  background: rgba(0, 0, 0, .6); color: #eee; pointer-events: none; }
.at-left { left: 10px; } .at-right { right: 10px; }
.found { list-style: none; margin: 0; padding: 0; }
.found li { padding: .35rem 0; border-top: 1px solid var(--line); display: flex; gap: 1rem; }
.found li:last-child { border-bottom: 1px solid var(--line); }
.found a, .found b { min-width: 4.5rem; font-variant-numeric: tabular-nums; font-weight: 600; }
.failed .why { color: var(--bad); }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 14px; }
.sheet figure { margin: 0; scroll-margin-top: 1rem; background: var(--panel); padding: 6px; }
.sheet figure:target { outline: 2px solid #fff; }
.cells { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; }
.cells img { width: 100%; height: auto; display: block; }
.none { color: var(--faint); margin: 0; }
figcaption { font-size: .85rem; color: var(--faint); padding-top: 4px; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
  gap: 1.4rem; }
.chart { margin: 0; }
svg { width: 100%; height: auto; display: block; background: var(--panel); margin: .3rem 0; }
svg text { fill: var(--faint); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); }
.line { fill: none; stroke: var(--first); stroke-width: 1.6; stroke-linejoin: round;
  stroke-linecap: round; }
svg .failed { stroke: var(--bad); stroke-width: 1.5; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: var(--faint); font-size: .87rem; padding-bottom: .4rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; font-weight: 400;
  border-top: 1px solid var(--line); overflow-wrap: anywhere; }
th[scope=row] { color: var(--faint); width: 13rem; }
@media (max-width: 600px) { body { padding: 14px; } th[scope=row] { width: auto; } }
@media print {
  :root { color-scheme: light; --paper: #fff; --panel: #fff; --ink: #000; --faint: #333;
    --line: #bbb; --bad: #a02010; --first: #000; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { max-width: none; padding: 0; }
  .controls, .hint, .skip { display: none; }
  #divider::after { display: none; }
  .stage { max-width: 16cm; }
  .sheet { grid-template-columns: repeat(3, 1fr); }
  .sheet figure, .chart, tr, .stage, .found li { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""

SCRIPT = """
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const stage = $("stage");
  if (!stage) return;
  const divider = $("divider"), frame = $("frame"), left = $("left"), right = $("right");
  const views = JSON.parse($("views").textContent);
  const titles = { plate: "Plate", comp: "Comp", alpha: "Alpha", error: "Error" };
  const radios = [...document.querySelectorAll("input[name=view]")];
  let share = 50;

  const cut = (percent) => {
    share = Math.min(100, Math.max(0, percent));
    stage.style.setProperty("--cut", share + "%");
    divider.setAttribute("aria-valuenow", String(Math.round(share)));
    divider.setAttribute(
      "aria-valuetext", "plate on the left " + Math.round(share) + " percent");
  };
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    cut(100 * (event.clientX - box.left) / box.width);
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    divider.focus({ preventScroll: true });
    follow(event);
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) follow(event);
  });
  divider.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const to = {
      ArrowLeft: share - step, ArrowDown: share - step, ArrowRight: share + step,
      ArrowUp: share + step, PageDown: share - 10, PageUp: share + 10, Home: 0, End: 100,
    }[event.key];
    if (to === undefined) return;
    cut(to);
    event.preventDefault();
  });

  const show = () => {
    const held = views[frame.value];
    for (const radio of radios) radio.disabled = !(radio.value in held);
    const wanted = radios.find((radio) => radio.checked && !radio.disabled)
      || radios.find((radio) => !radio.disabled);
    const view = wanted ? wanted.value : "plate";
    left.src = held.plate;
    left.alt = "Plate, frame " + frame.value;
    right.src = held[view];
    right.alt = titles[view] + ", frame " + frame.value;
    $("tag").textContent = titles[view];
    $("back").disabled = frame.selectedIndex === 0;
    $("on").disabled = frame.selectedIndex === frame.options.length - 1;
  };
  const step = (by) => {
    frame.selectedIndex += by;
    show();
  };
  frame.addEventListener("change", show);
  $("back").addEventListener("click", () => step(-1));
  $("on").addEventListener("click", () => step(1));
  for (const radio of radios) radio.addEventListener("change", show);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-frame]");
    if (!link || !(link.dataset.frame in views)) return;
    event.preventDefault();
    frame.value = link.dataset.frame;
    show();
    $("wipe").scrollIntoView();
    divider.focus({ preventScroll: true });
  });
  show();
})();
"""
