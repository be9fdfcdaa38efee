"""`OUT.reframe.json`: the crop of every frame, for people and other programs to read and to edit.

    {
     "reframe": 1,                  version of this form
     "avsal": "0.3.0",
     "source": {"name": "talk.mp4", ...},
     "width": 1280,                 of the picture as displayed, upright, in pixels
     "height": 720,
     "sample_aspect": "1",          width to height of one of these pixels
     "aspect": "9:16",
     "size": [404, 720],            of the result, square pixels
     "start": null,                 seconds, where the maps cover a part of the video
     "end": null,
     "origin": "0",                 `pts` of the video's first frame
     "settings": {"motion": "steady", "zoom": 1.0, "fit": "auto", "pad": "blur"},
     "frames": [
      {"index": 0, "pts": "0", "x": 438, "y": 0, "w": 404, "h": 720, "shot": 0, "kept": 0.81},
      ...
     ],
     "shots": [
      {"shot": 0, "start": "0", "end": "91/25", "fit": "crop", "kept": 0.79},
      ...
     ]
    }

`pts` is the frame's time on the container's clock in seconds, exact, as a fraction ("1001/30000").
`x`, `y`, `w`, `h` are the left upper corner and the size of what is shown, in the same pixels;
fractions of a pixel are allowed. `shot` counts from 0. `kept` is the share of the predicted gaze
inside, null where it is not known.

Where two panels share the result, a frame has `second` too, {"x": ..., "y": ..., "w": ..., "h":
...}: the lower panel, or the right one where the result is wider than the picture.

`shots` sums up what was chosen: "crop", "pad" (bars fill the rest) or "split" (two panels), and the
mean of `kept`. Nothing reads it back.

A file that `--path` reads needs one record for every frame of the video (of its part), and all keys
but "source", "settings", "origin", "shot", "kept", "second" and "shots".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from avsal import atomic
from avsal.crops.planning import Crop
from avsal.crops.settings import Box, Fill, Fit, Picture, Size, parse_aspect
from avsal.errors import MediaError, UsageError
from avsal.media.container import VideoInfo
from avsal.prediction.settings import MAX_SECONDS, check_word, clock, percent
from avsal.results.plan import CROP_PATH
from avsal.results.records import (
    UNREADABLE,
    RecordsFile,
    RecordsWriter,
    exact,
    number,
    picture_size,
    ratio,
    whole,
)
from avsal.version import __version__

VERSION = 1
MADE_BY = "avsal reframe"
_ROUNDING = 0.01  # pixels by which rounding may place a crop outside
# Pixels by which a crop may miss the shape of the result: of the result, or of the picture, because
# the sides of crops are whole and even. Bars of a few pixels would look like a fault.
_IN_RESULT, _IN_PICTURE = 1.5, 1.01
_COPYING = 2  # seconds by which a copied path may be newer than the copied result
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
        origin: container time of the video's first frame, seconds; None if unknown, as earlier
            versions did not write it.
    """

    picture: Picture
    aspect: str
    size: Size
    start: float | None = None
    end: float | None = None
    source: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    origin: Fraction | None = None


def path_beside(out: Path) -> Path:
    """Where the path of a result belongs: `clip.mp4` has `clip.reframe.json`."""
    return out.with_suffix(CROP_PATH)


def check_edited(out: Path, path: Path | None) -> None:
    """Refuse to replace the path of an earlier result that is newer than the result.

    It was edited, or copied: copying writes it right after the result, which is no edit.

    Args:
        out: the result that will have a path next to it.
        path: what is rendered; may be that path itself.

    Raises:
        UsageError: somebody's work would be lost.
    """
    there = path_beside(out)
    with atomic.write_errors(out):
        if not (out.exists() and there.exists()):
            return
        if there.stat().st_mtime - out.stat().st_mtime < _COPYING:
            return
        if path is not None and path.exists() and path.samefile(there):
            return
    raise UsageError(
        f"{there}: is newer than {out.name}, so it was probably edited, and would be replaced; "
        "give --path to render it, --force to replace it, or another --output"
    )


def name_part(aspect: str) -> str:
    """An aspect as it is in the names of files: 9x16."""
    return aspect.strip().replace(":", "x")


def check_video(path: Path, head: PathFile, info: VideoInfo) -> None:
    """Refuse a path of a video of another size; raises MediaError."""
    picture = head.picture
    if (info.width, info.height) != (picture.width, picture.height):
        raise MediaError(
            f"{path}: a path for a {picture.width}x{picture.height} video, but {info.path} has "
            f"{info.width}x{info.height}; give the video of this path"
        )


