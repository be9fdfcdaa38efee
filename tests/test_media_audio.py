"""Reading sound: formats, channels, the clock, changes on the way and damage."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import copies
import numpy as np
import pytest
import samples
from media_checks import RATE, click_times
from samples import SoundTrack

from avsal.errors import MediaError
from avsal.media import AudioReader, VideoReader, audio
from avsal.media.audio import to_mono
from avsal.media.resample import resample

EVERYTHING = 10**7  # samples; more than any file here has


def heard(path: Path, origin: Fraction | int = 0) -> np.ndarray:
    with AudioReader(path, origin) as reader:
        return reader.read(0, EVERYTHING)


def track(wave: np.ndarray, rate: int = RATE, start: float = 0, **options: str) -> SoundTrack:
    return SoundTrack([(Fraction(start).limit_denominator(RATE), wave)], rate, **options)


def pictures(frames: int = 25) -> samples.Pictures:
    return samples.Pictures([samples.numbered(i) for i in range(frames)])


def pictures_from(second: int) -> samples.Pictures:
    times = [second + Fraction(i, 25) for i in range(25)]
    return samples.Pictures([samples.numbered(i) for i in range(25)], times)


# ---- sample formats, rates and channels


def pcm16(wave: np.ndarray) -> np.ndarray:
    """The 16-bit samples that the published preprocessing would read."""
    return np.clip(np.rint(wave * 32768.0), -32768, 32767) / 32768


@pytest.mark.parametrize(
    ("codec", "tolerance"),
    [
        ("pcm_u8", 1 / 128),
        ("pcm_s16le", 1 / 32768),
        ("pcm_s24le", 1e-6),
        ("pcm_s32le", 1e-6),
        ("pcm_f32le", 1e-6),
        ("pcm_f64le", 1e-6),
        ("flac", 1 / 32768),
    ],
)
def test_sample_formats(tmp_path: Path, codec: str, tolerance: float) -> None:
    wave = samples.tone(1.0)
    path = samples.write(tmp_path / "a.mkv", sound=track(wave, codec=codec))
    result = heard(path)
    assert result.dtype == np.float32
    assert result.shape == (RATE,)
    assert np.abs(result - pcm16(wave[0])).max() <= tolerance


@pytest.mark.parametrize(
    "format", ["u8", "s16", "s32", "flt", "dbl", "u8p", "s16p", "s32p", "fltp"]
)
def test_mono_is_the_plain_average_in_every_layout_of_memory(format: str) -> None:
    left, right = samples.tone(0.1), samples.tone(0.1, hertz=1000)
    frame = av.AudioFrame.from_ndarray(
        np.concatenate([left, right]), format="fltp", layout="stereo"
    )
    frame.sample_rate = RATE
    (frame,) = av.AudioResampler(format=format).resample(frame)
    tolerance = {"u8": 1 / 100, "s16": 1e-4}.get(format.rstrip("p"), 1e-6)
    expected = (pcm16(left) + pcm16(right))[0] / 2
    assert np.abs(to_mono(frame) - expected).max() < tolerance


def test_full_scale_integers_and_too_loud_floats() -> None:
    loud = av.AudioFrame.from_ndarray(
        np.array([[-32768, 16384, 32767]], np.int16), format="s16", layout="mono"
    )
    assert to_mono(loud).tolist() == [-1, 0.5, np.float32(32767 / 32768)]
    over = av.AudioFrame.from_ndarray(
        np.array([[-1.5, 1.5]], np.float32), format="fltp", layout="mono"
    )
    assert to_mono(over).tolist() == [-1, np.float32(32767 / 32768)]


def test_what_is_no_number_is_silence() -> None:
    wave = np.array([[0.5, np.nan, np.inf, -np.inf]], np.float32)
    frame = av.AudioFrame.from_ndarray(wave, format="flt", layout="mono")
    assert to_mono(frame).tolist() == pytest.approx([0.5, 0, 1, -1], abs=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_rates_are_resampled_like_the_whole_signal(tmp_path: Path, rate: int) -> None:
    wave = samples.tone(2.0, rate)
    path = samples.write(tmp_path / "a.wav", sound=track(wave, rate, codec="pcm_f32le"))
    expected = resample(pcm16(wave[0]).astype(np.float32), rate)
    result = heard(path)
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < 1e-6


@pytest.mark.parametrize(("layout", "channels"), [("stereo", 2), ("5.1", 6), ("7.1", 8)])
def test_channels_are_averaged_and_not_mixed_down(
    tmp_path: Path, layout: str, channels: int
) -> None:
    wave = np.zeros((channels, RATE), np.float32)
    wave[0], wave[-1] = samples.tone(1.0)[0], samples.tone(1.0, hertz=1500)[0]
    path = samples.write(tmp_path / "a.mkv", sound=track(wave, layout=layout, codec="pcm_f32le"))
    assert np.abs(heard(path) - pcm16(wave).mean(axis=0)).max() < 1e-6


def test_eight_planes_are_read_without_overrun() -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, (8, 500)).astype(np.float32)
    packed = np.ascontiguousarray(wave.T.reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout="7.1")
    frame.sample_rate = RATE
    (planar,) = av.AudioResampler(format="fltp").resample(frame)
    assert planar.format.name == "fltp"
    assert np.abs(to_mono(planar) - pcm16(wave).mean(axis=0)).max() < 1e-6


# ---- the clock


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [
        (".mp4", "aac", 44100),
        (".mkv", "aac", 48000),
        (".mp4", "libmp3lame", 44100),
        (".mkv", "libmp3lame", 44100),
        (".avi", "libmp3lame", 44100),
        (".webm", "libopus", 48000),
        (".mp4", "libopus", 48000),
        (".mov", "pcm_s16le", 44100),
        (".mkv", "flac", 44100),
    ],
)
def test_sound_stays_where_it_belongs(tmp_path: Path, suffix: str, codec: str, rate: int) -> None:
    """Encoder delay, priming samples and edit lists must not move a click."""
    times = [0.3, 0.5, 0.9]
    sound = track(samples.clicks(1.2, rate, times), rate, codec=codec)
    video = None if suffix == ".webm" else pictures()
    found = click_times(heard(samples.write(tmp_path / f"a{suffix}", video, sound)))
    assert len(found) == 3
    # AVI and MP3 in MP4 store no encoder delay (LAME's is 1105 samples); Matroska counts ms.
    tolerance = 0.03 if codec == "libmp3lame" else 0.001
    assert np.abs(np.subtract(found, times)).max() < tolerance


def test_late_start_is_silence(tmp_path: Path) -> None:
    sound = track(samples.tone(0.5), start=0.7)
    result = heard(samples.write(tmp_path / "a.mkv", pictures(), sound))
    assert result.shape == (round(1.2 * RATE),)
    assert not result[: round(0.69 * RATE)].any()
    assert np.abs(result[round(0.7 * RATE) :] - samples.tone(0.5)[0]).max() < 1e-4


def test_gap_is_silence(tmp_path: Path) -> None:
    wave = samples.tone(0.512)
    parts = [(Fraction(0), wave), (Fraction(2), wave)]
    result = heard(samples.write(tmp_path / "a.mkv", sound=SoundTrack(parts)))
    assert result.shape == (round(2.512 * RATE),)
    assert np.abs(result[: wave.size] - wave[0]).max() < 1e-4
    assert not result[wave.size : 2 * RATE].any()
    assert np.abs(result[2 * RATE :] - wave[0]).max() < 1e-4


def test_overlap_is_trimmed(tmp_path: Path) -> None:
    """Where two stretches claim a time, the first one is heard."""
    first = track(samples.clicks(1.5, 44100, [0.25, 0.75, 1.25]), 44100, codec="aac")
    second = track(samples.clicks(1, 44100, [0.1, 0.75]), 44100, 1, codec="aac")
    path = samples.joined(tmp_path / "a.ts", [pictures(), pictures_from(1)], [first, second])
    with VideoReader(path) as video:
        found = click_times(heard(path, video.origin))
    assert np.abs(np.subtract(found, [0.25, 0.75, 1.25, 1.75])).max() < 0.001


def test_rounded_times_make_no_clicks(tmp_path: Path) -> None:
    """Matroska's milliseconds do not divide 1024 samples of 44.1 kHz."""
    wave = samples.tone(3.0, 44100)
    path = samples.write(tmp_path / "a.mkv", sound=track(wave, 44100))
    assert np.abs(heard(path) - resample(wave[0], 44100)).max() < 1e-4


