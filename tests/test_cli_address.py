"""Videos by their address, as a person types them."""

from __future__ import annotations

import json

import pytest
import samples
from file_server import serving


@pytest.fixture
def network(tiny, tiny_weights):
    return ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")


def test_predict_and_overlay_of_an_address(avsal_command, network, tmp_path):
    (tmp_path / "served").mkdir()
    samples.film(tmp_path / "served" / "a film.mp4", seconds=1, rate=10)
    with serving(tmp_path / "served") as server:
        address = f"{server.address}/a%20film.mp4?key=secret/a.b"
        code, _, errors = avsal_command("predict", address, "-o", tmp_path / "out", *network)
        assert (code, errors) == (0, "")
        described = json.loads((tmp_path / "out" / "a film" / "saliency.json").read_text())
        assert described["source"] == {"name": f"{server.address}/a%20film.mp4"}
        assert len(described["frames"]) == 10
        out = tmp_path / "overlay.mp4"
        code, _, errors = avsal_command("overlay", address, "-o", out, *network)
        assert (code, errors) == (0, "")
        assert out.stat().st_size
        assert all(path.startswith("/a%20film.mp4?key=secret") for path in server.asked)


def test_an_address_that_leads_nowhere_is_one_line(avsal_command, network, tmp_path):
    with serving(tmp_path) as server:
        address = f"{server.address}/none.mp4"
        code, _, errors = avsal_command("predict", address, "-o", tmp_path / "out", *network)
    assert code == 1
    assert errors.startswith(f"error: {address}: the server ")
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_server_that_sends_only_whole_files_is_named(avsal_command, network, tmp_path):
    """As Python's own; the index of an MP4 file is at its end, here beyond FFmpeg's buffer."""
    images = [samples.moving_noise(i, 320, 240) for i in range(12)]
    samples.write(tmp_path / "film.mp4", samples.Pictures(images))
    with serving(tmp_path, parts=False) as server:
        address = f"{server.address}/film.mp4"
        code, _, errors = avsal_command("predict", address, "-o", tmp_path / "out", *network)
    assert code == 1
    assert errors.startswith(f"error: {address}: ")
    assert "the server sends only whole files" in errors
    assert errors.endswith("download the file and use that\n")
