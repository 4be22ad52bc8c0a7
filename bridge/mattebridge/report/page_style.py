"""The style sheet and the script of a shot's page."""

# Neutral greys, as in a grading room: no hue beside the pictures.
STYLE = """
:root { color-scheme: dark; --paper: #1c1c1c; --panel: #262626; --ink: #d8d8d8; --faint: #a0a0a0;
  --line: #444; --bad: #e0705c; --first: #e0e0e0; }
* { box-sizing: border-box; }
html { accent-color: #bbb; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 1120px; padding: 20px 24px 40px; }
h1 { font-size: 1.6rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; font-weight: 600; margin: 2.2rem 0 .7rem; }
.lead, .summary, .hint, footer { color: var(--faint); margin: .3rem 0; }
.summary, .hint, footer { font-size: .87rem; }
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
