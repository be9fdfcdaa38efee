"""What the model card of the small network tells besides the scores of `avsal evaluate`.

    python weights/recipe/report.py temporal PACK... --weights W -o temporal.json
    python weights/recipe/report.py sound FOLDER --weights W -o sound.json
    python weights/recipe/report.py curves RUNS -o curves.png
    python weights/recipe/report.py sheet FOLDER --weights W -o sheet.jpg

W is a file, a name in the registry or "untrained". PACK holds videos with a teacher's maps, as
`prepare.py` makes clips.npz and clips-validation.npz; FOLDER holds videos; RUNS holds the folders
of the stages. Tables are printed as Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from curves import draw_curves
from sheet import CLIPS, find_videos, write_sheet

from avsal import load_model
from avsal.datasets import Recording
from avsal.datasets.packed import PackedRecording, Samples, open_packed
from avsal.errors import AvsalError
from avsal.evaluation.baselines import centre_map
from avsal.media import AudioReader, VideoReader
from avsal.media.frames import FrameTag
from avsal.media.resample import SAMPLE_RATE
from avsal.metrics import cc, kl
from avsal.prediction.predictor import Predictor
from avsal.prediction.saliency import SaliencyFrame
from avsal.prediction.settings import MapSize, PredictSettings

VARIANT = "small-224x384"
WITH_SOUND = ("people_music_whitehouse", "talking_head_makeup", "animation_bbb_0_30")
WITH_SOUND += ("rotated90_bbb",)
SHIFT, LONGEST = 2, 3600  # seconds: how far sound is shifted, and what is read of it

Row = dict[str, Any]
Map = np.ndarray | None

PAIRS = (  # "next frame" is how steady maps are, the last two what the default stride changes
    "teacher",
    "teacher, stride 1",
    "teacher, centre Gaussian",
    "next frame",
    "next frame, stride 1",
    "next frame, teacher",
    "interpolated",
    "all frames",
)


@dataclasses.dataclass(frozen=True)
class Step:
    """The maps of one frame, all on the teacher's grid.

    Attributes:
        every: the network's own.
        default: with the network's default stride.
        between: whether the default stride leaves the frame out and interpolates its map.
        teacher: None where the pack has none.
    """

    every: np.ndarray
    default: np.ndarray
    between: bool
    teacher: Map

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the maps."""
        return self.every.shape[0], self.every.shape[1]


def temporal(predictor: Predictor, packs: Sequence[Path], given: argparse.Namespace) -> list[Row]:
    """How well our maps follow a teacher's, how steady they are, and what the stride changes."""
    rows = []
    for pack in packs:
        for recording in open_packed(pack):
            if isinstance(recording, PackedRecording) and _wanted(recording.name, given.names):
                rows.append({"pack": pack.stem, **follow(predictor, recording, given.end)})
                print(f"  {recording.name}: done", flush=True)
    return rows


def _wanted(name: str, names: Sequence[str] | None) -> bool:
    return not names or name in names


def follow(predictor: Predictor, recording: PackedRecording, end: float | None) -> Row:
    """The row of one clip: mean CC of several pairs of maps, None where there is no pair."""
    scores: dict[str, list[float]] = {name: [] for name in PAIRS}
    before: Step | None = None
    for step in _steps(predictor, recording, end):
        for name, one, other in _pairs(step, before):
            if one is not None and other is not None:
                scores[name].append(cc(one, other))
        before = step
    row: Row = {"clip": recording.name, "frames": len(scores["all frames"])}
    row |= {name: _mean(each) for name, each in scores.items()}
    return row | {"interpolated, worst": min(scores["interpolated"], default=None)}


def _pairs(step: Step, before: Step | None) -> Iterator[tuple[str, Map, Map]]:
    """What is compared at a frame, under the names `PAIRS`."""
    yield "teacher", step.default, step.teacher
    yield "teacher, stride 1", step.every, step.teacher
    yield "teacher, centre Gaussian", centre_map(step.size), step.teacher
    if before is not None:
        yield "next frame", before.default, step.default
        yield "next frame, stride 1", before.every, step.every
        yield "next frame, teacher", before.teacher, step.teacher
    if step.between:
        yield "interpolated", step.default, step.every
    yield "all frames", step.default, step.every


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _steps(predictor: Predictor, recording: PackedRecording, end: float | None) -> Iterator[Step]:
    """Predict a clip with both strides side by side."""
    height, width = recording.pack.arrays["maps"].shape[1:]
    size = MapSize("fixed", width, height)
    every, default = (
        _maps(predictor, recording, PredictSettings(stride=stride, end=end, size=size))
        for stride in (1, None)
    )
    stride, frames = predictor.variant.stride, _count(recording, end)
    for one, other in zip(every, default, strict=True):
        gaze = recording.gaze(one.tag)
        between = one.index % stride != 0 and one.index != frames - 1
        yield Step(one.density, other.density, between, None if gaze is None else gaze.density)


