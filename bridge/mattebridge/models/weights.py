"""Reading weights that somebody else made, without running anything they brought along.

A file is recognised by its first bytes, never by its name: a `torch.save` archive or pickle, read
with `weights_only` (a closed list of types; there is no second, trusting attempt), or
safetensors. TorchScript archives carry code and are refused with the way to convert them. What
comes out is a flat state dict on the CPU, without the prefixes that wrappers leave.

Loading is strict: a key too few, too many or of another shape is an error that names it. A network
with a part left random would look busy and matte nonsense.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mattebridge.errors import ModelError

# Left by DataParallel, and by the published TorchScript wrapper.
WRAPPER_PREFIXES = ("module.", "model.")
# Under which training scripts keep the weights beside optimiser and epoch.
NESTED_UNDER = "state_dict"
# Batch counters play no part in inference; older files lack them.
OPTIONAL_SUFFIX = ".num_batches_tracked"
KEYS_NAMED = 5
CHUNK_BYTES = 1 << 20


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The weights in a `.pth` or `.safetensors` file, by name, on the CPU.

    Raises `ModelError` (`reason`: missing, unreadable, torchscript, content) with what to do.
    """
    path = Path(path)
    _check_is_file(path)
    if _is_safetensors(path):
        return _without_prefixes(_read_safetensors(path))
    if zipfile.is_zipfile(path):
        _check_archive(path)
    return _without_prefixes(_plain_tensors(path, _read_pickled(path)))


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], *, looks_like: str) -> None:
    """Fills a network, also one on the meta device, from `state`; every key must fit.

    `looks_like` says in words what the file seems to be and goes into the message. Raises
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


def file_digest(path: str | os.PathLike[str]) -> str:
    """The file's sha256 as `sha256:<hex>`: its identity, whatever it is called."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _check_is_file(path: Path) -> None:
    # Looked at before it is opened: opening a FIFO would wait for a writer for ever.
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(
            f"weights file {path} cannot be opened: {error.strerror}", reason="missing"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"weights file {path} is not a file", reason="missing")
    if status.st_size == 0:
        raise ModelError(f"weights file {path} is empty; download it again", reason="unreadable")


def _is_safetensors(path: Path) -> bool:
    # 8 bytes of header length, then the header, which is a JSON object.
    with path.open("rb") as file:
        return file.read(9)[8:9] == b"{"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    # Names are `<archive>/data.pkl`, `<archive>/data/0`, and for TorchScript `<archive>/code/...`.
    inner = [entry.filename.split("/", 1)[-1] for entry in entries]
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise ModelError(
            f"weights file {path} is TorchScript: it carries code, which mattebridge does not "
            'run. Convert it once, where you trust it: python -c "import torch; '
            f"torch.save(torch.jit.load('{path.name}', map_location='cpu').state_dict(), "
            f"'{path.stem}-weights.pth')\"",
            reason="torchscript",
        )
    # torch.save never compresses, so honest content is no larger than the file.
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ModelError(
            f"weights file {path} unpacks to more than its size; torch.save does not compress, "
            "so this is not one of its files",
            reason="unreadable",
        )


def _read_pickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # Damaged archives and pickles fail in every way there is; no other code runs in here.
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> ModelError:
    first_line = (str(error).splitlines() or [""])[0]
    return ModelError(
        f"weights file {path} is damaged or holds more than weights: {first_line:.160}; "
        "download it again, or save its state dict alone",
        reason="unreadable",
    )


def _plain_tensors(path: Path, loaded: Any) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get(NESTED_UNDER), Mapping):
        loaded = loaded[NESTED_UNDER]
    if not isinstance(loaded, Mapping) or not loaded or not all(map(_is_entry, loaded.items())):
        raise ModelError(
            f"weights file {path} does not hold a state dict (names and tensors), alone or "
            f"under '{NESTED_UNDER}'; found {type(loaded).__name__}",
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
    # Half-precision files are fine; integers where weights belong are not.
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
