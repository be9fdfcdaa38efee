"""A result folder, written and read: the maps of one video and what `saliency.json` says of them.

Example:
    for record, density in read_result(Path("saliency/talk")).densities():
        print(float(record.pts), density.shape)
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import pickle
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avsal import atomic
from avsal.errors import MediaError, OutputError, UsageError, path_of
from avsal.media.frames import FrameInfo
from avsal.prediction.maps import SaliencyFrame, to_density
from avsal.prediction.settings import OutputSettings, late_start
from avsal.prediction.shots import Cut, Shot, shots_between
from avsal.results.description import (
    DESCRIPTION,
    FrameRecord,
    description_of,
    is_result,
    read_records,
    read_shots,
)
from avsal.results.formats import (
    FORMAT_CLASSES,
    PROBABILITY_TOP,
    MapFormat,
    Table,
    check_table,
    restore,
)
from avsal.results.records import RecordsWriter, number, picture_size

logger = logging.getLogger("avsal")


class Spool:
    """Log-densities kept on disk until the whole clip's scale is known.

    They are stored smoothed, at the network's size, in float32, and post-processed again on the
    CPU, which gives the densities of a GPU up to rounding.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._count = 0

    def add(self, frame: SaliencyFrame) -> None:
        log_density = np.asarray(frame.log_density, np.float32)
        pickle.dump((frame.info, log_density, frame.density.shape), self._file)
        self._count += 1

    def frames(self) -> Iterator[SaliencyFrame]:
        self._file.seek(0)
        for _ in range(self._count):
            info, log_density, size = pickle.load(self._file)
            yield SaliencyFrame(info, log_density, to_density(log_density, size))

    def close(self) -> None:
        with suppress(OSError):  # what was still to be written may not fit on the disk
            self._file.close()


class ResultWriter:
    """Takes the maps of one video, frame by frame; see `new_result`."""

    def __init__(
        self,
        folder: Path,
        maps: MapFormat,
        description: RecordsWriter,
        scale: str,
        spool: Spool | None,
    ) -> None:
        """Take the open files of a result.

        Args:
            folder: the result, for errors.
            scale: see `avsal.results.formats`.
            spool: holds the maps back until the scale of the whole clip is known.
        """
        self._folder = folder
        self._maps, self._description = maps, description
        self._scale, self._spool = scale, spool
        self._range = (math.inf, -math.inf)
        self.after: dict[str, list[dict[str, Any]]] = {}  # lists that follow the frames'
        self.cuts: Iterable[Cut] = ()  # known after the last frame; tables number the shots
        self.on_held: Callable[[], None] = lambda: None  # called after every map that was held back
        self._first: Cut | None = None
        self._last: FrameInfo | None = None

    def write(self, frame: SaliencyFrame) -> None:
        """Take the next map.

        Raises:
            OutputError: it has values that are not numbers.
        """
        self._first = self._first or (frame.index, frame.pts)
        self._last = frame.info
        low, high = float(frame.density.min()), float(frame.density.max())
        if not math.isfinite(high - low):
            raise OutputError(
                f"{self._folder}: the map of frame {frame.index} has values that are not numbers; "
                "use other weights or --precision fp32"
            )
        if self._spool is not None:
            self._range = (min(low, self._range[0]), max(high, self._range[1]))
            self._spool.add(frame)
        elif self._scale == "probability":
            self._put(frame, 0.0, PROBABILITY_TOP / frame.density.size)
        else:
            self._put(frame, low, high)

    def _put(self, frame: SaliencyFrame, low: float, high: float) -> None:
        self._maps.write(frame, low, high)
        self._description.add(asdict(FrameRecord.of(frame, low, high)))

    @property
    def end(self) -> Fraction:
        """Container time at which the latest frame ends, seconds."""
        return self._last.pts + self._last.duration if self._last else Fraction(0)

    def shots(self, cuts: Iterable[Cut]) -> list[Shot]:
        """The shots of the frames so far."""
        if self._first is None or self._last is None:
            return []
        return shots_between(self._first, self._last.index, self.end, cuts)

    def finish(self) -> None:
        """Write what was held back, and finish the files."""
        if self._spool is not None:
            for frame in self._spool.frames():
                self._put(frame, *self._range)
                self.on_held()
        self._maps.shots = self.shots(self.cuts)
        self._maps.close()
        self._description.close(self.after)


