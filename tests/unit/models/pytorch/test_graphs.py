"""Recorded steps: which frames are recorded and replayed, and what happens where none can be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mattebridge.models.pytorch.graphs import (
    FIRST,
    MOST_RECORDINGS,
    RECORDED,
    REPLAYED,
    Compute,
    Graphs,
    Recording,
    Tensors,
    recorded_on_cuda,
)


class Recorder:
    """Records on the CPU: a replay computes into the memory of the recording."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, compute: Compute, inputs: Tensors) -> Recording:
        self.recorded += 1
        kept = tuple(given.clone() for given in inputs)
        outputs = tuple(torch.full_like(made, torch.nan) for made in compute(*kept))

        def replay() -> None:
            self.replayed += 1
            for written, made in zip(outputs, compute(*kept)):
                written.copy_(made)

        return Recording(kept, outputs, replay, 1000)


def total(a: Tensor, b: Tensor) -> Tensors:
    return a + b, a * b


def pair(value: float, size: int = 4) -> Tensors:
    return torch.full((size,), value), torch.arange(float(size))


def test_the_second_frame_of_a_size_is_recorded_and_those_after_it_replayed() -> None:
    recorder = Recorder()
    graphs = Graphs(recorder)
    notes = []
    for value in (1.0, 2.0, 3.0, 4.0):
        made, note = graphs.run("HD", total, pair(value))
        notes.append(note)
        for found, wanted in zip(made, total(*pair(value))):
            assert torch.equal(found, wanted)
    assert notes == [FIRST, RECORDED, REPLAYED, REPLAYED]
    assert (recorder.recorded, recorder.replayed) == (1, 3)


def test_results_stay_when_the_next_frame_is_replayed_and_inputs_are_not_written_to() -> None:
    graphs = Graphs(Recorder())
    given = [pair(float(value)) for value in range(5)]
    made = [graphs.run("HD", total, inputs)[0] for inputs in given]
    for value, results in enumerate(made):
        assert torch.equal(results[0], torch.arange(4.0) + value)
        assert torch.equal(given[value][0], pair(float(value))[0])


def test_single_frames_of_many_sizes_are_not_recorded() -> None:
    recorder = Recorder()
    graphs = Graphs(recorder)
    for size in (4, 5, 6, 4, 5, 6):
        assert graphs.run(size, total, pair(1.0, size))[1] == FIRST
    assert recorder.recorded == 0
    assert graphs.memory_bytes == 0


def test_the_recording_that_was_not_used_for_the_longest_time_leaves_first() -> None:
    recorder = Recorder()
    graphs = Graphs(recorder)
    for size in range(4, 4 + MOST_RECORDINGS):
        graphs.run(size, total, pair(1.0, size))
        graphs.run(size, total, pair(1.0, size))
    held = graphs.memory_bytes
    assert held > 1000 * MOST_RECORDINGS
    assert graphs.run(4, total, pair(1.0, 4))[1] == REPLAYED
    graphs.run(40, total, pair(1.0, 40))
    assert graphs.run(40, total, pair(1.0, 40))[1] == RECORDED
    assert graphs.run(4, total, pair(1.0, 4))[1] == REPLAYED
    assert graphs.run(5, total, pair(1.0, 5))[1] == FIRST
    assert held < graphs.memory_bytes < held + 1000


def test_where_recording_fails_frames_are_computed_with_the_reason_and_it_is_not_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = []

    def refuse(compute: Compute, inputs: Tensors) -> Recording:
        tried.append(inputs)
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    graphs = Graphs(refuse)
    notes = [graphs.run("HD", total, pair(2.0))[1] for _ in range(4)]
    assert notes == [FIRST, *["off: operation not permitted when stream is capturing"] * 3]
    assert len(tried) == 1
    assert "cannot be recorded: operation not permitted" in caplog.text
    assert torch.equal(graphs.run("HD", total, pair(3.0))[0][0], torch.arange(4.0) + 3)


def test_an_error_of_the_computation_itself_is_raised() -> None:
    def broken(a: Tensor, b: Tensor) -> Tensors:
        raise RuntimeError("out of memory")

    graphs = Graphs(Recorder())
    for _ in range(3):
        with pytest.raises(RuntimeError, match="out of memory"):
            graphs.run("HD", broken, pair(1.0))


def test_recordings_leave_where_the_steps_of_another_size_need_their_memory() -> None:
    graphs = Graphs(Recorder())
    for _ in range(2):
        graphs.run("HD", total, pair(1.0))

    def large(a: Tensor, b: Tensor) -> Tensors:
        if graphs.memory_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return total(a, b)

    made, note = graphs.run("UHD", large, pair(2.0))
    assert note == FIRST
    assert torch.equal(made[0], torch.arange(4.0) + 2)
    assert graphs.memory_bytes == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_graph_gives_what_its_steps_give() -> None:
    """Its CPU twin: the first test."""
    graphs = Graphs(recorded_on_cuda)
    for value, note in zip((1.0, 2.0, 3.0), (FIRST, RECORDED, REPLAYED)):
        inputs = tuple(given.to("cuda:0") for given in pair(value))
        made, found = graphs.run("HD", total, inputs)
        assert found == note
        for one, wanted in zip(made, total(*pair(value))):
            assert torch.equal(one.cpu(), wanted)
    assert graphs.memory_bytes > 0
