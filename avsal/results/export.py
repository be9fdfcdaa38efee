"""Saved maps as a table of numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from avsal import atomic
from avsal.errors import MediaError
from avsal.prediction.shots import Shot
from avsal.results.description import FrameRecord
from avsal.results.folder import Result, read_result
from avsal.results.table import Table, check_table

_ONLY = 0.0  # seconds that a single map is shown, as a still image has no duration


def export_maps(
    maps: str | os.PathLike[str],
    out: str | os.PathLike[str],
    on_map: Callable[[int], None] = lambda _count: None,
) -> int:
    """Write the table of saved maps; see `avsal.results.table` for its columns.

    Args:
        maps: a folder that `avsal predict` wrote, with maps of any format.
        out: a .csv or .parquet file.
        on_map: called with the number of maps read.

    Returns:
        The number of rows.

    Raises:
        AvsalError: the maps cannot be read, or the file cannot be written.
    """
    out = Path(out)
    check_table(out)
    result = read_result(Path(maps))
    shots = result.shots()
    with atomic.new_file(out) as partial:
        table = Table(partial)
        for count, (record, duration, density) in enumerate(_timed(result, shots), 1):
            times, size = (record.time, duration), (result.width, result.height)
            table.add_map(record.index, times, density, record.entropy, size)
            on_map(count)
        rows = table.write(shots)
        if not rows:
            raise MediaError(f"{maps}: has no maps; run avsal predict again")
    return rows


def _timed(
    result: Result, shots: list[Shot] | None
) -> Iterator[tuple[FrameRecord, float, np.ndarray]]:
    """Every map with the seconds that its frame is shown.

    The last one is shown until its shot ends, or where that is not known as long as the one before.
    """
    before: tuple[FrameRecord, np.ndarray] | None = None
    duration = _ONLY
    for record, density in result.densities():
        if before is not None:
            duration = float(record.pts - before[0].pts)
            yield before[0], duration, before[1]
        before = record, density
    if before is not None:
        record, density = before
        yield record, float(shots[-1].end - record.pts) if shots else duration, density
