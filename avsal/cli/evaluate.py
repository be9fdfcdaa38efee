"""`avsal evaluate`: scores against recorded gaze."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.cli import console, options
from avsal.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from avsal.datasets.recording import Recording
    from avsal.evaluation.maps import ScoredMaps
    from avsal.evaluation.run import Evaluation, EvaluationSet
    from avsal.prediction.settings import PredictSettings

in_gaze = options.panel("Gaze: one of these")
FOLD = "{fold}"  # stands for the fold's number in --weights


class Database(StrEnum):
    """Databases of the STAViS layout."""

    ALL = "all"
    DIEM = "DIEM"
    COUTROT_1 = "Coutrot_db1"
    COUTROT_2 = "Coutrot_db2"
    AVAD = "AVAD"
    ETMD = "ETMD_av"
    SUMME = "SumMe"


class Fold(StrEnum):
    """Folds of the STAViS layout."""

    ALL = "all"
    FIRST = "1"
    SECOND = "2"
    THIRD = "3"


@dataclass(frozen=True)
class Gaze:
    """Options that say where the gaze is."""

    video: Annotated[
        Path | None,
        typer.Argument(
            metavar="VIDEO", help="Video, or folder of videos, that --fixations belongs to."
        ),
    ] = None
    data: Annotated[
        Path | None,
        in_gaze(
            help="Videos in the STAViS layout: video_frames, video_audio, annotations, fold_lists."
        ),
    ] = None
    database: Annotated[
        Database,
        in_gaze(help="With --data: the database to score."),
    ] = Database.ALL
    fold: Annotated[
        Fold,
        in_gaze(help="With --data: the fold whose test videos are scored."),
    ] = Fold.ALL
    images: Annotated[
        Path | None,
        in_gaze(
            help="Photographs: images next to folders of maps or fixations (SALICON, MIT1003), or "
            "with fixations.npz."
        ),
    ] = None
    split: Annotated[
        Path | None,
        in_gaze(help="With --images: a file with the names to score."),
    ] = None
    fixations: Annotated[
        Path | None,
        in_gaze(
            help="Table of gaze on VIDEO: time (s, or time_ms), x, y (pixels or fractions), "
            "observer."
        ),
    ] = None
    annotations: Annotated[
        Path | None,
        in_gaze(
            help="With --predictions: folders of eyeMap and fixMap files, or of maps and fixations."
        ),
    ] = None
    fit_prior: Annotated[
        bool,
        typer.Option(
            "--fit-prior",
            help="Add a centre prior as a baseline, fitted to the pictures that --split omits, or "
            "with --data to the fold's training videos.",
        ),
    ] = False
    pixels_per_degree: Annotated[
        float | None,
        typer.Option(
            help="Pixels per visual degree, the standard deviation of the Gaussian around a gaze "
            "point (default: 3.5 % of the longer side).",
        ),
    ] = None

    def check(self, predictions: Path | None, baselines_only: bool) -> None:
        """Refuse options that exclude each other."""
        sources = [self.data, self.images, self.fixations, self.annotations]
        if sum(source is not None for source in sources) != 1:
            raise UsageError(
                "evaluate: give one of --data, --images, --fixations and --annotations"
            )
        if (self.fixations is None) != (self.video is None):
            raise UsageError("evaluate: --fixations FILE.csv and VIDEO belong together")
        if self.annotations is not None and predictions is None:
            raise UsageError("evaluate: --annotations needs --predictions DIR")
        if predictions is not None and baselines_only:
            raise UsageError("evaluate: --baselines-only scores no --predictions; omit one of them")
        if self.split is not None and self.images is None:
            raise UsageError("evaluate: --split belongs to --images")
        if self.fit_prior and self.split is None and self.data is None:
            raise UsageError("evaluate: --fit-prior needs --split FILE or --data DIR")
        degree = self.pixels_per_degree
        if degree is not None and not 0 < degree < math.inf:
            raise UsageError(f"pixels-per-degree {degree:g}: give a number above 0")

    def open(self) -> list[EvaluationSet]:
        """Open the data set."""
        from avsal.datasets import DatasetSpec
        from avsal.datasets.stavis import FOLDS
        from avsal.evaluation.run import open_folds, open_unfolded

        if self.data is not None:
            names = () if self.database == Database.ALL else (self.database.value,)
            folds = FOLDS if self.fold == Fold.ALL else (int(self.fold),)
            return open_folds(DatasetSpec(root=self.data, databases=names), folds, self.fit_prior)
        root = self.images or self.annotations or self.video
        assert root is not None, "checked"
        spec = DatasetSpec(
            root=root,
            names=self.split,
            fixations=self.fixations,
            degree=self.pixels_per_degree,
        )
        return open_unfolded(spec, self.fit_prior, pictures=self.annotations is None)


@options.grouped
def evaluate(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "evaluation"
    ),
    gaze: Gaze,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Score the maps in this folder (png, npy, results of avsal predict); no network "
            "runs.",
        ),
    ] = None,
    baselines_only: Annotated[
        bool, typer.Option("--baselines-only", help="Score only the baselines.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON to stdout instead of tables.")
    ] = False,
    stride: Annotated[
        int,
        options.in_maps(
            min=1, help="Run the network on every N-th frame and interpolate in between."
        ),
    ] = 1,
    audio_context: options.AudioContext = options.SoundFrames.INFERENCE,
    batch: options.Batch = None,
    network: options.Network,
) -> None:
    """Score maps against recorded gaze, next to baselines; run it again to resume.

    {fold} in --weights is replaced by the number of the fold.
    """
    from avsal.prediction.settings import PredictSettings

    gaze.check(predictions, baselines_only)
    settings = PredictSettings(int(audio_context), stride, batch)
    sources = _Sources(network, settings, predictions, baselines_only)
    raise typer.Exit(_run(gaze.open(), sources, output, as_json))


@dataclass
class _Sources:
    """Opens the source of a fold's maps, unless the last fold had the same weights."""

    network: options.Network
    settings: PredictSettings
    predictions: Path | None
    baselines_only: bool
    _opened: dict[str | None, ScoredMaps] = field(default_factory=dict)

    def __call__(self, fold: str) -> ScoredMaps | None:
        from avsal.evaluation.maps import NetworkMaps, SavedMaps

        if self.baselines_only:
            return None
        weights = self.network.weights and self.network.weights.replace(FOLD, fold)
        if weights not in self._opened:
            self._opened.clear()  # one network at a time in memory
            if self.predictions is not None:
                self._opened[weights] = SavedMaps(self.predictions)
            else:
                predictor = replace(self.network, weights=weights).load()
                self._opened[weights] = NetworkMaps(predictor, self.settings)
        return self._opened[weights]


