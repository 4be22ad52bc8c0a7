"""Sequences of frames on disk: which files an input means.

    find_frames:    path, folder, pattern or video --> FrameFiles: frame number -> picture

An input is a FILE, a FOLDER, a PATTERN (`plate.####.exr`, `%04d`, `@@@@`, `$F4`) or a VIDEO. The
pictures of a video are numbered from 0. Which pictures of several inputs belong together is in
`matching.py`, how people write frame numbers in `frame_ranges.py`.

`####` means four digits, as in Nuke (fileseq's HASH1 style). The path of a file whose name has
digits means that one file: no sequence is guessed from `plate.1001.exr`. No image is opened here;
of a video only the number of pictures is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from mattebridge.errors import SequenceError, UsageError
from mattebridge.image_io.other_videos import refuse_other_videos
from mattebridge.image_io.video_read import is_video, probe
from mattebridge.image_io.write import EXTENSIONS
from mattebridge.wire import oslayer
from mattebridge.wire.params import role_in_words

_TOKEN = re.compile(r"#+|@+|%0?\d*d|\$F\d*|<UDIM>|%[vV]")
# A dash is a sign only behind a separator: in plate-0001.exr it belongs to the name.
_NUMBER_AT_END = re.compile(r"(?:(?:(?<=[._ ])|^)-)?\d+$")
_LONE_NUMBER = re.compile(r"(?:^|[._ ])(-?\d+)$")
# Digits of the frame number in the names of results that are made from a video.
VIDEO_DIGITS = 6


@dataclass(frozen=True, order=True)
class VideoPicture:
    """One picture of a video by its position; 0 is the first."""

    path: Path
    index: int

    def __str__(self) -> str:
        return f"{self.path} picture {self.index}"


Source = Union[Path, VideoPicture]


@dataclass(frozen=True)
class FrameFiles:
    """One input: its pictures by frame number, ascending.

    source: the input as it was given, for messages. numbered: the numbers are those of the file
    names; otherwise they are positions 1..N in name order. still: one picture that is used for
    every frame. root: the folder to which names are relative, for folders of folders. pattern: the
    name before the number, the number's digits, and the name behind it. left_out: which files of
    the name are not among the pictures, and why, for the artist; mostly empty.
    """

    source: str
    files: Mapping[int, Source]
    numbered: bool = True
    still: bool = False
    root: Optional[Path] = None
    pattern: Optional[tuple[str, int, str]] = None
    left_out: str = ""

    @property
    def first(self) -> Source:
        return next(iter(self.files.values()))

    @property
    def video(self) -> Optional[Path]:
        """The video that the pictures are in, if they are in one."""
        return self.first.path if isinstance(self.first, VideoPicture) else None

    def name(self, frame: int) -> str:
        """The name of the results of a frame: the picture's own name, without its suffix."""
        source = self.files.get(frame)
        if self.video is not None:
            return f"{self.video.stem}.{frame:0{VIDEO_DIGITS}d}"
        if isinstance(source, Path):
            return str(source.relative_to(self.root).with_suffix("")) if self.root else source.stem
        assert self.pattern is not None, "only numbered frames are filled in"
        prefix, digits, suffix = self.pattern
        return Path(f"{prefix}{frame:0{digits}d}{suffix}").stem

    def shifted(self, offset: int) -> FrameFiles:
        """The same pictures under numbers that are larger by `offset`."""
        files = {number + offset: source for number, source in self.files.items()}
        return replace(self, files=files)


def find_frames(
    source: Union[str, Path],
    *,
    role: str = "plate",
    recursive: bool = False,
    leave_out: Optional[Path] = None,
) -> FrameFiles:
    """The pictures that a path, folder, pattern or video means; `role` names the input in errors.

    recursive: a folder is read with all folders in it, and its pictures are matched by name even if
    they are numbered. leave_out: a folder that is not read, such as that of the results.
    Raises `SequenceError` when there is no picture, naming what is there instead.
    """
    path, role = oslayer.current().reachable(Path(source)), role_in_words(role)
    if path.is_dir():
        return _from_tree(path, role, leave_out) if recursive else _from_folder(path, role)
    if path.exists():
        refuse_other_videos(path)
        if is_video(path):
            return _from_video(path)
    if path.exists() or not _TOKEN.search(path.name):
        return _from_file(path, role)
    return _from_pattern(path, role)


