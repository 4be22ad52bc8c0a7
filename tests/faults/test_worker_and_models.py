"""F24-F27: what goes wrong inside a worker: memory, CUDA errors, bugs, names of models."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from fakes.base_line import AbusedDaemon
from fakes.daemon_process import is_alive, wait_for
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, matted_here, same, shot
from fakes.raw_client import Raw
from mattebridge.daemon import device_errors, mailbox, worker
from mattebridge.errors import InternalError, MessageError, ModelError, OutOfMemoryError
from mattebridge.models.memory import is_exhausted
from mattebridge.wire import protocol

pytestmark = pytest.mark.slow

SHOT = shot(seed=7)


@pytest.fixture
def light(request: pytest.FixtureRequest) -> bool:
    """F24 is about memory that the real engine frees; the other rows ask for no matte."""
    return "_f24_" not in request.node.name


@pytest.mark.parametrize("stage", ["inputs", "model", "finish"])
def test_f24_memory_exhausted_at_any_stage_is_an_error_and_the_next_frame_is_fine(
    daemon: AbusedDaemon, stage: str
) -> None:
    with daemon.connect() as client:
        workers = daemon.worker_pids()
        for _turn in range(5):
            daemon.misbehave(f"{stage}#13=oom")
            with pytest.raises(OutOfMemoryError, match="memory"):
                client.matte(*SHOT, frame=13, **PLAIN)
            daemon.misbehave()
            assert same(client.matte(*SHOT, frame=13, **PLAIN), matted_here(*SHOT))
        assert daemon.worker_pids() == workers


def test_f24_memory_that_suffices_at_the_second_attempt_is_a_whole_frame_and_a_note(
    daemon: AbusedDaemon,
) -> None:
    with daemon.connect() as client:
        workers = daemon.worker_pids()
        for frame, stage in ((101, "inputs"), (102, "model"), (103, "finish")):
            daemon.misbehave(f"{stage}#{frame}=oom:1")
            matte = client.matte(*SHOT, frame=frame, **PLAIN)
            assert matte.notes["memory"] == ["caches freed"]
            assert same(matte, matted_here(*SHOT))
        daemon.misbehave()
        assert "memory" not in client.matte(*SHOT, frame=104, **PLAIN).notes
        assert daemon.worker_pids() == workers


def test_f24_an_error_of_exhausted_memory_says_what_is_needed_and_what_is_free(
    daemon: AbusedDaemon,
) -> None:
    with daemon.connect() as client:
        daemon.misbehave("model#13=oom")
        with pytest.raises(OutOfMemoryError, match=r"GiB are needed, .* GiB are free") as caught:
            client.matte(*SHOT, frame=13, **PLAIN)
        daemon.misbehave()
        details = caught.value.details
        assert 0 < details["needed_bytes"] < details["free_bytes"]


def test_f25_a_lost_cuda_context_ends_its_worker_and_another_takes_over(
    daemon: AbusedDaemon, raw: Raw
) -> None:
    client = raw(daemon, slots=1)
    (before,) = daemon.worker_pids()
    daemon.misbehave("model#13=lost")
    reply = client.terminal(client.send(client.render(frame=13, gen=1)))
    assert (reply["code"], reply["retry"], reply["held"]) == ("E_WORKER_LOST", True, False)
    assert not is_alive(before)
    daemon.misbehave()
    assert client.terminal(client.send(client.render(frame=13, gen=2)))["op"] == "done"
    (after,) = daemon.worker_pids()
    assert after != before
    wait_for(lambda: "the device's context is lost" in daemon.log(), SOON_S, "the log says so")


EXHAUSTED = [
    "CUDA out of memory. Tried to allocate 2 GiB",
    "CUDA error: out of memory",
    "HIP out of memory. Tried to allocate 2 GiB",
    "MPS backend out of memory (MPS allocated: 9 GB)",
    "cuDNN error: CUDNN_STATUS_NOT_ENOUGH_WORKSPACE",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "[enforce fail at alloc_cpu.cpp:113] . DefaultCPUAllocator: can't allocate memory",
]
LOST = [
    "CUDA error: an illegal memory access",
    "CUDA error: unspecified launch failure",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
    "HIP error: an illegal memory access",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
]
UNSUPPORTED = [
    "CUDA error: no kernel image is available for execution on the device",
    "HIP error: no kernel image is available for execution on the device",
    "HIP error: invalid device function",
]
BUGS = ["mat1 and mat2 shapes cannot be multiplied", "cuDNN error: CUDNN_STATUS_BAD_PARAM"]


@pytest.mark.parametrize("text", [*EXHAUSTED, *LOST, *UNSUPPORTED, *BUGS])
def test_f25_an_error_of_a_gpu_is_one_of_four_kinds(text: str) -> None:
    error = RuntimeError(text)
    assert is_exhausted(error) == (text in EXHAUSTED)
    assert device_errors.is_lost(error) == (text in LOST)
    assert device_errors.is_unsupported(error) == (text in UNSUPPORTED)
    for other in (ValueError(text), KeyError(text)):
        assert not is_exhausted(other)
        assert not device_errors.is_lost(other)
        assert not device_errors.is_unsupported(other)


@pytest.mark.parametrize("stage", ["inputs", "model", "finish"])
def test_f25_a_bug_in_a_stage_costs_one_frame_and_is_found_in_the_log(
    daemon: AbusedDaemon, stage: str
) -> None:
    with daemon.connect() as client:
        workers = daemon.worker_pids()
        daemon.misbehave(f"{stage}#13=raise")
        with pytest.raises(InternalError, match="ref=") as caught:
            client.matte(*SHOT, frame=13, **PLAIN)
        words = str(caught.value)
        assert "ZeroDivision" not in words
        assert "/" not in words
        for said in (f"ref={caught.value.details['ref']}", "asked for by a test hook"):
            wait_for(lambda said=said: said in daemon.log(), SOON_S, f"the log says {said}")
        daemon.misbehave()
        assert same(client.matte(*SHOT, frame=13, **PLAIN), daemon.matted(*SHOT))
        assert daemon.worker_pids() == workers


BROKEN_FRONT = """
import sys
from mattebridge.daemon import __main__
from mattebridge.daemon.doorkeeper import Doorkeeper
from mattebridge.daemon.operations import Operations

