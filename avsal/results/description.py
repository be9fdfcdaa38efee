"""`saliency.json`: what made a result, and one record per frame; see `avsal.results.records`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsal.results.records import UNREADABLE, RecordsFile, exact, number, whole

if TYPE_CHECKING:
    from avsal.prediction.maps import SaliencyFrame  # which take a while to import
    from avsal.prediction.shots import Shot

DESCRIPTION = "saliency.json"


@dataclass(frozen=True)
class FrameRecord:
    """What `saliency.json` says of one frame.

    Attributes:
        index: frame number from 0; maps are named after it.
        pts: presentation time on the container's clock, seconds, exact.
        time: seconds since the video's first frame.
        peak: (x, y) of the most salient pixel of the map.
        entropy: bits, of the map at the network's own size.
        min, max: densities that the lowest and the highest gray level stand for.
    """

    index: int
    pts: Fraction
    time: float
    peak: tuple[int, int]
    entropy: float
    min: float
    max: float

    @classmethod
    def of(cls, frame: SaliencyFrame, low: float, high: float) -> FrameRecord:
        """The record of a frame whose densities from `low` to `high` span all gray levels."""
        entropy = round(frame.entropy, 4)
        return cls(
            frame.index,
            frame.pts,
            round(frame.time, 6),
            frame.peak,
            entropy,
            float(low),
            float(high),
        )

    @classmethod
    def parse(cls, index: int, values: Any) -> FrameRecord:
        """The record that a frame's JSON values describe.

        Raises:
            ValueError, KeyError, TypeError: a value is missing or of the wrong kind.
        """
        peak = values["peak"]
        if not isinstance(peak, list) or len(peak) != 2:
            raise ValueError("peak is not a pixel")
        time, entropy, low, high = (
            number(values, name) for name in ("time", "entropy", "min", "max")
        )
        pts = exact(values, "pts")
        x, y = (whole({"peak": side}, "peak", "pixel") for side in peak)
        return cls(index, pts, time, (x, y), entropy, low, high)


def is_result(folder: Path) -> bool:
    """Whether a folder holds a finished result."""
    return (folder / DESCRIPTION).is_file()


def description_of(folder: Path) -> RecordsFile:
    """The `saliency.json` of a folder."""
    return RecordsFile(folder / DESCRIPTION, "avsal predict")


def read_records(folder: Path) -> Iterator[FrameRecord]:
    """The records of a folder's `saliency.json`, in order of frames and in constant memory.

    Raises:
        MediaError: it is missing or damaged.
    """
    return description_of(folder).records(FrameRecord.parse)


def count_records(folder: Path) -> int:
    """How many frames a folder's `saliency.json` has, by its lines; see `RecordsWriter`."""
    with (folder / DESCRIPTION).open("rb") as file:
        return sum(line.startswith(b'  {"index"') for line in file)


def shot_records(shots: Iterable[Shot]) -> list[dict[str, Any]]:
    """Shots as JSON values, which follow the frames as "shots"."""
    return [
        {"first": shot.first, "last": shot.last, "start": str(shot.start), "end": str(shot.end)}
        for shot in shots
    ]


def read_shots(folder: Path) -> list[Shot] | None:
    """The shots that a folder's `saliency.json` lists; None where an earlier avsal wrote it.

    Raises:
        MediaError: see `read_records`.
    """
    from avsal.prediction.shots import Shot

    description = description_of(folder)
    after = description.after()
    if "shots" not in after:
        return None
    try:
        return [
            Shot(
                whole(values, "first"),
                whole(values, "last"),
                exact(values, "start"),
                exact(values, "end"),
            )
            for values in after["shots"]
        ]
    except UNREADABLE as error:
        raise description.damaged(error) from error
