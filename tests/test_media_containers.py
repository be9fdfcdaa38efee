"""What real containers do to pictures: lost and empty packets, crops, orientation, sizes, times."""

from __future__ import annotations

import math
import random
import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import samples
from media_checks import frames_of, numbers

from avsal.errors import MediaError
from avsal.media import VideoReader, video
from avsal.media.clock import FrameClock

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


def summary(frames: list) -> list[tuple]:
    return [(frame.index, frame.pts, frame.duration) for frame in frames]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "mjpeg", "ffv1"])
def test_parts_of_damaged_files_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, suffix: str
) -> None:
    monkeypatch.setattr(video, "_SEEK_FROM", Fraction(0))
    monkeypatch.setattr(video, "_SEEK_MARGIN", Fraction(1, 2))
    choose = random.Random(codec)
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    images = [samples.numbered(i) for i in range(120)]
    options = {"g": "20", "threads": "1"}  # the same file however busy the machine is
    pictures = samples.Pictures(images, codec=codec, pix_fmt=pixels, options=options)
    whole = samples.write(tmp_path / f"whole{suffix}", pictures).read_bytes()
    path, compared = tmp_path / f"a{suffix}", 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(choose.choice((1, 3, 10))):
            at, size = (
                choose.randrange(len(data) // 10, len(data) * 9 // 10),
                choose.choice((1, 4, 99)),
            )
            data[at : at + size] = choose.randbytes(size)
        path.write_bytes(data)
        start, lead = round(choose.uniform(0.3, 4.5), 2), choose.choice((0, 3, 20))
        try:
            frames = summary(frames_of(path))
        except MediaError:  # its headers are damaged
            continue
        target = frames[0][1] + Fraction(str(start))
        first = sum(time < target for _, time, _ in frames)
        part = summary(frames_of(path, start=start, lead=lead))
        assert part == (frames[max(0, first - lead) :] if first < len(frames) else [])
        compared += len(part)
    assert compared > 500


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


# ---- orientation that the video stream carries itself


def annex_b(packet: av.Packet, message: bytes) -> bytes:
    """A packet's data with a SEI message before its first slice; HEVC with start codes."""
    data, start = bytes(packet), b"\0\0\1"
    at = 0
    while True:
        at = data.index(start, at)
        if data[at + 3] >> 1 & 0x3F < 32:  # a slice
            unit = bytes([39 << 1, 1]) + message + b"\x80"
            return data[:at] + start + unit + data[at:]
        at += 3


def hevc_with_orientation(path: Path, bits: str) -> Path:
    """HEVC in a transport stream with a display orientation SEI (Annex D) in its first picture."""
    padded = bits + "1" + "0" * (-(len(bits) + 1) % 8)
    payload = int(padded, 2).to_bytes(len(padded) // 8, "big")
    options = {"x265-params": "log-level=0:repeat-headers=1"}
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height = 64, 48
        packets = []
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(samples.numbered(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        first = packets[0]
        changed = av.Packet(annex_b(first, bytes([47, len(payload)]) + payload))
        changed.pts, changed.dts, changed.time_base = first.pts, first.dts, first.time_base
        changed.stream, changed.is_keyframe = stream, True
        for packet in [changed, *packets[1:]]:
            output.mux(packet)
    return path


def h264_with_orientation(path: Path, options: str) -> Path:
    """H.264 with a display orientation SEI in its first picture, of 40 in several GOPs."""
    whole = samples.constant_rate(path.with_name(f"whole{path.suffix}"), frames=40)
    with av.open(str(whole)) as read, av.open(str(path), "w") as output:
        source = read.streams.video[0]
        name = f"h264_metadata=display_orientation=insert:{options}"
        bits = av.bitstream.BitStreamFilterContext(name, source)
        stream = output.add_stream_from_template(source)
        for packet in read.demux(source):
            for changed in bits.filter(packet if packet.size else None):
                changed.stream = stream
                output.mux(changed)
    return path


ORIENTATIONS = {
    "rotate=90": lambda a: np.rot90(a, 1),
    "rotate=180": lambda a: a[::-1, ::-1],
    "rotate=270": lambda a: np.rot90(a, -1),
    "flip=horizontal": lambda a: a[:, ::-1],
    "flip=vertical": lambda a: a[::-1],
    "flip=vertical:rotate=90": lambda a: np.rot90(a[::-1], 1),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("options", ORIENTATIONS)
def test_orientation_in_the_stream_holds_for_all_its_pictures(
    tmp_path: Path, options: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = h264_with_orientation(tmp_path / f"a{suffix}", options)
    check_orientation(frames_of(path), 40, ORIENTATIONS[options])
    monkeypatch.setattr(video, "_SEEK_FROM", Fraction(0))
    (last,) = frames_of(path, start=1.56)
    check_orientation([last], 40, ORIENTATIONS[options])


@pytest.mark.parametrize(
    ("bits", "turned"),
    [
        (f"000{0x4000:016b}1", ORIENTATIONS["rotate=90"]),
        (f"010{0:016b}1", ORIENTATIONS["flip=horizontal"]),
        (f"001{0:016b}1", ORIENTATIONS["flip=vertical"]),
    ],
)
def test_orientation_in_hevc(tmp_path: Path, bits: str, turned) -> None:
    if "libx265" not in av.codecs_available:
        pytest.skip("this FFmpeg has no HEVC encoder")
    check_orientation(frames_of(hevc_with_orientation(tmp_path / "a.ts", bits)), 8, turned)


def check_orientation(frames: list, count: int, turned) -> None:
    for frame in frames:
        expected = turned(samples.numbered(count - len(frames) + frame.index - frames[0].index))
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).mean() < 14


@pytest.mark.parametrize(
    "matrix", [(1, 0, 0.8, 1), (1, 1.5, 0, 1), (0, 0, 0, 0), (1, 0, 0, 0), (0.2, 1, 0, 1)]
)
def test_a_matrix_that_is_no_rotation_is_named_and_ignored(tmp_path: Path, matrix) -> None:
    path = with_matrix(tmp_path / "a.mp4", *matrix)
    with VideoReader(path) as reader:
        frames = list(reader)
        (note,) = reader.warnings
    assert "neither a rotation nor a mirroring" in note
    assert reader.info.rotation == 0
    assert numbers(frames) == list(range(len(frames)))


@pytest.mark.parametrize("matrix", [(2, 0, 0, 1), (3, 0, 0, 3)])
def test_a_matrix_that_only_scales_turns_nothing(tmp_path: Path, matrix) -> None:
    with VideoReader(with_matrix(tmp_path / "a.mp4", *matrix)) as reader:
        frames = list(reader)
        assert reader.warnings == []
    assert reader.info.rotation == 0
    assert numbers(frames) == list(range(len(frames)))


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """An MP4 with any matrix in its track header, ISO/IEC 14496-12 section 8.3.2."""
    data = bytearray(samples.constant_rate(path, frames=5).read_bytes())
    fixed = [round(value * 2**16) for value in (a, b, 0, c, d, 0, 0, 0)]
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *fixed, 2**30)
    path.write_bytes(data)
    return path


# ---- crops


def with_clean_aperture(source: Path, path: Path, width: int, height: int) -> Path:
    """An MP4 with a `clap` box, ISO/IEC 14496-12 section 12.1.4; its centre is 8 right, 4 up."""
    data = bytearray(source.read_bytes())
    box = struct.pack(">I4s4IiIiI", 40, b"clap", width, 1, height, 1, 8, 1, -8, 2)
    entry = data.index(b"avc1", data.index(b"stsd")) - 4
    end = entry + struct.unpack_from(">I", data, entry)[0]
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(kind, data.index(b"moov")) - 4
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(box))
    assert data.index(b"moov") > data.index(b"mdat")  # so that no sample moves
    data[end:end] = box
    path.write_bytes(data)
    return path


def remuxed(source: Path, path: Path) -> Path:
    with av.open(str(source)) as read, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_crop_of_a_container_is_applied(tmp_path: Path, suffix: str) -> None:
    images = [samples.numbered(number, 96, 64) for number in range(5)]
    whole = samples.write(tmp_path / "whole.mp4", samples.Pictures(images))
    cropped = with_clean_aperture(whole, tmp_path / "cropped.mp4", 40, 24)
    path = cropped if suffix == ".mp4" else remuxed(cropped, tmp_path / f"a{suffix}")
    if suffix == ".mkv" and b"\x54\xcc" not in path.read_bytes():
        pytest.skip("this FFmpeg writes no PixelCrop")
    with VideoReader(path) as reader:
        frames = list(reader)
    assert (reader.info.width, reader.info.height) == (40, 24)
    for frame, image in zip(frames, images, strict=True):
        expected = image[16:40, 36:76]  # the middle of 96x64, 8 right and 4 up
        assert np.abs(frame.image.astype(int) - expected).mean() < 14


@pytest.mark.parametrize("size", [(200, 24), (0, 24), (40, 500)])
def test_a_crop_that_is_no_part_of_the_picture_is_ignored(tmp_path: Path, size) -> None:
    whole = samples.constant_rate(tmp_path / "whole.mp4", frames=3)
    path = with_clean_aperture(whole, tmp_path / "a.mp4", *size)
    with VideoReader(path) as reader:
        assert {frame.image.shape for frame in reader} == {(48, 64, 3)}
        (note,) = reader.warnings
    assert "crop" in note


# ---- sizes that change


def test_portrait_after_landscape_is_fitted_into_the_first_size(tmp_path: Path) -> None:
    parts = [
        samples.Pictures([np.full((48, 64, 3), 200, np.uint8)] * 10),
        samples.Pictures(
            [np.full((64, 48, 3), 200, np.uint8)] * 10, [Fraction(10 + i, 25) for i in range(10)]
        ),
    ]
    with VideoReader(samples.joined(tmp_path / "a.ts", parts)) as reader:
        frames = list(reader)
        assert any("changes from 64x48 to 48x64" in note for note in reader.warnings)
    assert len(frames) == 20
    for frame in frames[10:]:
        assert frame.image.shape == (48, 64, 3)
        columns = frame.image.mean(axis=(0, 2))
        assert columns[:14].max() < 20 and columns[50:].max() < 20  # 36 of 64 columns in the middle
        assert columns[15:49].min() > 180


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_pixels_of_another_shape_are_fitted_into_the_first(tmp_path: Path, codec: str) -> None:
    white = [np.full((48, 64, 3), 200, np.uint8)] * 10
    wide = tmp_path / "wide.ts"
    samples.joined(
        wide,
        [
            samples.Pictures(white, codec=codec, aspect=Fraction(1)),
            samples.Pictures(
                white, [Fraction(10 + i, 25) for i in range(10)], codec=codec, aspect=Fraction(4, 3)
            ),
        ],
    )
    with VideoReader(wide) as reader:
        frames = list(reader)
        assert reader.warnings == [
            f"{wide}: the shape of the picture's pixels changes at 0.4 s; all pictures are fitted "
            "into the first shape"
        ]
    rows = np.array([frame.image.mean(axis=(1, 2)) for frame in frames])
    assert rows.shape == (20, 48) and rows[:10].min() > 180
    assert rows[10:, 7:41].min() > 180  # 36 of 48 rows in the middle
    assert rows[10:, :5].max() < 20 and rows[10:, 43:].max() < 20


def test_the_same_proportions_need_no_bars(tmp_path: Path) -> None:
    parts = [
        samples.Pictures([samples.numbered(i) for i in range(5)]),
        samples.Pictures(
            [samples.numbered(i, 128, 96) for i in range(5, 10)],
            [Fraction(i, 25) for i in range(5, 10)],
        ),
    ]
    frames = frames_of(samples.joined(tmp_path / "a.ts", parts))
    assert numbers(frames) == list(range(10))
    assert frames[9].image.shape == (48, 64, 3)
    assert frames[9].image[:, -4:].max() > 30  # no black at the edge


# ---- times


def test_frames_before_time_0_in_matroska_keep_their_times() -> None:
    with VideoReader(MEDIA / "negative_times.mkv") as reader:
        frames = list(reader)
    assert [frame.pts for frame in frames] == [Fraction(i - 50, 100) for i in range(0, 400, 4)]


@pytest.mark.parametrize("container", ["vob", "mpeg"])
def test_one_repeated_time_is_not_a_missing_clock(tmp_path: Path, container: str) -> None:
    images = [samples.moving_noise(i, 160, 96) for i in range(60)]
    pictures = samples.Pictures(images, codec="mpeg2video", options={"g": "12", "b": "800000"})
    with VideoReader(samples.write(tmp_path / "a.mpg", pictures, container=container)) as reader:
        frames = list(reader)
        assert reader.warnings == []
    assert len(frames) == 60


def test_a_double_time_between_others_is_mended_without_a_word() -> None:
    clock = FrameClock(Fraction(1, 1000), Fraction(1, 25))
    times = [clock.time(pts) for pts in (0, 40, 80, 80, 160, 200)]
    assert times == [Fraction(i, 25) for i in range(6)]
    assert not clock.synthesised
    assert [clock.time(None) for _ in range(2)] == [Fraction(6, 25), Fraction(7, 25)]
    assert clock.synthesised