def _count(recording: PackedRecording, end: float | None) -> int:
    if end is None:
        return recording.count
    return sum(_before(tag, end) for tag in recording.tags())


def _before(tag: FrameTag, end: float) -> bool:
    return tag.time < Fraction(str(end))


def _maps(
    predictor: Predictor, recording: Recording, settings: PredictSettings
) -> Iterator[SaliencyFrame]:
    with recording.sound() as sound:
        audio = sound if predictor.uses_audio else None
        yield from predictor.predict_frames(recording.frames(), audio, settings)


def sound(predictor: Predictor, videos: Sequence[Path], given: argparse.Namespace) -> list[Row]:
    """How far the maps move when the sound is removed, swapped or shifted."""
    if not predictor.uses_audio:
        raise SystemExit(f"{predictor.variant.name} has no audio stream")
    settings = PredictSettings(stride=given.stride, end=given.end, size=MapSize("model"))
    rows = []
    for place, video in enumerate(videos):
        true, other = (_listen(each) for each in (video, videos[(place + 1) % len(videos)]))
        reference = _hear(predictor, video, true, settings)
        for name, samples in _altered(true, other if len(videos) > 1 else None).items():
            heard = _hear(predictor, video, samples, settings)
            rows.append({"clip": video.stem, "sound": name, **difference(heard, reference)})
        print(f"  {video.stem}: done", flush=True)
    return rows


def difference(altered: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> Row:
    """Means over frames of how far densities are from those with the true sound.

    `moved` is the share of the density that lies elsewhere (the total variation), 0..1.
    """
    pairs = list(zip(altered, true, strict=True))
    moved = [float(np.abs(a - b).sum() / 2) for a, b in pairs]
    return {
        "frames": len(pairs),
        "cc": statistics.fmean(cc(a, b) for a, b in pairs),
        "kl": statistics.fmean(kl(a, b) for a, b in pairs),
        "moved": statistics.fmean(moved),
        "moved, most": max(moved),
    }


def _altered(true: np.ndarray, other: np.ndarray | None) -> dict[str, np.ndarray | None]:
    """The sounds to try; a short one is shifted by half of its length, with its end in front."""
    shift = min(SHIFT * SAMPLE_RATE, true.size // 2)
    altered: dict[str, np.ndarray | None] = {"removed": None}
    if other is not None:
        altered["swapped"] = np.resize(other, true.size)  # repeated if it is shorter
    altered[f"shifted by {shift / SAMPLE_RATE:.2g} s"] = np.roll(true, shift)
    return altered


def _listen(video: Path) -> np.ndarray:
    with VideoReader(video) as frames:
        origin = frames.origin
    with AudioReader(video, origin) as reader:
        return reader.read(0, LONGEST * SAMPLE_RATE)


def _hear(
    predictor: Predictor, video: Path, samples: np.ndarray | None, settings: PredictSettings
) -> list[np.ndarray]:
    """Densities of the frames that the network runs on, the interpolated ones left out."""
    audio = None if samples is None else Samples(samples)
    with VideoReader(video) as frames:
        maps = predictor.predict_frames(frames, audio, settings)
        return [each.density for each in maps if each.index % (settings.stride or 1) == 0]


def main() -> None:
    given = _arguments()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    if given.command == "curves":
        draw_curves(given.source, given.output)
        return
    predictor = load_model(VARIANT, given.weights, precision=given.precision)
    if given.command == "sheet":
        write_sheet(predictor, find_videos(given.source, given.names or CLIPS), given.output)
        return
    if given.command == "temporal":
        rows = temporal(predictor, given.source, given)
    else:
        rows = sound(predictor, find_videos(given.source, given.names or WITH_SOUND), given)
    asked = {"end": given.end, "stride": getattr(given, "stride", None)}
    made_by = {**dataclasses.asdict(predictor.description), **asked}
    result = {"report": given.command, "made_by": made_by, "rows": rows}
    given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(markdown(rows))


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table, numbers with four decimals."""
    heads = list(rows[0]) if rows else []
    lines = [heads, ["---"] * len(heads), *([_cell(row[key]) for key in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    commands = parser.add_subparsers(dest="command", required=True)
    sources = {"temporal": "PACK", "sound": "FOLDER", "curves": "RUNS", "sheet": "FOLDER"}
    for name, source in sources.items():
        command = commands.add_parser(name)
        several = "+" if name == "temporal" else None
        command.add_argument("source", type=Path, metavar=source, nargs=several)
        command.add_argument("-o", "--output", type=Path, required=True)
        if name != "curves":
            command.add_argument("--weights", required=True)
            command.add_argument("--precision", default="auto")
            command.add_argument("--names", nargs="+", help="only these clips")
        if name in ("temporal", "sound"):
            seconds = None if name == "temporal" else 10.0
            command.add_argument("--end", type=float, default=seconds, help="second")
        if name == "sound":
            command.add_argument("--stride", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except AvsalError as error:
        raise SystemExit(str(error)) from None
