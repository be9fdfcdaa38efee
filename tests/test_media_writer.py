"""Writing videos: times, sizes, encoders, and nothing half-written under a final name."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import samples
from media_checks import copy, frames_of, numbers, times_of

from avsal.errors import MediaError, OutputError, UsageError
from avsal.media import VideoReader, VideoWriter, probe
from avsal.media import writer as video_writer
from avsal.media.suffixes import muxer_of

TICK = Fraction(1, 12800)
IRREGULAR = [k * TICK for k in (0, 512, 600, 2000, 9000, 9512, 9513, 20000)]
SUFFIXES = [".mp4", ".m4v", ".mov", ".mkv"]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "partial" in path.name]


# ---- pictures and times


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_and_times_come_back(tmp_path: Path, suffix: str) -> None:
    source = samples.constant_rate(tmp_path / "a.mp4", frames=30)
    out = copy(source, tmp_path / f"b{suffix}")
    assert numbers(frames_of(out)) == list(range(30))
    assert times_of(out) == times_of(source)
    info = probe(out)
    assert info.codec == "h264"
    assert info.duration == Fraction(30, 25)
    assert info.rate == 25


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_variable_rate_is_kept_exactly(tmp_path: Path, suffix: str) -> None:
    source = samples.variable_rate(tmp_path / "a.mp4", IRREGULAR)
    out = copy(source, tmp_path / f"b{suffix}")
    assert times_of(out) == IRREGULAR
    with VideoReader(source) as video:
        *_, last = video
    assert probe(out).duration == last.pts + last.duration


def test_a_variable_rate_is_kept_to_the_millisecond_of_matroska(tmp_path: Path) -> None:
    source = samples.variable_rate(tmp_path / "a.mp4", IRREGULAR[:6])
    written = times_of(copy(source, tmp_path / "b.mkv"))
    assert np.abs(np.array(written, float) - np.array(IRREGULAR[:6], float)).max() <= 0.0005


def test_without_a_time_base_times_are_kept_to_a_90000th(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    times = [Fraction(0), Fraction(1001, 30000), Fraction(1, 7), Fraction(1, 2)]
    with VideoWriter(out, 64, 48) as writer:
        for index, time in enumerate(times):
            writer.write(samples.numbered(index), time, Fraction(1001, 30000))
    found = times_of(out)
    assert np.abs(np.array(found, float) - np.array(times, float)).max() <= 0.5 / 90000 + 1e-9
    assert probe(out).duration == pytest.approx(0.5 + 1001 / 30000, abs=1e-4)


def test_the_last_frame_keeps_its_duration(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    with VideoWriter(out, 64, 48, time_base=Fraction(1, 25)) as writer:
        writer.write(samples.numbered(0), Fraction(0), Fraction(1, 25))
        writer.write(samples.numbered(1), Fraction(1, 25), Fraction(2))
    assert probe(out).duration == Fraction(51, 25)


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    with VideoWriter(out, 64, 48) as writer:
        writer.write(samples.numbered(7), Fraction(0), Fraction(1, 25))
    assert numbers(frames_of(out)) == [7]


@pytest.mark.parametrize("size", [(63, 47), (64, 47), (1, 16), (2, 2), (3, 1)])
def test_odd_sizes_are_padded_and_told(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    image = np.full((height, width, 3), 180, np.uint8)
    out = tmp_path / "a.mp4"
    with VideoWriter(out, width, height, crf=1) as writer:
        writer.write(image, Fraction(0), Fraction(1, 25))
    assert writer.padded == bool(width % 2 or height % 2)
    assert len(writer.warnings) == writer.padded
    with VideoReader(out) as video:
        (frame,) = list(video)
    assert frame.image.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(frame.image.astype(int) - 180).max() <= 3  # the padding repeats the border


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (90, 160, 200)]
    image = np.repeat(np.array([colours], np.uint8), 32, axis=0).repeat(32, axis=1)
    out = tmp_path / "a.mp4"
    with VideoWriter(out, image.shape[1], 32, crf=1) as writer:
        writer.write(image, Fraction(0), Fraction(1, 25))
    with VideoReader(out) as video:
        (frame,) = list(video)
    middle = slice(8, None, 32)
    assert np.abs(frame.image[:, middle].astype(int) - image[:, middle]).max() <= 4
    with av.open(str(out)) as container:
        decoded = next(container.decode(video=0))
        assert (decoded.colorspace, decoded.color_range) == (1, 1)  # BT.709, limited


def test_gray_maps_are_a_gray_video(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 128).astype(np.uint8), (64, 1))
    out = tmp_path / "a.mp4"
    with VideoWriter(out, 128, 64, crf=5) as writer:
        for index in range(5):
            writer.write(ramp, Fraction(index, 25), Fraction(1, 25))
    with VideoReader(out) as video:
        assert not video.info.has_audio
        for frame in video:
            assert np.ptp(frame.image.astype(int), axis=2).max() <= 2
            assert np.abs(frame.image[..., 0].astype(int) - ramp).max() <= 6


def test_crf_is_a_quality(tmp_path: Path) -> None:
    sizes = []
    for crf in (10, 40):
        out = tmp_path / f"{crf}.mp4"
        with VideoWriter(out, 96, 64, crf=crf) as writer:
            for index in range(5):
                image = samples.moving_noise(index, 96, 64)
                writer.write(image, Fraction(index, 25), Fraction(1, 25))
        sizes.append(out.stat().st_size)
    assert sizes[0] > 2 * sizes[1]


def test_the_pixel_shape_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    with VideoWriter(out, 64, 48, sample_aspect=Fraction(16, 11)) as writer:
        writer.write(samples.numbered(0), Fraction(0), Fraction(1, 25))
    assert probe(out).sample_aspect == Fraction(16, 11)


def test_sides_that_h264_cannot_have_are_told(tmp_path: Path) -> None:
    wide = np.zeros((2, 16_386, 3), np.uint8)
    with (
        pytest.raises(MediaError, match=r"16386x2 is too large for H\.264.*write \.webm"),
        VideoWriter(tmp_path / "a.mp4", 16_386, 2) as writer,
    ):
        writer.write(wide, Fraction(0), Fraction(1))
    assert not any(tmp_path.iterdir())
    with VideoWriter(tmp_path / "a.webm", 16_386, 2) as writer:
        writer.write(wide, Fraction(0), Fraction(1))
    assert times_of(tmp_path / "a.webm") == [0]


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="64x48"),
        VideoWriter(tmp_path / "a.mp4", 64, 48) as writer,
    ):
        writer.write(samples.numbered(0, 32, 32), Fraction(0), Fraction(1, 25))
    assert list(tmp_path.iterdir()) == []


# ---- encoders


def test_webm_holds_vp9_at_its_times(tmp_path: Path) -> None:
    source = samples.constant_rate(tmp_path / "a.mp4", frames=30)
    out = copy(source, tmp_path / "b.webm")
    assert probe(out).codec == "vp9"
    assert numbers(frames_of(out)) == list(range(30))
    assert times_of(out) == times_of(source)
    variable = copy(samples.variable_rate(tmp_path / "c.mp4", IRREGULAR[:6]), tmp_path / "d.webm")
    written = np.array(times_of(variable), float)
    assert np.abs(written - np.array(IRREGULAR[:6], float)).max() <= 0.0005


def test_webm_without_its_encoder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_writer, "WEBM_ENCODERS", ("no_such_encoder",))
    with (
        pytest.raises(MediaError, match=r"no encoder of no_such_encoder.* or write \.mp4"),
        VideoWriter(tmp_path / "a.webm", 64, 48) as writer,
    ):
        writer.write(samples.numbered(0), Fraction(0), Fraction(1, 25))
    assert list(tmp_path.iterdir()) == []


def test_other_encoders_stand_in_for_libx264(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_writer, "ENCODERS", ("no_such_encoder", "mpeg4"))
    out = tmp_path / "a.mp4"
    with VideoWriter(out, 64, 48, time_base=Fraction(1, 90000)) as writer:
        for index in range(5):
            image = samples.numbered(index)
            writer.write(image, Fraction(index, 25), Fraction(1, 25))
    assert writer.codec == "mpeg4"
    assert "MPEG-4" in writer.warnings[0]
    assert numbers(frames_of(out)) == list(range(5))
    assert times_of(out) == [pytest.approx(i / 25, abs=2e-5) for i in range(5)]


def test_no_encoder_at_all_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_writer, "ENCODERS", ("no_such_encoder",))
    with (
        pytest.raises(MediaError, match="no encoder"),
        VideoWriter(tmp_path / "a.mp4", 64, 48) as writer,
    ):
        writer.write(samples.numbered(0), Fraction(0), Fraction(1, 25))
    assert list(tmp_path.iterdir()) == []


# ---- files


@pytest.mark.parametrize("name", ["a.ogv", "a.avi", "a.gif", "a.txt", "a"])
def test_other_suffixes_are_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"use one of \.mp4"):
        VideoWriter(tmp_path / name, 64, 48)
    with pytest.raises(UsageError):
        muxer_of(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert muxer_of(Path("A.MP4")) == "mp4"


@pytest.mark.parametrize("name", ["-dash first.mp4", "späße 視頻.mkv", "a:b.mov", "%d.mp4"])
def test_any_name_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter(Path(name), 64, 48) as writer:
        writer.write(samples.numbered(3), Fraction(0), Fraction(1, 25))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert numbers(frames_of(Path(name))) == [3]


def test_the_name_appears_only_when_the_file_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    out.write_bytes(b"older result")
    writer = VideoWriter(out, 64, 48)
    for index in range(60):
        writer.write(samples.numbered(index), Fraction(index, 25), Fraction(1, 25))
        assert out.read_bytes() == b"older result"
    assert len(leftovers(tmp_path)) == 1
    writer.close()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert len(times_of(out)) == 60


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("frames", [0, 1, 60])
def test_an_exception_leaves_nothing(
    tmp_path: Path, error: type[BaseException], frames: int
) -> None:
    source = samples.film(tmp_path / "source.mp4", seconds=1)
    with pytest.raises(error), VideoWriter(tmp_path / "a.mp4", 64, 48, audio_from=source) as writer:
        for index in range(frames):
            writer.write(samples.numbered(index), Fraction(index, 25), Fraction(1, 25))
        raise error
    writer.abandon()
    assert [path.name for path in tmp_path.iterdir()] == ["source.mp4"]


def test_no_frame_is_an_error_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no frame"):
        VideoWriter(tmp_path / "a.mp4", 64, 48).close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        VideoWriter(tmp_path / "file" / "a.mp4", 64, 48)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            VideoWriter(tmp_path / "a.mp4", 64, 48)
    finally:
        tmp_path.chmod(0o700)


def test_a_missing_source_of_sound_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        VideoWriter(tmp_path / "a.mp4", 64, 48, audio_from=tmp_path / "nothing.mp4")
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from fractions import Fraction
from pathlib import Path
sys.path.insert(0, "tests")
import samples
from avsal.errors import OutputError
from avsal.media import VideoWriter
out = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with VideoWriter(out, 320, 240, crf=1) as writer:
        for index in range(40):
            image = samples.moving_noise(index, 320, 240)
            writer.write(image, Fraction(index, 25), Fraction(1, 25))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 200_000], ids=["at once", "on the way"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    pytest.importorskip("resource")
    out = tmp_path / "a.mp4"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(out), str(limit)],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: cannot be written (")
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_ffmpeg_refuses_is_not_called_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(VideoWriter, "_mux", refuse)
    with pytest.raises(OutputError, match=r"as \.mp4 \(invalid argument\); try another suffix"):
        write_one(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def write_one(path: Path) -> None:
    with VideoWriter(path, 64, 48) as writer:
        writer.write(samples.numbered(0), Fraction(0), Fraction(1, 25))
