"""State dicts from weights files of unknown origin, without running any code in them.

    file --read_whole--> bytes --digest_of--> compared --parse_state_dict--> names and tensors

A file is read once, into memory, and the bytes that were hashed are parsed: a change of the file in
between has no effect. Its type is recognised by its first bytes, never by its name: a `torch.save`
archive or pickle, read with `weights_only` (a closed list of types; it is never read without), or
safetensors. TorchScript archives contain code and are refused, with the command that converts them.
The result is a flat state dict on the CPU, without the prefixes of wrappers.

Loading is strict: a missing key, an unknown one or one of another shape is an error that names it.
A network with a part left random would run and give a meaningless matte.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mattebridge.errors import ModelError
from mattebridge.models.memory import is_exhausted
from mattebridge.models.weights.file import read_whole

# Left by DataParallel, by the published TorchScript wrapper, and by torch.compile.
WRAPPER_PREFIXES = ("module.", "model.", "_orig_mod.")
# The key of the weights in checkpoints that also hold optimiser and epoch.
NESTED_UNDER = "state_dict"
# Batch counters are not used in inference; older files lack them.
OPTIONAL_SUFFIX = ".num_batches_tracked"
KEYS_NAMED = 5
# Older releases run code in a malicious file even so (CVE-2025-32434, CVE-2026-24747).
SAFE_TORCH = (2, 10)
# How a file begins that was saved or copied in place of the weights, and what to say of it.
LOOK_BYTES = 256
OTHER_FILES: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"<!doctype", b"<html", b"<?xml"),
        "a web page, not weights; download the file itself (on a page that shows it, by its button"
        " or link for the download)",
    ),
    (
        (b"version https://git-lfs",),
        "a pointer of Git LFS, not weights; fetch the file with `git lfs pull`, or download it",
    ),
    (
        (b"\x00\x05\x16\x07",),
        "what macOS keeps beside a file (its resource fork), not weights; give the file whose name"
        " has no ._ before it",
    ),
)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The weights in a `.pth` or `.safetensors` file, by name, on the CPU.

    Raises `ModelError` (`reason`: missing, unreadable, torchscript, content) with what to do.
    """
    label = f"weights file {os.fspath(path)}"
    return parse_state_dict(read_whole(path, label), label, file_name=Path(path).name)


def parse_state_dict(
    data: bytes, label: str, *, file_name: str = "weights.pt"
) -> dict[str, Tensor]:
    """The weights in the bytes of a file, by name, on the CPU; `label` names it in errors.

    Raises `ModelError` (`reason`: unreadable, torchscript, content) with what to do.
    """
    _refuse_other_files(data, label)
    # safetensors: 8 bytes of header length, then the header, which is a JSON object.
    if data[8:9] == b"{":
        return _without_prefixes(_parse_safetensors(data, label))
    # As torch.load tells archives; zipfile.is_zipfile raises for some damaged ones.
    if data.startswith(b"PK\x03\x04"):
        _check_archive(data, label, file_name)
    return _without_prefixes(_plain_tensors(_parse_pickled(data, label), label))


