"""The BackgroundMattingV2 networks as a model of the engine: one frame, plate and clean plate.

    file --read_verified--> state dict --network_from--> plain network --FastMatting--> matte
                                              `-- exact=True: the plain forward itself

Alpha and foreground are the published ones. A plate brighter than 1 is shown to the network as 1,
and what was cut off is added back to the foreground, so highlights keep their light.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor

from mattebridge.color import FloatImage
from mattebridge.errors import InputsError, ModelError, OutOfMemoryError, TooLargeError
from mattebridge.models._bgm_fast import FastMatte, FastMatting, Look
from mattebridge.models._bgm_weights import network_from, recognise
from mattebridge.models.background_matting import MattingBase, MattingRefine
from mattebridge.models.background_matting_card import (
    EXACT_FACTOR,
    RECOMMENDED,
    WeightsFile,
    recommended,
)
from mattebridge.models.base import (
    Checkpoint,
    MattingModel,
    ModelCard,
    ModelInput,
    ModelOutput,
)
from mattebridge.models.weights import file_digest, read_state_dict

Weights = Callable[[], Mapping[str, Tensor]]


class BackgroundMattingModel(MattingModel):
    """One checkpoint, loaded; recommended settings by resolution unless the request has others."""

    def __init__(self, card: ModelCard, weights: Weights) -> None:
        """`weights` gives the state dict; it is asked at each load, and once more for `exact`."""
        self.card = card
        self._weights = weights
        self._device = torch.device("cpu")
        self._fast: Optional[FastMatting] = None
        self._plain: Optional[MattingBase] = None

    @classmethod
    def from_file(cls, card: ModelCard, path: str | os.PathLike[str]) -> BackgroundMattingModel:
        """The model of a file, which must still have the card's digest when it is loaded."""
        return cls(card, partial(read_verified, path, card.digest))

    def load(self, device: str) -> None:
        """Read the weights and rearrange them for `device`; raises `ModelError` if they do not fit.

        The unfolded weights are not kept: few requests want `exact`.
        """
        self._device = torch.device(device)
        self._fast = FastMatting(self._network())

    def unload(self) -> None:
        self._fast = self._plain = None

    @property
    def memory_bytes(self) -> int:
        fast = 0 if self._fast is None else self._fast.memory_bytes
        plain = {} if self._plain is None else self._plain.state_dict()
        return fast + sum(int(tensor.nbytes) for tensor in plain.values())

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground; extra `error` and, with a refiner, `refinement`.

        Raises `InputsError` without a clean plate of the plate's size, `OutOfMemoryError` where the
        device cannot hold the frame.
        """
        plate, clean_plate = self._pair(given)
        look = self._look(given)
        with _memory_translated(self.name, given.plate.shape), torch.inference_mode():
            if given.exact:
                made = self._exactly(plate, clean_plate, look, checkpoint)
            else:
                assert self._fast is not None, "load() comes before matte()"
                made = self._fast(plate, clean_plate, look, checkpoint)
            return _output(made, look, given.exact)

    def _network(self) -> MattingBase:
        return network_from(self._weights()).to(self._device)

    def _pair(self, given: ModelInput) -> tuple[Tensor, Tensor]:
        if given.clean_plate is None:
            raise InputsError(
                f"model '{self.name}' needs a clean plate: the same shot without the subject",
                field="clean_plate",
            )
        if given.clean_plate.shape != given.plate.shape:
            (height, width), (clean_height, clean_width) = (
                image.shape[:2] for image in (given.plate, given.clean_plate)
            )
            raise InputsError(
                f"model '{self.name}' needs a clean plate of {width}x{height}; got "
                f"{clean_width}x{clean_height} - reformat the clean plate",
                field="clean_plate",
            )
        return self._tensor(given.plate), self._tensor(given.clean_plate)

    def _tensor(self, image: FloatImage) -> Tensor:
        image = np.ascontiguousarray(image, dtype=np.float32)
        with warnings.catch_warnings():
            # torch warns of memory that it may not write to; nothing here writes to inputs.
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(image).to(self._device)

    def _look(self, given: ModelInput) -> Optional[Look]:
        """The request's settings over the recommended ones; `None` without a refiner."""
        settings = self.settings_schema.validate(given.settings, model=self.name)
        if not settings:
            return None
        advice = recommended(*given.plate.shape[:2])
        for name, value in advice._asdict().items():
            if settings[name] == RECOMMENDED:
                settings[name] = value
        return Look(**settings)  # type: ignore[arg-type]

    def _exactly(
        self, plate: Tensor, clean_plate: Tensor, look: Optional[Look], checkpoint: Checkpoint
    ) -> FastMatte:
        """The plain forward, channels first as published."""
        self._check_exact_fits(plate)
        if self._plain is None:
            self._plain = self._network()
        network = self._plain
        if look is not None:
            assert isinstance(network, MattingRefine)
            look.apply_to(network)
        checkpoint("coarse")
        pair = (
            image.permute(2, 0, 1)[None].clamp(0, 1).contiguous() for image in (plate, clean_plate)
        )
        returned = network(*pair)
        checkpoint("finish")
        refined = look is not None
        foreground = returned[1][0].permute(1, 2, 0) + (plate - 1).clamp_(min=0)
        error = returned[4 if refined else 2][0, 0]
        return FastMatte(
            returned[0][0, 0], foreground, error, returned[5][0, 0] if refined else None
        )

    def _check_exact_fits(self, plate: Tensor) -> None:
        """Refuse in time what would bring the machine down: the plain forward is not tiled."""
        height, width, _ = plate.shape
        needed = int(height * width * self.card.bytes_per_pixel * EXACT_FACTOR)
        if plate.device.type == "cpu" and needed > _machine_memory_bytes() / 2:
            raise TooLargeError(
                f"the exact forward of model '{self.name}' needs about {needed / 1e9:.0f} GB for "
                f"a frame of {width}x{height}, more than half of this machine's memory - leave "
                "out exact: the faster path works in tiles",
                needed_bytes=needed,
            )


