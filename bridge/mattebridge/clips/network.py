"""A checkpoint in the process of the caller: the daemon's model of it, as a torch module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mattebridge.checkpoint import no_checkpoint
from mattebridge.clips.configs import InferenceConfig
from mattebridge.clips.errors import ArgumentError, CheckpointError, CheckpointNotFoundError
from mattebridge.clips.frames import InferenceResult, PreprocessedFrame
from mattebridge.clips.reading import card_for_stages, device_of
from mattebridge.clips.requests import settings_of_inference
from mattebridge.errors import ModelError
from mattebridge.models.greenformer.model import GreenformerModel, labels_of
from mattebridge.models.weights.file import digest_of, read_whole
from mattebridge.models.weights.state_dict import parse_state_dict


class LoadedNetwork(nn.Module):
    """A loaded checkpoint. network: its layers. Calling it gives `{"alpha": ..., "fg": ...}`."""

    def __init__(self, model: GreenformerModel, resolved_refiner_mode: str | None = None) -> None:
        super().__init__()
        self.model = model
        self.network = model.network
        self._resolved = resolved_refiner_mode
        self.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """alpha (1, 1, S, S) and fg (1, 3, S, S), 0..1, of the input (1, 4, S, S)."""
        _, made = self._on_square(x, InferenceConfig(), None, half=False)
        return {"alpha": made[:, :1], "fg": made[:, 1:]}

    def inferred(
        self, frame: PreprocessedFrame, config: InferenceConfig, resolved: str | None
    ) -> InferenceResult:
        """See `stages.run_inference`."""
        meta = frame.meta
        done, made = self._on_square(frame.tensor, config, resolved, half=meta.half_precision)
        computed, settings = done
        notes = {
            "img_size": frame.tensor.shape[-1],
            "refiner": computed.made.way,
            "precision": computed.precision,
            "screen": self.model.screen,
        }
        labels = tuple(labels_of(computed, settings))
        return InferenceResult(made[:, :1], made[:, 1:], meta, labels, notes)

    def _on_square(
        self, x: Tensor, config: InferenceConfig, resolved: str | None, *, half: bool
    ) -> tuple[Any, Tensor]:
        if x.ndim != 4 or x.shape[:2] != (1, 4) or x.shape[2] != x.shape[3] or x.shape[3] % 32:
            raise ArgumentError(
                f"the network's input is (1, 4, S, S) with S a multiple of 32; got {tuple(x.shape)}"
            )
        asked = settings_of_inference(config, resolved=resolved or self._resolved, half=half)
        settings = self.model.settings_schema.validate(asked, model=self.model.name)
        x = x.to(next(self.network.refiner.parameters()).device, torch.float32)
        computed, made = self.model.on_square(x, settings, exact=False, checkpoint=no_checkpoint)
        return (computed, settings), made


def loaded(config: InferenceConfig, resolved_refiner_mode: str | None) -> LoadedNetwork:
    """See `stages.load_model`."""
    path = config.checkpoint_path
    if path is None:
        raise ArgumentError("load_model needs InferenceConfig.checkpoint_path, the network's file")
    if not path.exists():
        raise CheckpointNotFoundError(f"there is no checkpoint {path}", reason="missing")
    device = device_of(config.device)
    label = f"checkpoint {path}"
    try:
        data = read_whole(path, label)
        state = parse_state_dict(data, label, file_name=path.name)
        card = card_for_stages(path.stem, config.screen, digest_of(data))
        model = GreenformerModel(card, lambda: state, config.screen)
        model.load(str(device))
    except ModelError as error:
        raise CheckpointError(error.message, **error.details) from error
    return LoadedNetwork(model, resolved_refiner_mode)