@contextmanager
def new_result(
    folder: Path, header: dict[str, Any], output: OutputSettings
) -> Iterator[ResultWriter]:
    """Write a result that appears as `folder` only if the block ends well; see `read_result`.

    Args:
        folder: where the result will be; an earlier result there is replaced.
        header: what `saliency.json` says before the frames.

    Raises:
        OutputError: the folder cannot be written, or holds something else than a result.
    """
    with (
        atomic.new_folder(folder, written_names) as aside,
        result_files(folder, aside, DESCRIPTION, header, output) as writer,
    ):
        yield writer


@contextmanager
def result_files(
    folder: Path, aside: Path, description: str, header: dict[str, Any], output: OutputSettings
) -> Iterator[ResultWriter]:
    """Write maps into `aside`, and the header and their records to a file of it; see `new_result`.

    Args:
        folder: where the result will be in the end; for errors.
        aside: an existing folder.
        description: name of the file with the records.
    """
    with ExitStack() as files:
        records = RecordsWriter(aside / description, header)
        files.callback(records.abandon)
        maps = FORMAT_CLASSES[output.format](aside)
        files.callback(maps.abandon)
        spool = None
        if output.scale == "clip" and maps.has_scale:
            spool = Spool(aside)
            files.callback(spool.close)
        writer = ResultWriter(folder, maps, records, output.scale, spool)
        yield writer
        writer.finish()


def written_names(folder: Path) -> set[str]:
    """Names of the files of the result that a folder holds, by its records; empty for no result."""
    try:
        maps = FORMAT_CLASSES[read_result(folder).format]
        return {DESCRIPTION} | maps.names(record.index for record in read_records(folder))
    except MediaError:
        return set()


# Rounding to few levels, and cutting off at one, change the sum of a map but never so much.
_LARGEST_SUM = 4


