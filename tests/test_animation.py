"""Animated GIF and WebP: times, colours, and nothing half-written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsal.errors import MediaError
from avsal.media import animation
from avsal.media.animation import new_animation

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 60), (128, 128, 128)]
SUFFIXES = pytest.mark.parametrize("suffix", [".gif", ".webp"])


def plain(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((36, 64, 3), colour, np.uint8)


def shown(path: Path) -> list[tuple[int, np.ndarray]]:
    """Milliseconds and colours of every frame."""
    with Image.open(path) as image:
        frames = []
        for number in range(image.n_frames):
            image.seek(number)
            pixels = np.asarray(image.convert("RGB"))
            frames.append((round(image.info["duration"]), pixels))
        assert image.info["loop"] == 0  # for ever
        return frames


@SUFFIXES
def test_frames_come_back_with_their_durations_and_colours(tmp_path: Path, suffix: str) -> None:
    out, start = tmp_path / f"a{suffix}", Fraction(1000)
    durations = [Fraction(n, 25) for n in (1, 2, 1, 10, 3)]
    with new_animation(out, 64, 36) as animated:
        for colour, duration in zip(COLOURS, durations, strict=True):
            animated.write(plain(colour), start, duration)
            start += duration
    frames = shown(out)
    assert [milliseconds for milliseconds, _pixels in frames] == [40, 80, 40, 400, 120]
    for (_milliseconds, pixels), colour in zip(frames, COLOURS, strict=True):
        assert np.abs(pixels.astype(int) - colour).max() <= 8
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@SUFFIXES
def test_rounded_times_do_not_add_up(tmp_path: Path, suffix: str) -> None:
    out, duration = tmp_path / f"a{suffix}", Fraction(1001, 15000)
    with new_animation(out, 64, 36) as animated:
        for number in range(30):
            animated.write(plain(COLOURS[number % 5]), number * duration, duration)
    total = sum(milliseconds for milliseconds, _pixels in shown(out))
    assert total == {".gif": 2000, ".webp": 2002}[suffix]


@SUFFIXES
def test_one_frame_is_enough_and_none_is_an_error(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    with pytest.raises(MediaError, match="no frame"), new_animation(out, 64, 36):
        pass
    assert list(tmp_path.iterdir()) == []
    with new_animation(out, 64, 36) as animated:
        animated.write(plain(COLOURS[0]), Fraction(0), Fraction(0))
    with Image.open(out) as image:
        assert image.size == (64, 36)


@SUFFIXES
def test_an_exception_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    out.write_text("before")
    with pytest.raises(KeyboardInterrupt), new_animation(out, 64, 36) as animated:
        animated.write(plain(COLOURS[0]), Fraction(0), Fraction(1))
        raise KeyboardInterrupt
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_missing_encoder_and_a_size_too_large_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(animation._WebP, "codec", "no_such_encoder")
    with (
        pytest.raises(MediaError, match="no encoder no_such_encoder"),
        new_animation(tmp_path / "a.webp", 64, 36),
    ):
        pass
    with pytest.raises(MediaError, match="too large"), new_animation(tmp_path / "a.gif", 20_000, 9):
        pass
    assert list(tmp_path.iterdir()) == []