def test_origin_is_sample_0_and_time_before_it_is_dropped(tmp_path: Path) -> None:
    path = samples.write(tmp_path / "a.mkv", sound=track(samples.clicks(2, RATE, [0.2, 1.25])))
    assert click_times(heard(path, Fraction(1))) == [0.25]
    assert heard(path, Fraction(1)).shape == (RATE,)
    assert click_times(heard(path, Fraction(-1))) == [1.2, 2.25]
    assert heard(path, Fraction(5)).size == 0


def test_sound_of_a_film_is_on_the_clock_of_its_frames(tmp_path: Path) -> None:
    path = samples.film(tmp_path / "a.mp4", seconds=2)
    with VideoReader(path) as video:
        found = click_times(heard(path, video.origin))
    assert np.abs(np.subtract(found, [0.5, 1.0, 1.5])).max() < 0.0005


def test_changes_of_rate_and_layout_on_the_way(tmp_path: Path) -> None:
    mono = track(samples.clicks(1, 44100, [0.25, 0.75]), 44100, codec="aac")
    stereo = track(
        samples.clicks(1, 32000, [0.25, 0.75], channels=2), 32000, 1, codec="aac", layout="stereo"
    )
    path = samples.joined(tmp_path / "a.ts", [pictures(), pictures_from(1)], [mono, stereo])
    with av.open(str(path)) as container:
        kinds = {(f.sample_rate, f.layout.nb_channels) for f in container.decode(audio=0)}
    assert kinds == {(44100, 1), (32000, 2)}
    with VideoReader(path) as video:
        found = click_times(heard(path, video.origin))
    assert np.abs(np.subtract(found, [0.25, 0.75, 1.25, 1.75])).max() < 0.001


