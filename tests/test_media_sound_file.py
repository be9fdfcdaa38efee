"""One opened file, two readers of its sound: each gets what it would get alone."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import copies
import numpy as np
import pytest
import samples
from media_checks import frames_of

from avsal.errors import MediaError
from avsal.media import AudioReader, VideoWriter
from avsal.media.decoding import Decoder
from avsal.media.resample import SAMPLE_RATE
from avsal.media.sound import SoundFile, SoundQueue

STEP = SAMPLE_RATE // 10  # samples while a picture is shown


def noise(seconds: float, rate: int, channels: int) -> np.ndarray:
    wave = np.random.default_rng(0).standard_normal((channels, round(seconds * rate)))
    return (0.2 * wave).astype(np.float32)


def with_sound(path: Path, codec: str, seconds: float = 3, start: int = 0) -> Path:
    track = samples.SoundTrack(
        [(Fraction(start), noise(seconds, 48000, 2))], 48000, "stereo", codec
    )
    images = [samples.numbered(i % 256) for i in range(round(10 * (start + seconds)))]
    return samples.write(path, samples.Pictures(images, rate=10), track)


def packets_of(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(audio=0)]


def copy(
    source: Path,
    out: Path,
    sound: SoundFile | None = None,
    origin: int = 0,
    start: int | None = None,
) -> np.ndarray | None:
    """Write the pictures from `start` on with their sound; return what is read beside, if any.

    That is 2 seconds of sound from `origin` on, 0.5 s ahead of each picture, and nothing after it.
    """
    frames = frames_of(source, start=start)
    blocks = []
    with VideoWriter(out, 64, 48, audio_from=sound or source, trim=start is not None) as writer:
        reader = AudioReader(sound, origin) if sound else None
        first = (start or 0) * SAMPLE_RATE
        if reader is not None:
            reader.release(first)
        for count, frame in enumerate(frames):
            place = first + count * STEP
            if reader is not None and count < 20:
                blocks.append(reader.read(place, place + 5 * STEP)[:STEP])
                reader.release(place + STEP)
            elif reader is not None:
                reader.close()
            writer.write(frame.image, frame.pts, frame.duration)
    return np.concatenate(blocks) if blocks else None


@pytest.mark.parametrize(
    ("name", "codec", "start"),
    [
        ("a.mp4", "aac", 0),
        ("a.mkv", "pcm_s16le", 0),  # becomes AAC
        ("a.mkv", "libopus", 0),
        ("late.ts", "aac", 20),  # FFmpeg does not tell its rate, so the first frame is looked for
    ],
)
def test_each_reader_gets_what_it_would_get_alone(
    tmp_path: Path, name: str, codec: str, start: int
) -> None:
    source = with_sound(tmp_path / name, codec, start=start)
    with av.open(str(source)) as container:
        assert (container.streams.audio[0].codec_context.sample_rate == 0) == (start > 0)
    copy(source, tmp_path / "alone.mp4")
    shared = copy(source, tmp_path / "shared.mp4", SoundFile(source), origin=start)
    assert packets_of(tmp_path / "shared.mp4") == packets_of(tmp_path / "alone.mp4")
    with AudioReader(source, start) as reader:
        assert np.array_equal(shared, reader.read(0, shared.size))
    assert np.abs(shared).max() > 0.1


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_the_way_to_a_part_does_not_wait(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reader decodes the way, the other keeps nothing of it."""
    waited = [0]
    real = SoundQueue.add

    def add(queue: SoundQueue, read: Any) -> None:
        real(queue, read)
        waited.append(len(queue.waiting))

    monkeypatch.setattr(SoundQueue, "add", add)
    source = with_sound(tmp_path / name, "aac", seconds=45)
    copy(source, tmp_path / "alone.mp4", start=40)
    shared = copy(source, tmp_path / "shared.mp4", SoundFile(source), start=40)
    assert max(waited) < 6 * 48000 / 1024  # seconds of AAC
    assert packets_of(tmp_path / "shared.mp4") == packets_of(tmp_path / "alone.mp4")
    with AudioReader(source) as reader:
        reader.release(40 * SAMPLE_RATE)
        assert np.array_equal(shared, reader.read(40 * SAMPLE_RATE, 42 * SAMPLE_RATE))


def test_nothing_waits_or_is_decoded_for_a_reader_that_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    real = Decoder.decode
    monkeypatch.setattr(
        Decoder, "decode", lambda self, packet: decoded.append(packet) or real(self, packet)
    )
    file = SoundFile(with_sound(tmp_path / "a.mp4", "aac"))
    copier, listener = file.queue(), file.queue()
    packets = copier.packets()
    assert next(packets).size
    assert (len(listener.waiting), len(decoded)) == (1, 1)
    listener.close()
    assert len(list(packets)) > 100
    assert (len(listener.waiting), len(decoded)) == (0, 1)


def test_sound_that_cannot_be_decoded_is_still_copied(tmp_path: Path) -> None:
    source = copies.mostly_noise(with_sound(tmp_path / "a.mp4", "aac", seconds=8))
    copier = (file := SoundFile(source)).queue()
    with AudioReader(file) as reader:
        assert reader.read(0, 8 * SAMPLE_RATE).size < 2 * SAMPLE_RATE
        assert any("silence" in warning for warning in reader.warnings)
    assert [bytes(p) for p in copier.packets()] == [p for _pts, p in packets_of(source)]


def test_the_end_of_a_broken_file_is_told_to_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self):
        yield from itertools.islice(real(self), 5)
        raise MediaError("gone")

    real = Decoder.packets
    monkeypatch.setattr(Decoder, "packets", broken)
    file = SoundFile(with_sound(tmp_path / "a.mp4", "aac"))
    copier, listener = file.queue(), file.queue()
    for read in (copier.packets(), listener.frames()):
        assert next(read)
        with pytest.raises(MediaError, match="gone"):
            list(read)
