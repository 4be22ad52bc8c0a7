"""A real daemon that is asked for a frame again: only what changed is computed, with equal bits."""

from __future__ import annotations

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess, StartDaemon, wait_for
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, shot
from fakes.reuse import check_reuse
from mattebridge.errors import Cancelled, InternalError

pytestmark = pytest.mark.slow

SHOT = shot(seed=21)
PAIR = {"plate": SHOT.plate, "clean_plate": SHOT.clean_plate}


def on_a_screen() -> np.ndarray:
    """A grey subject in front of an uneven green screen, display-encoded."""
    y, x = np.mgrid[0:90, 0:160].astype(np.float32)
    plate = np.stack([0.1 + 0 * x, 0.6 + 0.1 * x / 160, 0.15 + 0 * x], 2)
    plate[np.hypot(x - 80, y - 60) < 25] = (0.5, 0.45, 0.4)
    return plate + np.random.default_rng(3).normal(0, 0.004, plate.shape).astype(np.float32)


@pytest.mark.parametrize("model", ["difference", "twoplate"])
def test_a_model_of_two_plates(shared_daemon: DaemonProcess, model: str) -> None:
    check_reuse(shared_daemon.client(), PAIR, model=model, colorspace="srgb", **PLAIN)


def test_a_clean_plate_that_is_aligned(shared_daemon: DaemonProcess) -> None:
    check_reuse(shared_daemon.client(), PAIR, model="difference", colorspace="srgb")


def test_a_screen_keyer(shared_daemon: DaemonProcess) -> None:
    images = {"plate": on_a_screen()}
    check_reuse(shared_daemon.client(), images, model="screen", colorspace="srgb")


def test_a_held_clean_plate_that_is_replaced_is_another_one(shared_daemon: DaemonProcess) -> None:
    client = shared_daemon.client()
    asked = {"model": "difference", "colorspace": "srgb", **PLAIN}
    client.hold_clean_plate("wall", SHOT.clean_plate)
    client.matte(SHOT.plate, "wall", **asked)
    again = client.matte(SHOT.plate, "wall", **asked, despill_strength=0.5)
    assert again.notes["reused"] == "matte"
    client.hold_clean_plate("wall", SHOT.clean_plate[::-1].copy(), replace=True)
    other = client.matte(SHOT.plate, "wall", **asked)
    client.drop_clean_plate("wall")
    assert "reused" not in other.notes
    assert not np.array_equal(other.alpha, again.alpha)


def test_what_is_kept_and_used_is_in_status_and_log_and_goes_with_release(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon().wait_ready()
    client = daemon.client()

    def memory() -> dict:
        return client.status()["workers"][0]["memory"]

    assert memory()["hits"] == {"mattes": 0, "results": 0}
    for strength in (0.0, 0.5, 0.5):
        client.matte(**PAIR, colorspace="srgb", despill_strength=strength)
    held = memory()
    assert held["hits"] == {"mattes": 2, "results": 1}
    # The planes of a result: alpha, foreground and premultiplied, 8 floats a pixel.
    assert held["caches"]["results"] == 64 * 48 * 8 * 4
    assert held["caches"]["mattes"] >= 64 * 48 * (3 + 4) * 4
    lines = [line for line in daemon.log().splitlines() if "frame=None" in line]
    assert [line.rpartition(" ")[2] for line in lines[-2:]] == ["reused=matte", "reused=result"]
    (freed,) = client.release()
    assert freed["caches"] == held["caches"]
    assert "reused" not in client.matte(**PAIR, colorspace="srgb").notes


def test_nothing_is_kept_where_the_owner_of_the_machine_says_so(start_daemon: StartDaemon) -> None:
    client = start_daemon(MATTEBRIDGE_FRAME_BYTES="0").client()
    for _ in range(2):
        assert "reused" not in client.matte(**PAIR, colorspace="srgb").notes
    caches = client.status()["workers"][0]["memory"]["caches"]
    assert (caches["mattes"], caches["results"]) == (0, 0)


def test_a_frame_that_fails_is_not_kept_and_a_kept_one_can_still_be_cancelled(
    start_daemon: StartDaemon, tmp_path
) -> None:
    hooks = tmp_path / "hooks"
    hooks.write_text("model=raise")
    client = start_daemon(hooks=f"@{hooks}").client()
    asked = {**PAIR, "colorspace": "srgb"}
    with pytest.raises(InternalError):
        client.matte(**asked)
    hooks.write_text("")
    assert "reused" not in client.matte(**asked).notes
    gate = tmp_path / "gate"
    gate.touch()
    hooks.write_text(f"model=gate:{gate}")
    handle = client.submit(**asked, despill_strength=0.5)
    wait_for(lambda: (tmp_path / "gate.reached").exists(), SOON_S)
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.result()
    hooks.write_text("")
    assert client.matte(**asked).notes["reused"] == "result"