# ---- streaming


def test_pieces_equal_the_whole_and_the_end_is_short(tmp_path: Path) -> None:
    path = samples.film(tmp_path / "a.mp4", seconds=3)
    whole = heard(path)
    with AudioReader(path) as reader:
        starts = range(0, whole.size + 3000, 1234)
        for start in starts:
            piece = reader.read(start, start + 5000)
            assert np.array_equal(piece, whole[start : start + 5000])
        assert reader.read(whole.size, whole.size + 10).size == 0


def test_what_is_not_released_can_be_read_again(tmp_path: Path) -> None:
    path = samples.write(tmp_path / "a.wav", sound=track(samples.tone(12)))
    whole = heard(path)
    with AudioReader(path) as reader:
        reader.read(10 * RATE, 11 * RATE)
        assert np.array_equal(reader.read(0, 100), whole[:100])
        reader.release(9 * RATE)
        with pytest.raises(ValueError, match="released"):
            reader.read(8 * RATE, 9 * RATE)
        with pytest.raises(ValueError, match="not a range"):
            reader.read(20, 10)


def test_reading_far_ahead_moves_every_sample_a_few_times_only(tmp_path, monkeypatch) -> None:
    """Joining what is held with every new block would cost the square of the length."""
    wave = samples.tone(60)
    path = samples.write(tmp_path / "long.wav", sound=track(wave))
    moved: list[int] = []
    plain = np.concatenate

    def concatenate(parts, *arguments, **options):
        joined = plain(parts, *arguments, **options)
        moved.append(joined.size)
        return joined

    monkeypatch.setattr(np, "concatenate", concatenate)
    with AudioReader(path) as reader:
        assert reader.read(58 * RATE, 59 * RATE).size == RATE
    assert sum(moved) < 6 * wave.size


