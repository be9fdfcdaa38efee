"""Clocks that start again or jump: pictures and sound stay complete, and in step."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import samples
from media_checks import click_times, copy, frames_of, numbers, sound_of

from avsal.media import VideoReader

FRAMES = 50  # of every part
CLICKS = [0.5, 1.5]  # seconds from a part's beginning
REPRODUCERS = samples.SHARED_REPRODUCERS / "v02" / "media"


def part(
    number: int, start: int, codec: str, seconds: float = 2
) -> tuple[samples.Pictures, samples.SoundTrack]:
    """Two seconds of pictures with clicks, whose clock starts at `start`."""
    images = [samples.numbered(number * FRAMES + i) for i in range(FRAMES)]
    times = [start + Fraction(i, 25) for i in range(FRAMES)]
    wave = samples.clicks(seconds, 48000, [time for time in CLICKS if time < seconds])
    video = "mpeg2video" if codec != "aac" else "libx264"
    options = {"b": "2M", "bf": "2"} if codec == "mp2" else {"b": "2M"}
    options = {"crf": "10"} if codec == "aac" else options
    pictures = samples.Pictures(images, times, codec=video, options=options)
    return pictures, samples.SoundTrack([(Fraction(start), wave)], 48000, codec=codec)


def joined(path: Path, starts: list[int], codec: str, seconds: list[float]) -> Path:
    parts = [
        part(i, start, codec, length)
        for i, (start, length) in enumerate(zip(starts, seconds, strict=True))
    ]
    return samples.joined(path, [p for p, _ in parts], [s for _, s in parts])


@pytest.mark.parametrize("starts", [[0, 0], [100, 0], [0, 3600], [7, 3600, 3]], ids=str)
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".ts", "aac"), (".ts", "mp2"), (".ts", "ac3"), (".vob", "mp2"), (".vob", "ac3")],
)
def test_joined_recordings_are_whole_and_in_step(
    tmp_path: Path, suffix: str, codec: str, starts: list[int]
) -> None:
    source = joined(tmp_path / f"a{suffix}", starts, codec, [2.0] * len(starts))
    with VideoReader(source) as reader:
        frames = list(reader)
        assert sum("clock" in note for note in reader.warnings) == 1
        assert not any("cut off" in note for note in reader.warnings)
    assert numbers(frames) == list(range(FRAMES * len(starts)))
    assert {b.pts - a.pts for a, b in pairwise(frames)} == {Fraction(1, 25)}
    expected = [2 * number + time for number in range(len(starts)) for time in CLICKS]
    assert click_times(sound_of(source)) == pytest.approx(expected, abs=0.04)
    for out in (tmp_path / "b.mp4", tmp_path / "b.mkv"):
        copy(source, out)
        assert len(frames_of(out)) == len(frames)
        assert click_times(sound_of(out)) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("seconds", [[1.0, 2.0], [2.4, 2.0]], ids=["short", "long"])
def test_sound_moves_as_far_as_the_pictures(tmp_path: Path, seconds: list[float]) -> None:
    """It ends before the pictures of its part, or after them; what follows is in step still."""
    source = joined(tmp_path / "a.ts", [0, 0], "aac", seconds)
    found = click_times(sound_of(source))
    assert found[0] == pytest.approx(0.5, abs=0.01)
    assert found[-1] == pytest.approx(3.5, abs=0.04)


def test_a_pause_of_one_stream_is_time_that_passed(tmp_path: Path) -> None:
    pictures = samples.Pictures([samples.numbered(i) for i in range(60)], rate=2)
    wave = samples.clicks(2, 48000, [0.5])
    paused = samples.SoundTrack([(Fraction(0), wave), (Fraction(20), wave)], 48000, codec="mp2")
    source = samples.write(tmp_path / "sound.ts", pictures, paused)
    with VideoReader(source) as reader:
        assert len(list(reader)) == 60
        assert reader.warnings == []
    assert click_times(sound_of(source)) == pytest.approx([0.5, 20.5], abs=0.05)

    times = [Fraction(i, 25) for i in range(25)]
    times += [20 + time for time in times]
    pictures = samples.Pictures([samples.numbered(i) for i in range(50)], times)
    whole = samples.SoundTrack([(Fraction(0), samples.tone(22, 48000))], 48000, codec="mp2")
    source = samples.write(tmp_path / "pictures.ts", pictures, whole)
    frames = frames_of(source)
    assert frames[-1].pts - frames[0].pts == times[-1]
    assert sound_of(source).size == pytest.approx(22 * 16000, abs=1600)


@pytest.mark.parametrize(
    ("name", "seconds", "tones"),
    [("joined_ts_sound_lost.ts", 8, 6), ("real144_sound_lost.rm", 4, 3)],
)
def test_recordings_of_others(tmp_path: Path, name: str, seconds: int, tones: int) -> None:
    """Half a second of a tone comes every second, but for the first of each part."""
    source = REPRODUCERS / name
    if not source.exists():
        pytest.skip("the shared reproducers are not here")
    for path in (source, copy(source, tmp_path / "a.mp4"), copy(source, tmp_path / "a.mkv")):
        sound = sound_of(path)
        assert sound.size == pytest.approx(seconds * 16000, abs=1700)
        blocks = np.abs(sound[: seconds * 16000]).reshape(-1, 1600).max(axis=1)
        loud = blocks > 0.1
        assert np.count_nonzero(loud[1:] & ~loud[:-1]) == tones


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60)])
@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_times_of_a_constant_rate_are_exact(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    """Matroska rounds to milliseconds; sound is cut by these times."""
    images = [samples.numbered(i % 256) for i in range(600)]
    source = samples.write(tmp_path / f"a{suffix}", samples.Pictures(images, rate=rate))
    frames = frames_of(source)
    origin = frames[0].pts
    assert [frame.pts - origin for frame in frames] == [i / rate for i in range(600)]
    assert {frame.duration for frame in frames} == {1 / rate}
    part = frames_of(source, start=7.5)
    assert [frame.pts for frame in part] == [f.pts for f in frames if f.pts - origin >= 7.5]
    assert [frame.index for frame in part] == list(range(600 - len(part), 600))
    out = copy(source, tmp_path / "b.mp4")
    assert [frame.pts for frame in frames_of(out)] == [frame.pts for frame in frames]


def test_slow_pictures_are_not_cut_off(tmp_path: Path) -> None:
    """FFmpeg moves the start of the stream by two frames, 8 s, once it has read packets."""
    images = [samples.numbered(i) for i in range(20)]
    source = samples.write(tmp_path / "a.mkv", samples.Pictures(images, rate=Fraction(1, 4)))
    with VideoReader(source) as reader:
        assert [frame.pts for frame in reader] == list(range(0, 80, 4))
        assert reader.warnings == []


def test_times_of_a_variable_rate_stay(tmp_path: Path) -> None:
    gaps = np.random.default_rng(0).choice([33, 34, 40, 67, 100, 400], 200)
    times = [Fraction(int(time), 1000) for time in np.cumsum(gaps)]
    images = [samples.numbered(i) for i in range(200)]
    pictures = samples.Pictures(images, times, time_base=Fraction(1, 1000))
    source = samples.write(tmp_path / "a.mkv", pictures)
    assert [f.pts for f in frames_of(source)] == times


def test_sound_is_in_step_where_pictures_have_times_before_0(tmp_path: Path) -> None:
    """A tone and a flash come every second; Matroska lost the times of the first pictures."""
    source = Path(__file__).parent / "media" / "negative_times.mkv"
    for path in (source, copy(source, tmp_path / "a.mp4"), copy(source, tmp_path / "a.mkv")):
        frames = frames_of(path)
        light = np.array([frame.image.mean() for frame in frames])
        flashes = [
            float(frames[i + 1].pts - frames[0].pts) for i in np.flatnonzero(np.diff(light) > 8)
        ]
        blocks = np.abs(sound_of(path)[: 4 * 16000]).reshape(-1, 160).max(axis=1)
        tones = [(i + 1) / 100 for i in np.flatnonzero(np.diff(blocks) > 0.05)]
        assert tones == pytest.approx([1, 2, 3], abs=0.011)
        assert {1.0, 2.0, 3.0} <= set(flashes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_joins_are_whole_and_in_step(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codec, suffix = (("aac", ".ts"), ("mp2", ".ts"), ("mp2", ".vob"), ("ac3", ".vob"))[seed % 4]
    starts = [int(rng.choice([0, 3, 500, 7000, 80000]))]
    for _ in range(rng.integers(1, 4)):
        jump = int(rng.choice([-90000, -100, -4, -3, 14, 100, 5000]))
        starts.append(max(0, starts[-1] + 2 + jump) if abs(jump) < 9000 else 0)
    if any(-1.5 < b - a - 2 < 12 for a, b in pairwise(starts)):
        pytest.skip("time passes there, the clock does not jump")
    source = joined(tmp_path / f"a{suffix}", starts, codec, [2.0] * len(starts))
    frames = frames_of(source)
    assert numbers(frames) == [i % 256 for i in range(FRAMES * len(starts))]
    assert {b.pts - a.pts for a, b in pairwise(frames)} == {Fraction(1, 25)}
    expected = [2 * number + time for number in range(len(starts)) for time in CLICKS]
    assert click_times(sound_of(source)) == pytest.approx(expected, abs=0.04)
    copy(source, tmp_path / "b.mp4")
    assert click_times(sound_of(tmp_path / "b.mp4")) == pytest.approx(expected, abs=0.04)