def _refuse_other_files(data: bytes, label: str) -> None:
    """Raise `ModelError` for what is often found in a checkpoint's place, saying what it is."""
    begin = data[:LOOK_BYTES].lstrip().lower()
    for signs, found in OTHER_FILES:
        if begin.startswith(signs):
            raise ModelError(f"{label} is {found}", reason="unreadable")


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], *, looks_like: str) -> None:
    """Fill a network, which may be on the meta device, from `state`; every key must fit.

    looks_like: a sentence about what the file seems to be, the end of the message. Raises
    `ModelError` (`reason`: missing_keys, unexpected_keys, shapes, nonfinite), naming the first
    five keys.
    """
    expected = network.state_dict()
    missing = [k for k in expected if k not in state and not k.endswith(OPTIONAL_SUFFIX)]
    _refuse(missing, "missing_keys", "the weights lack", looks_like)
    _refuse([k for k in state if k not in expected], "unexpected_keys", "unknown:", looks_like)
    misshapen = [
        f"{k} {tuple(state[k].shape)}, not {tuple(wanted.shape)}"
        for k, wanted in expected.items()
        if k in state and not _fits(state[k], wanted)
    ]
    _refuse(misshapen, "shapes", "another shape or type:", looks_like)
    nonfinite = [k for k, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    _refuse(nonfinite, "nonfinite", "NaN or infinity in", looks_like)
    network.to_empty(device="cpu")
    absent = {k: torch.zeros_like(v, device="cpu") for k, v in expected.items() if k not in state}
    network.load_state_dict({**state, **absent})


def _parse_safetensors(data: bytes, label: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    # Damaged headers raise exceptions of any kind; no other code runs here.
    except Exception as error:
        if is_exhausted(error):
            raise
        raise _unreadable(label) from error


def _check_archive(data: bytes, label: str, file_name: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    # zipfile passes on what it meets: BadZipFile, NotImplementedError, struct.error, ...
    except Exception as error:
        raise _unreadable(label) from error
    # Names are `<archive>/data.pkl`, `<archive>/data/0`, and for TorchScript `<archive>/code/...`.
    inner = [entry.filename.split("/", 1)[-1] for entry in entries]
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise ModelError(
            f"{label} is TorchScript: it contains code, which mattebridge does not run. If you "
            f"trust it, convert it once: {_conversion(Path(file_name))}",
            reason="torchscript",
        )
    # torch.save never compresses, so the content cannot be larger than the file.
    if sum(entry.file_size for entry in entries) > len(data):
        raise ModelError(
            f"{label} unpacks to more than its size: it was not written by torch.save, which does "
            "not compress",
            reason="unreadable",
        )


def _conversion(path: Path) -> str:
    return (
        'python -c "import torch; '
        f"torch.save(torch.jit.load('{path.name}', map_location='cpu').state_dict(), "
        f"'{path.stem}-weights.pth')\""
    )


def _parse_pickled(data: bytes, label: str) -> Any:
    _check_torch(label)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # Damaged archives and pickles raise exceptions of any kind; no other code runs here.
    except Exception as error:
        if is_exhausted(error):
            raise
        raise _unreadable(label) from error


def _check_torch(label: str) -> None:
    version = torch.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < SAFE_TORCH:
        raise ModelError(
            f"{label} is not opened: this torch ({version}) may run code in such a file - install "
            "torch 2.10 or newer, or convert the file to safetensors",
            reason="torch",
        )


def _unreadable(label: str) -> ModelError:
    # What the reader says is of no use here: torch's sentences are advice for its callers.
    return ModelError(
        f"{label} is damaged, or holds more than weights; download it again, or save its state dict"
        " alone",
        reason="unreadable",
    )


def _plain_tensors(loaded: Any, label: str) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get(NESTED_UNDER), Mapping):
        loaded = loaded[NESTED_UNDER]
    if not isinstance(loaded, Mapping) or not loaded or not all(map(_is_entry, loaded.items())):
        raise ModelError(
            f"{label} does not hold a state dict (names and tensors), alone or under "
            f" '{NESTED_UNDER}'; found {type(loaded).__name__}",
            reason="content",
        )
    return dict(loaded)


def _is_entry(item: tuple[Any, Any]) -> bool:
    name, tensor = item
    return isinstance(name, str) and isinstance(tensor, Tensor) and tensor.layout == torch.strided


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in WRAPPER_PREFIXES * 2:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _fits(found: Tensor, wanted: Tensor) -> bool:
    # Weights may be of half precision, but not integers.
    kind = found.is_floating_point() == wanted.is_floating_point()
    return kind and found.shape == wanted.shape and not found.is_quantized


def _refuse(keys: list[str], reason: str, what: str, looks_like: str) -> None:
    if not keys:
        return
    more = f" and {len(keys) - KEYS_NAMED} more" if len(keys) > KEYS_NAMED else ""
    raise ModelError(
        f"the weights do not fit: {what} {', '.join(keys[:KEYS_NAMED])}{more}. {looks_like}",
        reason=reason,
        keys=keys[:KEYS_NAMED],
        count=len(keys),
    )
