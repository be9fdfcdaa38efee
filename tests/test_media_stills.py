"""Still images: colour profiles, orientation, photographs in tiles, and what cannot be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import samples
from PIL import Image, ImageCms

from avsal.media import VideoFrame, VideoReader, probe

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
