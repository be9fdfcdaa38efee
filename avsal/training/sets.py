"""The [[data.train]] and [[data.validation]] tables to lists of sources, one function a kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from avsal.datasets.files import read_lines
from avsal.datasets.stavis import DATABASES, read_videos
from avsal.errors import DataError, UsageError
from avsal.training.config import SetSettings
from avsal.training.packed import Pack
from avsal.training.sources import (
    FIXATIONS,
    MAPS,
    PICTURES,
    VIDEOS,
    ImageSource,
    Source,
    StavisSource,
    VideoSource,
    by_stem,
)

# MIT1003 calls the map of image.jpeg image_fixMap.jpg and its fixations image_fixPts.jpg.
SUFFIXES = ("", "_fixMap", "_fixPts", "_fixations")


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
        sources = _only(sources, root / settings.names)
    if settings.exclude:
        left_out = set(read_lines(root / settings.exclude))
        sources = [source for source in sources if source.name not in left_out]
    if not sources:
        raise DataError(f"{root}: the lists leave nothing of the {settings.kind} set")
    return sources


def expand(text: str) -> Path:
    """A path as a person writes it, with ~ and environment variables."""
    return Path(os.path.expandvars(text)).expanduser()


def _only(sources: list[Source], path: Path) -> list[Source]:
    known = {source.name for source in sources}
    wanted = read_lines(path)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise DataError(f"{path}: names {unknown[0]}, which the set does not have; mend the list")
    chosen = set(wanted)
    return [source for source in sources if source.name in chosen]


def _stavis(root: Path, settings: SetSettings, split: str) -> list[Source]:
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
    images = by_stem(root / settings.images, PICTURES)
    maps = by_stem(root / settings.maps, MAPS)
    marks = by_stem(root / settings.fixations, FIXATIONS) if settings.fixations else {}
    sources: list[Source] = []
    for stem, image in images.items():
        saliency = _partner(stem, maps)
        if saliency is None:
            raise DataError(f"{image}: no map of that name in {root / settings.maps}")
        sources.append(ImageSource(image, saliency, _partner(stem, marks)))
    return sources


def _partner(stem: str, files: dict[str, Path]) -> Path | None:
    return next((files[stem + end] for end in SUFFIXES if stem + end in files), None)


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
