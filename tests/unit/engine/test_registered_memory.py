"""Arenas that a GPU's driver is told of: once, until they are unmapped, or with a reason."""

from __future__ import annotations

import numpy as np
import torch

from fakes.pretended_cuda import CUDA, Driver, pretended_cuda
from mattebridge.engine.registered_memory import RegisteredMemory
from mattebridge.wire import oslayer
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import SlotMap

MIB = 1 << 20


def test_an_arena_is_registered_once_and_until_it_is_unmapped() -> None:
    driver = Driver()
    with pretended_cuda(driver) as counts:
        memory = RegisteredMemory(str(CUDA))
        assert memory.add(4096, 2 * MIB)
        assert memory.add(4096, 2 * MIB)
        assert memory.add(1 << 30, MIB)
        assert driver.registered == {4096: 2 * MIB, 1 << 30: MIB}
        assert memory.figures() == {"registered_bytes": 3 * MIB}
        before = counts.waits
        memory.remove(4096)
        assert counts.waits == before + 1  # a copy of it may still run
        assert driver.registered == {1 << 30: MIB}
        memory.remove(4096)
        assert memory.figures() == {"registered_bytes": MIB}


def test_a_refused_registration_costs_no_frame_and_is_said() -> None:
    with pretended_cuda(Driver(lockable_bytes=3 * MIB)) as counts:
        memory = RegisteredMemory(str(CUDA))
        assert memory.add(4096, 2 * MIB)
        assert not memory.add(1 << 30, 2 * MIB)
        assert counts.driver is not None
        assert counts.driver.last_error == 0
        torch.zeros(4, device=CUDA).add_(1)  # the error does not come up here
        assert memory.figures() == {
            "registered_bytes": 2 * MIB,
            "pageable_bytes": 2 * MIB,
            "pageable_because": "out of memory (error 2)",
        }
        memory.remove(1 << 30)
        assert memory.figures() == {"registered_bytes": 2 * MIB}


def test_the_cpu_needs_no_registration() -> None:
    memory = RegisteredMemory("cpu")
    assert not memory.add(4096, MIB)
    memory.remove(4096)
    assert memory.figures() == {}


def test_the_address_of_an_arena_is_that_of_its_first_byte() -> None:
    arena = SlotMap(oslayer.current().create_memory(2 * MIB), 2 * MIB)
    plane = Plane("plate", 64, 8, 8, 4, "f4", 128)
    view = arena.array(plane)
    assert view.__array_interface__["data"][0] == arena.address + 64
    view[:] = np.float32(1)
    del view
    arena.close()
