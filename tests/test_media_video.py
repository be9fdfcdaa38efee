"""Reading frames: times, orientation, colours, odd files and damage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import samples
from av.stream import Disposition
from PIL import Image

from avsal.errors import MediaError
from avsal.media import VideoFrame, VideoReader, probe, video
from avsal.media.clock import FrameClock
from avsal.media.container import choose_video
from avsal.media.decoding import MIN_DAMAGED

TICK = Fraction(1, 12800)
IRREGULAR = [k * TICK for k in (0, 512, 600, 2000, 9000, 9512, 9513, 20000)]


def frames_of(path: Path, **options: float) -> list[VideoFrame]:
    with VideoReader(path, **options) as reader:
        return list(reader)


def numbers(frames: list[VideoFrame]) -> list[int]:
    return [samples.number_of(frame.image) for frame in frames]


# ---- times and order


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi", ".ts"])
def test_constant_rate_gives_every_frame_in_order_at_its_time(tmp_path: Path, suffix: str) -> None:
    frames = frames_of(samples.constant_rate(tmp_path / f"a{suffix}", frames=30))
    assert numbers(frames) == list(range(30))
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.pts - frames[0].pts for frame in frames] == [Fraction(i, 25) for i in range(30)]
    assert {frame.duration for frame in frames} == {Fraction(1, 25)}


@pytest.mark.parametrize("rate", [10, 60, Fraction(30000, 1001)])
def test_times_are_exact_at_any_rate(tmp_path: Path, rate: Fraction) -> None:
    path = samples.constant_rate(tmp_path / "a.mp4", frames=12, rate=rate)
    assert [frame.pts for frame in frames_of(path)] == [i / Fraction(rate) for i in range(12)]
    assert probe(path).rate == rate


def test_variable_rate_keeps_the_stored_times(tmp_path: Path) -> None:
    frames = frames_of(samples.variable_rate(tmp_path / "a.mp4", IRREGULAR))
    assert [frame.pts for frame in frames] == IRREGULAR
    gaps = [later - earlier for earlier, later in pairwise(IRREGULAR)]
    assert [frame.duration for frame in frames[:-1]] == gaps
    assert frames[-1].duration > 0
    assert numbers(frames) == list(range(len(IRREGULAR)))


def test_missing_times_follow_from_the_rate_with_one_warning(tmp_path: Path) -> None:
    with VideoReader(samples.raw_h264(tmp_path / "a.h264", frames=12)) as reader:
        frames = list(reader)
        assert [frame.pts for frame in frames] == [Fraction(i, 25) for i in range(12)]
        assert reader.info.time_base == Fraction(1, 25)
        (warning,) = reader.warnings
    assert "25 frames a second" in warning


def test_clock_repairs_what_containers_store() -> None:
    def times(stored: list[int | None]) -> list[Fraction]:
        clock = FrameClock(Fraction(1, 100), Fraction(1, 25))
        return [clock.time(pts) * 100 for pts in stored]

    assert times([0, 4, 8]) == [0, 4, 8]
    assert times([None, None, None]) == [0, 4, 8]
    assert times([7, 7, 7, 7]) == [7, 11, 15, 19]  # a clock that stands still
    assert times([0, 4, 4, 8, 12]) == [0, 4, 8, 9, 12]  # one repeated time does no lasting harm
    assert times([0, 8, 4, 12]) == [0, 8, 9, 12]
    assert times([500, 504, 0, 4]) == [500, 504, 508, 512]  # the clock starts again


def test_a_clock_that_starts_again_is_continued_and_told(tmp_path: Path) -> None:
    late = [Fraction(100 * 25 + i, 25) for i in range(5)]
    parts = [
        samples.Pictures([samples.numbered(i) for i in range(5)], late),
        samples.Pictures([samples.numbered(i) for i in range(5, 10)]),
    ]
    with VideoReader(samples.joined(tmp_path / "a.ts", parts)) as reader:
        frames = list(reader)
        assert numbers(frames) == list(range(10))
        assert all(a.pts < b.pts for a, b in pairwise(frames))
        assert frames[-1].pts - frames[0].pts < 1
        assert any("clock starts again" in warning for warning in reader.warnings)


# ---- start, end and lead


def test_start_is_inclusive_and_end_exclusive(tmp_path: Path) -> None:
    path = samples.constant_rate(tmp_path / "a.mp4", frames=30)
    frames = frames_of(path, start=0.2, end=0.4)
    assert [frame.index for frame in frames] == [5, 6, 7, 8, 9]
    assert numbers(frames) == [5, 6, 7, 8, 9]
    assert frames[-1].duration == Fraction(1, 25)
    assert frames_of(path, start=9.0) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("lead", [0, 4, 15])
def test_seeking_keeps_indices_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, lead: int
) -> None:
    path = samples.constant_rate(tmp_path / f"a{suffix}", frames=120)
    expected = [frame for frame in frames_of(path) if frame.pts >= 3]
    first = 75
    monkeypatch.setattr(video, "_SEEK_FROM", Fraction(0))
    monkeypatch.setattr(video, "_SEEK_MARGIN", Fraction(1, 5))
    decoded = []
    monkeypatch.setattr(video, "display_matrix", lambda frame: decoded.append(1) or (1, 0, 0, 1))
    frames = frames_of(path, start=3.0, lead=lead)
    assert [frame.index for frame in frames] == list(range(first - lead, 120))
    assert numbers(frames) == list(range(first - lead, 120))
    assert [frame.pts for frame in frames[lead:]] == [frame.pts for frame in expected]
    assert len(decoded) < 120 - first + lead + 30  # the way there was not decoded


def test_seeking_in_a_variable_rate_counts_frames_not_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [Fraction(i, 50) for i in range(60)] + [Fraction(60 + 10 * i, 50) for i in range(40)]
    path = samples.variable_rate(tmp_path / "a.mp4", times)
    monkeypatch.setattr(video, "_SEEK_FROM", Fraction(0))
    frames = frames_of(path, start=5.0, lead=3)
    wanted = [i for i, time in enumerate(times) if time >= 5]
    assert [frame.index for frame in frames] == list(range(wanted[0] - 3, 100))
    assert numbers(frames) == [frame.index for frame in frames]


def test_lead_never_reaches_before_the_first_frame(tmp_path: Path) -> None:
    path = samples.constant_rate(tmp_path / "a.mp4", frames=30)
    assert frames_of(path, start=0.2, lead=15)[0].index == 0
    assert frames_of(path, start=0, lead=15)[0].index == 0


# ---- orientation


@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_display_matrix_is_applied(tmp_path: Path, clockwise: int, mirrored: bool) -> None:
    path = samples.rotated(tmp_path / "a.mp4", clockwise, mirrored)
    info = probe(path)
    assert info.rotation == clockwise
    assert (info.width, info.height) == ((48, 64) if clockwise % 180 else (64, 48))
    stored = samples.numbered(3)[:, :: -1 if mirrored else 1]
    expected = np.rot90(stored, -clockwise // 90)
    image = frames_of(path)[3].image
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 12


EXIF_TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", EXIF_TURNS)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    (frame,) = frames_of(samples.still(tmp_path / "a.jpg", orientation=orientation))
    expected = EXIF_TURNS[orientation](samples.numbered(37))
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).mean() < 12


def test_cut_exif_counts_as_upright(tmp_path: Path) -> None:
    path = samples.still(tmp_path / "a.jpg", orientation=6)
    data = path.read_bytes().replace(b"II*\0\x08\0\0\0", b"II*\0\xff\xff\0\0")
    path.write_bytes(data)
    (frame,) = frames_of(path)
    assert frame.image.shape == (48, 64, 3)


# ---- colours

BARS = np.array(
    [[255] * 3, [255, 255, 0], [0, 255, 255], [0, 255, 0], [255, 0, 255], [255, 0, 0], [0, 0, 255]]
    + [[level] * 3 for level in (0, 64, 128, 192)],
    np.uint8,
)
# Luma weights (red, blue) and ITU-T H.273 codes of the matrices.
MATRICES = {"bt601": (0.299, 0.114, 6), "bt709": (0.2126, 0.0722, 1), "bt2020": (0.2627, 0.0593, 9)}


def colour_bars(path: Path, matrix: str, full: bool, pix_fmt: str) -> tuple[Path, np.ndarray]:
    """FFV1 of the bars, converted to YUV by the textbook; returns also the RGB picture."""
    rgb = np.repeat(np.repeat(BARS[None], 16, axis=0), 16, axis=1)
    red, blue, code = MATRICES[matrix]
    r, g, b = (rgb.astype(float) / 255).transpose(2, 0, 1)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    scale, offset, spread = (255, 0, 255) if full else (219, 16, 224)
    deep = 4 if "10le" in pix_fmt else 1
    top = 256 * deep - 1
    planes = [np.clip((y * scale + offset) * deep + 0.5, 0, top)]
    planes += [np.clip((c * spread + 128) * deep + 0.5, 0, top) for c in (u, v)]
    if "420" in pix_fmt:
        planes[1:] = [plane[::2, ::2] for plane in planes[1:]]
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], pix_fmt)
    for plane, values in zip(frame.planes, planes, strict=True):
        line = np.zeros((plane.height, plane.line_size // (2 if deep > 1 else 1)), np.uint8)
        line = line.astype(np.uint16) if deep > 1 else line
        line[:, : plane.width] = values
        plane.update(line.tobytes())
    frame.colorspace, frame.color_range = code, 2 if full else 1
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
        stream.codec_context.colorspace = code
        stream.codec_context.color_range = frame.color_range
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path, rgb


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_colour_bars_come_back_in_rgb(
    tmp_path: Path, matrix: str, full: bool, pix_fmt: str
) -> None:
    path, rgb = colour_bars(tmp_path / "a.mkv", matrix, full, pix_fmt)
    (frame,) = frames_of(path)
    middle = slice(4, None, 16)  # away from the borders, where 4:2:0 mixes neighbours
    assert np.abs(frame.image[:, middle].astype(int) - rgb[:, middle]).max() <= 2


def test_an_untold_matrix_is_bt601(tmp_path: Path) -> None:
    path, rgb = colour_bars(tmp_path / "a.mkv", "bt601", False, "yuv420p")
    plain = tmp_path / "b.mp4"
    samples.write(plain, samples.Pictures([rgb], options={"qp": "1"}))
    with av.open(str(plain)) as container:
        assert next(container.decode(video=0)).colorspace == 2  # unspecified
    told, untold = frames_of(path)[0].image, frames_of(plain)[0].image
    middle = slice(4, None, 16)
    assert np.abs(told[:, middle].astype(int) - untold[:, middle]).max() <= 6


def test_hdr_is_left_as_it_is_with_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        stream.codec_context.color_trc = 16  # SMPTE ST 2084
        frame = av.VideoFrame.from_ndarray(samples.numbered(5), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        output.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert numbers(list(reader)) == [5]
        (warning,) = reader.warnings
    assert "HDR" in warning


@pytest.mark.parametrize("pix_fmt", ["gray", "rgb24", "rgba"])
def test_packed_and_gray_formats_are_exact(tmp_path: Path, pix_fmt: str) -> None:
    image = np.repeat(samples.moving_noise(0, 40, 30)[..., :1], 3, axis=2)
    (frame,) = frames_of(samples.lossless(tmp_path / "a.mov", [image], pix_fmt))
    assert np.abs(frame.image.astype(int) - image).max() <= (1 if pix_fmt == "gray" else 0)


def test_gray_that_says_limited_range_is_stretched(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    frame = av.VideoFrame(64, 48, "gray")
    frame.planes[0].update(
        np.repeat(np.array([[16, 235]], np.uint8), 32, 1).repeat(48, 0).tobytes()
    )
    frame.color_range, frame.pts, frame.time_base = 1, 0, Fraction(1, 25)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        stream.codec_context.color_range = 1
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    image = frames_of(path)[0].image
    assert (image[0, 0, 0], image[0, -1, 0]) == (0, 255)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_transparency_lies_over_black(tmp_path: Path, suffix: str) -> None:
    rgba = np.full((48, 64, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[:, 32:, 3] = 51  # a fifth
    image = frames_of(samples.still(tmp_path / f"a{suffix}", rgba))[0].image
    assert np.abs(image[:, :30].astype(int) - 200).max() <= 2
    assert np.abs(image[:, 34:].astype(int) - 40).max() <= 2


def test_video_with_alpha_and_10_bit_video(tmp_path: Path) -> None:
    for pix_fmt in ("yuva420p", "yuv420p10le"):
        path = samples.lossless(tmp_path / f"{pix_fmt}.mkv", [samples.numbered(9)], pix_fmt)
        assert numbers(frames_of(path)) == [9]


def test_flagged_frames_are_deinterlaced(tmp_path: Path) -> None:
    def combing(image: np.ndarray) -> float:
        rows = image[..., 1].astype(float)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    path = samples.interlaced(tmp_path / "a.mkv")
    with av.open(str(path)) as container:
        raw = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = frames_of(path)
    assert [frame.pts for frame in frames] == [Fraction(i, 25) for i in range(len(raw))]
    assert combing(raw[4]) > 8
    assert combing(frames[4].image) < combing(raw[4]) / 4


# ---- sizes


@pytest.mark.parametrize("size", [(1, 16), (16, 1), (1, 1), (63, 47), (65, 48)])
def test_odd_and_tiny_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    image = samples.moving_noise(3, *size)
    path = samples.lossless(tmp_path / "a.mov", [image])
    assert np.array_equal(frames_of(path)[0].image, image)
    assert (probe(path).width, probe(path).height) == size


def test_a_very_large_frame(tmp_path: Path) -> None:
    image = np.zeros((4320, 7680, 3), np.uint8)
    image[2000:2100, 3000:3100] = 255
    (frame,) = frames_of(samples.still(tmp_path / "a.jpg", image))
    assert frame.image.shape == image.shape
    assert frame.image[2050, 3050].min() > 250


def test_the_frame_is_trusted_over_the_header(tmp_path: Path) -> None:
    frames = frames_of(samples.changing_size(tmp_path / "a.ts"))
    assert numbers(frames) == list(range(20))
    assert {frame.image.shape for frame in frames[:10]} == {(48, 64, 3)}
    assert {frame.image.shape for frame in frames[10:]} == {(80, 96, 3)}


# ---- still images and names


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_a_still_image_is_a_video_of_one_frame(tmp_path: Path, suffix: str) -> None:
    path = samples.still(tmp_path / f"a{suffix}")
    (frame,) = frames_of(path)
    info = probe(path)
    assert info.is_image and not info.has_audio
    assert (info.frames, info.rate, info.duration) == (1, None, None)
    assert (frame.index, frame.pts) == (0, 0)
    assert frame.duration > 0
    assert samples.number_of(frame.image) == 37


def test_an_animation_keeps_its_times(tmp_path: Path) -> None:
    pictures = [Image.fromarray(samples.numbered(i)) for i in range(4)]
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100, 200, 50, 40])
    frames = frames_of(path)
    assert numbers(frames) == [0, 1, 2, 3]
    assert [frame.pts for frame in frames] == [Fraction(t, 100) for t in (0, 10, 30, 35)]
    assert not probe(path).is_image


def test_an_animated_webp_is_refused_in_one_line(tmp_path: Path) -> None:
    pictures = [Image.fromarray(samples.numbered(i)) for i in range(4)]
    path = tmp_path / "a.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    try:
        assert len(frames_of(path)) == 4  # where FFmpeg has learnt it
    except MediaError as error:
        assert "webp" in str(error)


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "1", "LA"])
def test_colour_modes_of_photographs(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(samples.numbered(37)).convert(mode).save(path)
    assert numbers(frames_of(path)) == [37]


@pytest.mark.parametrize(
    "name",
    ["-leading dash.mp4", "späße 視頻 🎬.mp4", "a:b.mp4", "100%d.mp4", "file:x.mp4", "%03d.png"],
)
def test_any_name_is_only_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = Path("x" + Path(name).suffix)
    if plain.suffix == ".png":
        samples.still(plain)
        shutil.copy(plain, "001.png")  # what a pattern would also find
        shutil.copy(plain, "002.png")
    else:
        samples.constant_rate(plain, frames=1)
    plain.rename(name)
    assert len(frames_of(Path(name))) == 1


def test_tags_that_are_not_utf8_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as output:
        output.metadata["title"] = "TITLE"
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        frame = av.VideoFrame.from_ndarray(samples.numbered(1), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    data = path.read_bytes()
    assert b"TITLE" in data
    path.write_bytes(data.replace(b"TITLE", b"\xe9\xff\xfe\x80\xe8"))
    assert len(frames_of(path)) == 1


# ---- streams


def test_the_best_video_stream_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("libx264", rate=25) for _ in range(3)]
        for stream, size in zip(streams, [(64, 48), (128, 96), (96, 80)], strict=True):
            stream.width, stream.height = size
            stream.disposition = 0
        for number, stream in enumerate(streams, 1):
            image = samples.numbered(number, stream.width, stream.height)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    assert numbers(frames_of(path)) == [2]


def test_a_photograph_in_tiles_is_refused() -> None:
    tile = SimpleNamespace(disposition=Disposition.dependent, codec_context=object())
    container = SimpleNamespace(streams=SimpleNamespace(video=[tile, tile], audio=[]))
    with pytest.raises(MediaError, match="in tiles"):
        choose_video(container, Path("a.heic"))


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    path = samples.mp3_with_cover(tmp_path / "a.mp3")
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(MediaError, match="only sound with cover art"):
        probe(path)


def test_probe_tells_what_is_in_a_film(tmp_path: Path) -> None:
    info = probe(samples.film(tmp_path / "a.mp4", seconds=2))
    assert (info.width, info.height, info.rate, info.frames) == (64, 48, 25, 50)
    assert info.duration == 2
    assert info.has_audio and not info.is_image
    assert info.codec == "h264"
    assert (1 / info.time_base) % 25 == 0


# ---- bad input


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (samples.empty, "a.mp4", "0 bytes"),
        (samples.text, "a.mp4", "not a media file"),
        (samples.text, "a.txt", "text file"),
        (samples.audio_only, "a.wav", "only sound"),
        (samples.audio_only, "a.m4a", "only sound"),
        (samples.unknown_codec, "a.mp4", "codec"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path: Path, make, name: str, words: str) -> None:
    path = make(tmp_path / name)
    with pytest.raises(MediaError, match=words) as caught:
        probe(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        probe(tmp_path / "nothing.mp4")
    with pytest.raises(MediaError, match="is a folder"):
        probe(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = samples.constant_rate(tmp_path / "a.mp4", frames=1)
    path.chmod(0)
    with pytest.raises(MediaError, match="permission denied"):
        probe(path)


def test_header_cut_off(tmp_path: Path) -> None:
    path = samples.without_header(samples.PARITY_CLIP, tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="beginning is damaged"):
        probe(path)


@pytest.mark.parametrize("share", [0.5, 0.97], ids=["no index", "half an index"])
def test_tail_cut_off_with_the_index_at_the_end(tmp_path: Path, share: float) -> None:
    path = samples.cut_off(samples.PARITY_CLIP, tmp_path / "a.mp4", share)
    with pytest.raises(MediaError, match="incomplete file"):
        probe(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_tail_cut_off_elsewhere_gives_the_frames_that_are_left(tmp_path: Path, suffix: str) -> None:
    whole = samples.constant_rate(tmp_path / f"whole{suffix}", frames=100)
    if suffix == ".mp4":
        whole = samples.with_index_first(whole, tmp_path / "index.mp4")
    with VideoReader(samples.cut_off(whole, tmp_path / f"cut{suffix}", 0.6)) as reader:
        frames = list(reader)
        assert any("cut off" in warning for warning in reader.warnings)
    assert 10 < len(frames) < 90
    assert numbers(frames)[:20] == list(range(min(20, len(frames))))  # the last ones may be torn


def test_whole_files_are_not_called_cut(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv", ".avi", ".ts", ".mov"):
        with VideoReader(samples.constant_rate(tmp_path / f"a{suffix}", frames=60)) as reader:
            assert len(list(reader)) == 60
            assert reader.warnings == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_flipped_bytes_are_skipped_or_told(tmp_path: Path, suffix: str) -> None:
    whole = samples.constant_rate(tmp_path / f"whole{suffix}", frames=60)
    outcomes = set()
    for seed in range(12):
        path = samples.flipped(whole, tmp_path / f"bad{suffix}", flips=25, seed=seed)
        try:
            frames = frames_of(path)
        except MediaError as error:
            assert "\n" not in str(error)
            outcomes.add("error")
        else:
            assert 0 < len(frames) <= 60
            assert [frame.index for frame in frames] == list(range(len(frames)))
            assert all(a.pts < b.pts for a, b in pairwise(frames))
            outcomes.add("frames")
    assert "frames" in outcomes


def test_damaged_packets_are_counted(tmp_path: Path) -> None:
    path = trashed(tmp_path, keep=lambda i: i % 10)
    with VideoReader(path) as reader:
        frames = list(reader)
        assert reader.skipped > 5
        assert f"packets skipped: {reader.skipped}" in reader.warnings[-1]
    assert 40 < len(frames) < 100


def test_a_file_that_is_mostly_damage_fails(tmp_path: Path) -> None:
    path = trashed(tmp_path, keep=lambda i: i < 20, frames=MIN_DAMAGED + 60)
    with pytest.raises(MediaError, match="too damaged"):
        frames_of(path)


def trashed(tmp_path: Path, keep, frames: int = 100) -> Path:
    """Intra-only video in which the packets that are not kept hold noise."""
    whole = tmp_path / "whole.mkv"
    images = [samples.numbered(i % 256) for i in range(frames)]
    samples.write(whole, samples.Pictures(images, codec="mpeg4", options={"g": "1"}))
    path = tmp_path / "bad.mkv"
    with av.open(str(whole)) as read, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        for index, packet in enumerate(p for p in read.demux() if p.dts is not None):
            if not keep(index):
                noise = np.random.default_rng(index).integers(0, 256, packet.size, np.uint8)
                packet.update(noise.tobytes())
            packet.stream = stream
            output.mux(packet)
    return path


# ---- resources


def test_leaving_early_frees_threads_and_files(tmp_path: Path) -> None:
    tasks, files = Path("/proc/self/task"), Path("/proc/self/fd")
    if not tasks.exists():
        pytest.skip("needs /proc to count threads and files")
    path = samples.constant_rate(tmp_path / "a.mp4", frames=60)
    frames_of(path)
    before = len(list(tasks.iterdir())), len(list(files.iterdir()))
    for _ in range(10):
        with VideoReader(path) as reader:
            assert next(iter(reader)).index == 0
        reader.close()
    assert (len(list(tasks.iterdir())), len(list(files.iterdir()))) == before


def test_a_failed_open_closes_the_file(tmp_path: Path) -> None:
    files = Path("/proc/self/fd")
    if not files.exists():
        pytest.skip("needs /proc to count files")
    path = samples.audio_only(tmp_path / "a.wav")
    before = len(list(files.iterdir()))
    for _ in range(5):
        with pytest.raises(MediaError):
            VideoReader(path)
    assert len(list(files.iterdir())) == before


PEAK = """
import resource, sys
from avsal.media import AudioReader, VideoReader
with VideoReader(sys.argv[1]) as video, AudioReader(sys.argv[1], video.origin) as audio:
    count = 0
    for frame in video:
        count += 1
        start = round((frame.pts - video.origin) * 16000)
        audio.read(start, start + 20000)
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    pytest.importorskip("resource")

    def peak(seconds: int) -> int:
        images = [samples.numbered(i % 256, 320, 240) for i in range(25)]
        wave = samples.tone(seconds, 44100, channels=2)
        path = samples.write(
            tmp_path / f"{seconds}.mp4",
            samples.Pictures(images * seconds, options={"preset": "ultrafast"}),
            samples.SoundTrack([(Fraction(0), wave)], 44100, "stereo", "aac"),
        )
        command = [sys.executable, "-c", PEAK, str(path)]
        root = Path(__file__).parents[1]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        count, kibibytes = map(int, done.stdout.split())
        assert count == 25 * seconds
        return kibibytes

    # 145 s more are 836 MB of pictures and 9 MB of sound.
    assert peak(150) - peak(5) < 30_000