def _from_video(path: Path) -> FrameFiles:
    count = probe(path).frames
    return FrameFiles(str(path), {index: VideoPicture(path, index) for index in range(count)})


def _from_file(path: Path, role: str) -> FrameFiles:
    if not path.exists():
        raise SequenceError(f"{role} {path} does not exist{_what_is_there(path.parent)}")
    match = _LONE_NUMBER.search(path.stem)
    number = int(match.group(1)) if match else 1
    return FrameFiles(str(path), {number: path}, numbered=match is not None, still=True)


def _from_folder(folder: Path, role: str) -> FrameFiles:
    sequences, unnumbered = _group(folder)
    count = len(unnumbered) + sum(len(files) for files in sequences.values())
    if len(sequences) == 1 and not unnumbered and count > 1:
        files = next(iter(sequences.values()))
        return FrameFiles(str(folder), _by_number(files, role), pattern=_naming(files))
    if count == 0:
        inside = _what_is_there(folder, or_folders=True)
        hint = "; use --recursive to read them as well" if inside.endswith("/") else ""
        raise SequenceError(f"{role} folder {folder} holds no frames{inside}{hint}")
    if count == 1:
        path = unnumbered[0] if unnumbered else next(iter(sequences.values()))[0][1]
        return FrameFiles(str(folder), _from_file(path, role).files, still=True)
    if any(len(files) > 1 for files in sequences.values()):
        raise SequenceError(
            f"{role} folder {folder} is not one sequence{_what_is_there(folder)};"
            " give one of them as a pattern"
        )
    paths = [*unnumbered, *(files[0][1] for files in sequences.values())]
    paths.sort(key=lambda path: natural_key(path.name))
    return FrameFiles(str(folder), dict(enumerate(paths, 1)), numbered=False)


def _from_tree(folder: Path, role: str, leave_out: Optional[Path]) -> FrameFiles:
    found = list(_pictures_below(folder, leave_out))
    if not found:
        raise SequenceError(f"{role} folder {folder} and the folders in it hold no frames")
    return FrameFiles(str(folder), dict(enumerate(found, 1)), numbered=False, root=folder)