def _run(sets: list[EvaluationSet], sources: _Sources, output: Path, as_json: bool) -> int:
    from rich.console import Console

    from avsal.evaluation.report import tables

    with console.progress_bars() as bars:
        evaluation = _with_progress(bars, output, sources)
        summed = evaluation.run(sets)
    if as_json:
        typer.echo(json.dumps(summed, indent=1, allow_nan=False))
    else:
        out = Console(soft_wrap=True, highlight=False)
        for table in tables(summed, console.plain):
            out.print(table)
    if evaluation.failed:
        total = evaluation.failed + len(evaluation.results)
        console.note(f"{evaluation.failed} of {total} failed; the means are over the others")
    return int(bool(evaluation.failed))


def _with_progress(bars: Progress, output: Path, sources: _Sources) -> Evaluation:
    from avsal.evaluation.run import Evaluation

    task = bars.add_task("evaluate", total=None)
    frames = bars.add_task("frames", total=None, visible=False)

    def on_stage(text: str, total: int) -> None:
        bars.reset(task, description=text, total=total)

    def on_recording(error: Exception | None) -> None:
        bars.advance(task)
        if error is not None:
            console.report_error(error)

    def on_frames(recording: Recording, done: int) -> None:
        if done == 1:
            name = console.printable(recording.name)
            bars.reset(frames, description=name, total=recording.expected_frames)
        bars.update(frames, completed=done, visible=not recording.still)

    return Evaluation(output, sources, on_stage, on_recording, on_frames)
