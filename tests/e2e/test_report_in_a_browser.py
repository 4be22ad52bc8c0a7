"""The report page in a real browser: the divider moves under mouse, touch and keys, and the pixels
say so; nothing is ever asked of a network."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fakes.browser import Browser, find_browser
from fakes.matted_shot import matted_shot
from mattebridge.cli import main
from mattebridge.errors import InternalError

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium on this machine (apt-get install chromium)"
)

NASTY = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shot over blue with a jump at 1005 and a failure at 1003, told by the real command."""
    folder = tmp_path_factory.mktemp("shot")
    matted_shot(folder, jump_at=1005, fail={1003: InternalError(NASTY)}, settings={"note": NASTY})
    assert main(["report", str(folder / "out")]) == 0
    return folder / "out" / "plate.report.html"


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(running: Browser, page: Path) -> Browser:
    running.open(page)
    return running


def share(browser: Browser) -> float:
    return float(browser.ask("document.getElementById('divider').getAttribute('aria-valuenow')"))


def edge_of(browser: Browser) -> float:
    """Where along a row the red of the plate ends and the blue of the comp begins, in percent."""
    left, top, width, height = browser.box("#stage")
    row = browser.picture()[round(top + 0.08 * height), round(left) : round(left + width)]
    row = row.astype(int)
    plate, comp = row[:, 0] > row[:, 2] + 60, row[:, 2] > row[:, 0] + 60
    assert (plate | comp).mean() > 0.95  # all but the line itself
    # Left of the divider nothing but plate, right of it nothing but comp.
    assert not comp[: np.flatnonzero(plate)[-1]].any() if plate.any() and comp.any() else True
    return 100 * plate.mean()


def test_the_page_opens_half_plate_and_half_comp(browser: Browser) -> None:
    assert share(browser) == 50
    assert edge_of(browser) == pytest.approx(50, abs=1)
    # The first frame to look at that has pictures of its own, not simply the first of the shot.
    assert browser.ask("document.getElementById('frame').value") == "1005"


def test_the_mouse_drags_the_divider(browser: Browser) -> None:
    left, top, width, height = browser.box("#stage")
    y = top + height / 2
    browser.mouse("mousePressed", left + width / 2, y)
    for place in (0.4, 0.3, 0.25):
        browser.mouse("mouseMoved", left + place * width, y)
    assert share(browser) == pytest.approx(25, abs=1)
    assert edge_of(browser) == pytest.approx(25, abs=1)
    browser.mouse("mouseMoved", left + width + 300, y)  # past the picture: it stops at its side
    assert share(browser) == 100
    browser.mouse("mouseMoved", left + 0.7 * width, y)
    browser.mouse("mouseReleased", left + 0.7 * width, y)
    browser.mouse("mouseMoved", left + 0.1 * width, y)  # let go: it stays
    assert edge_of(browser) == pytest.approx(70, abs=1)


def test_a_finger_drags_the_divider(browser: Browser) -> None:
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        left, top, width, height = browser.box("#stage")
        y = top + height / 2
        browser.touch("touchStart", (left + width / 2, y))
        for place in (0.55, 0.6, 0.7, 0.8):
            browser.touch("touchMove", (left + place * width, y))
        browser.touch("touchEnd")
    finally:
        browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert share(browser) == pytest.approx(80, abs=1)
    assert edge_of(browser) == pytest.approx(80, abs=1)


def test_keys_move_the_divider_and_say_so_to_a_screen_reader(browser: Browser) -> None:
    browser.ask("document.getElementById('divider').focus()")
    for _ in range(3):
        browser.key("ArrowLeft")
    assert share(browser) == 47
    browser.key("ArrowRight", shift=True)
    assert share(browser) == 57
    assert edge_of(browser) == pytest.approx(57, abs=1)
    told = "document.getElementById('divider').getAttribute('aria-valuetext')"
    assert browser.ask(told) == "plate on the left 57 percent"
    browser.key("Home")
    assert (share(browser), edge_of(browser)) == (0, 0)
    browser.key("End")
    assert edge_of(browser) == pytest.approx(100, abs=1)
    browser.key("ArrowRight")
    assert share(browser) == 100


