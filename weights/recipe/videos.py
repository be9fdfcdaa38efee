"""Score maps on videos with recorded gaze, one row per video.

    python weights/recipe/videos.py centre --data DIR -o centre.json
    python weights/recipe/videos.py unisal --data DIR --wheel UNPACKED -o unisal.json
    python weights/recipe/videos.py observers --data DIR -o observers.json
    python weights/recipe/videos.py W --data DIR -o new.json
    python weights/recipe/videos.py table centre.json unisal.json new.json observers.json

W is a weights file or a name. From 0.5 s on, one frame is scored every sixth of a second if there
are at least ten fixations at that time: NSS at the fixations, and CC with their map, blurred by
3.5 % of the longer side. Scores are averaged over a video's frames, then over videos. UNISAL runs
in its video mode, six times per second.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from avsal import load_model
from avsal.media import AudioReader, VideoReader, probe
from avsal.media.resample import SAMPLE_RATE
from avsal.metrics import cc, centre_prior
from avsal.prediction.settings import MapSize, PredictSettings

GRID = (224, 384)  # (height, width) on which everything is scored
SIGMA = 0.035  # of the longer side
RATE, FIRST, FEWEST = 6.0, 0.5, 10

Fixations = np.ndarray  # rows of subject, start, end, x, y
Maps = Iterator[tuple[float, np.ndarray]]
Score = tuple[float, ...]  # NSS and CC; for a video also the steadiness of its maps


def read_gaze(data: Path) -> dict[str, Fixations]:
    """Read the fixations of each video, by name."""
    with np.load(data / "video_gaze" / "fixations.npz", allow_pickle=True) as file:
        names, fix = file["names"], file["fix"].astype(np.float64)
    result = {}
    for number, name in enumerate(names):
        own = fix[fix[:, 0] == number]
        result[str(name)] = np.column_stack(
            [own[:, 1], own[:, 2], own[:, 2] + own[:, 3], own[:, 4:]]
        )
    return result


def open_at(fixations: Fixations, seconds: float) -> Fixations:
    """Return the fixations at a time."""
    return fixations[(fixations[:, 1] <= seconds) & (seconds < fixations[:, 2])]


def cells_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of points relative to width and height."""
    limits = (GRID[1] - 1, GRID[0] - 1)
    cells = np.clip((points * (GRID[1], GRID[0])).astype(int), 0, limits)
    return cells[:, 1], cells[:, 0]


