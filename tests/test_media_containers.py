"""What real containers do to pictures: lost and empty packets, crops, orientation, sizes, times."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import samples
from media_checks import frames_of, numbers

from avsal.media import VideoReader, video

MEDIA = Path(__file__).parent / "media"


# ---- lost packets


def with_noise(source: Path, path: Path, damaged: range) -> Path:
    """A copy in which the packets of some numbers hold noise."""
    with av.open(str(source)) as read, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(read.demux(video=0)):
            if not packet.size:
                continue
            if number in damaged:
                noise = np.random.default_rng(number).integers(0, 256, packet.size, np.uint8)
                packet.update(noise.tobytes())
            packet.stream = stream
            output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_frame_numbers_after_a_seek_over_damage_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    whole = samples.constant_rate(tmp_path / f"whole{suffix}", frames=120)
    path = with_noise(whole, tmp_path / f"hole{suffix}", range(30, 46))
    frames = frames_of(path)
    assert [frame.index for frame in frames] == list(range(120))
    assert [frame.pts - frames[0].pts for frame in frames] == [Fraction(i, 25) for i in range(120)]
    shown = numbers(frames)
    assert shown[:28] == list(range(28)) and shown[60:] == list(range(60, 120))
    assert set(shown[32:44]) == {shown[32]} != set(range(32, 44))  # the picture before stays
    monkeypatch.setattr(video, "_SEEK_FROM", Fraction(0))
    monkeypatch.setattr(video, "_SEEK_MARGIN", Fraction(1, 5))
    for start, lead in [(1.5, 0), (1.8, 4), (3.0, 0), (3.0, 15), (4.5, 3)]:
        part = frames_of(path, start=start, lead=lead)
        first = math.ceil(round(start * 100) / 4) - lead
        assert [frame.index for frame in part] == list(range(first, 120))
        assert numbers(part) == shown[first:]
        assert [frame.pts for frame in part] == [frame.pts for frame in frames[first:]]


# ---- packets without a picture


def with_empty_samples(path: Path, frames: int, empty: list[int]) -> Path:
    """Motion JPEG in QuickTime in which samples of some numbers have the size 0."""
    images = [samples.numbered(i) for i in range(frames)]
    pictures = samples.Pictures(images, 10, codec="mjpeg", pix_fmt="yuvj420p", options={})
    pictures.times, pictures.rate = None, 10
    data = bytearray(samples.write(path, pictures).read_bytes())
    sizes = data.index(b"stsz") + 16  # after version, common size and count
    for number in reversed(empty):
        before, own = struct.unpack_from(">2I", data, sizes + 4 * (number - 1))
        # The bytes go to the sample before it, where they follow the end of the picture.
        struct.pack_into(">2I", data, sizes + 4 * (number - 1), before + own, 0)
    path.write_bytes(data)
    return path


def test_a_sample_of_size_0_prolongs_the_picture_before(tmp_path: Path) -> None:
    path = with_empty_samples(tmp_path / "a.mov", 20, [3, 4, 5, 12, 18, 19])
    with VideoReader(path) as reader:
        frames = list(reader)
        assert reader.warnings == []
    shown = [number for number in range(18) if number not in (3, 4, 5, 12)]
    assert numbers(frames) == shown
    assert [frame.pts for frame in frames] == [Fraction(number, 10) for number in shown]
    ends = [*shown[1:], 20]
    assert [frame.duration for frame in frames] == [
        Fraction(end - number, 10) for number, end in zip(shown, ends, strict=True)
    ]


def test_frame_numbers_after_a_seek_over_empty_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_empty_samples(tmp_path / "a.mov", 100, [*range(20, 30), 55, 80])
    frames = frames_of(path)
    monkeypatch.setattr(video, "_SEEK_FROM", Fraction(0))
    part = frames_of(path, start=6.0)
    assert [(f.index, f.pts) for f in part] == [(f.index, f.pts) for f in frames if f.pts >= 6]


def test_a_theora_recording_of_a_still_scene() -> None:
    with VideoReader(MEDIA / "theora_static.ogv") as reader:
        frames = list(reader)
        assert reader.warnings == []
    assert len(frames) == 30
    assert all(b.pts == a.pts + a.duration for a, b in pairwise(frames))
    end = frames[-1].pts + frames[-1].duration
    assert end == Fraction(289, 25)
