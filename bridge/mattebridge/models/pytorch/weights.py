"""The memory of a network's weights, which a worker reports with every frame.

It is counted once a network: to ask hundreds of tensors for their size takes up to a millisecond,
and the host would wait for that at the end of each frame.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from torch import nn

_counted: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def weights_bytes(network: nn.Module) -> int:
    """The memory of parameters and buffers; they must keep their shapes and types from now on."""
    counted = _counted.get(network)
    if counted is None:
        counted = sum(int(tensor.nbytes) for tensor in network.state_dict().values())
        _counted[network] = counted
    return counted