# ---- the project's own clip and other people's


def test_decoded_frames_equal_the_goldens() -> None:
    golden = np.load(samples.PARITY_CLIP.parent / "golden" / "image_transform.npz")
    frames = frames_of(samples.PARITY_CLIP)
    assert len(frames) == 60
    for index in (0, 40):
        assert np.array_equal(frames[index].image, golden[f"frame.{index}"])


CLIPS = {  # name: width, height, frames, has sound
    "people_music_whitehouse.mp4": (640, 360, 275, True),
    "talking_head_makeup.avi": (320, 240, 164, True),
    "animation_bbb_0_30.webm": (1280, 720, 720, True),
    "rotated90_bbb.mp4": (1080, 1920, 45, True),
    "realshort_plant.mp4": (320, 240, 36, True),
    "sport_basketball_noaudio.mp4": (426, 240, 300, False),
}


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips(name: str) -> None:
    path = samples.SHARED_CLIPS / name
    if not path.exists():
        pytest.skip("the shared clips are not here")
    width, height, count, has_audio = CLIPS[name]
    with VideoReader(path) as reader:
        info = reader.info
        times = [frame.pts for frame in reader]
        assert reader.warnings == []
    assert (info.width, info.height, info.has_audio) == (width, height, has_audio)
    assert len(times) == count
    assert all(a < b for a, b in pairwise(times))
