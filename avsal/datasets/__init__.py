"""Data sets with recorded gaze: `open_dataset` reads every supported layout as recordings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from avsal.datasets.gaze import Blur, Gaze, Points
from avsal.datasets.recording import Recording
from avsal.datasets.stavis import has_annotations, is_stavis, open_annotations, open_stavis
from avsal.datasets.stills import is_stills, open_stills, with_others
from avsal.datasets.videos import open_mapped, open_videos
from avsal.errors import DataError, cause_of
from avsal.media.suffixes import PLAIN_STILLS, VIDEOS
from avsal.text import read_text

__all__ = ["DatasetSpec", "Gaze", "Points", "Recording", "open_dataset"]

logger = logging.getLogger("avsal")

R = TypeVar("R", bound=Recording)
_SHOWN = 3  # names in a warning


# TOML has no null: an empty text and a 0 are "not given".
_NOT_GIVEN = BeforeValidator(lambda value: value or None)
OptionalPath = Annotated[Path | None, _NOT_GIVEN]
OptionalSize = Annotated[Annotated[float, Field(gt=0)] | None, _NOT_GIVEN]


class DatasetSpec(BaseModel):
    """Which recordings of a data set to use.

    Attributes:
        root: a folder (STAViS layout, pictures, or videos), or a video with `fixations`.
        databases: of the STAViS layout; none takes all.
        fold: 1, 2 or 3, of the STAViS layout.
        split: "train" or "test", of the STAViS layout; "" leaves it to the program, which trains on
            "train" and evaluates on "test".
        names: text file with the names of the recordings to use, one per line; files may be named
            without their suffix.
        without: text file with the names of the recordings to omit.
        fixations: table of gaze points on the video, or on the videos of the folder, at `root`.
        units: of that table: "pixels", "fractions" or "auto".
        degree: pixels of one visual degree, the standard deviation of the Gaussian around a gaze
            point; by default the deviation is 3.5 % of the longer side.
        maps: folder with a folder of maps for each video in the folder `root`, as `avsal predict`
            writes them.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    root: Path
    databases: tuple[str, ...] = ()
    fold: Literal[1, 2, 3] = 1
    split: Literal["", "train", "test"] = ""
    names: OptionalPath = None
    without: OptionalPath = None
    fixations: OptionalPath = None
    units: Literal["auto", "pixels", "fractions"] = "auto"
    degree: OptionalSize = None
    maps: OptionalPath = None


def open_dataset(spec: DatasetSpec, split: str = "test", pictures: bool = True) -> list[Recording]:
    """Find the recordings of a data set; what is on disk decides its form.

    Args:
        split: of the STAViS layout, where `spec` names none.
        pictures: False to score maps made elsewhere without the pictures: the folder then has only
            annotations, or only maps and fixations.

    Raises:
        DataError: something is missing or malformed; the text names the file.
    """
    root, blur = spec.root, Blur(degree=spec.degree)
    if spec.maps is not None:
        return _chosen(open_mapped(root, spec.maps), spec)
    if spec.fixations is not None:
        return _chosen(open_videos(root, spec.fixations, blur, spec.units), spec)
    if not root.is_dir():
        raise DataError(f"{root}: {'no data set' if root.exists() else 'no such file or folder'}")
    if not pictures and has_annotations(root):
        return _chosen(open_annotations(root), spec)
    if is_stavis(root):
        videos = open_stavis(root, spec.databases, spec.split or split, spec.fold)
        return _chosen(videos, spec)
    if is_stills(root):
        return with_others(_chosen(open_stills(root, blur, pictures), spec))
    raise DataError(
        f"{root / 'fold_lists'}: missing, as is {root / 'images'}; a data set has the STAViS "
        "layout or pictures with gaze"
    )


def _chosen(recordings: Sequence[R], spec: DatasetSpec) -> list[R]:
    """The recordings that the lists of names select."""
    chosen = list(recordings)
    if spec.without is not None:
        omitted = _read_names(spec.without)
        if unknown := _unknown(omitted, chosen):  # they may be of another set, fold or split
            listed = ", ".join(unknown[:_SHOWN]) + (", …" if len(unknown) > _SHOWN else "")
            logger.warning("%s: not in %s, so not omitted: %s", spec.without, spec.root, listed)
        chosen = [item for item in chosen if not _names(item) & omitted]
    if spec.names is not None:
        listed_names = _read_names(spec.names)
        if unknown := _unknown(listed_names, chosen):
            raise DataError(f"{spec.names}: {unknown[0]} is not in {spec.root}")
        chosen = [item for item in chosen if _names(item) & listed_names]
    return chosen


def _unknown(names: set[str], recordings: Sequence[Recording]) -> list[str]:
    """The names that no recording has, in order."""
    return sorted(names.difference(*map(_names, recordings)))


def _names(recording: Recording) -> set[str]:
    """Names of a recording in a list: with or without its database and a file's suffix."""
    path = PurePosixPath(recording.name)
    names = {str(path)}
    if path.suffix.lower() in PLAIN_STILLS | VIDEOS:
        names.add(str(path.with_suffix("")))
    return names | {f"{recording.database}/{name}" for name in names}


def _read_names(path: Path) -> set[str]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeError) as error:
        cause = cause_of(error)
        raise DataError(f"{path}: cannot be read as a list of names ({cause})") from None
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}