def test_silence_of_hours_takes_no_memory_to_start(tmp_path: Path) -> None:
    path = samples.write(tmp_path / "a.mkv", sound=track(samples.tone(0.2), start=3 * 3600))
    with AudioReader(path) as reader:
        assert not reader.read(0, RATE).any()
        assert reader._end - reader._start < 4 * RATE


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "aac"),
        ("a.mkv", "aac"),
        ("a.ts", "aac"),
        ("a.mkv", "libopus"),
        ("a.mp4", "libmp3lame"),
        ("a.mkv", "ac3"),
        ("a.asf", "wmav2"),
        ("a.mov", "pcm_s16le"),
        ("a.mkv", "flac"),
    ],
)
def test_a_part_has_the_samples_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str
) -> None:
    """Bit for bit, though decoders fill in noise that depends on all that came before."""
    rate = 48000 if codec == "libopus" else 44100
    rng = np.random.default_rng(0)
    wave = rng.uniform(-0.5, 0.5, (2, rate * 20)).astype(np.float32)
    wave *= 0.1 + np.abs(np.sin(np.arange(rate * 20) / rate))
    options = {"bit_rate": 64_000} if codec in ("wmav2", "aac") else {}
    path = samples.write(
        tmp_path / name, sound=SoundTrack([(Fraction(0), wave)], rate, "stereo", codec, **options)
    )
    starts = [15 * RATE + 123, 7 * RATE + 1, 500]
    with AudioReader(path, Fraction(1, 3)) as reader:
        whole = reader.read(0, EVERYTHING)
    mixed: list[int] = []
    monkeypatch.setattr(
        audio, "to_mono", lambda frame, _power: mixed.append(frame.samples) or to_mono(frame)
    )
    for start in starts:
        mixed.clear()
        with AudioReader(path, Fraction(1, 3)) as reader:
            reader.release(start)
            assert np.array_equal(reader.read(start, start + RATE), whole[start : start + RATE])
            assert np.array_equal(reader.read(start + RATE, EVERYTHING), whole[start + RATE :])
        assert sum(mixed) < (20 - start / RATE + 3) * rate  # what comes before is only decoded


def test_a_part_after_a_change_of_rate(tmp_path: Path) -> None:
    parts = [
        track(samples.tone(8, rate), rate, 8 * i, codec="aac")
        for i, rate in enumerate((44100, 32000, 48000))
    ]
    images = [pictures_from(8 * i) for i in range(3)]
    path = samples.joined(tmp_path / "a.ts", images, parts)
    whole = heard(path, 1)
    assert whole.size == pytest.approx(24 * RATE, abs=3000)
    for start in (5, 7.9, 8.05, 12.3, 16.2, 21.7):
        place = round(start * RATE)
        with AudioReader(path, 1) as reader:
            reader.release(place)
            assert np.array_equal(reader.read(place, EVERYTHING), whole[place:])


# ---- files without sound, silence and damage


def test_a_rate_that_cannot_be_is_no_sound(tmp_path: Path) -> None:
    path = samples.write(tmp_path / "a.wav", sound=track(samples.tone(1)))
    data = bytearray(path.read_bytes())
    data[24:28] = (2**28).to_bytes(4, "little")  # samples per second
    path.write_bytes(data)
    with pytest.raises(MediaError, match="no sound that can be decoded"):
        AudioReader(path)


def test_no_sound_is_told(tmp_path: Path) -> None:
    path = samples.constant_rate(tmp_path / "a.mp4", frames=2)
    with pytest.raises(MediaError, match="has no sound"):
        AudioReader(path)


