"""Kinds of files: motion JPEG, icons, camera raw, encrypted files and too large pictures."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import samples
from file_server import serving
from media_checks import frames_of, numbers
from PIL import Image

from avsal.errors import MediaError
from avsal.media import VideoReader, probe
from avsal.media.source import is_encrypted


@pytest.mark.parametrize("suffix", [".mjpeg", ".mjpg", ".MJPEG", ".avi"])
def test_motion_jpeg_without_a_container_is_a_video(tmp_path: Path, suffix: str) -> None:
    images = [samples.numbered(i) for i in range(30)]
    pictures = samples.Pictures(images, codec="mjpeg", pix_fmt="yuvj420p", options={})
    path = samples.write(tmp_path / f"a{suffix}", pictures, container="mjpeg")
    with VideoReader(path) as reader:
        assert not reader.info.is_image
        frames = list(reader)
    assert numbers(frames) == list(range(30))
    assert [frame.pts for frame in frames] == [Fraction(i, 25) for i in range(30)]


def test_motion_jpeg_by_its_address(tmp_path: Path) -> None:
    images = [samples.numbered(i) for i in range(5)]
    pictures = samples.Pictures(images, codec="mjpeg", pix_fmt="yuvj420p", options={})
    samples.write(tmp_path / "a.mjpeg", pictures, container="mjpeg")
    with serving(tmp_path) as server:
        assert numbers(frames_of(f"{server.address}/a.mjpeg?key=1")) == list(range(5))


def test_several_jpeg_pictures_in_a_still_are_one(tmp_path: Path) -> None:
    """As in a stereo photograph (MPO), and where a preview follows."""
    path = samples.still(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() * 2)
    assert numbers(frames_of(path)) == [37]
    assert probe(path).is_image


def test_an_icon_is_a_still(tmp_path: Path) -> None:
    path = tmp_path / "a.ico"
    Image.fromarray(samples.numbered(37, 64, 64)).save(path, sizes=[(16, 16), (64, 64)])
    with VideoReader(path) as reader:
        frames = list(reader)
        assert reader.info.is_image and reader.info.rate is None
        assert reader.warnings == []
    assert numbers(frames) == [37]


def test_camera_raw_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.nef"
    Image.fromarray(samples.numbered(37)).save(path, format="TIFF")
    with VideoReader(path) as reader:
        assert reader.info.is_image
        (note,) = reader.warnings
    assert "camera raw" in note
    for content in (path.read_bytes()[:40], b"FUJIFILMCCD-RAW 0201" + bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(MediaError, match="camera raw file that FFmpeg cannot develop"):
            VideoReader(path)


def test_encrypted_mp4_is_called_so(tmp_path: Path) -> None:
    """Common encryption (ISO/IEC 23001-7); slices are encrypted and their headers are not."""
    whole = samples.constant_rate(tmp_path / "whole.mp4", frames=5)
    key = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    path = tmp_path / "a.mp4"
    with av.open(str(whole)) as read, av.open(str(path), "w", options=key) as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    assert b"encv" in path.read_bytes()
    with pytest.raises(MediaError, match=r"is encrypted \(copy protection\)"):
        VideoReader(path)


def test_scrambled_transport_stream_is_called_so(tmp_path: Path) -> None:
    images = [samples.moving_noise(number, 64, 48) for number in range(10)]
    path = samples.write(tmp_path / "a.ts", samples.Pictures(images))
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 188):
        if data[at + 1] & 0x1F == 1 and data[at + 2] == 0:  # FFmpeg's number of the first stream
            data[at + 3] |= 0xC0
            payload = at + 5 + data[at + 4] if data[at + 3] & 0x20 else at + 4
            data[payload : at + 188] = np.random.default_rng(at).bytes(at + 188 - payload)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"is encrypted \(copy protection\)"):
        VideoReader(path)


def test_encrypted_matroska_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    samples.write(
        path,
        samples.Pictures([samples.numbered(i) for i in range(3)]),
        container="matroska",
    )
    data = path.read_bytes()
    assert not is_encrypted(path, "matroska,webm")
    # The head of a file with one track: its type, and an encryption of no settings.
    encryption = element("6d80", element("6240", element("5035", b"")))
    inside = element("83", b"\1") + encryption
    path.write_bytes(
        data[: data.index(b"\x18\x53\x80\x67")]
        + element("18538067", element("1654ae6b", element("ae", inside)))
    )
    assert is_encrypted(path, "matroska,webm")


def element(identity: str, content: bytes) -> bytes:
    """One element of Matroska, RFC 8794."""
    return bytes.fromhex(identity) + bytes([0x80 | len(content)]) + content


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_that_is_too_large_is_called_so(tmp_path: Path, suffix: str) -> None:
    path = samples.still(tmp_path / f"a{suffix}")
    data = bytearray(path.read_bytes())
    if suffix == ".png":
        struct.pack_into(">2I", data, 16, 20000, 15000)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    else:
        struct.pack_into(">2H", data, data.index(b"\xff\xc0") + 5, 20000, 15000)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="more than the 268 million pixels"):
        VideoReader(path)


def test_scrambled_discs_are_called_so(tmp_path: Path) -> None:
    images = [samples.moving_noise(number, 160, 96) for number in range(20)]
    pictures = samples.Pictures(images, codec="mpeg2video", options={"b": "4000000"})
    path = samples.write(tmp_path / "a.vob", pictures, container="vob")
    assert len(frames_of(path)) == 20
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 2048):  # a sector each, ISO/IEC 13818-1 section 2.4.3.6
        if data[at + 14 : at + 18] == b"\0\0\1\xe0":
            data[at + 20] |= 0x10
            data[at + 128 : at + 2048] = np.random.default_rng(at).bytes(1920)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"is encrypted \(copy protection\)"):
        VideoReader(path)
