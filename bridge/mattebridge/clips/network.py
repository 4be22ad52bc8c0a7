"""A model in the process of the caller: the daemon's own, as a torch module.

a checkpoint, or a model of its family --> LoadedNetwork: works in a square of its own size
any other model by its name ------------> NamedModel: works on the frame as the engine has it
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Union

import torch
from torch import Tensor, nn

from mattebridge.checkpoint import no_checkpoint
from mattebridge.clips.configs import SENT, InferenceConfig
from mattebridge.clips.errors import ArgumentError, CheckpointError, CheckpointNotFoundError
from mattebridge.clips.frames import FrameMeta, InferenceResult, PreprocessedFrame
from mattebridge.clips.reading import Prepared, card_for_stages, device_of
from mattebridge.clips.requests import settings_of_inference
from mattebridge.engine.infer import infer, model_input
from mattebridge.errors import ModelError
from mattebridge.models.base import MattingModel
from mattebridge.models.greenformer.model import Computed, GreenformerModel, labels_of
from mattebridge.models.memory import memory_errors
from mattebridge.models.registry import Registry
from mattebridge.models.weights.file import digest_of, read_whole
from mattebridge.models.weights.state_dict import parse_state_dict

# The settings of the plate + hint network that decide its input.
OF_INPUT = ("img_size", "fit", "hint_source", "screen", "image_upsample_mode", "sharpen_strength")


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
        settings = self._settings(InferenceConfig(), None, None, half=False)
        _, made = self._on_square(x, settings)
        return {"alpha": made[:, :1], "fg": made[:, 1:]}

    def inferred(
        self, frame: PreprocessedFrame, config: InferenceConfig, resolved: str | None
    ) -> InferenceResult:
        """See `stages.run_inference`."""
        meta, known = frame.meta, frame.meta.prepared
        _refuse_other(meta, self.model.name, has_square=True)
        settings = self._settings(config, resolved, known, half=meta.half_precision)
        if known is None:
            _refuse_settings_of_input(config)
        else:
            frame = self._as_asked(frame, settings)
            meta, known = frame.meta, frame.meta.prepared
        computed, made = self._on_square(frame.tensor, settings)
        notes = {
            "img_size": frame.tensor.shape[-1],
            "refiner": computed.made.way,
            "precision": computed.precision,
            "screen": self.model.screen,
        }
        labels = labels_of(computed, settings)
        if known is not None:
            notes["channels_swapped"], notes["hint"] = known.square.swaps, known.hint.source
            labels = [*known.hint.degraded, *labels]
            meta = meta.model_copy(update={"prepared": self._named(known)})
        alpha, fg = made[:, :1], made[:, 1:]
        return InferenceResult(alpha, fg, meta, tuple(labels), notes, dict(config.settings))

    def _named(self, known: Prepared) -> Prepared:
        """The frame as one of this checkpoint, whose name and digest go into its files."""
        request = replace(known.frame.request, card=self.model.card)
        return replace(known, frame=replace(known.frame, request=request))

    def _settings(
        self, config: InferenceConfig, resolved: str | None, known: Prepared | None, *, half: bool
    ) -> dict[str, Any]:
        """All settings: those that the frame was prepared with, and over them the configuration."""
        before = {} if known is None or known.square is None else known.square.settings
        of_inference = settings_of_inference(config, resolved=resolved or self._resolved, half=half)
        asked = {**before, **of_inference, **config.settings}
        return dict(self.model.settings_schema.validate(asked, model=self.model.name))

    def _as_asked(self, frame: PreprocessedFrame, settings: dict[str, Any]) -> PreprocessedFrame:
        """The frame in the square that the settings ask for: made again where it is another one."""
        known = frame.meta.prepared
        before = known.square.settings
        changed = [name for name in OF_INPUT if settings[name] != before[name]]
        if not changed and known.square.swaps == self.model.swaps_for(settings):
            return frame
        if frame.tensor is not known.tensor:
            raise ArgumentError(
                f"{' and '.join(changed)} of InferenceConfig decide the network's input, and the"
                " tensor of this frame was changed: leave one of the two"
            )
        request = replace(known.frame.request, settings=settings)
        prepared = replace(known.frame, request=request)
        with torch.inference_mode():
            given = model_input(prepared, takes_tensors=False)
        asked = int(settings["img_size"])
        size = self.model.size_of(asked) if "img_size" in changed else frame.tensor.shape[-1]
        seen = self.model.in_square(given, settings, size, no_checkpoint)
        known = replace(known, frame=prepared, square=seen.square, tensor=seen.x, hint=seen.hint)
        return PreprocessedFrame(seen.x, frame.meta.model_copy(update={"prepared": known}))

    def _on_square(self, x: Tensor, settings: dict[str, Any]) -> tuple[Computed, Tensor]:
        if x.ndim != 4 or x.shape[:2] != (1, 4) or x.shape[2] != x.shape[3] or x.shape[3] % 32:
            raise ArgumentError(
                f"the network's input is (1, 4, S, S) with S a multiple of 32; got {tuple(x.shape)}"
            )
        x = x.to(next(self.network.refiner.parameters()).device, torch.float32)
        return self.model.on_square(x, settings, exact=False, checkpoint=no_checkpoint)


class NamedModel(nn.Module):
    """A loaded model of the registry that is no plate + hint network; `model` is the daemon's."""

    def __init__(self, model: MattingModel, device: torch.device) -> None:
        super().__init__()
        self.model = model
        self.device = device
        self.eval()

    def forward(self, frame: PreprocessedFrame) -> dict[str, Tensor]:
        """alpha (1, 1, H, W) and fg (1, 3, H, W) of a frame, with the model's own settings."""
        made = self.inferred(frame, InferenceConfig(model=self.model.name), None)
        return {"alpha": made.alpha, "fg": made.fg}

    def inferred(
        self, frame: PreprocessedFrame, config: InferenceConfig, resolved: str | None
    ) -> InferenceResult:
        """See `stages.run_inference`; `resolved` is for a network that has a refiner."""
        meta = frame.meta
        _refuse_other(meta, self.model.name, has_square=False)
        known = meta.prepared
        if frame.tensor is not known.tensor:
            raise ArgumentError(
                f"model '{self.model.name}' works on the frame as preprocess_frame has read it, and"
                " its tensor was changed; change the pictures, and read them again"
            )
        if known.frame.plate.pixels.device != self.device:
            raise ArgumentError(
                f"the frame is on {known.frame.plate.pixels.device} and the model on {self.device}:"
                " give PreprocessConfig and InferenceConfig one device"
            )
        card = self.model.card
        settings = card.settings_schema.validate(config.settings, model=card.name)
        prepared = replace(known.frame, request=replace(known.frame.request, settings=settings))
        with memory_errors(f"a frame with model '{card.name}'", "use a smaller proxy or crop"):
            made = infer(self.model, prepared)
        return InferenceResult(
            made.alpha[None, None],
            made.foreground.permute(2, 0, 1)[None],
            meta.model_copy(update={"prepared": replace(known, frame=prepared)}),
            made.degraded,
            dict(made.notes),
        )