def blurred(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the density of fixations in a video of size (width, height)."""
    marks = np.zeros(GRID, np.float32)
    np.add.at(marks, cells_of(points), 1)
    longer = SIGMA * max(size)
    sigmas = longer / size[0] * GRID[1], longer / size[1] * GRID[0]
    return cv2.GaussianBlur(
        marks, (0, 0), sigmaX=sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_CONSTANT
    )


def score(density: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> Score:
    """Return the NSS and CC of a map."""
    standard = (density - density.mean()) / (density.std() + 1e-12)
    return float(standard[cells_of(points)].mean()), cc(density, blurred(points, size))


def wanted_times(seconds: float) -> np.ndarray:
    """Return the times of the frames to score."""
    return np.arange(FIRST, seconds, 1 / RATE)


def score_video(maps: Maps, fixations: Fixations, size: tuple[int, int], seconds: float) -> Score:
    """Return the mean scores, and the mean correlation of maps a sixth of a second apart."""
    scores, steady = [], []
    last: np.ndarray | None = None
    for time, density in at_times(maps, list(wanted_times(seconds))):
        scores += _scored(density, fixations, time, size)
        if last is not None:
            steady.append(cc(last, density))
        last = density
    nss, correlation = np.mean(scores, axis=0)
    return float(nss), float(correlation), float(np.mean(steady))


def at_times(maps: Maps, wanted: list[float]) -> Maps:
    """Yield the map at or before each requested time; `maps` are in temporal order."""
    before: np.ndarray | None = None
    for time, density in maps:
        while wanted and before is not None and time > wanted[0] + 1e-6:
            yield wanted.pop(0), before
        before = density
    if before is not None:
        yield from ((each, before) for each in wanted)


def _scored(
    density: np.ndarray, fixations: Fixations, time: float, size: tuple[int, int]
) -> list[Score]:
    points = open_at(fixations, time)[:, 3:5]
    return [score(density, points, size)] if len(points) >= FEWEST else []


def centre(_path: Path) -> Maps:
    """Return the centre prior."""
    yield 0.0, centre_prior(GRID)


def predicted(
    predictor, stride: int | None = None, sound: str = "true", other: Path | None = None
) -> Callable[[Path], Maps]:
    """Yield a network's maps at its default stride; `sound` is true, none, other or shifted."""

    def maps(path: Path) -> Maps:
        settings = PredictSettings(stride=stride, size=MapSize("fixed", GRID[1], GRID[0]))
        with VideoReader(path) as video:
            audio = _sound(path if sound != "other" else other, video.origin, sound)
            for frame in predictor.predict_frames(video, audio, settings):
                yield float(frame.time), frame.density

    return maps


class Samples:
    """Sound in memory, float32 (n,) in -1..1, with the interface of an `AudioReader`."""

    def __init__(self, samples: np.ndarray) -> None:
        self._samples = samples

    def read(self, start: int, end: int) -> np.ndarray:
        """Return the samples from `start` to `end`, or fewer at the end."""
        return self._samples[start:end]

    def release(self, before: int) -> None:
        """Do nothing: all samples stay in memory."""


def _sound(path: Path | None, origin: Fraction, sound: str) -> Samples | None:
    if path is None or sound == "none" or not probe(path).has_audio:
        return None
    with AudioReader(path, origin) as reader:
        samples = reader.read(0, 60 * SAMPLE_RATE)
    return Samples(np.roll(samples, 2 * SAMPLE_RATE) if sound == "shifted" else samples)


def unisal(wheel: Path) -> Callable[[Path], Maps]:
    """Yield the maps of UNISAL's video mode, six per second."""
    from teacher import Teacher

    teacher = Teacher.load(wheel)

    def maps(path: Path) -> Maps:
        images, times = [], []
        with VideoReader(path) as video:
            for frame in video:
                if float(frame.pts - video.origin + frame.duration) > len(times) / RATE + 1e-6:
                    images.append(frame.image)
                    times.append(len(times) / RATE)
        for time, density in zip(times, teacher.video(images, RATE), strict=True):
            yield time, cv2.resize(density, GRID[::-1], interpolation=cv2.INTER_LINEAR)

    return maps


def half_of_the_observers(fixations: Fixations, size: tuple[int, int], seconds: float) -> Score:
    """Score the inter-observer ceiling: each half of the observers predicts the other half."""
    scores = []
    subjects = np.unique(fixations[:, 0])
    for part in (0, 1):
        mine = np.isin(fixations[:, 0], subjects[part::2])
        for time in wanted_times(seconds):
            ours, theirs = (open_at(fixations[each], time)[:, 3:5] for each in (mine, ~mine))
            if len(ours) + len(theirs) >= FEWEST and len(ours) and len(theirs):
                scores.append(score(blurred(ours, size), theirs, size))
    nss, correlation = np.mean(scores, axis=0)
    return float(nss), float(correlation)


def run(given: argparse.Namespace) -> dict[str, Score]:
    """Score all videos, or the named ones."""
    gaze, rows = read_gaze(given.data), {}
    if given.what == "centre":
        make: Callable[[Path], Maps] | None = centre
    elif given.what == "unisal":
        make = unisal(given.wheel)
    elif given.what == "observers":
        make = None
    else:
        make = predicted(load_model("small-224x384", given.what), given.stride)
    for name, fixations in gaze.items():
        if given.names and name not in given.names:
            continue
        path = given.data / "video_gaze" / "videos" / f"{name}.mp4"
        info = probe(path)
        size, seconds = (info.width, info.height), float(info.duration or 0)
        if make is None:
            rows[name] = half_of_the_observers(fixations, size, seconds)
        else:
            rows[name] = score_video(make(path), fixations, size, seconds)
        print(name, *(f"{each:.3f}" for each in rows[name]), flush=True)
    return rows


def table(files: list[Path]) -> str:
    """Format several results, NSS / CC, and their means as a Markdown table."""
    results = [json.loads(file.read_text()) for file in files]
    heads = ["video", *(file.stem for file in files)]
    lines = [heads, ["---"] * len(heads)]
    names = [name for name in results[0] if all(name in each for each in results)]
    for name in names:
        lines.append([name, *(_cell(each[name]) for each in results)])
    for title, chosen in (
        ("mean of all", names),
        ("mean, hevc33", [name for name in names if not name[0].isdigit()]),
        ("mean, faces65", [name for name in names if name[0].isdigit()]),
    ):
        if chosen:
            lines.append(
                [title, *(_cell(np.mean([r[n][:2] for n in chosen], axis=0)) for r in results)]
            )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(score: Score) -> str:
    return f"{score[0]:.2f} / {score[1]:.3f}"


def steadiness(files: list[Path]) -> str:
    """Format the mean correlation of maps a sixth of a second apart, one line per result."""
    lines = []
    for file in files:
        rows = {name: row[2] for name, row in json.loads(file.read_text()).items() if len(row) > 2}
        values = " ".join(f"{name} {value:.3f}" for name, value in rows.items())
        lines.append(f"{file.stem}: {values}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("what")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--stride", type=int)
    parser.add_argument("--names", nargs="+")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    if given.what == "table":
        print(table(given.files), steadiness(given.files), sep="\n\n")
    else:
        given.output.write_text(json.dumps(run(given), indent=1) + "\n")


if __name__ == "__main__":
    main()