@dataclass(frozen=True, repr=False)
class Result:
    """A complete folder of maps. Maps and records are read one at a time, in constant memory.

    Attributes:
        folder: the folder.
        header: the contents of `saliency.json` without the records: "source" (name, bytes,
            modified_ns), "model", "weights", "settings", "versions", "fps", "sound", ...
        format: "png", "png16", "npy" or "video".
        width, height: of the video as displayed, in pixels; the maps may have another size.
        start, end: the part that has maps, in seconds; None is the beginning or the end.
    """

    folder: Path
    header: dict[str, Any]
    format: str
    width: int
    height: int
    start: float | None
    end: float | None

    def __repr__(self) -> str:
        return f"<Result {self.folder}: {self.format} maps of a {self.width}x{self.height} video>"

    def time_range(
        self, start: float | None, end: float | None
    ) -> tuple[float | None, float | None]:
        """The seconds from `start` to `end` as far as there are maps; None is the video's own."""
        starts = [second for second in (start, self.start) if second is not None]
        ends = [second for second in (end, self.end) if second is not None]
        return max(starts, default=None), min(ends, default=None)

    def part(self, start: float | None, end: float | None) -> Result:
        """The same result, from second `start` to second `end` only.

        Raises:
            UsageError: it has no maps there.
        """
        if start is None and end is None:
            return self
        start, end = self.time_range(start, end)
        if start is not None and end is not None and start >= end:
            first, last = float(start), float(end)  # Python 3.11 does not format fractions
            raise UsageError(f"{self.folder}: has no maps from {first:g} to {last:g} s")
        return replace(self, start=start, end=end)

    def holds(self, record: FrameRecord) -> bool:
        """Whether a frame is between `start` and `end`."""
        after = self.start is None or record.time >= self.start
        return after and (self.end is None or record.time < self.end)

    def records(self) -> Iterator[FrameRecord]:
        """The record of each frame, in order: its times, peak and entropy.

        Raises:
            MediaError: `saliency.json` is damaged.
        """
        return read_records(self.folder)

    def shots(self) -> list[Shot] | None:
        """The shots of the video or of its part; None if an earlier version of avsal made the
        result.

        Raises:
            MediaError: `saliency.json` is damaged.
        """
        return read_shots(self.folder)

    def maps(self) -> Iterator[tuple[FrameRecord, np.ndarray]]:
        """Every map as it is stored: (h, w) uint8 or uint16 gray levels, or float32 densities.

        Raises:
            MediaError, DataError: `saliency.json` or a map is missing or damaged.
        """
        records, again = itertools.tee(self.records())
        stored = FORMAT_CLASSES[self.format].read(self.folder, (record.index for record in again))
        if self.format == "video":
            stored = map(self._without_padding, stored)
        yield from zip(records, stored, strict=True)

    def _without_padding(self, gray: np.ndarray) -> np.ndarray:
        """A map without the row and column that `VideoWriter` adds where a side is odd."""
        size = str(self.header["settings"].get("size", "video"))
        if size == "model":  # whose sides are even
            return gray
        sides = re.fullmatch(r"(\d+)x(\d+)", size)
        width, height = map(int, sides.groups()) if sides else (self.width, self.height)
        padded = gray.shape == (height + height % 2, width + width % 2)
        return gray[:height, :width] if padded else gray

    def timed(
        self, end: Fraction | None = None
    ) -> Iterator[tuple[FrameRecord, Fraction, np.ndarray]]:
        """Every map of the part from `start` to `end`, with the seconds that its frame is shown.

        Args:
            end: container time at which the last frame ends; None shows it as long as the one
                before it, and a single frame for 0 seconds.

        Raises:
            MediaError, DataError: see `densities`.
        """
        duration, before = Fraction(0), None
        for record, density in self.inside():
            if before is not None:
                duration = record.pts - before[0].pts
                yield before[0], duration, before[1]
            before = record, density
        if before is not None:
            yield before[0], duration if end is None else end - before[0].pts, before[1]

    def to_table(
        self,
        out: str | os.PathLike[str],
        on_map: Callable[[int], None] = lambda _count: None,
    ) -> int:
        """Write a row of numbers for every map; see `avsal.results.formats` for the columns.

        Args:
            out: a .csv or .parquet file.
            on_map: called with the number of maps read.

        Returns:
            The number of rows.

        Raises:
            AvsalError: the maps cannot be read, or the file cannot be written.
        """
        out, shots = path_of("out", out), self.shots()
        check_table(out)
        with atomic.new_file(out) as partial:
            table = Table(partial)
            timed = self.timed(shots[-1].end if shots else None)
            for count, (record, duration, density) in enumerate(timed, 1):
                times, size = (record.time, float(duration)), (self.width, self.height)
                table.add(record.index, times, density, record.entropy, size)
                on_map(count)
            rows = table.write(shots)
            if not rows:
                raise MediaError(f"{self.folder}: has no maps; run avsal predict again")
        return rows

    def densities(self) -> Iterator[tuple[FrameRecord, np.ndarray]]:
        """Every map as densities: (h, w) float32, with a sum of about 1.

        Gray levels are rounded (1/255 of the range of a record's min to max in "png" and "video",
        1/65535 in "png16"), and "video" is also compressed.

        Raises:
            MediaError, DataError: see `maps`; or a map holds no densities.
        """
        for record, stored in self.maps():
            density = restore(stored, record.min, record.max)
            if density.min() < 0 or not density.sum(dtype=np.float64) < _LARGEST_SUM:
                raise MediaError(
                    f"{self.folder}: frame {record.index} has a map that is not a density "
                    "(negative, or a sum far from 1); predict the video again"
                )
            yield record, density

    def inside(self) -> Iterator[tuple[FrameRecord, np.ndarray]]:
        """Every map of the part from `start` to `end`; raises what `densities` raises."""
        empty = True
        for record, density in self.densities():
            if self.end is not None and record.time >= self.end:
                return
            if self.holds(record):
                for note in late_start(self.folder, self.start, record.time) if empty else ():
                    logger.warning(note)
                empty = False
                yield record, density


def read_result(folder: str | os.PathLike[str]) -> Result:
    """Open a folder that `avsal predict` wrote, with maps of any format.

    Args:
        folder: the folder of one video, with its `saliency.json`.

    Raises:
        MediaError: it holds no complete result, or `saliency.json` is damaged.
    """
    folder = path_of("folder", folder)
    _check_holds_result(folder)
    description = description_of(folder)
    header = description.header()
    try:
        settings = header["settings"]
        if settings["format"] not in FORMAT_CLASSES:
            raise ValueError(f"format {settings['format']}")
        width, height = picture_size(header)
        start, end = (
            None if settings[name] is None else number(settings, name) for name in ("start", "end")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise description.damaged(error) from error
    return Result(folder, header, settings["format"], width, height, start, end)


def _check_holds_result(folder: Path) -> None:
    """Refuse a path that is near a result, and name the result.

    Raises:
        MediaError: it is the `saliency.json` of a result, or a folder of results.
    """
    near = [folder.parent] if folder.name == DESCRIPTION and folder.is_file() else []
    if not is_result(folder):
        with suppress(OSError):
            near += sorted(path for path in folder.iterdir() if is_result(path))
    if near:
        raise MediaError(f"{folder}: is not the folder of one video's maps; give {near[0]}")
