"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests must not reach the Hub, whatever the machine's settings are.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

TESTS = Path(__file__).parent


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of the published network's golden numbers."""
    return TESTS / "parity"


@pytest.fixture(scope="session")
def example_clip() -> Path:
    """The clip that the README's first command runs on."""
    return TESTS.parent / "examples" / "talk_and_bounce.mp4"


@pytest.fixture
def tiny(monkeypatch) -> str:
    """Name of a network with all parts of the published one, small enough for every test."""
    from avsal.models.variants import VARIANTS, Variant

    variant = Variant(
        "tiny",
        "x3ds",
        64,
        96,
        image="mobilenet_v2",
        audio_width=8,
        fusion_dim=32,
        decoder_width=16,
        mask_channels=32,
        readout_channels=(16, 8),
    )
    monkeypatch.setitem(VARIANTS, variant.name, variant)
    return variant.name


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