@dataclass(frozen=True)
class ShotCrop:
    """How one shot is shown.

    Attributes:
        shot: its number, from 0.
        start, end: when its first frame begins and its last one ends, as far as the path tells;
            seconds on the container's clock.
        fit: "crop", "pad" or "split", see `Fit`.
        kept: mean share of the predicted gaze inside; None where it is unknown.
    """

    shot: int
    start: Fraction
    end: Fraction
    fit: str
    kept: float | None


def write_path(path: Path, head: PathFile, crops: Iterable[Crop]) -> list[ShotCrop]:
    """Write a path file as the crops come, and return how each shot is shown."""
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
    if head.origin is not None:
        header["origin"] = str(head.origin)
    writer = RecordsWriter(path, header)
    shots = _Shots(head)
    try:
        for crop in crops:
            writer.add(_values(crop))
            shots.add(crop)
        writer.close({"shots": [_summary(shot) for shot in shots.found]})
    finally:
        writer.abandon()
    return shots.found


class _Shots:
    """Sums up crops, shot by shot."""

    def __init__(self, head: PathFile) -> None:
        self.found: list[ShotCrop] = []
        self._head = head
        self._last: Crop | None = None
        self._before = 0.0  # of the last crop: share times seconds of its shot

    def add(self, crop: Crop) -> None:
        """Count the next crop. Its frame lasts as long as the one before until the next one."""
        last, self._last = self._last, crop
        if last is None:
            self._start(crop)
            return
        step = crop.pts - last.pts
        if last.shot != crop.shot:
            self._end_at(crop.pts, last)
            self._start(crop)
        else:
            self._before += (last.kept or 0) * float(step)
        self._end_at(crop.pts + step, crop)

    def _start(self, crop: Crop) -> None:
        self._before = 0.0
        self.found.append(
            ShotCrop(crop.shot, crop.pts, crop.pts, fit_of(crop, self._head), crop.kept)
        )

    def _end_at(self, end: Fraction, last: Crop) -> None:
        """Let the shot end with its last crop, which is shown until `end`."""
        shot, kept = self.found[-1], last.kept
        if kept is not None and end > shot.start:  # a path that was edited may have equal times
            kept = (self._before + kept * float(end - last.pts)) / float(end - shot.start)
        self.found[-1] = replace(shot, end=end, kept=kept)


def fit_of(crop: Crop, head: PathFile) -> str:
    """How a crop fills the result: "crop", "pad" or "split"."""
    if crop.second is not None:
        return Fit.SPLIT
    return Fit.CROP if fitted_size(crop.boxes[0], head) == head.size else Fit.PAD


def fitted_size(box: Box, head: PathFile, size: Size | None = None) -> Size:
    """The largest size of a box's own shape inside the result, or inside a part of that size."""
    across = box.width * float(head.picture.sample_aspect)
    shape = across / box.height
    width, height = size or head.size
    tolerance = max(_IN_PICTURE, _IN_RESULT * box.height / height) * max(1, width / height)
    if abs(across - box.height * width / height) <= tolerance:
        return width, height
    if height * shape > width:
        return width, max(1, round(width / shape))
    return max(1, round(height * shape)), height


def panels(crop: Crop, head: PathFile) -> list[tuple[Box, Box]]:
    """Each part of the picture that is shown, and the part of the result that shows it, in pixels.

    Two panels share the result in halves: one above the other where they are wider than the result,
    else side by side.
    """
    width, height = head.size
    if crop.second is None:
        return [(crop.boxes[0], Box(0, 0, width, height))]
    if crop.width * float(head.picture.sample_aspect) * height > crop.height * width:
        half = height // 2
        halves = Box(0, 0, width, half), Box(0, half, width, height - half)
    else:
        half = width // 2
        halves = Box(0, 0, half, height), Box(half, 0, width - half, height)
    return list(zip(crop.boxes, halves, strict=True))


def _values(crop: Crop) -> dict[str, Any]:
    values = {
        "index": crop.index,
        "pts": str(crop.pts),
        **_sides(crop.boxes[0]),
        "shot": crop.shot,
        "kept": None if crop.kept is None else round(crop.kept, 4),
    }
    return values if crop.second is None else {**values, "second": _sides(crop.second)}


def _summary(shot: ShotCrop) -> dict[str, Any]:
    kept = None if shot.kept is None else round(shot.kept, 4)
    return {**asdict(shot), "start": str(shot.start), "end": str(shot.end), "kept": kept}


def _sides(box: Box) -> dict[str, float]:
    return {name: round(side, 3) for name, side in zip("xywh", box, strict=True)}