def _pictures_below(folder: Path, leave_out: Optional[Path]) -> Iterator[Path]:
    """Pictures of a folder and of all folders in it, in natural order; each folder once."""
    real_path = oslayer.current().real_path
    seen = {real_path(leave_out)} if leave_out is not None else set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        real = real_path(here)
        if real in seen:
            continue
        seen.add(real)
        yield from _pictures(here)
        inside = [path for path in _entries(here) if path.is_dir() and path.name[0] not in "._"]
        waiting += sorted(inside, key=lambda path: natural_key(path.name), reverse=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _naming(files: _Numbered) -> tuple[str, int, str]:
    """The name before the number, the number's digits, and the name behind it."""
    path = files[0][1]
    match = _NUMBER_AT_END.search(path.stem)
    assert match is not None
    return path.stem[: match.start()], len(match.group()), path.suffix


def _from_pattern(pattern: Path, role: str) -> FrameFiles:
    prefix, width, suffix = _split_pattern(pattern, role)
    found: _Numbered = []
    others: list[str] = []
    # Folders of such a name as well: what matches is read, or it is an error.
    for path in _pictures(pattern.parent, also_folders=True):
        name = path.name
        if not (name.startswith(prefix) and name.lower().endswith(suffix.lower())):
            continue
        digits = name[len(prefix) : len(name) - len(suffix)]
        if not re.fullmatch(r"-?\d+", digits):
            continue
        if _is_padded(digits, width):
            found.append((int(digits), path))
        else:
            others.append(name)
    if not found:
        raise SequenceError(f"no {role} frames match {pattern}{_what_is_there(pattern.parent)}")
    naming = (prefix, width, suffix)
    left_out = _other_padding(width, others) if others else ""
    return FrameFiles(str(pattern), _by_number(found, role), pattern=naming, left_out=left_out)


def _is_padded(digits: str, width: int) -> bool:
    """Whether a number has the digits of a pattern; the sign counts in Nuke, not in Blender."""
    number = int(digits)
    return digits in (f"{number:0{width}d}", f"-{-number:0{width}d}" if number < 0 else "")


def _other_padding(width: int, others: Sequence[str]) -> str:
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    digits = f"{width} digits" if width > 1 else "no zeros in front"
    return (
        f"its numbers have {digits}, so {', '.join(others[:3])}{more} of the same name"
        f" {'is' if len(others) == 1 else 'are'} not taken; rename what belongs to it"
    )


def _split_pattern(pattern: Path, role: str) -> tuple[str, int, str]:
    """The name before the frame number, its number of digits, and the name behind it."""
    tokens = list(_TOKEN.finditer(pattern.name))
    # Beside %04d, a # or @ is a character of the name.
    tokens = [token for token in tokens if token.group()[0] in "%$<"] or tokens
    for token in tokens:
        if token.group() == "<UDIM>" or token.group().lower() == "%v":
            what = f"{role} {pattern} has {token.group()}"
            raise UsageError(f"{what}; give one tile or view only")
    if len(tokens) > 1:
        places = " and ".join(token.group() for token in tokens)
        way_out = _TOKEN.sub("%04d", pattern.name[tokens[-1].start() :], count=1)
        raise UsageError(
            f"{role} {pattern} has more than one place for the frame number ({places}); write"
            f" {pattern.name[: tokens[-1].start()]}{way_out}, where only %04d is one"
        )
    from fileseq.constants import PAD_STYLE_HASH1
    from fileseq.filesequence import FileSequence

    width = FileSequence.getPaddingNum(tokens[0].group(), pad_style=PAD_STYLE_HASH1)
    return pattern.name[: tokens[0].start()], width, pattern.name[tokens[0].end() :]


_Numbered = list[tuple[int, Path]]


def _group(folder: Path) -> tuple[dict[tuple[str, str], _Numbered], list[Path]]:
    """The pictures of a folder: sequences (names that differ in the number only), and the rest."""
    sequences: dict[tuple[str, str], _Numbered] = {}
    unnumbered = []
    for path in _pictures(folder):
        match = _NUMBER_AT_END.search(path.stem)
        if match is None:
            unnumbered.append(path)
            continue
        key = (path.stem[: match.start()], path.suffix.lower())
        sequences.setdefault(key, []).append((int(match.group()), path))
    return sequences, unnumbered


def _pictures(folder: Path, *, also_folders: bool = False) -> list[Path]:
    try:
        with os.scandir(folder) as entries:  # its is_dir() sends no request to a file server
            names = [entry.name for entry in entries if _is_picture(entry, also_folders)]
    except OSError:
        return []
    return [folder / name for name in sorted(names, key=natural_key)]


def _is_picture(entry: os.DirEntry[str], also_folders: bool) -> bool:
    """By the name; a link that leads nowhere is a picture that cannot be read."""
    hidden = entry.name.startswith(".")
    known = os.path.splitext(entry.name)[1].lower() in EXTENSIONS
    return known and not hidden and (also_folders or not entry.is_dir())


def _by_number(found: _Numbered, role: str) -> dict[int, Source]:
    files: dict[int, Path] = {}
    for number, path in sorted(found, key=lambda entry: (entry[0], entry[1].name)):
        if number in files:
            twice = f"{files[number].name} and {path.name}"
            raise SequenceError(f"{role} frame {number} exists twice: {twice}; remove one")
        files[number] = path
    return dict(files)


def _what_is_there(folder: Path, *, or_folders: bool = False) -> str:
    """The end of a message: "; the folder holds plate.####.exr (24 frames)"."""
    if not folder.is_dir():
        return f": there is no folder {folder}"
    sequences, unnumbered = _group(folder)
    names = [f"{_pattern_of(files)} ({len(files)} frames)" for files in sequences.values()]
    names += [path.name for path in unnumbered]
    if not names and or_folders:
        inside = (path for path in folder.iterdir() if path.is_dir())
        names = sorted(f"{path.name}/" for path in inside if not path.name.startswith("."))
    if not names:
        return "; there are no pictures in the folder"
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"; the folder holds {shown}"


def _pattern_of(files: _Numbered) -> str:
    if len(files) == 1:
        return files[0][1].name
    path = files[0][1]
    match = _NUMBER_AT_END.search(path.stem)
    assert match is not None
    return f"{path.stem[: match.start()]}{'#' * len(match.group())}{path.suffix}"


def natural_key(name: str) -> tuple[object, ...]:
    """A sort key that puts f_2 before f_10."""
    parts = re.split(r"(\d+)", name)
    numbers = [(int(part), part) if index % 2 else part for index, part in enumerate(parts)]
    return (tuple(numbers), name)
