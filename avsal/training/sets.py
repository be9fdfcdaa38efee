"""The [[data.train]] and [[data.validation]] tables to lists of sources, one function a kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from avsal.errors import DataError, UsageError
from avsal.training.config import SetSettings
from avsal.training.packed import Pack
from avsal.training.sources import (
    VIDEOS,
    Source,
    VideoSource,
    by_stem,
)


def open_sets(sets: tuple[SetSettings, ...], split: str) -> list[Source]:
    """List the sources of sets, repeated ones several times.

    Args:
        split: the STAViS list of sets that name none, "train" or "test".

    Raises:
        DataError: a folder, a list or a file is missing or malformed.
    """
    return [source for each in sets for source in open_set(each, split) * each.repeat]


def open_set(settings: SetSettings, split: str) -> list[Source]:
    """List the sources of one set once; see `open_sets`."""
    root = expand(settings.root)
    sources = _OPENERS[settings.kind](root, settings, split)
    if settings.names:
        listed = _listed(sources, expand(settings.names))
        sources = [source for source in sources if source.name in listed]
    if settings.exclude:
        listed = _listed(sources, expand(settings.exclude))
        sources = [source for source in sources if source.name not in listed]
    if not sources:
        raise DataError(f"{root}: the lists leave nothing of the {settings.kind} set")
    return sources


def expand(text: str) -> Path:
    """A path as a person writes it, with ~ and environment variables."""
    return Path(os.path.expandvars(text)).expanduser()


def _listed(sources: list[Source], path: Path) -> set[str]:
    """Names on a list, whose lines may have a file's suffix; all of them must exist."""
    known = {source.name for source in sources}
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    found = {line if line in known else Path(line).stem for line in lines if line}
    unknown = found - known
    if unknown:
        raise DataError(f"{path}: names {min(unknown)}, which the set does not have; mend the list")
    return found


def _stavis(root: Path, settings: SetSettings, split: str) -> list[Source]:
    from avsal.datasets.stavis import DATABASES, read_videos
    from avsal.training.annotated import StavisSource

    part = settings.split or split
    databases = settings.databases or DATABASES
    unknown = [name for name in databases if name not in DATABASES]
    if unknown:
        raise UsageError(f"data databases: {unknown[0]} is none of {', '.join(DATABASES)}")
    return [
        StavisSource(video)
        for database in databases
        for video in read_videos(root, database, part, settings.fold)
    ]


def _images(root: Path, settings: SetSettings, split: str) -> list[Source]:
    from avsal.datasets.gaze import Blur
    from avsal.datasets.images import read_image_set
    from avsal.training.annotated import ImageSource

    blur = Blur(settings.blur)
    return [ImageSource(image, blur) for image in read_image_set(root).images]


def _videos(root: Path, settings: SetSettings, split: str) -> list[Source]:
    videos = by_stem(root / settings.videos, VIDEOS)
    return [VideoSource(path, root / settings.maps / stem) for stem, path in videos.items()]


def _packed(root: Path, settings: SetSettings, split: str) -> list[Source]:
    return [clip for name in settings.files for clip in Pack(root / name).clips()]


_OPENERS: dict[str, Callable[[Path, SetSettings, str], list[Source]]] = {
    "stavis": _stavis,
    "images": _images,
    "videos": _videos,
    "packed": _packed,
}
