"""Sound whose channels have an order of their own, which the process has to survive."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import samples
from media_checks import RATE

from avsal.media import AudioReader, VideoWriter
from avsal.media.sound import SoundFile

# Layout tags of Core Audio (QuickTime and CAF) in the orders of film: L C R Ls Rs LFE and others.
FILM = {5: 6, 120: 5, 121: 6, 122: 6, 123: 6, 124: 6, 125: 7, 126: 8, 127: 8, 128: 8}
NATIVE = {5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
HERE = Path(__file__).parent

COPY = """
import sys
sys.path[:0] = ["tests", "."]
from fractions import Fraction
from pathlib import Path
import numpy as np
import samples
from avsal.media import AudioReader, VideoWriter
for name in sys.argv[1:]:
    source = Path(name)
    for suffix in (".mp4", ".mov", ".mkv"):
        out = source.with_name(f"{source.stem}_out{suffix}")
        with VideoWriter(out, 64, 48, audio_from=source) as writer:
            for index in range(5):
                writer.write(samples.numbered(index), Fraction(index, 25), Fraction(1, 25))
        with AudioReader(out) as reader:
            assert reader.read(0, 10**7).any(), out
    with AudioReader(source) as reader:
        np.save(source.with_suffix(".npy"), reader.read(0, 10**7))
print("survived")
"""


def apart(channels: int) -> np.ndarray:
    """Another tone in every channel, of another loudness; (channels, n)."""
    tones = [
        samples.tone(0.5, hertz=300 + 100 * i)[0] * (i + 1) / channels for i in range(channels)
    ]
    return np.stack(tones)


def in_film_order(
    path: Path, tag: int, codec: str = "pcm_s16le", wave: np.ndarray | None = None
) -> Path:
    """Sound in QuickTime or CAF whose `chan` box names a layout by its number."""
    channels = FILM[tag]
    wave = apart(channels) if wave is None else wave
    track = samples.SoundTrack([(Fraction(0), wave)], RATE, NATIVE[channels], codec)
    samples.write(path, sound=track)
    data = bytearray(path.read_bytes())
    place = data.index(b"chan") + (8 if path.suffix == ".mov" else 12)  # past version or size
    data[place : place + 12] = (tag << 16 | channels).to_bytes(4, "big") + bytes(8)
    path.write_bytes(data)
    return path


def test_film_orders_are_read_and_written_without_ending_the_process(tmp_path: Path) -> None:
    """PyAV frees a layout of the file's own twice, which ends the process that reads it."""
    paths = [in_film_order(tmp_path / f"{tag}.mov", tag) for tag in FILM]
    paths += [
        in_film_order(tmp_path / "caf.caf", 127),
        in_film_order(tmp_path / "24.mov", 127, "pcm_s24le"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", COPY, *map(str, paths)],
        check=False,
        capture_output=True,
        text=True,
        cwd=HERE.parent,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr
    for path, tag in zip(paths, [*FILM, 127, 127], strict=True):
        mean = apart(FILM[tag]).mean(axis=0)
        assert np.abs(np.load(path.with_suffix(".npy")) - mean).max() < 1e-4


def test_the_order_of_the_file_decides_the_mix(tmp_path: Path) -> None:
    """The centre of C L R Ls Rs LFE is its first channel and is heard on both sides."""
    wave = np.zeros((6, RATE), np.float32)
    wave[0] = samples.tone(1)[0]
    source = in_film_order(tmp_path / "a.mov", 124, wave=wave)
    assert SoundFile(source).channels == ("FC", "FL", "FR", "SL", "SR", "LFE")
    left, right = both_sides(source, tmp_path / "b.mp4")
    assert left > 0.1
    assert left == pytest.approx(right, rel=0.01)


@pytest.mark.parametrize("channels", [9, 13])
def test_counts_that_no_layout_has(tmp_path: Path, channels: int) -> None:
    wave = samples.tone(1, channels=channels)
    track = samples.SoundTrack([(Fraction(0), wave)], RATE, f"{channels} channels", "pcm_s16le")
    source = samples.write(tmp_path / "a.mkv", sound=track)
    with AudioReader(source) as reader:
        assert np.abs(reader.read(0, RATE) - wave[0]).max() < 1e-4
    left, right = both_sides(source, tmp_path / "b.mp4")
    assert left == right > 0.1


def both_sides(source: Path, out: Path) -> tuple[float, float]:
    """How loud each side is once the sound became stereo."""
    with VideoWriter(out, 64, 48, audio_from=source) as writer:
        writer.write(samples.numbered(0), Fraction(0), Fraction(1, 25))
    with av.open(str(out)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    left, right = np.concatenate(frames, axis=1).std(axis=1)
    return left, right
