"""A list of steps on tensors, recorded once and then replayed as a single launch.

The processor takes some microseconds to start each step of a network on a GPU, which for a small
frame is longer than the step itself. CUDA can record the steps and start them all at once:

    first frame of a size         computed step by step
    the next, of the same size    recorded: the steps are run once more, then captured
    all that follow               inputs copied into the recording, replayed, results copied out

What is recorded must be the same for every input: no shape, no branch and no wait may depend on the
data. A recording keeps the memory of all its steps; so there are few, and the longest unused goes.
Where a device cannot record, frames are computed step by step, with the same pixels, and the note
says why.

`recorded_on_cuda` is all that needs a card; `Graphs` takes anything that records.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable
from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Tensors = tuple[Tensor, ...]
Compute = Callable[..., Tensors]

# A recording of a UHD frame takes an estimated 1.5 GB.
MOST_RECORDINGS = 2
MOST_REFUSED = 32
REPLAYED = "replayed"
RECORDED = "recorded"
FIRST = "off: the first frame of its size and settings"


class Recording(NamedTuple):
    """Steps that `replay` runs: they read `inputs` and write `outputs`, always the same memory.

    steps: what was recorded; held, because what it reads besides its inputs must stay where it is.
    """

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]
    size_bytes: int
    steps: Optional[Compute] = None


# Gives the recording of `compute(*inputs)`; raises `RuntimeError` where there can be none.
Record = Callable[[Compute, Tensors], Recording]


def recorded_on_cuda(compute: Compute, inputs: Tensors) -> Recording:
    """The steps of `compute` as a CUDA graph; it is captured, not run."""
    device = inputs[0].device
    current = torch.cuda.current_stream(device)
    kept = tuple(given.clone() for given in inputs)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        # Libraries load kernels and take working memory at their first call on a stream, which
        # they cannot do while it is captured.
        compute(*kept)
    current.wait_stream(stream)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    graph = torch.cuda.CUDAGraph()
    try:
        # Only this thread must not allocate meanwhile; others may copy frames.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = compute(*kept)
    finally:
        # A capture that fails leaves its own stream as the current one.
        torch.cuda.set_stream(current)
    taken = torch.cuda.memory_reserved(device) - before
    return Recording(kept, outputs, graph.replay, max(taken, 0), compute)


class Graphs:
    """The recordings of one network, by whatever their steps depend on besides the data."""

    def __init__(self, record: Record = recorded_on_cuda) -> None:
        self._record = record
        self._recordings: OrderedDict[Hashable, Recording] = OrderedDict()
        self._refused: OrderedDict[Hashable, str] = OrderedDict()
        self._before: Optional[Hashable] = None

    @property
    def memory_bytes(self) -> int:
        """What the recordings hold."""
        return sum(
            recording.size_bytes + sum(given.nbytes for given in recording.inputs)
            for recording in self._recordings.values()
        )

    def clear(self) -> None:
        """Let go of all recordings."""
        self._recordings.clear()

    def run(self, key: Hashable, compute: Compute, inputs: Tensors) -> tuple[Tensors, str]:
        """What `compute(*inputs)` gives, in new memory, and how: a note for the reply.

        key: equal for inputs and settings of the same steps. A frame is recorded where the one
        before it had the same key, so that single frames of many sizes are not.
        """
        before, self._before = self._before, key
        if key in self._recordings:
            return self._replayed(key, inputs), REPLAYED
        if key in self._refused:
            return self._step_by_step(compute, inputs), f"off: {self._refused[key]}"
        if key != before:
            return self._step_by_step(compute, inputs), FIRST
        reason = self._try_to_record(key, compute, inputs)
        if reason is not None:
            return self._step_by_step(compute, inputs), f"off: {reason}"
        return self._replayed(key, inputs), RECORDED

    def _step_by_step(self, compute: Compute, inputs: Tensors) -> Tensors:
        """The steps launched singly; where the memory for them is in recordings, these leave."""
        try:
            return compute(*inputs)
        except torch.OutOfMemoryError:
            if not self._recordings:
                raise
        self._recordings.clear()
        return compute(*inputs)

    def _try_to_record(self, key: Hashable, compute: Compute, inputs: Tensors) -> Optional[str]:
        """Record; where that cannot be done, why, which is remembered."""
        while len(self._recordings) >= MOST_RECORDINGS:
            self._recordings.popitem(last=False)
        try:
            self._recordings[key] = self._record(compute, inputs)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            log.warning("the steps of this frame size cannot be recorded: %s", reason)
            self._refused[key] = reason
            while len(self._refused) > MOST_REFUSED:
                self._refused.popitem(last=False)
            return reason
        return None

    def _replayed(self, key: Hashable, inputs: Tensors) -> Tensors:
        recording = self._recordings[key]
        self._recordings.move_to_end(key)
        for kept, given in zip(recording.inputs, inputs):
            kept.copy_(given)
        recording.replay()
        return tuple(made.clone() for made in recording.outputs)