def test_a_silent_track_is_zero(tmp_path: Path) -> None:
    silence = np.zeros((2, RATE), np.float32)
    path = samples.write(
        tmp_path / "a.mp4", pictures(), track(silence, layout="stereo", codec="aac")
    )
    result = heard(path)
    assert result.size >= RATE
    assert not result.any()


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [(0.5, -0.5, 1), (0.5, -0.48, 1), (0.5, 0.5, 0), (0.5, 0, 0), (0.5, -0.3, 0), (1e-3, -1e-3, 0)],
)
def test_channels_that_cancel_each_other_are_told(
    tmp_path: Path, left: float, right: float, told: int
) -> None:
    wave = samples.tone(0.5, RATE, channels=2) * np.array([[2 * left], [2 * right]], np.float32)
    path = samples.write(tmp_path / "a.wav", sound=track(wave, layout="stereo"))
    with AudioReader(path) as reader:
        sound = reader.read(0, EVERYTHING)
        assert np.abs(sound).max() == pytest.approx(abs(left + right) / 2, abs=1e-4)
        assert sum("cancel each other" in note for note in reader.warnings) == told


def test_sound_alone_can_be_read(tmp_path: Path) -> None:
    for name in ("a.wav", "a.m4a", "a.mp3"):
        assert heard(samples.audio_only(tmp_path / name)).std() > 0.3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_damaged_sound_is_skipped(tmp_path: Path, suffix: str) -> None:
    sound = track(samples.tone(3, 44100), 44100, codec="aac")
    whole = samples.write(tmp_path / f"whole{suffix}", pictures(75), sound)
    read = 0
    for seed in range(8):
        path = copies.flipped(whole, tmp_path / f"bad{suffix}", flips=30, seed=seed, spare=0.2)
        try:
            result = heard(path)
        except MediaError:  # the container itself is broken
            continue
        assert np.isfinite(result).all()
        assert np.abs(result).max() <= 1
        read += 1
    assert read >= 4


def test_sound_that_is_mostly_damage_ends_in_silence_with_a_warning(tmp_path: Path) -> None:
    whole = samples.write(
        tmp_path / "whole.mp4", sound=track(samples.tone(6, 44100), 44100, codec="aac")
    )
    path = copies.mostly_noise(whole)
    with AudioReader(path) as reader:
        assert reader.read(0, EVERYTHING).size < 2 * RATE
        assert any("silence" in warning for warning in reader.warnings)
        assert "damaged packets of sound" in reader.warnings[-1]


def test_closing_early_is_fine(tmp_path: Path) -> None:
    path = samples.film(tmp_path / "a.mp4", seconds=3)
    reader = AudioReader(path)
    reader.read(0, 100)
    reader.close()
    reader.close()


# ---- the project's own clip and other people's


def test_decoded_sound_equals_the_golden_pcm() -> None:
    golden = np.load(samples.PARITY_CLIP.parent / "golden" / "audio_features.npz")
    pcm = golden["clip.pcm"]
    with av.open(str(samples.PARITY_CLIP)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    decoded = np.concatenate(frames, axis=1) * 32768
    assert decoded.shape == pcm.shape
    assert np.abs(decoded - pcm).max() <= 0.5  # nothing but the rounding to 16 bit
    expected = resample((pcm.astype(np.float32) / 32768).mean(axis=0), int(golden["clip.sr"]))
    result = heard(samples.PARITY_CLIP)
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < 2 / 32768


LENGTHS = {  # seconds of sound after the first frame, by the headers
    "people_music_whitehouse.mp4": 9.164,
    "talking_head_makeup.avi": 6.557,
    "animation_bbb_0_30.webm": 30.027,
    "rotated90_bbb.mp4": 1.922,
    "realshort_plant.mp4": 1.186,
    "dog_silent_audiotrack.mp4": 9.664,
}


@pytest.mark.parametrize("name", LENGTHS)
def test_real_clips(name: str) -> None:
    path = samples.SHARED_CLIPS / name
    if not path.exists():
        pytest.skip("the shared clips are not here")
    with VideoReader(path) as video:
        origin = video.origin
    result = heard(path, origin)
    assert result.size / RATE == pytest.approx(LENGTHS[name], abs=0.002)
    assert result.any() == ("silent" not in name)
