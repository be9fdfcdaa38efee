"""`OUT.reframe.json`: the crop of every frame, for people and other programs to read and to edit.

    {
     "reframe": 1,                  version of this form
     "avsal": "0.2.0",
     "source": {"name": "talk.mp4", ...},
     "width": 1280,                 of the picture as displayed, upright, in pixels
     "height": 720,
     "sample_aspect": "1",          width to height of one of these pixels
     "aspect": "9:16",
     "size": [404, 720],            of the result, square pixels
     "start": null,                 seconds, where the maps cover a part of the video
     "end": null,
     "settings": {"motion": "steady", "zoom": 1.0, "pad": null},
     "frames": [
      {"index": 0, "pts": "0", "x": 438, "y": 0, "w": 404, "h": 720, "shot": 0, "kept": 0.81},
      ...
     ]
    }

`pts` is the frame's time on the container's clock in seconds, exact, as a fraction ("1001/30000").
`x`, `y`, `w`, `h` are the left upper corner and the size of what is shown, in the same pixels;
fractions of a pixel are allowed. `shot` counts from 0. `kept` is the share of the predicted gaze
inside, null where it is not known.

A file that `--path` reads needs one record for every frame of the video (of its part), and all keys
but "source", "settings", "shot" and "kept".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from avsal.crops.planning import Crop
from avsal.crops.settings import Fill, Picture, Size, parse_aspect
from avsal.errors import MediaError, UsageError
from avsal.prediction.settings import MAX_SECONDS, check_word
from avsal.results import records
from avsal.results.records import RecordsWriter, exact, number, picture_size, ratio, whole
from avsal.version import __version__

VERSION = 1
_MADE_BY = "avsal reframe"
_ROUNDING = 0.01  # pixels by which rounding may place a crop outside
_NARROWEST = Fraction(1, 100)  # of a pixel, width to height


@dataclass(frozen=True)
class PathFile:
    """What a path file says apart from the crops.

    Attributes:
        picture: what is cropped.
        aspect: of the result, as written: "9:16".
        size: of the result in pixels.
        start, end: seconds of the video's part; None is the video's own.
        source: the video's name and size in bytes.
        settings: how the path was made.
    """

    picture: Picture
    aspect: str
    size: Size
    start: float | None = None
    end: float | None = None
    source: dict[str, Any] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def path_beside(out: Path) -> Path:
    """Where the path of a result belongs: `clip.mp4` has `clip.reframe.json`."""
    return out.with_suffix(".reframe.json")


def write_path(path: Path, head: PathFile, crops: Iterable[Crop]) -> None:
    """Write a path file as the crops come."""
    picture = head.picture
    header = {
        "reframe": VERSION,
        "avsal": __version__,
        "source": head.source,
        "width": picture.width,
        "height": picture.height,
        "sample_aspect": str(picture.sample_aspect),
        "aspect": head.aspect,
        "size": list(head.size),
        "start": head.start,
        "end": head.end,
        "settings": head.settings,
    }
    writer = RecordsWriter(path, header)
    try:
        for crop in crops:
            writer.add(_values(crop))
        writer.close()
    finally:
        writer.abandon()


def _values(crop: Crop) -> dict[str, Any]:
    sides = {"x": crop.x, "y": crop.y, "w": crop.width, "h": crop.height}
    return {
        "index": crop.index,
        "pts": str(crop.pts),
        **{name: round(value, 3) for name, value in sides.items()},
        "shot": crop.shot,
        "kept": None if crop.kept is None else round(crop.kept, 4),
    }


def read_head(path: Path) -> PathFile:
    """Read what a path file says apart from the crops.

    Raises:
        MediaError: it is missing or damaged, or of another version.
    """
    header = records.read_header(path, _MADE_BY)
    try:
        if header["reframe"] != VERSION:
            raise ValueError(f"version {header['reframe']}, this avsal reads {VERSION}")
        width, height = picture_size(header)
        size = picture_size(header["size"], (0, 1))
        sample_aspect = ratio(header, "sample_aspect")
        if not _NARROWEST <= sample_aspect <= 1 / _NARROWEST:
            raise ValueError(f"sample_aspect {float(sample_aspect):g}")
        start, end = (
            None if header.get(name) is None else number(header, name, 0, MAX_SECONDS)
            for name in ("start", "end")
        )
        if end is not None and end <= (start or 0):
            raise ValueError(f"end {end:g} is not after start")
        aspect, settings = header["aspect"], dict(header.get("settings") or {})
        if not isinstance(aspect, str):
            raise ValueError("aspect is no text")
        parse_aspect(aspect)
        if settings.get("pad") is not None:
            check_word("pad", settings["pad"], Fill)
        source = dict(header.get("source") or {})
        return PathFile(
            Picture(width, height, sample_aspect), aspect, size, start, end, source, settings
        )
    except (*records.UNREADABLE, UsageError) as error:
        raise records.damaged(path, _MADE_BY, error) from error


def read_crops(path: Path, picture: Picture) -> Iterator[Crop]:
    """The crops of a path file, in constant memory.

    Raises:
        MediaError: it is damaged, or a crop is outside the picture.
    """

    def parse(values: Any) -> Crop:
        index = whole(values, "index")
        x, y, width, height = (number(values, name) for name in ("x", "y", "w", "h"))
        shot = whole(values, "shot") if "shot" in values else 0
        kept = None if values.get("kept") is None else number(values, "kept", 0, 1)
        crop = Crop(index, exact(values, "pts"), x, y, width, height, shot, kept)
        _check_inside(path, crop, picture)
        return crop

    before: Crop | None = None
    for _index, crop in records.read_records(path, _MADE_BY, parse):
        if before is not None and crop.pts < before.pts:
            raise MediaError(
                f"{path}: frame {crop.index} at {float(crop.pts):.3f} s comes before frame "
                f"{before.index} at {float(before.pts):.3f} s; correct its pts"
            )
        yield crop
        before = crop


def _check_inside(path: Path, crop: Crop, picture: Picture) -> None:
    right, bottom = crop.x + crop.width, crop.y + crop.height
    if (
        min(crop.width, crop.height) <= 0
        or min(crop.x, crop.y) < -_ROUNDING
        or right > picture.width + _ROUNDING
        or bottom > picture.height + _ROUNDING
    ):
        raise MediaError(
            f"{path}: frame {crop.index}: the crop from ({crop.x:g}, {crop.y:g}) to ({right:g}, "
            f"{bottom:g}) is not inside the {picture.width}x{picture.height} picture"
        )
