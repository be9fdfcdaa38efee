"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from avsal.prediction.predictor import Predictor

NETWORK = "Network"  # headings in --help
MAPS = "Maps"

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
    str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", rich_help_panel=NETWORK)
]
Precision = Annotated[
    str,
    typer.Option("--precision", help="auto, fp32, fp16 or bf16.", rich_help_panel=NETWORK),
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
    int,
    typer.Option(
        "--audio-context",
        help="Frames of sound in a window: 32 (published inference) or 16 (training).",
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
    str, typer.Option("--size", help="video, model or WIDTHxHEIGHT.", rich_help_panel=MAPS)
]
Format = Annotated[
    str, typer.Option("--format", help="png, png16, npy or video.", rich_help_panel=MAPS)
]
Scale = Annotated[
    str,
    typer.Option(
        "--scale",
        help="What white means: the frame's peak, the clip's peak, or a fixed probability.",
        rich_help_panel=MAPS,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where the results go.")]


@dataclass(frozen=True)
class Network:
    """The shared options that say which network runs, and where."""

    model: str | None
    weights: str | None
    device: str
    precision: str
    offline: bool
    revision: str | None

    def load(self) -> Predictor:
        """Load the network."""
        from avsal.prediction.predictor import load_model

        return load_model(
            self.model,
            self.weights,
            self.device,
            self.precision,
            offline=self.offline,
            revision=self.revision,
        )
