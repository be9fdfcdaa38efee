"""Data sets with recorded gaze, in every form that avsal reads: `open_dataset` gives recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from avsal.datasets.gaze import DEFAULT_SIGMA, Blur, Gaze, Points
from avsal.datasets.recording import Clip, Recording, tag_of
from avsal.datasets.stavis import has_annotations, is_stavis, open_annotations, open_stavis
from avsal.datasets.stills import is_stills, open_stills, with_others
from avsal.datasets.videos import open_mapped, open_videos
from avsal.errors import DataError
from avsal.media.suffixes import PLAIN_STILLS

__all__ = ["Blur", "Clip", "DatasetSpec", "Gaze", "Points", "Recording", "open_dataset", "tag_of"]

R = TypeVar("R", bound=Recording)


@dataclass(frozen=True)
class DatasetSpec:
    """Which recordings of a data set.

    Attributes:
        root: a folder (STAViS layout, pictures), or a video with `fixations`.
        databases: of the STAViS layout; none takes all.
        split: "train" or "test", of the STAViS layout.
        fold: 1, 2 or 3, of the STAViS layout.
        names: text file with the names of the recordings to take, one per line; None takes all.
        without: text file with the names of the recordings to omit.
        maps: folder with a folder of maps for each video in the folder `root`, as `avsal predict`
            writes them.
        fixations: table of gaze points on the video or the folder of videos at `root`.
        units: of that table: "pixels", "fractions" or "auto".
        degree: pixels of one visual degree, the standard deviation of the Gaussian around a gaze
            point; None takes `blur`.
        pictures: False if maps made elsewhere are scored and only the gaze is available: a folder
            of annotations, or one of maps and fixations.
        blur: standard deviation of that Gaussian as a share of the longer side.
    """

    root: Path
    databases: tuple[str, ...] = ()
    split: str = "test"
    fold: int = 1
    names: Path | None = None
    without: Path | None = None
    maps: Path | None = None
    fixations: Path | None = None
    units: str = "auto"
    degree: float | None = None
    pictures: bool = True
    blur: float = DEFAULT_SIGMA


def open_dataset(spec: DatasetSpec) -> list[Recording]:
    """Find the recordings of a data set; what is on disk decides its form.

    Raises:
        DataError: something is missing or malformed; the text names the file.
        UsageError: a blur out of its range.
    """
    root, blur = spec.root, Blur(spec.blur, spec.degree)
    if spec.maps is not None:
        return _chosen(open_mapped(root, spec.maps), spec)
    if spec.fixations is not None:
        return _chosen(open_videos(root, spec.fixations, blur, spec.units), spec)
    if not root.is_dir():
        raise DataError(f"{root}: {'no data set' if root.exists() else 'no such file or folder'}")
    if not spec.pictures and has_annotations(root):
        return _chosen(open_annotations(root), spec)
    if is_stavis(root):
        return _chosen(open_stavis(root, spec.databases, spec.split, spec.fold), spec)
    if is_stills(root):
        return with_others(_chosen(open_stills(root, blur, spec.pictures), spec))
    raise DataError(
        f"{root / 'fold_lists'}: missing, as is {root / 'images'}; a data set has the STAViS "
        "layout or pictures with gaze"
    )


def _chosen(recordings: Sequence[R], spec: DatasetSpec) -> list[R]:
    """Keep what the lists of names say."""
    kept = list(recordings)
    if spec.without is not None:
        unwanted = _read_names(spec.without)
        kept = [item for item in kept if not _names(item) & unwanted]
    if spec.names is None:
        return kept
    wanted = _read_names(spec.names)
    unknown = wanted - {name for item in kept for name in _names(item)}
    if unknown:
        raise DataError(f"{spec.names}: {min(unknown)} is not in {spec.root}")
    return [item for item in kept if _names(item) & wanted]


def _names(recording: Recording) -> set[str]:
    """By which a list may call a recording: with or without its database, a picture's suffix."""
    path = PurePosixPath(recording.name)
    names = {str(path)} | (
        {str(path.with_suffix(""))} if path.suffix.lower() in PLAIN_STILLS else set()
    )
    return names | {f"{recording.database}/{name}" for name in names}


def _read_names(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of names ({error})") from None
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}
