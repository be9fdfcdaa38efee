"""Notes on the shots of a reframed video: how each was fitted, and which keep little gaze."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from avsal.crops.file import MADE_BY, ShotCrop, path_beside
from avsal.crops.settings import Fit
from avsal.prediction.settings import clock
from avsal.results import records

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
    shots = records.read_after(path_beside(out), MADE_BY).get("shots", [])
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
        yield f"{where}the {_WORDS[shot.fit]} an estimated {shot.kept:.0%} of the gaze{advice}"
    if len(weak) > _MOST:
        yield f"{len(weak) - _MOST} further shots keep less than {WEAK:.0%}; see the path file"