def bug(*_):
    raise ZeroDivisionError("asked for by a test")

Operations.BY_NAME["plate_list"] = bug
Doorkeeper._resize = bug
sys.exit(__main__.main())
"""


def test_f25_a_bug_in_the_front_costs_one_request_and_is_found_in_the_log(raw: Raw) -> None:
    daemon = AbusedDaemon(light=True)
    daemon.program = [daemon.python, "-c", BROKEN_FRONT]
    try:
        daemon.start()
        client = raw(daemon, slots=1)
        reply = client.terminal(client.send({"op": "plate_list"}))
        assert (reply["code"], reply["retry"]) == ("E_INTERNAL", False)
        assert "Zero" not in reply["message"]
        assert f"ref={reply['ref']}" in daemon.log()
        assert client.terminal(client.send(client.render()))["op"] == "done"
        client.door.send(msgpack.packb({"op": "resize", "want": {"slots": 1, "bytes": 64}}))
        assert client.lease_is_over()
        with daemon.connect() as other:
            assert other.ping()["state"] == "ready"
    finally:
        daemon.end()


def test_f25_a_worker_that_babbles_is_ended_and_replaced(daemon: AbusedDaemon, raw: Raw) -> None:
    client = raw(daemon, slots=1)
    (before,) = daemon.worker_pids()
    with daemon.gate("deaf", stage="finish") as gate:
        daemon.misbehave("model#13=babble", f"finish#13=deaf:{gate.path}")
        reply = client.terminal(client.send(client.render(frame=13, gen=1)))
        assert (reply["code"], reply["retry"]) == ("E_WORKER_LOST", True)
    assert not is_alive(before)
    assert client.terminal(client.send(client.render(gen=2)))["op"] == "done"
    assert "sent an invalid message" in daemon.log()


def test_f25_a_worker_that_exits_by_itself_is_replaced(daemon: AbusedDaemon) -> None:
    with daemon.connect() as client:
        daemon.misbehave("model#13=exit:3")
        handle = client.submit(*SHOT, frame=13, **PLAIN)
        wait_for(lambda: "died: status=3" in daemon.log(), SOON_S, "it exits")
        daemon.misbehave()
        assert same(handle.result(SOON_S), daemon.matted(*SHOT))


def test_f25_what_a_model_notes_is_cut_to_what_every_client_can_read() -> None:
    hostile: dict[str, Any] = {
        "nan": float("nan"),
        "array": np.full((3, 3), np.inf),
        "many": list(range(1000)),
        "long": "x" * 100_000,
        "big": 2**70,
        "set": {1, 2},
        "deep": {},
        3: "number as key",
        "line\nbreak": "\x1b[31m",
        "scalar": np.float32(0.5),
    }
    inner = hostile["deep"]
    for _level in range(50):
        inner["deep"] = {}
        inner = inner["deep"]
    hostile.update({f"key-{index}": index for index in range(200)})
    notes = worker._readable(hostile)
    message = {"op": "done", "id": bytes(16), "epoch": 1, "notes": notes}
    assert protocol.unpack(protocol.pack(message)) == message
    assert notes["nan"] is None
    assert notes["scalar"] == 0.5


def test_f25_a_reply_that_no_client_could_read_becomes_an_error_and_not_silence() -> None:
    envelope = {"op": "done", "id": bytes(16), "epoch": 1, "held": False, "slot": 0, "gen": 1}
    for value in (float("nan"), "x" * 5000, list(range(65)), {"a": "x" * 4000}, object()):
        notes = {str(index): value for index in range(30)}
        reply = protocol.unpack(mailbox._pack({**envelope, "notes": notes}))
        assert (reply["op"], reply["code"]) == ("error", "E_INTERNAL")
        assert {key: reply[key] for key in ("id", "epoch", "held", "slot", "gen")} == {
            key: envelope[key] for key in ("id", "epoch", "held", "slot", "gen")
        }


NO_NAMES = ["../../x", "/etc/passwd", "a\0b", r"\\host\share", "dífference", "", "A", "x" * 65]


def test_f27_a_models_name_is_never_a_path(daemon: AbusedDaemon, raw: Raw) -> None:
    client = raw(daemon, slots=1)
    for name in NO_NAMES:
        for message in (client.render(model=name), {"op": "models_load", "model": name}):
            reply = client.terminal(client.send(message))
            assert (reply["code"], reply["field"]) == ("E_MESSAGE", "model"), name
    # These pass the expression, so the look-up must decide.
    for generation, name in enumerate(("..", ".", "...-_.."), start=1):
        for message in (
            client.render(model=name, gen=generation),
            {"op": "models_load", "model": name},
        ):
            reply = client.terminal(client.send(message))
            assert (reply["code"], reply["reason"]) == ("E_MODEL", "unknown"), name
    client.send({"op": "models_load", "model": "x" * 10_000})
    assert client.terminal(client.send({"op": "ping"}))["op"] == "pong"
    assert client.receive(0.05) is None


def test_f27_an_unknown_model_is_refused_with_the_names_of_those_present(
    daemon: AbusedDaemon,
) -> None:
    with daemon.connect() as client:
        with pytest.raises(ModelError, match="difference"):
            client.matte(*SHOT, model="no-such-model", **PLAIN)
        with pytest.raises(ModelError, match="difference"):
            client.load_model("no-such-model")
        with pytest.raises(MessageError):
            client.matte(*SHOT, model="../difference", **PLAIN)
        with pytest.raises((ModelError, MessageError)):
            client.matte(*SHOT, settings={"no-such-setting": 1}, **PLAIN)
        assert same(client.matte(*SHOT, **PLAIN), daemon.matted(*SHOT))
