"""Pictures with recorded gaze: folders like SALICON's and MIT1003's, or a table of fixations.

Folders: `images/`, and `maps/` or `fixations/` (or `fixation/`) or both, with the same file names.
The names of MIT1003 (ALLSTIMULI, ALLFIXATIONMAPS, *_fixMap, *_fixPts) are read too. Fixations are
.mat files of SALICON, .mat or .npy masks, or pictures of white points.

Table: `images/` and `fixations.npz` with `names`, `orig_size` (width, height) and `fix`, whose
columns are picture number, observer, x and y as fractions of the picture's size, and duration.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from avsal.datasets.gaze import Blur, Gaze, Points
from avsal.datasets.gaze_check import MOST_ODD, WORTH_A_WARNING, lost_places
from avsal.datasets.pictures import (
    MATLAB,
    read_density,
    read_mask,
    read_picture,
    read_salicon,
    require_size,
)
from avsal.datasets.recording import IndexedRecording, Recording, require_inside
from avsal.errors import DataError
from avsal.media.frames import FrameInfo
from avsal.media.suffixes import PLAIN_STILLS

logger = logging.getLogger("avsal")

TABLE = "fixations.npz"
TABLE_COLUMNS = 4  # picture number, observer, x, y; a duration may follow
OTHER_PICTURES = (
    10  # number of pictures whose fixations are sAUC's negatives, as in MIT's benchmark
)
# Folders of pictures, maps and fixations, and the endings of the names of maps and of fixations.
_LAYOUTS = (
    ("images", "maps", "fixations", "", ""),
    ("images", "maps", "fixation", "", ""),  # DHF1K, UCF, Hollywood-2
    ("ALLSTIMULI", "ALLFIXATIONMAPS", "ALLFIXATIONMAPS", "_fixMap", "_fixPts"),
)
_SAME_SHAPE = 0.03  # relative difference of aspect ratios that rounding may cause


@dataclass(frozen=True)
class TableGaze:
    """Gaze on one picture of `size` (H, W), from a table of fixations."""

    points: Points
    size: tuple[int, int]
    blur: Blur

    def read(self) -> Gaze | None:
        """The gaze; None if there are no fixations."""
        return Gaze.of_points(self.points, self.size, self.blur.sigma(self.size))

    def fixations(self) -> Points | None:
        return self.points


@dataclass(frozen=True)
class FileGaze:
    """Gaze on one picture from files: a map, fixations, or both."""

    map_file: Path | None
    fixation_file: Path | None
    blur: Blur

    def read(self) -> Gaze | None:
        """The gaze; None if it is empty. Raises DataError if a file cannot be read."""
        density = read_density(self.map_file).astype(np.float32) if self.map_file else None
        if self.fixation_file is None:
            return Gaze(density, None) if density is not None and density.any() else None
        mask, points = _mask_and_points(self.fixation_file)
        if not mask.any():
            return None
        size = (mask.shape[0], mask.shape[1])
        sigma = self.blur.sigma(size)
        if density is None:
            density = points.density(size, sigma)
        elif self.map_file is not None:
            require_size(self.map_file, density, size, self.fixation_file)
        return Gaze(density, mask, points, sigma)

    def fixations(self) -> Points | None:
        """The fixations; None if there is only a map. Raises DataError as `read`."""
        return _mask_and_points(self.fixation_file)[1] if self.fixation_file else None


def _mask_and_points(path: Path) -> tuple[np.ndarray, Points]:
    salicon = read_salicon(path) if path.suffix.lower() == MATLAB else None
    if salicon is not None:
        points, size = salicon
        return points.mask(size), points
    mask = read_mask(path)
    return mask, Points.of_mask(mask)


GazeSource = TableGaze | FileGaze


@dataclass(frozen=True)
class Still(IndexedRecording):
    """A picture as a video of one frame.

    Attributes:
        path: the picture; None if only the gaze is available.
        source: its gaze.
        other_gaze: gaze on other pictures, for sAUC.
    """

    name: str
    database: str
    path: Path | None
    source: GazeSource
    other_gaze: tuple[GazeSource, ...] = ()
    count: int = 1

    @property
    def has_pictures(self) -> bool:
        return self.path is not None

    @property
    def size(self) -> tuple[int, int]:
        if isinstance(self.source, TableGaze):
            return self.source.size
        gaze = self.source.read()
        return gaze.size if gaze else super().size

    def image(self, index: int) -> np.ndarray:
        if self.path is None:
            raise DataError(f"{self.database}/{self.name}: gaze alone, without the picture")
        return read_picture(self.path)

    def gaze(self, tag: FrameInfo) -> Gaze | None:
        gaze = self.source.read()
        if gaze is not None:
            self._check_shape(gaze.size, tag)
        return gaze

    def _check_shape(self, size: tuple[int, int], tag: FrameInfo) -> None:
        """Compare the aspect ratios of the gaze, of (height, width), and of the picture."""
        shape, turned, shown = size[1] / size[0], size[0] / size[1], tag.width / tag.height
        if abs(shape / shown - 1) <= _SAME_SHAPE:
            return
        exchanged = abs(turned / shown - 1) <= _SAME_SHAPE
        text = (
            f"{self.database}/{self.name}: the gaze is on {size[1]}x{size[0]} pixels, but the "
            f"picture has {tag.width}x{tag.height} (width x height)"
        )
        likely = "are width and height exchanged?" if exchanged else "is it of another picture?"
        if isinstance(self.source, TableGaze):
            raise DataError(f"{text}; {likely}")
        if exchanged:  # other differences are common: some sets store all maps in one size
            logger.warning(f"{text}; {likely}")

    def others(self, size: tuple[int, int]) -> np.ndarray | None:
        fixations = [source.fixations() for source in self.other_gaze]
        masks = [points.mask(size) for points in fixations if points is not None]
        return np.logical_or.reduce(masks) if masks else None


def is_stills(root: Path) -> bool:
    """Whether a folder holds gaze on pictures in one of these layouts, with or without pictures."""
    folders = {name for layout in _LAYOUTS for name in layout[:3]}
    return (root / TABLE).is_file() or any((root / name).is_dir() for name in folders)


def open_stills(root: Path, blur: Blur | None = None, pictures: bool = True) -> list[Still]:
    """Find the pictures of a folder; their database is named after it.

    Args:
        blur: of the fixations, if there are no maps; None for the default.
        pictures: False if only the gaze is available; the pictures are then those with gaze.

    Raises:
        DataError: a file is missing or malformed; the text names it.
    """
    open_form = _open_table if (root / TABLE).is_file() else _open_folders
    stills = open_form(root, blur or Blur(), pictures)
    if not stills:
        raise DataError(f"{root}: no picture with gaze in it")
    return stills


def with_others(stills: Sequence[Still]) -> list[Recording]:
    """Give each picture a fixed random choice of the others, for sAUC."""
    linked: list[Recording] = []
    for number, still in enumerate(stills):
        others = [other.source for other in (*stills[:number], *stills[number + 1 :])]
        chosen = random.Random(number).sample(others, min(OTHER_PICTURES, len(others)))
        linked.append(replace(still, other_gaze=tuple(chosen)))
    return linked


def _open_table(root: Path, blur: Blur, pictures: bool) -> list[Still]:
    path = root / TABLE
    try:
        with np.load(path, allow_pickle=False) as table:
            names, sizes, rows = table["names"], table["orig_size"], table["fix"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(f"{path}: needs the arrays names, orig_size and fix ({error})") from None
    if rows.ndim != 2 or rows.shape[1] < TABLE_COLUMNS or len(sizes) != len(names):
        raise DataError(
            f"{path}: fix needs the columns image, observer, x, y, and one size per name"
        )
    _check_rows(path, rows, len(names))
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    bounds = np.searchsorted(rows[:, 0], np.arange(len(names) + 1))
    stills = []
    for number, name in enumerate(names):
        require_inside(str(name), path)
        of_picture = rows[bounds[number] : bounds[number + 1]]
        of_picture = of_picture[~lost_places(of_picture[:, 2:4])]
        points = Points.inside(of_picture[:, 2:4], of_picture[:, 1].astype(int))
        width, height = (int(n) for n in sizes[number])
        picture = root / "images" / str(name) if pictures else None
        if picture is not None and not picture.is_file():
            raise DataError(f"{picture}: missing, though {path} names it; complete the folder")
        source = TableGaze(points, (height, width), blur)
        stills.append(Still(str(name), root.resolve().name, picture, source))
    return stills


def _check_rows(path: Path, rows: np.ndarray, pictures: int) -> None:
    """Refuse an impossible table, and warn if many rows are not used."""
    numbers = rows[:, 0]
    if len(rows) and (numbers.min() < 0 or numbers.max() >= pictures or numbers.dtype.kind == "b"):
        raise DataError(
            f"{path}: fix has the picture numbers {numbers.min():g} to {numbers.max():g}, but they "
            f"must be 0 to {pictures - 1} (if they count from 1, subtract 1)"
        )
    if not (numbers == np.round(numbers)).all():
        raise DataError(
            f"{path}: fix has fractions as picture numbers; put the picture numbers in column 1"
        )
    places = rows[:, 2:4].astype(np.float64)
    lost = lost_places(places)
    outside = ~lost & ((places < 0) | (places >= 1)).any(axis=1)
    if outside.sum() > MOST_ODD * (~lost).sum():
        raise DataError(
            f"{path}: {outside.sum()} of {len(rows)} points in fix are outside their pictures; x "
            "and y are fractions of the picture's size (divide pixels by orig_size)"
        )
    if (lost | outside).sum() > WORTH_A_WARNING * len(rows):
        logger.warning(
            f"{path}: {len(rows)} rows; {lost.sum()} lost, {outside.sum()} outside the picture"
        )


def _open_folders(root: Path, blur: Blur, pictures: bool) -> list[Still]:
    layout = max(_LAYOUTS, key=lambda row: sum((root / name).is_dir() for name in row[:3]))
    if pictures and not (root / layout[0]).is_dir():
        raise DataError(f"{root / layout[0]}: missing; a folder of pictures is needed")
    images, maps, fixations, map_ending, fixation_ending = layout
    densities = _by_name(root / maps, PLAIN_STILLS | {".npy"}, map_ending)
    points = _by_name(root / fixations, PLAIN_STILLS | {MATLAB, ".npy"}, fixation_ending)
    if not densities and not points:
        raise DataError(
            f"{root / maps}: missing or empty, as is {fixations}; one of them must hold the gaze"
        )
    unread = sorted({path.name for path in root.iterdir() if path.is_dir()} - {*layout[:3]})
    if unread and not points:
        logger.warning(
            f"{root}: has no fixations in a folder {fixations}, so NSS and AUC cannot be scored; "
            f"folders that are not read: {', '.join(unread)[:120]}"
        )
    files = _by_name(root / images, PLAIN_STILLS, "") if pictures else densities or points
    stills = []
    for name, file in files.items():
        if densities and name not in densities:
            raise DataError(f"{root / maps / (name + map_ending)}.*: no map for {file}")
        if points and name not in points:
            raise DataError(f"{root / fixations / (name + fixation_ending)}.*: none for {file}")
        source = FileGaze(densities.get(name), points.get(name), blur)
        label, picture = (name + file.suffix, file) if pictures else (name, None)
        stills.append(Still(label, root.resolve().name, picture, source))
    return stills


def _by_name(folder: Path, suffixes: frozenset[str], ending: str) -> dict[str, Path]:
    """Files of a folder by their path in it, without suffix and ending."""
    files = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix.lower() in suffixes and name.endswith(ending):
            files[name.removesuffix(ending)] = path
    return files