def read_head(path: Path) -> PathFile:
    """Read what a path file says apart from the crops.

    Raises:
        MediaError: it is missing or damaged, or of another version.
    """
    file = RecordsFile(path, MADE_BY)
    header = file.header()
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
            raise ValueError("aspect is not text")
        parse_aspect(aspect)
        if settings.get("pad") is not None:
            check_word("pad", settings["pad"], Fill)
        source = dict(header.get("source") or {})
        origin = exact(header, "origin") if "origin" in header else None
        picture = Picture(width, height, sample_aspect)
        return PathFile(picture, aspect, size, start, end, source, settings, origin)
    except (*UNREADABLE, UsageError) as error:
        raise file.damaged(error) from error


def read_crops(path: Path, picture: Picture) -> Iterator[Crop]:
    """The crops of a path file, in constant memory.

    Raises:
        MediaError: it is damaged, or a crop is outside the picture.
    """

    def parse(index: int, values: Any) -> Crop:
        first, second = _box(values), values.get("second")
        shot = whole(values, "shot") if "shot" in values else 0
        kept = None if values.get("kept") is None else number(values, "kept", 0, 1)
        lower = None if second is None else _box(second)
        crop = Crop(index, exact(values, "pts"), *first, shot, kept, lower)
        _check_inside(path, crop, picture)
        return crop

    before: Crop | None = None
    for crop in RecordsFile(path, MADE_BY).records(parse):
        if before is not None and crop.pts < before.pts:
            raise MediaError(
                f"{path}: frame {crop.index} at {float(crop.pts):.3f} s comes before frame "
                f"{before.index} at {float(before.pts):.3f} s; correct its pts"
            )
        yield crop
        before = crop


def on_clock(
    head: PathFile, crops: Iterator[Crop], origin: Fraction | None
) -> tuple[PathFile, Iterator[Crop]]:
    """A path with the times of the same video in another container, which may begin elsewhere.

    Args:
        origin: container time of that video's first frame, seconds; None changes nothing.
    """
    if origin is None or head.origin in (None, origin):
        return head, crops
    shift = origin - head.origin
    return replace(head, origin=origin), (replace(crop, pts=crop.pts + shift) for crop in crops)


def _box(values: Any) -> Box:
    return Box(*(number(values, name) for name in "xywh"))


def _check_inside(path: Path, crop: Crop, picture: Picture) -> None:
    for x, y, width, height in crop.boxes:
        right, bottom = x + width, y + height
        if (
            min(width, height) <= 0
            or min(x, y) < -_ROUNDING
            or right > picture.width + _ROUNDING
            or bottom > picture.height + _ROUNDING
        ):
            raise MediaError(
                f"{path}: frame {crop.index}: the crop from ({x:g}, {y:g}) to ({right:g}, "
                f"{bottom:g}) is not inside the {picture.width}x{picture.height} picture"
            )


WEAK = 0.6  # a shot that keeps less of the predicted gaze than this deserves a look
_LONG = 1  # second; times of shorter shots have a decimal
_MOST = 10  # weak shots that are named; a film may have hundreds
_WORDS: dict[str, str] = {
    Fit.CROP: "crop keeps",
    Fit.PAD: "wider crop keeps",
    Fit.SPLIT: "panels keep",
}


def weak_shots(shots: Sequence[ShotCrop]) -> list[ShotCrop]:
    """The shots whose crop keeps little of the predicted gaze."""
    return [shot for shot in shots if shot.kept is not None and shot.kept < WEAK]


def saved_weak_shots(out: Path) -> list[dict[str, Any]]:
    """The weak shots of a result, as its path file has them; none if it has no list of shots.

    Raises:
        MediaError: the path file is missing or damaged.
    """
    shots = RecordsFile(path_beside(out), MADE_BY).after().get("shots", [])
    return [shot for shot in shots if shot["kept"] is not None and shot["kept"] < WEAK]


def notes_on_shots(shots: Sequence[ShotCrop], origin: Fraction, fit: str) -> Iterator[str]:
    """One line for what `Fit.AUTO` chose, and one for each weak shot.

    Args:
        origin: the container's time of the video's first frame, seconds.
        fit: the setting that the shots were planned with, see `Fit`.
    """
    if fit == Fit.AUTO:
        counts = Counter(shot.fit for shot in shots)
        yield "fit: " + ", ".join(f"{counts[word]} {word}" for word in Fit if counts[word])
    weak = weak_shots(shots)
    advice = "" if fit == Fit.AUTO else "; try --fit auto"
    for shot in weak[:_MOST]:
        digits = 0 if shot.end - shot.start >= _LONG else 1
        times = " to ".join(clock(time - origin, digits) for time in (shot.start, shot.end))
        where = f"shot {shot.shot + 1}, {times}: " if shot.end > shot.start else ""  # or a picture
        kept = f"{_WORDS[shot.fit]} an estimated {percent(shot.kept or 0)}"
        yield f"{where}the {kept} of the gaze{advice}"
    if len(weak) > _MOST:
        yield f"{len(weak) - _MOST} further shots keep less than {percent(WEAK)}; see the path file"
