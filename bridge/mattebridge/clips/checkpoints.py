"""A checkpoint file as a model of the daemon: registered once, under its digest."""

from __future__ import annotations

from pathlib import Path

from mattebridge.clips.errors import CheckpointError, CheckpointNotFoundError
from mattebridge.errors import ModelError, UsageError
from mattebridge.models.greenformer.card import FAMILY
from mattebridge.models.weights.file import digest_of, read_whole
from mattebridge.models.weights.installed import NoModels, users_models

# Digits of the digest in the name of a model.
NAME_DIGITS = 16


def registered(path: Path, screen: str) -> str:
    """The name by which daemons of this user know a checkpoint; it is added if it is not known.

    The name is made of the file's digest, so that the same file is copied once, whatever its path.
    Raises `FileNotFoundError` for a missing file, `RuntimeError` (both also `ModelError`) for one
    that is no checkpoint of this network.
    """
    if not path.exists():
        raise CheckpointNotFoundError(f"there is no checkpoint {path}", reason="missing")
    models = users_models()
    if isinstance(models, NoModels):
        raise UsageError(models.problem)
    try:
        digest = digest_of(read_whole(path, f"checkpoint {path}"))
        for name, record in models.records().items():
            if record.digest == digest and record.settings.get("screen") == screen:
                return name
        number = digest.partition(":")[2][:NAME_DIGITS]
        return models.add(path, f"{FAMILY}-{number}-{screen}", screen=screen).name
    except ModelError as refusal:
        raise CheckpointError(refusal.message, **refusal.details) from refusal
    except UsageError as refusal:
        raise CheckpointError(
            f"{path} is not a checkpoint of the plate + hint network; add it with `mattebridge"
            " models add` and give its name as InferenceConfig.model",
            reason="family",
        ) from refusal
