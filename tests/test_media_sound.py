"""Sound on its way into a written video: copied or encoded, in step, cut with the pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import copies
import numpy as np
import pytest
import samples
from media_checks import click_times, copy, frames_of, numbers, sound_of, times_of

from avsal.errors import MediaError
from avsal.media import AudioReader, VideoWriter, probe, remux


def audio_codec(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.audio[0].codec_context.codec.canonical_name


# ---- sound


def test_sound_is_copied_bit_by_bit(tmp_path: Path) -> None:
    source = samples.film(tmp_path / "a.mp4", seconds=2)

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    for suffix in (".mp4", ".mov"):
        out = copy(source, tmp_path / f"b{suffix}")
        assert packets(out) == packets(source)
        assert np.array_equal(sound_of(out), sound_of(source))
        assert times_of(out) == times_of(source)


def test_sound_in_matroska_stays_to_the_millisecond(tmp_path: Path) -> None:
    source = samples.film(tmp_path / "a.mp4", seconds=2)
    out = copy(source, tmp_path / "b.mkv")
    assert times_of(out) == times_of(source)
    assert (
        np.abs(np.subtract(click_times(sound_of(out)), click_times(sound_of(source)))).max()
        <= 0.001
    )


@pytest.mark.parametrize(
    ("suffix", "codec", "name", "rate"),
    [
        (".mkv", "pcm_s16le", "pcm_s16le", 44100),
        (".mov", "pcm_s16le", "pcm_s16le", 44100),
        (".mp4", "libmp3lame", "mp3", 44100),
        (".mkv", "libopus", "opus", 48000),
        (".webm", "libopus", "opus", 48000),
        (".mp4", "libopus", "opus", 48000),
        (".mkv", "flac", "flac", 48000),
    ],
)
def test_what_the_container_takes_is_copied(
    tmp_path: Path, suffix: str, codec: str, name: str, rate: int
) -> None:
    source = film_with(tmp_path / "a.mkv", codec, rate)
    out = copy(source, tmp_path / f"b{suffix}")
    assert audio_codec(out) == name
    assert (
        np.abs(np.subtract(click_times(sound_of(out)), click_times(sound_of(source)))).max()
        <= 0.001
    )


@pytest.mark.parametrize(
    ("codec", "rate", "layout"),
    [
        ("pcm_s16le", 44100, "mono"),
        ("pcm_u8", 11025, "stereo"),
        ("pcm_f32le", 50000, "5.1"),
        ("libmp3lame", 11025, "mono"),  # of which MP4 takes no rates below 16 kHz
    ],
)
@pytest.mark.parametrize(("suffix", "name"), [(".mp4", "aac"), (".webm", "opus")])
def test_what_a_container_does_not_take_is_encoded_in_time(
    tmp_path: Path, codec: str, rate: int, layout: str, suffix: str, name: str
) -> None:
    source = film_with(tmp_path / "a.mkv", codec, rate, layout)
    out = copy(source, tmp_path / f"b{suffix}")
    assert audio_codec(out) == name
    assert np.abs(np.subtract(click_times(sound_of(out)), [0.5, 1.0, 1.5])).max() <= 0.002
    assert sound_of(out).size == pytest.approx(2 * 16000, abs=1100)


def test_webm_without_an_encoder_for_its_sound_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(remux._ENCODERS, "webm", ("no_such_encoder", frozenset()))
    source = film_with(tmp_path / "a.mkv", "aac", 44100)
    with pytest.raises(MediaError, match=r"no encoder no_such_encoder for the sound.*\.mp4"):
        copy(source, tmp_path / "b.webm")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def film_with(path: Path, codec: str, rate: int, layout: str = "mono", start: float = 0) -> Path:
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    wave = samples.clicks(2 - start, rate, np.array([0.5, 1.0, 1.5]) - start, channels)
    sound = samples.SoundTrack([(Fraction(start), wave)], rate, layout, codec)
    return samples.write(path, samples.Pictures([samples.numbered(i) for i in range(50)]), sound)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_a_late_sound_stays_late(tmp_path: Path, codec: str) -> None:
    source = film_with(tmp_path / "a.mkv", codec, 44100, start=0.25)
    for suffix in (".mp4", ".mkv", ".webm"):
        out = copy(source, tmp_path / f"b{suffix}")
        assert np.abs(np.subtract(click_times(sound_of(out)), [0.5, 1.0, 1.5])).max() <= 0.002
        assert not sound_of(out)[: round(0.2 * 16000)].any()


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "pcm_s16le"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_trimming_cuts_the_sound_too(tmp_path: Path, codec: str, suffix: str) -> None:
    source = film_with(tmp_path / "a.mkv", codec, 44100)
    out = copy(source, tmp_path / f"b{suffix}", start=0.4, end=1.2)
    assert numbers(frames_of(out)) == list(range(10, 30))
    assert times_of(out) == [Fraction(i, 25) for i in range(20)]
    expected = [time - 0.4 for time in click_times(sound_of(source)) if 0.4 < time < 1.2]
    assert np.abs(np.subtract(click_times(sound_of(out)), expected)).max() <= 0.002
    assert sound_of(out).size <= (0.8 + 0.06) * 16000
    assert probe(out).duration == pytest.approx(0.8, abs=0.001)


def test_sound_longer_than_the_pictures_is_kept_whole(tmp_path: Path) -> None:
    wave = samples.tone(4, 44100)
    sound = samples.SoundTrack([(Fraction(0), wave)], 44100, codec="aac")
    pictures = samples.Pictures([samples.numbered(i) for i in range(25)])
    source = samples.write(tmp_path / "a.mp4", pictures, sound)
    out = copy(source, tmp_path / "b.mp4")
    assert sound_of(out).size == sound_of(source).size >= 4 * 16000


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_broadcast_clock_starts_at_0_with_sound_in_step(tmp_path: Path, suffix: str) -> None:
    times = [Fraction(1000) + Fraction(i, 25) for i in range(50)]
    pictures = samples.Pictures([samples.numbered(i) for i in range(50)], times)
    wave = samples.clicks(2, 44100, [0.5, 1.0, 1.5])
    sound = samples.SoundTrack([(Fraction(1000), wave)], 44100, codec="aac")
    source = samples.write(tmp_path / "a.ts", pictures, sound)
    assert times_of(source)[0] >= 1000
    out = copy(source, tmp_path / f"b{suffix}")
    assert times_of(out)[0] < 1
    assert np.abs(np.subtract(click_times(sound_of(out)), [0.5, 1.0, 1.5])).max() <= 0.001


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize(
    ("codec", "rate", "layout"),
    [("aac", 48000, "mono"), ("aac", 44100, "5.1"), ("mp2", 32000, "mono")],
)
def test_sound_that_changes_its_rate_or_channels_keeps_its_pitch(
    tmp_path: Path, codec: str, rate: int, layout: str, suffix: str
) -> None:
    """As where broadcasts are joined; other containers have one rate and layout for all."""
    hertz, tracks = (440, 880), []
    for tone, (own_rate, own_layout) in zip(hertz, ((44100, "mono"), (rate, layout)), strict=True):
        wave = samples.tone(1, own_rate, tone, channels=6 if own_layout == "5.1" else 1)
        start = Fraction(len(tracks))
        tracks.append(samples.SoundTrack([(start, wave)], own_rate, own_layout, codec))
    images = [samples.numbered(i) for i in range(50)]
    times = [Fraction(i, 25) for i in range(50)]
    parts = [samples.Pictures(images[own], times[own]) for own in (slice(25), slice(25, 50))]
    source = samples.joined(tmp_path / "a.ts", parts, tracks)
    sound = sound_of(copy(source, tmp_path / f"b{suffix}"))
    for second, tone in enumerate(hertz):
        middle = sound[round((second + 0.3) * 16000) :][: 16000 // 2]
        assert np.abs(np.fft.rfft(middle)).argmax() * 2 == tone
    assert sound.size == pytest.approx(2 * 16000, abs=2000)


def test_a_video_without_sound_gives_one_without(tmp_path: Path) -> None:
    source = samples.constant_rate(tmp_path / "a.mp4", frames=3)
    assert not probe(copy(source, tmp_path / "b.mp4")).has_audio


def test_damaged_sound_does_not_cost_the_pictures(tmp_path: Path) -> None:
    whole = film_with(tmp_path / "a.mkv", "aac", 44100)
    written = 0
    for seed in range(6):
        bad = copies.flipped(whole, tmp_path / "bad.mkv", flips=4, seed=seed, spare=0.3)
        try:
            out = copy(bad, tmp_path / f"{seed}.mp4")
        except MediaError:
            continue
        written += len(times_of(out)) > 30
    assert written >= 3
    assert not list(tmp_path.glob(".*partial*"))


def test_sound_that_begins_late_is_kept(tmp_path: Path) -> None:
    """FFmpeg looks at the beginning of a transport stream only and tells no sample rate."""
    wave = samples.clicks(3, 44100, [1, 2], channels=2)
    track = samples.SoundTrack([(Fraction(20), wave)], 44100, "stereo", "aac")
    pictures = samples.Pictures([samples.numbered(i) for i in range(24)], rate=1)
    source = samples.write(tmp_path / "a.ts", pictures, track)
    with av.open(str(source)) as container:
        assert container.streams.audio[0].codec_context.sample_rate == 0
    out = copy(source, tmp_path / "b.mp4")
    assert audio_codec(out) == "aac"
    assert click_times(sound_of(out)) == pytest.approx([21, 22], abs=0.002)


def test_sound_that_never_begins_is_left_out(tmp_path: Path) -> None:
    path = samples.film(tmp_path / "a.ts", seconds=1)
    data = bytearray(path.read_bytes())
    for packet in range(0, len(data), 188):
        if int.from_bytes(data[packet + 1 : packet + 3], "big") & 0x1FFF == 0x101:  # the sound's
            data[packet + 30 : packet + 188] = bytes(158)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.sample_rate == 0
    out = tmp_path / "b.mp4"
    frames = frames_of(path)
    with VideoWriter(out, 64, 48, audio_from=path) as writer:
        for frame in frames:
            writer.write(frame.image, frame.pts, frame.duration)
    assert writer.warnings == [f"{path}: its sound cannot be decoded and is omitted"]
    assert not probe(out).has_audio
    assert len(times_of(out)) == 25


# ---- other people's clips


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("people_music_whitehouse.mp4", marks=pytest.mark.slow),
        pytest.param("rotated90_bbb.mp4", marks=pytest.mark.slow),
        "talking_head_makeup.avi",
    ],
)
def test_real_clips_keep_times_and_sound(tmp_path: Path, name: str) -> None:
    source = samples.SHARED_CLIPS / name
    if not source.exists():
        pytest.skip("the shared clips are not here")
    out = copy(source, tmp_path / "a.mp4")
    assert times_of(out) == times_of(source)
    first, second = sound_of(source), sound_of(out)
    assert abs(first.size - second.size) <= 16
    common = min(first.size, second.size)
    assert np.corrcoef(first[:common], second[:common])[0, 1] > 0.999


def test_a_frame_without_a_time_follows_the_one_before(tmp_path: Path) -> None:
    """WMA's decoder gives one when it is flushed; at 0 the muxer would refuse it."""
    wave = samples.clicks(2, 44100, [0.5, 1.0, 1.5], channels=2)
    sound = samples.SoundTrack([(Fraction(0), wave)], 44100, "stereo", "wmav2", bit_rate=128_000)
    pictures = samples.Pictures(
        [samples.numbered(i) for i in range(50)], codec="msmpeg4", options={"b": "2M"}
    )
    source = samples.write(tmp_path / "a.asf", pictures, sound)
    with av.open(str(source)) as container:
        (*_, last) = container.decode(audio=0)
    assert last.pts is None
    for suffix in (".mp4", ".mkv", ".mov"):
        out = copy(source, tmp_path / f"b{suffix}")
        assert sound_of(out).size == pytest.approx(2 * 16000, abs=1700)
        assert click_times(sound_of(out)) == pytest.approx(click_times(sound_of(source)), abs=0.002)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mkv", "libmp3lame"), (".mp4", "libmp3lame"), (".mkv", "ac3")]
)
def test_the_first_packet_is_kept(tmp_path: Path, suffix: str, codec: str) -> None:
    """It lies before time 0, and what comes after it cannot be decoded without."""
    wave = samples.clicks(2, 44100, [0.05, 1.0])
    pictures = samples.Pictures([samples.numbered(i) for i in range(50)])
    sound = samples.SoundTrack([(Fraction(0), wave)], 44100, codec=codec)
    source = samples.write(tmp_path / f"a{suffix}", pictures, sound)
    outputs = [tmp_path / "b.mp4", tmp_path / "b.mov", *([tmp_path / "b.mkv"] * (suffix == ".mkv"))]
    for out in outputs:
        assert times_of(copy(source, out)) == times_of(source)
        expected = click_times(sound_of(source))
        assert len(expected) == 2
        assert click_times(sound_of(out)) == pytest.approx(expected, abs=0.001)


def test_other_sound_tracks_are_told(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        tracks = [output.add_stream("aac", rate=44100, layout="mono") for _ in range(3)]
        for track, language in zip(tracks, ("eng", "deu", "fra"), strict=True):
            track.metadata["language"] = language
        tracks[1].disposition = av.stream.Disposition.default
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(samples.numbered(index), format="rgb24")
            frame.pts = index
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for track in tracks:
            sound = av.AudioFrame.from_ndarray(samples.tone(1, 44100), "fltp", "mono")
            sound.sample_rate, sound.pts = 44100, 0
            output.mux(track.encode(sound))
            output.mux(track.encode(None))
    note = f"{source}: has 3 sound tracks; only track 2 (deu) is used"
    with AudioReader(source) as reader:
        assert reader.warnings == [note]
    with VideoWriter(tmp_path / "b.mp4", 64, 48, audio_from=source) as writer:
        writer.write(samples.numbered(0), Fraction(0), Fraction(1, 25))
    assert writer.warnings == [note]
