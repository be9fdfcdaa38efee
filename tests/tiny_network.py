"""A network with all parts of the published one, small enough for every test."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

# What a command imports, so that the processes that a fork server makes start at once.
import avsal.prediction.predictor
import avsal.results.jobs
import avsal.results.overlay  # noqa: F401
from avsal import cli
from avsal.cli import options
from avsal.models.encoders import MOTION, MotionSpec
from avsal.models.encoders.x3d import X3D
from avsal.models.variants import VARIANTS, Variant


def make() -> Variant:
    """Make it known as a motion encoder and return its variant."""
    make_encoder = partial(X3D, width=0.5, depth=0.4)
    MOTION["tiny"] = MotionSpec(make_encoder, (16, 24, 48, 96), (16, 16, 16, 16))
    return Variant(
        "tiny",
        "tiny",
        32,
        64,
        image="mobilenet_v2",
        audio_width=8,
        fusion_dim=32,
        decoder_width=16,
    )


class Network(options.Network):
    """The command line's options for a network, in processes that do not know this one yet."""

    def load(self):
        VARIANTS.setdefault("tiny", make())
        return super().load()


def run_command(
    arguments: list[str], stdout: Path, stderr: Path, file_limit: int | None = None
) -> None:
    """Run the command line in this process, which knows the network; output goes to files.

    Args:
        file_limit: bytes beyond which no file may grow.
    """
    for place in {stdout, stderr}:
        place.open("w").close()
    for number, place in ((1, stdout), (2, stderr)):
        os.dup2(os.open(place, os.O_WRONLY | os.O_APPEND), number)
    if file_limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    # As at a terminal, though the tests may run where signals are ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in {"SIGTERM", "SIGHUP"} & set(signal.Signals.__members__):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    VARIANTS["tiny"] = make()
    options.Network = Network
    sys.argv = ["avsal", *arguments]
    cli.main()
