"""A CUDA device made of memory of this process, for machines without one: it computes and counts.

    with PretendedCuda() as device:
        matte = model.matte(...)             "cuda:0" is such a device in here
    device.counts.launches, .waits, .to_device_bytes, ...

A tensor of the device wraps one of the CPU and says that it is on `cuda:0`. As on a real device,
an operator that mixes devices fails, and so does `.numpy()`. What a real one would do is counted:
operators that start work (`launches`; views start none), questions that the processor waits for
(`waits`: `.item()`, `.tolist()`, `nonzero`, masks as indices, copies to the CPU), and copies.

Not pretended: graphs, page-locked memory, and streams but for the wait for the current one.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda:0")
# Operators whose result has a size that depends on the data, or that answer a question.
WAITING = {
    "_local_scalar_dense",
    "item",
    "equal",
    "nonzero",
    "masked_select",
    "_unique2",
    "is_nonzero",
}
# A view that its schema does not declare as one.
UNDECLARED_VIEWS = {"_unsafe_view"}
MOVING = {"copy_", "_to_copy"}


@dataclass
class Counts:
    """What a device would have done. waits_at, launches_at: by file and line of the package."""

    launches: int = 0
    copies_to_device: int = 0
    to_device_bytes: int = 0
    copies_from_device: int = 0
    from_device_bytes: int = 0
    # Copies from the device of tensors with gaps, which take another pass on the CPU.
    scattered: int = 0
    waits_at: Counter[str] = field(default_factory=Counter)
    launches_at: Counter[str] = field(default_factory=Counter)

    @property
    def waits(self) -> int:
        return self.waits_at.total()

    def launched(self) -> None:
        self.launches += 1
        self.launches_at[_place()] += 1

    def waited(self) -> None:
        self.waits_at[_place()] += 1

    def copied(self, source: Tensor, *, to_device: bool, waits: bool = True) -> None:
        size_bytes = source.numel() * source.element_size()
        if to_device:
            self.copies_to_device += 1
            self.to_device_bytes += size_bytes
            return
        self.copies_from_device += 1
        self.from_device_bytes += size_bytes
        self.scattered += not source.is_contiguous()
        if waits:
            self.waited()


class OnDevice(Tensor):
    """A tensor of the pretended device; `inner` holds its values."""

    inner: Tensor
    counts = Counts()
    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        # A view of a tensor that was made outside of inference mode is none of that mode.
        with torch.inference_mode(inner.is_inference()):
            made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                inner.size(),
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                layout=inner.layout,
                device="cpu",
            )
        made.inner = inner
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> OnDevice:
        made = OnDevice(self.inner.clone())
        if getattr(self, "_is_param", False):
            made._is_param = True
        memo[id(self)] = made
        return made

    def __repr__(self) -> str:
        return f"OnDevice({tuple(self.inner.shape)}, {self.inner.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.partition("::")[2]
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        here = [value for value in tensors if not isinstance(value, OnDevice) and value.dim()]
        if name in MOVING and here:
            return _moved(args[0], args[1], waits=not (args[2:] or kwargs.get("non_blocking")))
        if here:
            raise RuntimeError(
                f"expected all tensors to be on the same device, but found {DEVICE} and cpu: "
                f"{func} at {_place()}"
            )
        _count(func, name, args)
        kwargs.pop("device", None)
        result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        written = _written(func, name, args, kwargs)
        if written is not None:
            return written
        return tree_map(lambda one: OnDevice(one) if isinstance(one, Tensor) else one, result)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _written(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """What an operator that writes into its argument returns: that argument."""
    if "out" in kwargs:
        return kwargs["out"]
    first = func._schema.returns[:1]
    writes = first and first[0].alias_info is not None and first[0].alias_info.is_write
    return args[0] if writes and name.endswith("_") else None


def _count(func: Any, name: str, args: Any) -> None:
    counts = OnDevice.counts
    if name in WAITING or (name.startswith("index") and _has_mask(args)):
        counts.waited()
    returns = func._schema.returns
    views = any(one.alias_info is not None and not one.alias_info.is_write for one in returns)
    if not views and name not in UNDECLARED_VIEWS and not name.startswith("empty"):
        counts.launched()


def _has_mask(args: Any) -> bool:
    flat = tree_flatten(args[1])[0] if len(args) > 1 else []
    return any(isinstance(one, Tensor) and one.dtype == torch.bool for one in flat)


def _moved(target: Tensor, source: Tensor, *, waits: bool) -> Tensor:
    """`target.copy_(source)` between the devices."""
    OnDevice.counts.copied(_inner(source), to_device=isinstance(target, OnDevice), waits=waits)
    if not isinstance(target, OnDevice):
        OnDevice.counts.scattered += not target.is_contiguous()
    _inner(target).copy_(_inner(source))
    return target


def _place() -> str:
    """The line of the package that is being carried out."""
    frame = sys._getframe()
    while frame is not None:
        path = frame.f_code.co_filename
        if "/mattebridge/" in path:
            return f"{path.rpartition('/mattebridge/')[2]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


class _Stream:
    """The current stream, which has always done its work."""

    def synchronize(self) -> None:
        OnDevice.counts.waited()


class PretendedCuda(TorchFunctionMode):
    """See the module. One at a time."""

    def __enter__(self) -> PretendedCuda:
        self.counts = OnDevice.counts = Counts()
        # Weights of a module are replaced when it is moved, not given other memory.
        self._overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        self._current_stream = torch.cuda.current_stream
        torch.cuda.current_stream = lambda device=None: _Stream()  # type: ignore[assignment]
        super().__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        torch.cuda.current_stream = self._current_stream
        torch.__future__.set_overwrite_module_params_on_conversion(self._overwrite)

    def start_counting(self) -> Counts:
        """Forget what was counted so far, such as the loading of a model."""
        self.counts = OnDevice.counts = Counts()
        return self.counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if isinstance(first, OnDevice):
            if name == "numpy":
                raise TypeError(f"can't convert {DEVICE} tensor to numpy at {_place()}")
            if name == "tolist":
                self.counts.copied(first.inner, to_device=False)
                return first.inner.tolist()
        if isinstance(first, Tensor) and name in ("to", "cpu", "cuda"):
            return _converted(first, name, list(args[1:]), kwargs)
        if _is_pretended(kwargs.get("device")):
            del kwargs["device"]
            self.counts.launches += not name.startswith(("empty", "new_empty"))
            return OnDevice(func(*tree_map(_inner, args), **tree_map(_inner, kwargs)))
        return func(*args, **kwargs)


def _is_pretended(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _converted(image: Tensor, name: str, options: list[Any], kwargs: dict[str, Any]) -> Tensor:
    """`image.to(...)`: to another device, another type, or both."""
    device: Optional[Any] = {"cpu": "cpu", "cuda": DEVICE}.get(name, kwargs.get("device"))
    dtype = kwargs.get("dtype")
    for option in options:
        if isinstance(option, (str, torch.device)):
            device = option
        elif isinstance(option, torch.dtype):
            dtype = option
        elif isinstance(option, Tensor):
            device, dtype = option.device, option.dtype
    was = isinstance(image, OnDevice)
    goes = was if device is None else _is_pretended(device)
    layout = kwargs.get("memory_format", torch.preserve_format)
    inner = _inner(image)
    made = inner.to(dtype=dtype or inner.dtype, memory_format=layout, copy=was != goes)
    if was != goes:
        # The bytes cross as they are; a conversion happens on the device.
        OnDevice.counts.copied(inner, to_device=goes)
    if made is inner:
        return image
    if goes and (dtype not in (None, inner.dtype) or was):
        OnDevice.counts.launched()
    return OnDevice(made) if goes else made
