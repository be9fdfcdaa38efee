"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from avsal.errors import UsageError
from avsal.prediction import settings

if TYPE_CHECKING:
    from avsal.prediction.predictor import Predictor


def panel(heading: str) -> Callable[..., Any]:
    """`typer.Option` for the options under a heading of --help."""
    return functools.partial(typer.Option, rich_help_panel=heading)


in_results, in_network = panel("Results"), panel("Network")
in_maps, in_cluster = panel("Maps"), panel("Cluster")


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses whose fields are options, so that commands share them.

    typer sees a function with the fields as its parameters.
    """
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        group = parameter.annotation
        if not is_dataclass(group):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[name] = group
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            options = {"default": field.default, "annotation": hints[field.name]}
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(field.name, kind, **options))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            given = {field.name: values.pop(field.name) for field in fields(group)}
            # By its name, so that a test can replace it.
            values[name] = getattr(sys.modules[group.__module__], group.__name__)(**given)
        command(**values)

    del run.__wrapped__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def show_types_plainly(command: Any, parent: typer.Context | None = None) -> None:
    """Let help show no type for flags, and <path> for several files.

    Typer writes "--force <bool>", as if a value had to follow, and "<list[Path]>".
    """
    context = typer.Context(command, parent, **command.context_settings)
    for parameter in command.get_params(context):
        if getattr(parameter, "is_flag", False):
            parameter.display_type_rich = lambda ctx: None
        elif parameter.nargs != 1:
            parameter.display_type = lambda ctx: "<path>"
    for child in getattr(command, "commands", {}).values():
        show_types_plainly(child, context)


class SoundFrames(StrEnum):
    """Frames of sound that belong to a window."""

    INFERENCE = "32"
    TRAINING = "16"


def _words(*words: str) -> Callable[[], list[str]]:
    """Words that a shell suggests for an option; the option takes others too."""
    return lambda: list(words)


Model = Annotated[
    str | None,
    in_network(
        envvar="AVSAL_MODEL",
        help="Name of a network (avsal models) or of weights (avsal weights list).",
    ),
]
Weights = Annotated[
    str | None,
    in_network(
        envvar="AVSAL_WEIGHTS",
        help="A file (.safetensors, .pt), a name from avsal weights list, or untrained.",
    ),
]
Device = Annotated[
    str,
    in_network(
        envvar="AVSAL_DEVICE",
        help="Where the network runs: auto, cpu, cuda or cuda:N.",
        autocompletion=_words("auto", "cpu", "cuda"),
    ),
]
Precision = Annotated[
    settings.Precision,
    in_network(
        envvar="AVSAL_PRECISION",
        help="Number format of the computation; auto takes what is fast on the device.",
    ),
]
Offline = Annotated[
    bool, in_network("--offline", envvar="AVSAL_OFFLINE", help="Do not download weights.")
]
Revision = Annotated[
    str | None,
    in_network(envvar="AVSAL_REVISION", help="Branch, tag or commit of the Hub repository."),
]
Batch = Annotated[
    int | None,
    in_network(min=1, help="Windows processed at once (default: what fits in memory)."),
]
AudioContext = Annotated[
    SoundFrames,
    in_maps(
        help="Frames of sound that a published network sees: 32 as in its inference, 16 as in its "
        "training.",
    ),
]
Stride = Annotated[
    int | None,
    in_maps(
        min=1,
        help="Run the network on every N-th frame and interpolate in between (default: 2 for "
        "avsal-small, 1 for published networks).",
    ),
]


def _seconds(text: Any) -> float:
    """Read seconds: 3.5, 0:03, 00:01:02.5; a settings file may give a number."""
    try:
        return settings.seconds_of(str(text))
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None


Start = Annotated[
    float | None,
    in_maps(
        parser=_seconds,
        metavar="TIME",
        help="Start at this time: seconds, 0:03 or 00:01:02.5.",
    ),
]
End = Annotated[
    float | None, in_maps(parser=_seconds, metavar="TIME", help="Stop before this time.")
]
Size = Annotated[
    str,
    in_maps(
        help="Size of the maps: video (as displayed), model (as predicted) or WIDTHxHEIGHT.",
        autocompletion=_words("video", "model"),
    ),
]
Format = Annotated[
    settings.Format,
    in_maps(
        help="Files of the maps: 8-bit gray, 16-bit gray, float32 densities, a gray video, or "
        "only a table of numbers.",
    ),
]
Scale = Annotated[
    settings.Scale,
    in_maps(
        help="What white stands for: the frame's maximum, the clip's, or a fixed probability.",
    ),
]
Saliency = Annotated[
    Path | None,
    in_maps(
        help="Use maps that avsal predict wrote: the folder OUT/NAME with those of the video, or "
        "OUT, with a folder for each input; no network runs.",
    ),
]
Crf = Annotated[
    int,
    in_results(
        min=0,
        max=51,
        help="CRF of H.264, or in .webm of VP9 on the same scale: lower means better quality and a "
        "larger file.",
    ),
]
Ray = Annotated[
    str | None,
    in_cluster(
        metavar="[ADDRESS]",
        help="Predict on a Ray cluster: HOST:PORT, auto, or without an address on the cores of "
        "this machine.",
    ),
]
RayThreads = Annotated[
    int,
    in_cluster(
        min=1,
        help="Cores for each worker; 1 is fastest, more use less memory in total.",
    ),
]
Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="VIDEO",
        help='Videos, still images, folders of them, patterns such as "clips/*.mp4", http(s) '
        "addresses, or - for standard input.",
    ),
]
Output = Annotated[
    Path | None,
    in_results(
        "--output",
        "-o",
        help="Result for one input, or folder for the results of several (default: next to each "
        "input).",
    ),
]
MapFolder = Annotated[
    Path,
    in_results(
        "--output", "-o", help="Folder for the results; the maps of NAME.mp4 are in OUT/NAME."
    ),
]
Force = Annotated[bool, in_results("--force", help="Replace results that exist.")]
SkipExisting = Annotated[
    bool,
    in_results(
        "--skip-existing",
        help="Keep results that are up to date: complete maps and measurements of the same files "
        "and settings, and videos and pictures that are newer than what they are made of.",
    ),
]
AsJson = Annotated[bool, in_results("--json", help="Print one JSON line per file to stdout.")]
Quiet = Annotated[bool, in_results("--quiet", "-q", help="Print nothing but errors.")]


Engine = Annotated[
    settings.EngineName,
    in_network(
        envvar="AVSAL_ENGINE",
        help="What computes the network: onnx (ONNX Runtime; the default network on a CPU), "
        "openvino (OpenVINO, an extra; any network on a CPU) or torch (PyTorch; any network). For "
        "the default network auto takes onnx where it can, or openvino with --precision bf16; for "
        "others torch, or in bf16 openvino if it has run these weights before.",
    ),
]


def _use_threads(count: int | None) -> None:
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)  # what every engine goes by


Threads = Annotated[
    int | None,
    in_network(
        min=1,
        callback=_use_threads,
        help="Threads that compute the network on a CPU (default: OMP_NUM_THREADS, else one for "
        "each core).",
    ),
]


@dataclass(frozen=True)
class Files:
    """Options that say what happens to results and what is printed."""

    force: Force = False
    skip_existing: SkipExisting = False
    as_json: AsJson = False
    quiet: Quiet = False


@dataclass(frozen=True)
class Windows:
    """Options that say which frames are predicted, and how."""

    start: Start = None
    end: End = None
    stride: Stride = None
    audio_context: AudioContext = SoundFrames.INFERENCE
    batch: Batch = None

    def keywords(self) -> dict[str, Any]:
        """Arguments of `avsal.overlay` and the like."""
        return asdict(self) | {"audio_context": int(self.audio_context)}

    def settings(self, size: str = "video") -> settings.PredictSettings:
        """These options as settings of a prediction."""
        return settings.PredictSettings(**self.keywords(), size=settings.MapSize.parse(size))


@dataclass(frozen=True)
class Maps:
    """Options that say what maps are written."""

    format: Format = settings.Format.PNG
    scale: Scale = settings.Scale.FRAME
    size: Size = "video"

    def written(self) -> settings.OutputSettings:
        """The settings of files."""
        return settings.OutputSettings(self.format, self.scale)


@dataclass(frozen=True)
class Network:
    """Options that say which network runs, and where."""

    model: Model = None
    weights: Weights = None
    device: Device = "auto"
    precision: Precision = settings.Precision.AUTO
    offline: Offline = False
    revision: Revision = None
    engine: Engine = settings.EngineName.AUTO
    threads: Threads = None  # its callback has set OMP_NUM_THREADS

    def keywords(self) -> dict[str, Any]:
        """Arguments of `avsal.overlay` and the like."""
        return {name: value for name, value in asdict(self).items() if name != "threads"}

    def load(self) -> Predictor:
        """Load the network."""
        from avsal.results.gaze import MapSource

        return MapSource(**self.keywords()).predictor
