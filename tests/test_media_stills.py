"""Still images: colour profiles, orientation, photographs in tiles, and what cannot be read."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import samples
from PIL import Image, ImageCms, ImageOps

from avsal.errors import MediaError
from avsal.media import VideoFrame, VideoReader, probe
from avsal.media.view import is_cut_off

READ_MANY_TIMES = """
import gc, sys
from avsal.media import VideoReader
for _ in range(20):
    with VideoReader(sys.argv[1]) as reader:
        (frame,) = reader
    gc.collect()
print(frame.image.shape)
"""


def only_frame(path: Path) -> VideoFrame:
    with VideoReader(path) as reader:
        (frame,) = reader
    return frame


def with_srgb_profile(path: Path) -> Path:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(samples.numbered(37)).save(path, icc_profile=profile)
    return path


def test_a_colour_profile_does_not_end_the_process(tmp_path: Path) -> None:
    path = with_srgb_profile(tmp_path / "a.png")
    child = subprocess.run(
        [sys.executable, "-c", READ_MANY_TIMES, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (child.returncode, child.stdout) == (0, "(48, 64, 3)\n"), child.stderr


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_orientation_of_other_formats_than_jpeg(tmp_path: Path, suffix: str) -> None:
    stored = samples.numbered(37)
    exif = Image.Exif()
    exif[0x0112] = 7  # mirrored and turned
    Image.fromarray(stored).save(tmp_path / f"a{suffix}", exif=exif, lossless=True)
    image = only_frame(tmp_path / f"a{suffix}").image
    expected = stored[::-1, ::-1].transpose(1, 0, 2)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 12
    info = probe(tmp_path / f"a{suffix}")
    assert (info.width, info.height) == (48, 64)


def test_a_photograph_in_tiles_is_read_as_a_whole(tmp_path: Path) -> None:
    image = np.concatenate([samples.numbered(n, 64, 64) for n in (37, 90)], axis=1)
    path = samples.tiled_avif(tmp_path / "a.avif", image, rows=1, columns=2)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2  # what FFmpeg makes of the tiles
    frame = only_frame(path)
    assert frame.image.shape == image.shape
    assert np.abs(frame.image.astype(int) - image).mean() < 4
    info = probe(path)
    assert (info.width, info.height, info.is_image, info.codec) == (128, 64, True, "av1")


@pytest.mark.parametrize("orientation", [1, 2, 5, 6])
def test_orientation_of_avif(tmp_path: Path, orientation: int) -> None:
    stored = samples.numbered(37, 64, 48)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.avif", exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.avif")))
    assert np.array_equal(only_frame(tmp_path / "a.avif").image, expected)


def test_an_avif_sequence_is_a_video(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(samples.numbered(n)) for n in (1, 2, 3)]
    path = tmp_path / "a.avif"
    first.save(path, save_all=True, append_images=others, duration=100, quality=95)
    with VideoReader(path) as reader:
        assert not reader.info.is_image
        assert reader.info.duration == Fraction(3, 10)
        frames = list(reader)
    assert [frame.pts for frame in frames] == [0, Fraction(1, 10), Fraction(2, 10)]
    assert [samples.number_of(frame.image) for frame in frames] == [1, 2, 3]


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw"])
def test_kinds_of_tiff(tmp_path: Path, mode: str, compression: str) -> None:
    image = Image.fromarray(samples.numbered(37)).convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    difference = only_frame(tmp_path / "a.tif").image.astype(int) - image.convert("RGB")
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_in_tiles(tmp_path: Path, bits: int) -> None:
    gray = samples.numbered(37, 60, 40)[..., 1]
    path = samples.tiled_tiff(tmp_path / "a.tif", gray.astype(f"<u{bits // 8}") << bits - 8)
    assert (only_frame(path).image == gray[..., None]).all()
    info = probe(path)
    assert (info.width, info.height, info.is_image, info.codec) == (60, 40, True, "tiff")


@pytest.mark.parametrize("compression", ["jpeg", "raw"])
def test_a_tiff_is_turned_once(tmp_path: Path, compression: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = samples.numbered(37)
    Image.fromarray(stored).save(tmp_path / "a.tif", exif=exif, compression=compression)
    image = only_frame(tmp_path / "a.tif").image
    assert image.shape == (64, 48, 3)
    assert np.abs(image.astype(int) - np.rot90(stored, -1)).mean() < 3


@pytest.mark.parametrize("suffix", [".hdr", ".pfm", ".png"])
def test_linear_light_is_told(tmp_path: Path, suffix: str) -> None:
    light = samples.numbered(37)
    cv2.imwrite(
        str(tmp_path / f"a{suffix}"), light if suffix == ".png" else light / np.float32(255)
    )
    with VideoReader(tmp_path / f"a{suffix}") as reader:
        assert len(list(reader)) == 1
        assert ["linear light" in note for note in reader.warnings] == [True] * (suffix != ".png")


def test_numbers_in_a_tiff_are_no_picture(tmp_path: Path) -> None:
    path = samples.tiled_tiff(tmp_path / "a.tif", np.zeros((16, 16), "<u4"))
    with pytest.raises(MediaError, match=r"32 bits.*convert it to PNG"):
        probe(path)


@pytest.mark.parametrize("mode", ["LA", "P", "CMYK", "I;16", "1"])
def test_kinds_of_pixels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(samples.numbered(37)).convert("L").convert(mode).save(path)
    assert only_frame(path).image.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG drawing"),
        ("a.jxl", bytes.fromhex("ff0a7f1050100b080010") + bytes(200), "JPEG XL"),
    ],
)
def test_the_message_names_the_kind(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=f"{words}.*convert it to PNG"):
        probe(tmp_path / name)


def test_an_animated_webp_is_named(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(samples.numbered(n)) for n in (1, 2, 3)]
    first.save(tmp_path / "a.webp", save_all=True, append_images=others, duration=100)
    with pytest.raises(MediaError, match=r"animated.*convert it"):
        probe(tmp_path / "a.webp")


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_cut_off_photograph_is_told(tmp_path: Path, options: dict[str, bool]) -> None:
    path = tmp_path / "a.jpg"
    Image.effect_noise((320, 240), 60).convert("RGB").save(path, **options)
    whole = path.read_bytes()
    for content, notes in ((whole + bytes(100), 0), (whole[: len(whole) // 2], 1)):
        path.write_bytes(content)
        with VideoReader(path) as reader:
            assert len(list(reader)) == 1
        assert len(reader.warnings) == notes
        assert all("seems cut off" in note for note in reader.warnings)


def test_only_pillow_says_that_a_photograph_is_cut_off(tmp_path: Path) -> None:
    """And only where the file does not end as a JPEG: what is inside is FFmpeg's matter."""
    path = tmp_path / "truncated.jpg"
    path.write_bytes(b"no picture")
    assert not is_cut_off(path)  # Pillow's error names the file
    path.write_bytes(b"")
    assert not is_cut_off(path)
    Image.effect_noise((320, 240), 60).save(path)
    whole = path.read_bytes()
    for content, is_cut in ((whole, False), (whole[:-9], True), (whole[:-99] + whole[-2:], False)):
        path.write_bytes(content)
        assert is_cut_off(path) is is_cut


def test_a_damaged_avif_is_one_line(tmp_path: Path) -> None:
    path = samples.tiled_avif(tmp_path / "a.avif", samples.numbered(37, 128, 64), 1, 2)
    data = bytearray(path.read_bytes())
    data[-200:] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"cannot be decoded .*; convert it to PNG"):
        only_frame(path)


@pytest.mark.parametrize(
    ("name", "shape", "note"),
    [
        ("0769_iphonex.heic", (4032, 3024, 3), None),
        ("1397_cosmos1650_yuv444_10bpc_p3pq.avif", (428, 1024, 3), "HDR"),
    ],
)
def test_photographs_of_others(name: str, shape: tuple[int, ...], note: str | None) -> None:
    path = samples.SHARED_REPRODUCERS / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with VideoReader(path) as reader:
        (frame,) = reader
        assert frame.image.shape == shape
        assert bool(note) == bool(reader.warnings)
        assert all(note in line for line in reader.warnings)
