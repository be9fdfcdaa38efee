"""Reading frames: times, seeking, orientation, sizes and names."""

from __future__ import annotations

import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import samples
from media_checks import frames_of, numbers
from PIL import Image

from avsal.errors import MediaError
from avsal.media import VideoReader, probe, video
from avsal.media.clock import FrameClock

TICK = Fraction(1, 12800)
IRREGULAR = [k * TICK for k in (0, 512, 600, 2000, 9000, 9512, 9513, 20000)]


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
    assert "25 frames per second" in warning


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
        assert any("clock" in warning for warning in reader.warnings)


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
    with VideoReader(path, start=3.0, lead=lead) as reader:
        frames = list(reader)
        # One frame to open, then from the keyframe before; the way there was not decoded.
        assert reader._decoder.decoded < 120 - first + lead + 30
    assert [frame.index for frame in frames] == list(range(first - lead, 120))
    assert numbers(frames) == list(range(first - lead, 120))
    assert [frame.pts for frame in frames[lead:]] == [frame.pts for frame in expected]


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


def test_packets_without_a_frame_prolong_the_one_before(tmp_path: Path) -> None:
    path = samples.hidden_frames(
        tmp_path / "a.avi", frames=20, hidden=[3, 4, 5, 12, *range(15, 20)]
    )
    with VideoReader(path) as reader:
        frames = list(reader)
    shown = [0, 1, 2, 6, 7, 8, 9, 10, 11, 13, 14]
    assert [frame.pts for frame in frames] == [Fraction(index, 10) for index in shown]
    assert [samples.number_of(frame.image) for frame in frames] == shown
    ends = [*shown[1:], 20]
    lasting = [Fraction(end - index, 10) for index, end in zip(shown, ends, strict=True)]
    assert [frame.duration for frame in frames] == lasting
    assert reader.warnings == []


@pytest.mark.parametrize(
    ("name", "count", "last", "end", "note"),
    [
        ("0477_oneminute.avi", 348, 823, 849, None),
        ("0476_2004-12-17-uebung9-partial.avi", 35, 158, 161, "cut off"),
    ],
)
def test_recordings_of_a_screen(name: str, count: int, last: int, end: int, note: str) -> None:
    path = samples.SHARED_REPRODUCERS / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with VideoReader(path) as reader:
        for number, frame in enumerate(reader, 1):  # noqa: B007
            pass
    assert (number, frame.pts) == (count, Fraction(last, 15))
    assert frame.pts + frame.duration == Fraction(end, 15)
    assert any("cut off" in line for line in reader.warnings) == bool(note)


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


def test_the_frame_is_trusted_over_the_header_and_the_first_size_holds(tmp_path: Path) -> None:
    with VideoReader(samples.changing_size(tmp_path / "a.ts")) as reader:
        frames = list(reader)
        (note,) = reader.warnings
    assert numbers(frames) == list(range(20))
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert "changes from 64x48 to 96x80 at 0.4 s" in note


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


def test_a_stream_that_is_announced_twice_is_read(tmp_path: Path) -> None:
    """As where a recording was begun again: Matroska has more streams then, which stay empty."""
    path = samples.constant_rate(tmp_path / "a.mkv", frames=5)
    data = path.read_bytes()
    cluster = data.index(bytes.fromhex("1f43b675"))
    path.write_bytes(data[:cluster] + data)
    with av.open(str(path)) as container:
        first, *others = container.streams.video
        assert first.duration is None
        assert any(other.duration is not None for other in others)
    assert numbers(frames_of(path)) == list(range(5))


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
