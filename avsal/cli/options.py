"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsal.prediction import settings

if TYPE_CHECKING:
    from avsal.prediction.predictor import Predictor

NETWORK = "Network"  # headings in --help
MAPS = "Maps"
CLUSTER = "Cluster"


class SoundFrames(StrEnum):
    """Frames of sound that belong to a window."""

    INFERENCE = "32"
    TRAINING = "16"


def _words(*words: str) -> Callable[[], list[str]]:
    """What a shell completes an option with that takes other words too."""
    return lambda: list(words)


Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="Network: see avsal models and avsal weights.", rich_help_panel=NETWORK
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="File (.safetensors, .pt), registry name, or untrained.",
        rich_help_panel=NETWORK,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda or cuda:N.",
        autocompletion=_words("auto", "cpu", "cuda"),
        rich_help_panel=NETWORK,
    ),
]
Precision = Annotated[
    settings.Precision,
    typer.Option("--precision", help="Compute dtype.", rich_help_panel=NETWORK),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Never ask the Hub for weights.", rich_help_panel=NETWORK),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision", help="Branch, tag or commit of the Hub repository.", rich_help_panel=NETWORK
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch", min=1, help="Windows at once; automatic by memory.", rich_help_panel=NETWORK
    ),
]
AudioContext = Annotated[
    SoundFrames,
    typer.Option(
        "--audio-context",
        help="Frames of sound in a window; published: 32 in inference, 16 in training.",
        rich_help_panel=MAPS,
    ),
]
Stride = Annotated[
    int | None,
    typer.Option(
        "--stride",
        min=1,
        help="Run the network on every Nth frame and interpolate between; 1, or 2 for avsal-small.",
        rich_help_panel=MAPS,
    ),
]
Start = Annotated[
    float | None, typer.Option("--start", min=0, help="First second.", rich_help_panel=MAPS)
]
End = Annotated[
    float | None, typer.Option("--end", min=0, help="Second to stop before.", rich_help_panel=MAPS)
]
Size = Annotated[
    str,
    typer.Option(
        "--size",
        help="video, model or WIDTHxHEIGHT.",
        autocompletion=_words("video", "model"),
        rich_help_panel=MAPS,
    ),
]
Format = Annotated[
    settings.Format,
    typer.Option(
        "--format",
        help="8 or 16 bit gray, float32 densities, or a gray video.",
        rich_help_panel=MAPS,
    ),
]
Scale = Annotated[
    settings.Scale,
    typer.Option(
        "--scale",
        help="What white means: the frame's peak, the clip's, or a fixed probability.",
        rich_help_panel=MAPS,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Work on a Ray cluster: HOST:PORT, auto, or this machine's cores.",
        rich_help_panel=CLUSTER,
    ),
]
RayThreads = Annotated[
    int,
    typer.Option(
        "--ray-threads",
        min=1,
        help="Cores of each worker; 1 is fastest, more take less memory in all.",
        rich_help_panel=CLUSTER,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where the results go.")]


Engine = Annotated[
    settings.EngineName,
    typer.Option(
        "--engine",
        help="What computes the network: ONNX Runtime (the default network, on CPUs) or PyTorch.",
        rich_help_panel=NETWORK,
    ),
]


@dataclass(frozen=True)
class Network:
    """The shared options that say which network runs, and where."""

    model: str | None
    weights: str | None
    device: str
    precision: str
    offline: bool
    revision: str | None
    engine: str = "auto"

    def load(self) -> Predictor:
        """Load the network."""
        from avsal.prediction.model import load_model

        return load_model(
            self.model,
            self.weights,
            self.device,
            self.precision,
            offline=self.offline,
            revision=self.revision,
            engine=self.engine,
        )
