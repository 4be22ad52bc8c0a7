"""The names of the files that a job writes: those of the plate, and never those of an input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Optional

from mattebridge.errors import SequenceError
from mattebridge.wire import oslayer


def output_path(folder: Path, output: str, name: str, suffix: str) -> Path:
    """`OUT/alpha/plate.1001.exr`: the plate's own name and padding in the output's folder."""
    return folder / output / f"{name}{suffix}"


def refuse_collisions(
    outputs: Iterable[Path], inputs: Collection[Path], *, option: str = "-o"
) -> None:
    """No output twice, and none on top of an input. Raises `SequenceError` naming the file.

    option: the one to be changed, for the message.
    """
    counts = Counter(outputs)
    for path, count in counts.items():
        if count > 1:
            raise SequenceError(
                f"{count} plates would be written to {path}: they differ only in their type;"
                " give them as separate patterns"
            )
    real_path = oslayer.current().real_path
    folders: dict[Path, Path] = {}

    def real(path: Path) -> Path:
        if path.parent not in folders:
            folders[path.parent] = real_path(path.parent)
        return folders[path.parent] / path.name

    taken: dict[object, Path] = {real(path): path for path in inputs}
    # An input may lead to an output by a link, and so be the same file under another name.
    taken.update({_file_of(path) or real(path): path for path in inputs})
    for path in counts:
        given = taken.get(real(path)) or taken.get(_file_of(path))
        if given is not None:
            which = "" if given == path else f" ({given} leads to it)"
            raise SequenceError(f"{path} is an input of this job{which}; choose another {option}")


def _file_of(path: Path) -> Optional[tuple[int, int]]:
    """What is the same for every name of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
