"""Fixtures that several test files share."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

# Tests must not reach the Hub, whatever the machine's settings are.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# OpenMP's threads spin while they wait by default, which on a shared machine makes the small
# networks of these tests several times slower. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

TESTS = Path(__file__).parent


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of the published network's golden numbers."""
    return TESTS / "parity"


@pytest.fixture(scope="session")
def example_clip() -> Path:
    """The clip that the README's first command runs on."""
    return TESTS.parent / "examples" / "talk_and_bounce.mp4"


@pytest.fixture(scope="session")
def tiny_variant():
    """A network with all parts of the published one, small enough for every test."""
    from avsal.models.encoders import MOTION, MotionSpec
    from avsal.models.encoders.x3d import X3D
    from avsal.models.variants import Variant

    make = partial(X3D, width=0.5, depth=0.4)
    MOTION["tiny"] = MotionSpec(make, (16, 24, 48, 96), (16, 16, 16, 16))
    yield Variant(
        "tiny",
        "tiny",
        64,
        96,
        image="mobilenet_v2",
        audio_width=8,
        fusion_dim=32,
        decoder_width=16,
        mask_channels=32,
        readout_channels=(16, 8),
    )
    del MOTION["tiny"]


@pytest.fixture
def tiny(tiny_variant, monkeypatch) -> str:
    """Its name, known to `build` and the command line for one test."""
    from avsal.models.variants import VARIANTS

    monkeypatch.setitem(VARIANTS, tiny_variant.name, tiny_variant)
    return tiny_variant.name


@pytest.fixture(scope="session")
def tiny_weights(tiny_variant, parity, tmp_path_factory) -> Path:
    """Weights for it that make every branch matter, filled as the goldens' are."""
    import sys

    from safetensors.torch import save_file

    from avsal import models

    sys.path.insert(0, str(parity))
    import fill

    state = models.build(tiny_variant).state_dict()
    fill.fill(state, seed=0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(state, path, metadata={"variant": "tiny"})
    return path


@pytest.fixture
def avsal_command(capsys, monkeypatch):
    """Run the command line in this process: `code, out, err = avsal_command("predict", ...)`."""
    from avsal import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["avsal", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run
