"""What reading a video costs: threads, open files and memory."""

from __future__ import annotations

import gc
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
import samples
from media_checks import frames_of

from avsal.errors import MediaError
from avsal.media import VideoReader


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


def test_frames_are_freed_without_garbage_collection(tmp_path: Path) -> None:
    path = samples.rotated(tmp_path / "a.mp4", 90)
    long = samples.constant_rate(tmp_path / "b.mp4", frames=60)
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            with VideoReader(path) as reader:
                assert len([frame.index for frame in reader]) == 5
        with VideoReader(long) as reader:
            assert len([frame.index for frame in reader]) == 60
        alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert alive <= 15  # of 110: the first frame of each video


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
        audio.release(start)
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