def test_tab_reaches_the_controls_and_the_divider(browser: Browser) -> None:
    browser.ask("document.body.focus()")
    reached = []
    for _ in range(9):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", windowsVirtualKeyCode=9)
        reached.append(browser.ask("document.activeElement.id || document.activeElement.name"))
    assert {"frame", "view", "divider"} <= set(reached)


def test_another_view_and_another_frame_can_be_chosen(browser: Browser) -> None:
    browser.ask("document.querySelector('input[value=alpha]').click()")
    left, top, width, height = browser.box("#stage")
    corner = browser.picture()[round(top + 0.08 * height), round(left + 0.9 * width)].astype(int)
    assert corner.max() < 20  # alpha is black where the wall is
    assert browser.ask("document.getElementById('right').alt") == "Alpha, frame 1005"
    browser.ask("document.getElementById('on').click()")
    assert browser.ask("document.getElementById('left').alt") == "Plate, frame 1006"
    assert browser.ask("document.getElementById('right').alt") == "Alpha, frame 1006"


def test_a_frame_to_look_at_opens_in_the_wipe(browser: Browser) -> None:
    browser.ask("document.getElementById('on').click()")
    browser.ask("document.querySelector('#look a[data-frame=\"1005\"]').click()")
    assert browser.ask("document.getElementById('frame').value") == "1005"
    assert browser.ask("document.activeElement.id") == "divider"


def test_nothing_is_asked_of_a_network_and_nothing_can_be(browser: Browser, page: Path) -> None:
    for name in ("ArrowLeft", "End"):
        browser.key(name)
    browser.ask("window.scrollTo(0, document.body.scrollHeight)")  # lazy pictures too
    browser.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert browser.requests() == [page.as_uri()]
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        seen: list[object] = []
        listener = threading.Thread(target=_note_callers, args=(server, seen), daemon=True)
        listener.start()
        asked = browser.ask(f"fetch({address!r}).then(() => 'answered', () => 'refused')")
        pixel = browser.ask(
            f"new Promise(done => {{ const i = new Image(); i.onload = () => done('loaded');"
            f" i.onerror = () => done('refused'); i.src = {address!r}; }})"
        )
        server.shutdown(socket.SHUT_RDWR)
        listener.join(60)
    assert (asked, pixel, seen) == ("refused", "refused", [])


def _note_callers(server: socket.socket, seen: list[object]) -> None:
    try:
        connection, caller = server.accept()
    except OSError:
        return
    connection.close()
    seen.append(caller)


def test_foreign_words_stay_words_and_the_console_stays_empty(browser: Browser) -> None:
    assert browser.ask("window.hacked === undefined")
    assert browser.ask("document.body.textContent.includes('window.hacked = 2')")
    assert browser.ask("document.querySelectorAll('img[src=x]').length") == 0
    said = [event for event in browser.events if event["method"] == "Log.entryAdded"]
    thrown = [event for event in browser.events if event["method"] == "Runtime.exceptionThrown"]
    assert (said, thrown) == ([], [])


def test_nothing_is_wider_than_a_narrow_window(browser: Browser) -> None:
    metrics = {"width": 380, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **metrics)
    try:
        assert browser.ask("document.documentElement.scrollWidth") <= 380
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


def test_on_paper_it_is_black_on_white_without_controls(browser: Browser) -> None:
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        paper = browser.ask("getComputedStyle(document.documentElement).backgroundColor")
        ink = browser.ask("getComputedStyle(document.body).color")
        controls = browser.ask("getComputedStyle(document.querySelector('.controls')).display")
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
    assert (paper, ink, controls) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)", "none")
    assert len(browser.call("Page.printToPDF")["data"]) > 1000


def test_without_scripts_the_first_look_is_still_there(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        size = browser.call("Page.getLayoutMetrics")["cssLayoutViewport"]
        shown = browser.picture().astype(int)
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    red = (shown[..., 0] > shown[..., 2] + 60).mean()
    blue = (shown[..., 2] > shown[..., 0] + 60).mean()
    assert size["clientWidth"] > 500
    assert min(red, blue) > 0.1


def test_the_page_needs_no_more_than_its_own_text(page: Path) -> None:
    assert not re.search(r"https?://", page.read_text("utf-8"))
