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
    """Words that a shell suggests for an option; the option takes others too."""
    return lambda: list(words)


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Name of a network (avsal models) or of weights (avsal weights list).",
        rich_help_panel=NETWORK,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="A file (.safetensors, .pt), a name from avsal weights list, or untrained.",
        rich_help_panel=NETWORK,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where the network runs: auto, cpu, cuda or cuda:N.",
        autocompletion=_words("auto", "cpu", "cuda"),
        rich_help_panel=NETWORK,
    ),
]
Precision = Annotated[
    settings.Precision,
    typer.Option(
        "--precision",
        help="Number format of the computation; auto takes what is fast on the device.",
        rich_help_panel=NETWORK,
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Do not download weights.", rich_help_panel=NETWORK),
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
        "--batch",
        min=1,
        help="Windows processed at once (default: what fits in memory).",
        rich_help_panel=NETWORK,
    ),
]
AudioContext = Annotated[
    SoundFrames,
    typer.Option(
        "--audio-context",
        help="Frames of sound that a published network sees: 32 as in its inference, 16 as in its "
        "training.",
        rich_help_panel=MAPS,
    ),
]
Stride = Annotated[
    int | None,
    typer.Option(
        "--stride",
        min=1,
        help="Run the network on every N-th frame and interpolate in between (default: 2 for "
        "avsal-small, 1 for published networks).",
        rich_help_panel=MAPS,
    ),
]
Start = Annotated[
    float | None,
    typer.Option("--start", min=0, help="Start at this second.", rich_help_panel=MAPS),
]
End = Annotated[
    float | None,
    typer.Option("--end", min=0, help="Stop before this second.", rich_help_panel=MAPS),
]
Size = Annotated[
    str,
    typer.Option(
        "--size",
        help="Size of the maps: video (as displayed), model (as predicted) or WIDTHxHEIGHT.",
        autocompletion=_words("video", "model"),
        rich_help_panel=MAPS,
    ),
]
Format = Annotated[
    settings.Format,
    typer.Option(
        "--format",
        help="Files of the maps: 8-bit gray, 16-bit gray, float32 densities, a gray video, or "
        "only a table of numbers.",
        rich_help_panel=MAPS,
    ),
]
Scale = Annotated[
    settings.Scale,
    typer.Option(
        "--scale",
        help="What white stands for: the frame's maximum, the clip's, or a fixed probability.",
        rich_help_panel=MAPS,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Predict on a Ray cluster: HOST:PORT, auto, or without an address on the cores of "
        "this machine.",
        rich_help_panel=CLUSTER,
    ),
]
RayThreads = Annotated[
    int,
    typer.Option(
        "--ray-threads",
        min=1,
        help="Cores for each worker; 1 is fastest, more use less memory in total.",
        rich_help_panel=CLUSTER,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]


Engine = Annotated[
    settings.EngineName,
    typer.Option(
        "--engine",
        help="What computes the network: ONNX Runtime (default network on a CPU only) or PyTorch.",
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