def _machine_memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def read_verified(path: str | os.PathLike[str], digest: str) -> dict[str, Tensor]:
    """The weights of a file that must have that digest.

    Raises `ModelError` (`reason`: digest) where the file was changed, and those of
    `read_state_dict`.
    """
    try:
        found = file_digest(path)
    except OSError as error:
        raise ModelError(
            f"weights file {path} cannot be read: {error.strerror}", reason="missing"
        ) from error
    if found != digest:
        raise ModelError(
            f"weights file {path} is not the one that was added: its digest is {found}, not "
            f"{digest} - add it again if the change was meant",
            reason="digest",
        )
    return read_state_dict(path)


def describe_file(
    path: str | os.PathLike[str], name: str, licence: str = "as stated by its author"
) -> WeightsFile:
    """What a checkpoint is, found by reading it whole; raises `ModelError` if it cannot be used."""
    state = read_state_dict(path)
    network_from(state)
    architecture = recognise(state)
    return WeightsFile(
        name=name,
        path=str(Path(path).resolve()),
        digest=file_digest(path),
        architecture=architecture.family,
        backbone=architecture.backbone,
        licence=licence,
    )


def _output(made: FastMatte, look: Optional[Look], exact: bool) -> ModelOutput:
    extra = {"error": _array(made.error)}
    notes: dict[str, Any] = {"exact": exact}
    if look is not None and made.cells is not None:
        extra["refinement"] = _array(made.cells)
        notes |= {
            "backbone_scale": look.backbone_scale,
            "refine_mode": look.refine_mode,
            "refined_pixels": int(made.cells.sum()) * 16,
        }
    return ModelOutput(_array(made.alpha), _array(made.foreground), extra, notes=notes)


def _array(image: Tensor) -> FloatImage:
    return np.ascontiguousarray(image.to("cpu", torch.float32).numpy())


@contextmanager
def _memory_translated(model: str, size: tuple[int, ...]) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        # The allocator for CPU memory has no exception of its own.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate" not in str(error):
            raise
        raise OutOfMemoryError(
            f"model '{model}' has not the memory for a frame of {size[1]}x{size[0]}; use a "
            "smaller backbone_scale, MattingRefine instead of MattingBase, or a smaller frame"
        ) from error
