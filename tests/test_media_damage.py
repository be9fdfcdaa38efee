"""Files that are not what they seem, cut or damaged: one clear line or the right frames."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import av
import copies
import numpy as np
import pytest
import samples
from media_checks import frames_of, numbers
from PIL import Image

from avsal.errors import MediaError
from avsal.media import VideoReader, probe
from avsal.media.decoding import MIN_DAMAGED

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
    path = copies.without_header(samples.PARITY_CLIP, tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="beginning is damaged"):
        probe(path)


@pytest.mark.parametrize("share", [0.5, 0.97], ids=["no index", "half an index"])
def test_tail_cut_off_with_the_index_at_the_end(tmp_path: Path, share: float) -> None:
    path = copies.cut_off(samples.PARITY_CLIP, tmp_path / "a.mp4", share)
    with pytest.raises(MediaError, match="incomplete file"):
        probe(path)


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_an_animation_that_is_cut_off_is_told(tmp_path: Path, suffix: str) -> None:
    pictures = [Image.effect_noise((64, 48), 60) for _ in range(9)]
    path = tmp_path / f"a.{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    whole = path.read_bytes()
    # The last block of a GIF is one byte, without which many end; the last one of a PNG has 12.
    almost = len(whole) - (1 if suffix == "gif" else 4)
    for size, is_cut in ((len(whole), False), (almost, False), (len(whole) // 2, True)):
        path.write_bytes(whole[:size])
        with VideoReader(path) as reader:
            assert len(list(reader)) == (9 if not is_cut else pytest.approx(4, abs=1))
        assert [note.rpartition("; ")[2] for note in reader.warnings] == [
            "it seems cut off"
        ] * is_cut


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_tail_cut_off_elsewhere_gives_the_frames_that_are_left(tmp_path: Path, suffix: str) -> None:
    whole = samples.constant_rate(tmp_path / f"whole{suffix}", frames=100)
    if suffix == ".mp4":
        whole = copies.with_index_first(whole, tmp_path / "index.mp4")
    with VideoReader(copies.cut_off(whole, tmp_path / f"cut{suffix}", 0.6)) as reader:
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
        path = copies.flipped(whole, tmp_path / f"bad{suffix}", flips=25, seed=seed)
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