LoadedModel = Union[LoadedNetwork, NamedModel]


def _refuse_settings_of_input(config: InferenceConfig) -> None:
    """Raise `ArgumentError` for settings that cannot act on a tensor that a script made."""
    named = [name for name in OF_INPUT if name in config.settings]
    if named or config.hint_source != SENT:
        raise ArgumentError(
            f"{' and '.join(named) or 'hint_source'} of InferenceConfig decide the network's input,"
            " and this frame was not made by preprocess_frame: leave them out"
        )


def _refuse_other(meta: FrameMeta, name: str, *, has_square: bool) -> None:
    """Raise `ArgumentError` for a frame that was prepared for another model."""
    if meta.prepared is None and has_square:
        return  # of a script: its tensor says what it is
    if meta.prepared is None:
        raise ArgumentError(
            f"model '{name}' needs a frame of preprocess_frame with PreprocessConfig.model '{name}'"
        )
    theirs = meta.prepared.frame.request.card
    if has_square and meta.prepared.square is None:
        raise ArgumentError(
            f"the frame was prepared for model '{theirs.name}', which PreprocessConfig.model names,"
            " and this is the plate + hint network: leave PreprocessConfig.model None"
        )
    if not has_square and theirs.name != name:
        raise ArgumentError(
            f"the frame was prepared for model '{theirs.name}' and this is '{name}': set"
            f" PreprocessConfig.model to '{name}'"
        )


def loaded(config: InferenceConfig, resolved_refiner_mode: str | None) -> LoadedModel:
    """See `stages.load_model`."""
    device = device_of(config.device)
    if config.checkpoint_path is not None:
        model = _of_file(config.checkpoint_path, config.screen, device)
        return LoadedNetwork(model, resolved_refiner_mode)
    named = Registry().make(config.model)
    with memory_errors(f"the weights of model '{config.model}'", "close other programs"):
        named.load(str(device))
    if isinstance(named, GreenformerModel):
        return LoadedNetwork(named, resolved_refiner_mode)
    return NamedModel(named, device)


def _of_file(path: Path, screen: str, device: torch.device) -> GreenformerModel:
    if not path.exists():
        raise CheckpointNotFoundError(f"there is no checkpoint {path}", reason="missing")
    label = f"checkpoint {path}"
    try:
        data = read_whole(path, label)
        state = parse_state_dict(data, label, file_name=path.name)
        card = card_for_stages(path.stem, screen, digest_of(data))
        model = GreenformerModel(card, lambda: state, screen)
        model.load(str(device))
    except ModelError as error:
        raise CheckpointError(error.message, **error.details) from error
    return model
