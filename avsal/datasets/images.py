"""Image sets: pictures with ground-truth maps, fixations, or both.

Two forms, told apart by what the folder holds:

    images/<name>.jpg    maps/<name>.png    fixations/<name>.mat|.png|.npy     (SALICON)
    ALLSTIMULI/<name>.jpeg    ALLFIXATIONMAPS/<name>_fixMap.jpg, <name>_fixPts.jpg     (MIT1003)
    images/<name>.jpg    fixations.npz     (names, orig_size, fix: image, subject, x/W, y/H, ...)

Pictures may lie in subfolders, if maps and fixations lie in the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avsal.datasets.arrays import read_fixations, read_image, read_lines, read_map, read_mat
from avsal.datasets.points import UNKNOWN_OBSERVER, Blur, GazePoints, points_of
from avsal.errors import DataError

TABLE = "fixations.npz"
IMAGE_FOLDERS = ("images", "ALLSTIMULI")
MAP_FOLDERS = ("maps", "ALLFIXATIONMAPS")
FIXATION_FOLDERS = ("fixations", "ALLFIXATIONMAPS")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAP_ENDINGS = tuple(f"{end}{kind}" for end in ("", "_fixMap") for kind in (*IMAGE_SUFFIXES, ".npy"))
FIXATION_ENDINGS = tuple(
    f"{end}{kind}" for end in ("", "_fixPts") for kind in (".mat", ".npy", *IMAGE_SUFFIXES)
)
_TABLE_COLUMNS = 4  # image, subject, x/W, y/H; more may follow


@dataclass(frozen=True)
class AnnotatedImage:
    """One picture and what is known about the gaze on it.

    Attributes:
        name: path inside the folder of pictures, without its suffix.
        path: the picture.
        map_path: ground-truth map, None where it is to be made of the points.
        fixation_path: file of the fixations, None where the table has them or nothing has.
        points: the table's points.
        stored_size: (height, width) by the table.
    """

    name: str
    path: Path
    map_path: Path | None = None
    fixation_path: Path | None = None
    points: GazePoints | None = None
    stored_size: tuple[int, int] | None = None

    def image(self) -> np.ndarray:
        """The picture, uint8 (H, W, 3) RGB; raises DataError."""
        return read_image(self.path)

    def size(self) -> tuple[int, int]:
        """(height, width) of the annotation, in which it is scored."""
        if self.map_path is not None:
            return _shape(read_map(self.map_path))
        return self.stored_size or _shape(self.image())

    def gaze(self) -> GazePoints | None:
        """The points, None where only a map is known; raises DataError."""
        if self.points is not None or self.fixation_path is None:
            return self.points
        return read_points(self.fixation_path)

    def density(self, blur: Blur) -> np.ndarray:
        """The ground-truth map (H, W): the stored one, else blurred points; raises DataError."""
        if self.map_path is not None:
            return read_map(self.map_path)
        gaze = self.gaze()
        if gaze is None:
            raise DataError(f"{self.path}: has neither a map nor fixations; check the data set")
        return gaze.density(self.size(), blur)


@dataclass(frozen=True)
class ImageSet:
    """A folder of annotated pictures."""

    root: Path
    images: tuple[AnnotatedImage, ...] = field(repr=False)


def read_image_set(root: Path, split: Path | None = None, pictures: bool = True) -> ImageSet:
    """List an image set.

    Args:
        split: a file with one name a line, or the name of a subfolder of pictures; None for all.
        pictures: False where annotations alone are at hand; they then say which images there are.

    Raises:
        DataError: folders, pictures or annotations are missing.
    """
    table = root / TABLE
    if table.is_file():
        images = _from_table(_folder(root, IMAGE_FOLDERS), table, pictures)
    else:
        images = _from_folders(root, pictures)
    chosen = images if split is None else _chosen(images, split)
    if not chosen:
        raise DataError(f"{root}: no pictures; check the data set's layout")
    return ImageSet(root, tuple(chosen))


def read_points(path: Path) -> GazePoints:
    """Read one picture's fixations: a matrix, a picture, or SALICON's list of gaze by observer.

    Raises:
        DataError: the file is missing or damaged, or holds no fixations.
    """
    if path.suffix == ".mat":
        content = read_mat(path)
        if "gaze" in content and "resolution" in content:
            return _salicon_points(path, content["gaze"], content["resolution"])
    return points_of(read_fixations(path))


def _salicon_points(path: Path, gaze: np.ndarray, resolution: np.ndarray) -> GazePoints:
    """SALICON: `gaze(i).fixations` are (x, y) pixels from 1, `resolution` is [height width]."""
    try:
        height, width = (int(value) for value in resolution.ravel())
        each = [np.reshape(entry, (-1, 2)).astype(float) for entry in gaze["fixations"].ravel()]
    except (ValueError, IndexError, KeyError, TypeError):
        raise DataError(f"{path}: its gaze has no fixations; get the file again") from None
    observers = np.repeat(np.arange(len(each)), [len(rows) for rows in each])
    points = np.concatenate([np.zeros((0, 2)), *each])
    return GazePoints((points[:, 0] - 0.5) / width, (points[:, 1] - 0.5) / height, observers)


def _from_table(folder: Path | None, table: Path, pictures: bool) -> list[AnnotatedImage]:
    names, sizes, rows = _read_table(table)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    bounds = np.searchsorted(rows[:, 0], np.arange(len(names) + 1))
    folder = folder or table.parent / IMAGE_FOLDERS[0]
    images = []
    for index, name in enumerate(names):
        path = folder / name
        if pictures and not path.is_file():
            raise DataError(f"{path}: missing, though {table.name} names it")
        mine = rows[bounds[index] : bounds[index + 1]]
        subjects = np.where(np.isfinite(mine[:, 1]), mine[:, 1], UNKNOWN_OBSERVER).astype(int)
        points = GazePoints(mine[:, 2], mine[:, 3], subjects)
        width, height = (int(value) for value in sizes[index])
        stem = Path(name).with_suffix("").as_posix()
        images.append(AnnotatedImage(stem, path, points=points, stored_size=(height, width)))
    return images


def _read_table(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    try:
        with np.load(path) as stored:
            names, sizes, rows = (stored[key] for key in ("names", "orig_size", "fix"))
        rows = rows.astype(float)
        if sizes.shape != (len(names), 2) or rows.ndim != 2 or rows.shape[1] < _TABLE_COLUMNS:
            raise ValueError
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read; it needs names, orig_size (width, height) and fix "
            "(image, subject, x/W, y/H)"
        ) from error
    return [str(name) for name in names], sizes, rows[np.isfinite(rows[:, [0, 2, 3]]).all(axis=1)]


def _from_folders(root: Path, pictures: bool) -> list[AnnotatedImage]:
    folders = [_folder(root, names) for names in (MAP_FOLDERS, FIXATION_FOLDERS)]
    if folders == [None, None]:
        raise DataError(f"{root}: has neither {TABLE} nor a folder maps or fixations")
    map_files, fixation_files = (_index(folder) for folder in folders)
    images = []
    for name, path in _pictures(root) if pictures else _names(root, map_files, fixation_files):
        map_path = _first(map_files, name, MAP_ENDINGS)
        fixation_path = _first(fixation_files, name, FIXATION_ENDINGS)
        if map_path is None and fixation_path is None:
            wanted = (folders[0] or folders[1] or root) / f"{name}.png"
            raise DataError(f"{wanted}: missing; {path} has neither a map nor fixations")
        images.append(AnnotatedImage(name, path, map_path, fixation_path))
    return images


def _pictures(root: Path) -> Iterator[tuple[str, Path]]:
    folder = _folder(root, IMAGE_FOLDERS)
    if folder is None:
        raise DataError(f"{root / IMAGE_FOLDERS[0]}: missing; the set's pictures belong there")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            yield path.relative_to(folder).with_suffix("").as_posix(), path


def _names(root: Path, *listings: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    """What the annotations are of, by their own names; the pictures need not exist."""
    endings = sorted({*MAP_ENDINGS, *FIXATION_ENDINGS}, key=len, reverse=True)
    stems: dict[str, str] = {}
    for key, path in sorted((key, path) for files in listings for key, path in files.items()):
        ending = next((end for end in endings if key.endswith(end.lower())), None)
        if ending is not None:
            inside = Path(key).parent / path.name
            stems.setdefault(key[: -len(ending)], inside.as_posix()[: -len(ending)])
    for stem in sorted(stems.values()):
        yield stem, root / IMAGE_FOLDERS[0] / stem


def _index(folder: Path | None) -> dict[str, Path]:
    """Files under a folder by their lower-case path inside it."""
    if folder is None:
        return {}
    return {
        (Path(place) / name).relative_to(folder).as_posix().lower(): Path(place) / name
        for place, _folders, names in os.walk(folder)
        for name in names
    }


def _first(files: dict[str, Path], name: str, endings: Iterable[str]) -> Path | None:
    found = (files.get(f"{name}{ending}".lower()) for ending in endings)
    return next((path for path in found if path is not None), None)


def _folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _chosen(images: list[AnnotatedImage], split: Path) -> list[AnnotatedImage]:
    if not split.is_file():
        inside = [image for image in images if image.name.startswith(f"{split.as_posix()}/")]
        if not inside:
            raise DataError(f"{split}: missing; give a file of names or a subfolder of pictures")
        return inside
    by_name = {image.name: image for image in images}
    chosen = []
    for line in read_lines(split):
        image = by_name.get(line) or by_name.get(Path(line).with_suffix("").as_posix())
        if image is None:
            raise DataError(f"{split}: {line} is not a picture of the set; check the names")
        chosen.append(image)
    return chosen


def _shape(values: np.ndarray) -> tuple[int, int]:
    return values.shape[0], values.shape[1]
