"""MatteClient against a real daemon: every sample type, frames in flight, threads, lost daemons."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess, StartDaemon, is_alive, slot_maps, wait_for
from fakes.light_python import light_python, matted_light
from fakes.limits import SOON_S
from fakes.pictures import CHANNELS, PLAIN, matted_here, same, shot
from fakes.places import BRIDGE
from mattebridge.client import MatteClient
from mattebridge.errors import (
    Cancelled,
    ConnectionFailed,
    DaemonLost,
    DeadlineError,
    DtypeError,
    InputsError,
    MattebridgeError,
    MessageError,
    ModelError,
    PlateError,
)

SHOT = shot(seed=5)


@pytest.fixture
def client(shared_daemon: DaemonProcess) -> Iterator[MatteClient]:
    with MatteClient.connect(str(shared_daemon.folder)) as connected:
        yield connected


@pytest.fixture
def own_daemon(start_daemon: StartDaemon) -> DaemonProcess:
    return start_daemon(light=True).wait_ready()


@contextlib.contextmanager
def _connected(daemon: DaemonProcess, **options: Any) -> Iterator[MatteClient]:
    with MatteClient.connect(str(daemon.folder), **options) as connected:
        yield connected


# -- samples and layouts -------------------------------------------------------------------------


def _as_type(image: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    if dtype.startswith("uint"):
        return (image * np.iinfo(dtype).max).round().astype(dtype)
    return image.astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("channels", [3, 4])
def test_every_sample_type_gives_what_the_engine_gives(
    client: MatteClient, dtype: str, channels: int
) -> None:
    plate, clean_plate = (_as_type(image, dtype) for image in SHOT)
    if channels == 4:
        opaque = np.ones((*plate.shape[:2], 1))
        plate = np.concatenate([plate, _as_type(opaque, dtype)], axis=2)
    colorspace = "srgb" if dtype.startswith("uint") else "linear"
    matte = client.matte(plate, clean_plate, **PLAIN)
    assert same(matte, matted_here(plate, clean_plate, colorspace=colorspace))
    assert {image.dtype.name for image in (matte.alpha, matte.foreground)} == {"float32"}


def test_doubles_are_taken_as_floats(client: MatteClient) -> None:
    matte = client.matte(*(image.astype(np.float64) for image in SHOT), **PLAIN)
    assert same(matte, matted_here(*SHOT))


def test_arrays_may_lie_in_memory_in_any_way(client: MatteClient) -> None:
    expected = matted_here(*SHOT)
    height, width = SHOT.plate.shape[:2]
    wide = np.zeros((height * 2, width * 3, 8), np.float32)
    views = {
        "every second row, third pixel": wide[::2, ::3, 2:5],
        "planes": np.zeros((3, height, width), np.float32).transpose(1, 2, 0),
        "columns first": np.zeros((width, height, 3), np.float32).swapaxes(0, 1),
        "bottom up": np.zeros((height, width, 3), np.float32)[::-1],
        "BGR": np.zeros((height, width, 3), np.float32)[..., ::-1],
        "read only": np.zeros((height, width, 3), np.float32),
    }
    for name, view in views.items():
        view[...] = SHOT.plate
        if name == "read only":
            view.flags.writeable = False
        assert same(client.matte(view, SHOT.clean_plate, **PLAIN), expected), name


def test_mattes_may_have_two_or_three_dimensions(client: MatteClient) -> None:
    garbage = np.zeros(SHOT.plate.shape[:2], np.float32)
    garbage[:10] = 1
    flat = client.matte(*SHOT, garbage_matte=garbage, **PLAIN)
    deep = client.matte(*SHOT, garbage_matte=garbage[..., np.newaxis], **PLAIN)
    assert np.array_equal(flat.alpha, deep.alpha)
    assert flat.alpha[:10].max() == 0
    assert flat.alpha.max() > 0
    core = client.matte(*SHOT, core_matte=garbage, **PLAIN)
    assert core.alpha[:10].min() == 1


def test_only_the_outputs_that_were_asked_for_come_back(client: MatteClient) -> None:
    expected = matted_here(*SHOT)
    matte = client.matte(*SHOT, outputs=("alpha",), **PLAIN)
    assert np.array_equal(matte.alpha, expected["alpha"])
    assert (matte.foreground, matte.premultiplied, matte.error) == (None, None, None)
    half = client.matte(*SHOT, output_dtype="float16", **PLAIN)
    assert half.premultiplied.dtype == np.float16
    np.testing.assert_allclose(half.premultiplied, expected["premultiplied"], rtol=1e-3, atol=1e-4)


def test_results_may_be_written_into_arrays_of_the_caller(client: MatteClient) -> None:
    expected = matted_here(*SHOT)
    height, width = SHOT.plate.shape[:2]
    canvas = np.full((height, width, 6), -1, np.float32)
    out = {"alpha": np.empty((height, width), np.float32), "premultiplied": canvas[..., 1:5]}
    matte = client.matte(*SHOT, outputs=("alpha", "premultiplied"), out=out, **PLAIN)
    assert matte.alpha is out["alpha"]
    assert np.array_equal(out["alpha"], expected["alpha"][..., 0])
    assert np.array_equal(canvas[..., 1:5], expected["premultiplied"])
    assert (canvas[..., [0, 5]] == -1).all()


@pytest.mark.parametrize(
    "out",
    [
        {"alpha": np.empty((5, 5), np.float32)},
        {"foreground": np.empty((48, 64), np.float32)},
        {"foreground": np.empty((48, 64, 4), np.float32)},
        {"alpha": np.empty((48, 64), np.uint8)},
        {"alpha": np.broadcast_to(np.float32(0), (48, 64))},
        {"depth": np.empty((48, 64), np.float32)},
        {"alpha": [[0.0]]},
    ],
)
def test_arrays_that_cannot_take_the_result_are_refused_before_anything_is_sent(
    client: MatteClient, out: dict[str, Any]
) -> None:
    with pytest.raises((InputsError, DtypeError, MessageError)):
        client.submit(*SHOT, out=out, **PLAIN)
    assert same(client.matte(*SHOT, **PLAIN), matted_here(*SHOT))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_premultiplied_in_display_values_is_the_encoded_foreground_times_alpha(
    client: MatteClient, dtype: str
) -> None:
    """And alpha and foreground are those of the same frame multiplied in linear light."""
    shown = {**PLAIN, "colorspace": "linear", "output_colorspace": "srgb", "output_dtype": dtype}
    shown["garbage_matte"] = np.tile(np.linspace(0, 1, 64, dtype="f4"), (48, 1))  # soft alpha
    light = client.matte(SHOT.plate, SHOT.clean_plate, **shown)
    matte = client.matte(SHOT.plate, SHOT.clean_plate, premultiply="display", **shown)
    assert np.array_equal(matte.alpha, light.alpha)
    assert np.array_equal(matte.foreground, light.foreground)
    product = matte.foreground.astype("f4") * matte.alpha.astype("f4")
    assert np.array_equal(matte.premultiplied[..., :3], product.astype(dtype))
    assert np.array_equal(matte.premultiplied[..., 3:], matte.alpha)
    soft = ((matte.alpha > 0.2) & (matte.alpha < 0.8))[..., 0]
    assert soft.any()
    # The product in light, encoded, is brighter wherever alpha is between 0 and 1.
    assert (light.premultiplied[soft, :3] > matte.premultiplied[soft, :3]).all()


def test_linear_results_multiplied_in_display_values_are_refused_in_one_sentence(
    client: MatteClient,
) -> None:
    with pytest.raises(MessageError, match="the results are linear - ask for srgb results"):
        client.matte(SHOT.plate, SHOT.clean_plate, colorspace="linear", premultiply="display")


def test_what_was_done_to_a_frame_is_said_with_it(client: MatteClient) -> None:
    matte = client.matte(*SHOT, frame=1042, **PLAIN)
    assert (matte.frame, matte.model) == (1042, "difference")
    assert matte.digest
    assert matte.degraded == ()
    for timing in ("copy_in_ms", "copy_out_ms", "wait_ms", "queue_ms", "render_ms", "total_ms"):
        assert matte.timings[timing] >= 0


# -- several frames in flight --------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1])
def test_frames_in_flight_come_back_each_with_its_own_pixels_in_any_order(
    shared_daemon: DaemonProcess, order: int
) -> None:
    shots = [shot(seed=seed) for seed in range(60, 72)]
    with _connected(shared_daemon, in_flight=4) as client:
        for start in range(0, len(shots), 4):
            some = shots[start : start + 4]
            handles = [client.submit(*one, frame=n, **PLAIN) for n, one in enumerate(some)]
            for handle, one in list(zip(handles, some))[::order]:
                assert same(handle.result(SOON_S), matted_here(*one))


def test_more_frames_than_arenas_wait_their_turn(shared_daemon: DaemonProcess) -> None:
    shots = [shot(seed=seed) for seed in range(80, 90)]
    with _connected(shared_daemon, in_flight=2) as client:
        handles = [client.submit(*one, **PLAIN) for one in shots]
        assert all(same(h.result(SOON_S), matted_here(*one)) for h, one in zip(handles, shots))


def test_a_result_can_be_asked_for_twice_and_without_waiting(client: MatteClient) -> None:
    handle = client.submit(*SHOT, **PLAIN)
    wait_for(handle.done, SOON_S, "the frame is done")
    assert handle.result() is handle.result()


def test_frames_of_different_sizes_follow_each_other(shared_daemon: DaemonProcess) -> None:
    with _connected(shared_daemon) as client:
        for width, height in ((64, 48), (700, 500), (3, 2), (1200, 40), (64, 48)):
            one = shot(width, height, seed=width)
            assert same(client.matte(*one, **PLAIN), matted_here(*one))


def test_a_larger_frame_waits_for_the_smaller_ones_that_are_out(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True, hooks="model#13=sleep:0.5")
    small, large = shot(seed=91), shot(900, 700, seed=92)
    with _connected(daemon) as client:
        first = client.submit(*small, frame=13, **PLAIN)
        second = client.submit(*large, timeout_s=SOON_S, **PLAIN)
        assert same(second.result(SOON_S), matted_light(*large))
        assert same(first.result(SOON_S), matted_light(*small))


def test_progress_is_told_while_waiting(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True, hooks="model=sleep:0.3")
    stages: list[str] = []
    with _connected(daemon) as client:
        client.matte(*SHOT, progress=lambda stage, done, total: stages.append(stage), **PLAIN)
    assert stages[0] == "inputs"
    assert len(stages) > 1


def test_an_error_in_a_progress_function_cancels_its_frame_and_no_other(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(light=True, hooks="model#13=sleep:5")
    other = shot(seed=93)

    def breaks(*_: Any) -> None:
        raise LookupError("no such knob")

    with _connected(daemon) as client:
        started = time.monotonic()
        handle = client.submit(*SHOT, frame=13, progress=breaks, **PLAIN)
        innocent = client.submit(*other, **PLAIN)
        assert same(innocent.result(SOON_S), matted_light(*other))
        with pytest.raises(LookupError, match="knob"):
            handle.result(SOON_S)
        assert time.monotonic() - started < SOON_S
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


def test_a_cancelled_frame_raises_and_the_arena_serves_again(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True, hooks="model#13=sleep:30")
    with _connected(daemon, in_flight=1) as client:
        handle = client.submit(*SHOT, frame=13, **PLAIN)
        handle.cancel()
        with pytest.raises(Cancelled):
            handle.result(SOON_S)
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


@pytest.mark.slow
def test_a_frame_that_takes_too_long_is_a_deadline_error_and_is_cancelled(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(light=True, hooks="model#13=sleep:60").wait_ready()
    with _connected(daemon, in_flight=1) as client:
        started = time.monotonic()
        with pytest.raises(DeadlineError):
            client.matte(*SHOT, frame=13, timeout_s=1.0, **PLAIN)
        with pytest.raises(DeadlineError) as caught:
            client.matte(*SHOT, frame=13, deadline_s=4.0, **PLAIN)
        assert caught.value.details["started"] is True
        assert time.monotonic() - started < SOON_S
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


@pytest.mark.slow
def test_a_result_that_is_not_there_yet_can_be_asked_for_again(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True, hooks="model#13=sleep:1")
    with _connected(daemon) as client:
        handle = client.submit(*SHOT, frame=13, **PLAIN)
        with pytest.raises(DeadlineError):
            handle.result(0.05)
        assert same(handle.result(SOON_S), matted_light(*SHOT))


def test_one_client_serves_many_threads(shared_daemon: DaemonProcess) -> None:
    wrong: list[str] = []

    def work(client: MatteClient, seed: int) -> None:
        one = shot(seed=seed)
        expected = matted_here(*one)
        try:
            for turn in range(8):
                if not same(client.matte(*one, timeout_s=60, **PLAIN), expected):
                    wrong.append(f"thread {seed}, turn {turn}: another picture")
                client.ping()
        except Exception as error:
            wrong.append(repr(error))

    # The engine of this process belongs to one thread.
    for seed in range(100, 106):
        matted_here(*shot(seed=seed))
    with _connected(shared_daemon, in_flight=3) as client:
        threads = [threading.Thread(target=work, args=(client, seed)) for seed in range(100, 106)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
    assert not wrong


def test_a_client_that_is_closed_ends_what_other_threads_wait_for(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(light=True, hooks="model#13=sleep:60").wait_ready()
    told: list[MattebridgeError] = []
    with _connected(daemon) as client:
        handle = client.submit(*SHOT, frame=13, **PLAIN)

        def wait() -> None:
            try:
                handle.result(SOON_S)
            except MattebridgeError as error:
                told.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.1)
        client.close()
        waiting.join(SOON_S)
        assert isinstance(told[0], DaemonLost)
        for ask in (client.ping, lambda: client.matte(*SHOT), lambda: client.submit(*SHOT)):
            with pytest.raises(ConnectionFailed, match="closed"):
                ask()


def test_a_client_may_be_closed_while_another_thread_copies_a_frame(
    shared_daemon: DaemonProcess,
) -> None:
    one = shot(900, 700, seed=94)
    unforeseen: list[BaseException] = []

    def work(client: MatteClient) -> None:
        try:
            while True:
                client.matte(*one, **PLAIN)
        except MattebridgeError:
            return
        except BaseException as error:
            unforeseen.append(error)

    for turn in range(12):
        with _connected(shared_daemon) as client:
            thread = threading.Thread(target=work, args=(client,))
            thread.start()
            time.sleep(0.01 * turn)
        thread.join(SOON_S)
        assert not thread.is_alive()
    assert not unforeseen


# -- held clean plates ---------------------------------------------------------------------------


def test_a_held_clean_plate_gives_the_same_pixels_as_one_that_is_sent(
    shared_daemon: DaemonProcess,
) -> None:
    with _connected(shared_daemon) as client:
        held = client.hold_clean_plate("sh010", SHOT.clean_plate)
        assert {"name": "sh010", "w": 64, "h": 48, "c": 3, "dtype": "f4"}.items() <= held[
            -1
        ].items()
        assert same(client.matte(SHOT.plate, "sh010", **PLAIN), matted_here(*SHOT))
    with _connected(shared_daemon) as other:
        # It belongs to the user, not to the session.
        assert same(other.matte(SHOT.plate, "sh010", **PLAIN), matted_here(*SHOT))
        assert "sh010" in [plate["name"] for plate in other.held_clean_plates()]
        assert other.drop_clean_plate("sh010") == []
        with pytest.raises(PlateError, match="sh010"):
            other.matte(SHOT.plate, "sh010", **PLAIN)
        with pytest.raises(PlateError):
            other.drop_clean_plate("sh010")


def test_another_clients_plate_is_not_replaced_in_silence(shared_daemon: DaemonProcess) -> None:
    other_set = np.ascontiguousarray(SHOT.clean_plate[::-1])
    with _connected(shared_daemon) as client, _connected(shared_daemon) as other:
        client.hold_clean_plate("loft", SHOT.clean_plate)
        before = client.matte(SHOT.plate, "loft", **PLAIN)
        assert before.clean_plate_digest == hashlib.sha256(SHOT.clean_plate.tobytes()).hexdigest()
        with pytest.raises(PlateError, match=r"'loft' \(64x48.*replaced"):
            other.hold_clean_plate("loft", other_set)
        after = client.matte(SHOT.plate, "loft", **PLAIN)
        assert same(after, matted_here(*SHOT))
        assert after.clean_plate_digest == before.clean_plate_digest
        # The same pixels may be sent again, also by another client.
        assert len(other.hold_clean_plate("loft", SHOT.clean_plate)) == 1
        (held,) = other.hold_clean_plate("loft", other_set, replace=True)
        replaced = client.matte(SHOT.plate, "loft", **PLAIN)
        assert same(replaced, matted_here(SHOT.plate, other_set))
        assert replaced.clean_plate_digest == held["digest"] != before.clean_plate_digest
        assert client.matte(*SHOT, **PLAIN).clean_plate_digest == ""
        assert client.drop_clean_plate("loft") == []


def test_the_plates_of_one_client_do_not_push_out_those_of_another(
    shared_daemon: DaemonProcess,
) -> None:
    tiny = np.zeros((4, 4, 3), np.float32)
    with _connected(shared_daemon) as client, _connected(shared_daemon) as many:
        client.hold_clean_plate("sh010", SHOT.clean_plate)
        for number in range(80):
            held = many.hold_clean_plate(f"many-{number}", tiny)
        assert "sh010" in [plate["name"] for plate in held]
        assert same(client.matte(SHOT.plate, "sh010", **PLAIN), matted_here(*SHOT))
        for plate in held:
            client.drop_clean_plate(plate["name"])


def test_a_content_key_is_believed_within_its_session_and_nowhere_else(
    client: MatteClient, shared_daemon: DaemonProcess
) -> None:
    other_set = np.ascontiguousarray(SHOT.clean_plate[::-1])
    expected = matted_here(*SHOT)
    assert same(client.matte(*SHOT, clean_plate_key="op:7", **PLAIN), expected)
    # Another set under the same key: the client said that it is the same.
    assert same(client.matte(SHOT.plate, other_set, clean_plate_key="op:7", **PLAIN), expected)
    truth = matted_here(SHOT.plate, other_set)
    assert same(client.matte(SHOT.plate, other_set, clean_plate_key="op:8", **PLAIN), truth)
    assert same(client.matte(SHOT.plate, other_set, **PLAIN), truth)
    with _connected(shared_daemon) as other:
        assert same(other.matte(SHOT.plate, other_set, clean_plate_key="op:7", **PLAIN), truth)


def test_a_content_key_without_a_clean_plate_is_refused(client: MatteClient) -> None:
    with pytest.raises(MessageError, match="clean plate that is sent"):
        client.matte(SHOT.plate, clean_plate_key="op:7", **PLAIN)
    with pytest.raises(MessageError, match="clean_plate_key"):
        client.matte(*SHOT, clean_plate_key="two words", **PLAIN)


def test_a_held_clean_plate_of_another_size_is_refused(client: MatteClient) -> None:
    client.hold_clean_plate("small", shot(32, 24).clean_plate)
    try:
        with pytest.raises(InputsError, match=r"64x48.*32x24"):
            client.matte(SHOT.plate, "small", **PLAIN)
    finally:
        client.drop_clean_plate("small")


def test_a_held_clean_plate_is_not_squeezed_and_the_error_says_what_to_do(
    client: MatteClient,
) -> None:
    client.hold_clean_plate("full", shot(64, 96).clean_plate)  # two fields of the plate's size
    try:
        with pytest.raises(InputsError, match=r"64x96, and no single scale .*same in both"):
            client.matte(SHOT.plate, "full", **PLAIN)
    finally:
        client.drop_clean_plate("full")


def test_a_plate_dropped_while_a_frame_waits_for_it_serves_that_frame_and_is_unmapped(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    daemon = start_daemon(light=True, hooks=f"model#13=gate:{gate}").wait_ready()
    with _connected(daemon) as client:
        client.hold_clean_plate("clean", SHOT.clean_plate)
        first = client.submit(*SHOT, frame=13, **PLAIN)
        second = client.submit(SHOT.plate, "clean", frame=14, **PLAIN)
        wait_for(lambda: client.ping()["queue"] == 1, SOON_S, "the second frame waits")
        client.drop_clean_plate("clean")
        gate.unlink()
        assert same(first.result(SOON_S), matted_light(*SHOT))
        assert same(second.result(SOON_S), matted_light(*SHOT))
        (worker,) = daemon.worker_pids()
        wait_for(lambda: slot_maps(worker) == 2, SOON_S, "only the two arenas stay mapped")


# -- a daemon that is replaced -------------------------------------------------------------------


@pytest.mark.slow
def test_a_client_goes_on_after_the_daemon_was_replaced_between_frames(
    own_daemon: DaemonProcess,
) -> None:
    with _connected(own_daemon) as client:
        for one in (shot(seed=1), shot(seed=2), shot(800, 600, seed=3)):
            # The last one also asks for larger arenas at a door that is gone.
            own_daemon.kill()
            own_daemon.start()
            assert same(client.matte(*one, **PLAIN), matted_light(*one))
        own_daemon.kill()
        own_daemon.start()
        assert client.ping()["state"] in ("starting", "ready")


@pytest.mark.slow
def test_a_frame_in_flight_is_sent_again_to_the_next_daemon(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True, hooks="model#13=sleep:0.5").wait_ready()
    with _connected(daemon) as client:
        handle = client.submit(*SHOT, frame=13, **PLAIN)
        daemon.kill()
        daemon.start()
        assert same(handle.result(SOON_S), matted_light(*SHOT))


def test_a_lost_daemon_is_told_to_all_threads_and_a_new_one_serves_them(
    own_daemon: DaemonProcess,
) -> None:
    outcomes: list[str] = []

    def work(client: MatteClient, turns: int) -> None:
        for _turn in range(turns):
            try:
                client.matte(*SHOT, timeout_s=SOON_S, **PLAIN)
                outcomes.append("done")
            except MattebridgeError as error:
                outcomes.append(error.code)

    with _connected(own_daemon, in_flight=3) as client:
        threads = [threading.Thread(target=work, args=(client, 40)) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        own_daemon.kill()
        time.sleep(0.05)
        own_daemon.start()
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads)
        assert set(outcomes) <= {"done", "E_DAEMON_LOST", "E_CONNECTION"}
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


# -- starting a daemon ---------------------------------------------------------------------------


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="mb-"))
    yield home / "run"
    with contextlib.suppress(ConnectionFailed):
        with MatteClient.connect(str(home / "run")) as client:
            pid = client.status()["pid"]
            client.shutdown()
        wait_for(lambda: not is_alive(pid), SOON_S, "the daemon stops")
    shutil.rmtree(home, ignore_errors=True)


def test_the_first_client_starts_the_daemon_where_that_is_allowed(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConnectionFailed, match="mattebridge serve"):
        MatteClient.connect(str(empty_folder))
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", sys.executable)
    with MatteClient.connect(str(empty_folder), start=True) as client:
        assert same(client.matte(*SHOT, **PLAIN), matted_here(*SHOT))
        with MatteClient.connect(str(empty_folder), start=True) as second:
            assert second.status()["pid"] == client.status()["pid"]


STARTER = """
import sys
from mattebridge.client import MatteClient
with MatteClient.connect(sys.argv[1], start=True) as client:
    print(client.status()["pid"], flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_eight_clients_that_start_at_once_meet_at_one_daemon(empty_folder: Path) -> None:
    environment = {
        **os.environ,
        "MATTEBRIDGE_DAEMON_PYTHON": light_python(),
        "PYTHONPATH": str(BRIDGE),
    }
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(empty_folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for _ in range(8)
    ]
    try:
        pids = [client.stdout.readline().strip() for client in clients]
        assert len(set(pids)) == 1
        assert is_alive(int(pids[0]))
    finally:
        for client in clients:
            client.communicate("\n", timeout=60)
    assert {client.returncode for client in clients} == {0}


# -- where the client runs -----------------------------------------------------------------------


def test_a_host_with_very_many_open_files_can_connect(shared_daemon: DaemonProcess) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1400
    if soft < wanted and hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"at most {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    files = []
    try:
        while not files or files[-1] < 1100:
            files.append(os.open(os.devnull, os.O_RDONLY))
        with _connected(shared_daemon) as client:
            assert same(client.matte(*SHOT, **PLAIN), matted_here(*SHOT))
    finally:
        for fd in files:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "cv2", "OpenImageIO", "fileseq", "safetensors", "scipy"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
"""

ONE_FRAME = """
import sys
import numpy as np
from mattebridge.client import MatteClient

plate, clean_plate = (np.load(f"{sys.argv[2]}/{name}.npy") for name in ("plate", "clean_plate"))
with MatteClient.connect(sys.argv[1]) as client:
    client.hold_clean_plate("of-a-host", clean_plate)
    client.drop_clean_plate("of-a-host")
    handles = [
        client.submit(plate, clean_plate, frame=n, alignment="off", match_exposure=False)
        for n in (1, 2)
    ]
    mattes = [handle.result(60) for handle in handles]
    assert client.status()["state"] == "ready"
for role in ("alpha", "foreground", "premultiplied"):
    assert np.array_equal(getattr(mattes[0], role), getattr(mattes[1], role))
    np.save(f"{sys.argv[2]}/{role}.npy", getattr(mattes[0], role))
print(sys.version_info[:2], sorted({"torch", "cv2", "OpenImageIO"} & set(sys.modules)))
"""


def _render_elsewhere(python: str, daemon: DaemonProcess, folder: Path, preamble: str = "") -> str:
    for name, image in SHOT._asdict().items():
        np.save(folder / f"{name}.npy", image)
    done = subprocess.run(
        [python, "-W", "error", "-c", preamble + ONE_FRAME, str(daemon.folder), str(folder)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "PYTHONPATH": str(BRIDGE)},
    )
    assert done.returncode == 0, done.stderr
    expected = matted_here(*SHOT)
    for role in CHANNELS:
        assert np.array_equal(np.load(folder / f"{role}.npy"), expected[role])
    return done.stdout.strip()


def test_the_client_needs_nothing_but_numpy_pyzmq_and_msgpack(
    shared_daemon: DaemonProcess, tmp_path: Path
) -> None:
    said = _render_elsewhere(sys.executable, shared_daemon, tmp_path, BLOCKED)
    assert said.endswith("[]")


def _candidates(version: str) -> Iterator[str]:
    named = os.environ.get("PYTHON" + version.replace(".", ""))
    if named:
        yield named
    found = shutil.which(f"python{version}")
    if found:
        yield found
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from (str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python")))


def _interpreter(version: str) -> str | None:
    """A Python of this version that runs: PYTHON39, the PATH, or pyenv's folder."""
    for python in _candidates(version):
        ask = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(ask, capture_output=True, text=True, timeout=SOON_S, check=False)
            if done.stdout.strip() == version:
                return python
    return None


@pytest.fixture(scope="session")
def host_python(request: pytest.FixtureRequest) -> str:
    """Python 3.9 with what the client needs and nothing more; made once, kept in pytest's cache."""
    python = _interpreter("3.9")
    if python is None:
        pytest.skip("no Python 3.9 was found (PYTHON39, the PATH, pyenv)")
    home = Path(str(request.config.cache.mkdir("client-venv-3.9")))
    inside = home / "bin" / "python"
    ready = home / "ready"
    if not ready.exists():
        wanted = ["numpy>=1.22", "pyzmq>=25", "msgpack>=1.0.5"]
        commands = [
            [python, "-m", "venv", "--clear", str(home)],
            [
                str(inside),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *wanted,
            ],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
            if done.returncode:
                pytest.skip(f"no environment for Python 3.9: {done.stderr.strip()[-300:]}")
        ready.touch()
    return str(inside)


def test_the_client_runs_in_the_python_of_the_oldest_hosts(
    shared_daemon: DaemonProcess, tmp_path: Path, host_python: str
) -> None:
    said = _render_elsewhere(host_python, shared_daemon, tmp_path)
    assert said == "(3, 9) []"


def test_every_module_of_the_host_half_imports_in_the_oldest_python(host_python: str) -> None:
    package = BRIDGE / "mattebridge"
    files = [package / f"{name}.py" for name in ("errors", "color", "whole_files", "interpreter")]
    for folder in ("wire", "client", "hosts"):
        files += (package / folder).glob("*.py")
    # What the layer of Windows imports is on Windows alone (test_under_wine.py): it is parsed here.
    foreign = [path for path in files if path.stem.startswith("win")]
    assert foreign
    names = [
        ".".join(path.relative_to(BRIDGE).with_suffix("").parts)
        for path in files
        if path not in foreign
    ]
    code = f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)\n"
    code += f"for path in {[*map(str, foreign)]!r}:\n"
    code += "    compile(open(path, encoding='utf-8').read(), path, 'exec')\n"
    done = subprocess.run(
        [host_python, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(BRIDGE)},
    )
    assert done.returncode == 0, done.stderr


def test_a_wrong_model_or_setting_is_an_error_of_ours(client: MatteClient) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        client.matte(*SHOT, model="nothing")
    with pytest.raises(MessageError, match="render parameter"):
        client.matte(*SHOT, foregruond="unmix")
    with pytest.raises(MessageError, match="colorspace"):
        client.matte(*SHOT, colorspace="")
    with pytest.raises(MessageError, match="outputs"):
        client.matte(*SHOT, outputs="alpha")
    with pytest.raises(MessageError, match="no output"):
        client.matte(*SHOT, outputs=("depth",))
    assert same(client.matte(*SHOT, **PLAIN), matted_here(*SHOT))
