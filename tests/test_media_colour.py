"""From stored pixels to RGB: matrices, ranges, depths, gray, alpha and interlacing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import samples
from media_checks import frames_of, numbers

from avsal.media import VideoReader

# ---- colours

BARS = np.array(
    [[255] * 3, [255, 255, 0], [0, 255, 255], [0, 255, 0], [255, 0, 255], [255, 0, 0], [0, 0, 255]]
    + [[level] * 3 for level in (0, 64, 128, 192)],
    np.uint8,
)
# Luma weights (red, blue) and ITU-T H.273 codes of the matrices.
MATRICES = {"bt601": (0.299, 0.114, 6), "bt709": (0.2126, 0.0722, 1), "bt2020": (0.2627, 0.0593, 9)}


def colour_bars(path: Path, matrix: str, full: bool, pix_fmt: str) -> tuple[Path, np.ndarray]:
    """FFV1 of the bars, converted to YUV by the textbook; returns also the RGB picture."""
    rgb = np.repeat(np.repeat(BARS[None], 16, axis=0), 16, axis=1)
    red, blue, code = MATRICES[matrix]
    r, g, b = (rgb.astype(float) / 255).transpose(2, 0, 1)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    scale, offset, spread = (255, 0, 255) if full else (219, 16, 224)
    deep = 4 if "10le" in pix_fmt else 1
    top = 256 * deep - 1
    planes = [np.clip((y * scale + offset) * deep + 0.5, 0, top)]
    planes += [np.clip((c * spread + 128) * deep + 0.5, 0, top) for c in (u, v)]
    if "420" in pix_fmt:
        planes[1:] = [plane[::2, ::2] for plane in planes[1:]]
    frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], pix_fmt)
    for plane, values in zip(frame.planes, planes, strict=True):
        line = np.zeros((plane.height, plane.line_size // (2 if deep > 1 else 1)), np.uint8)
        line = line.astype(np.uint16) if deep > 1 else line
        line[:, : plane.width] = values
        plane.update(line.tobytes())
    frame.colorspace, frame.color_range = code, 2 if full else 1
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
        stream.codec_context.colorspace = code
        stream.codec_context.color_range = frame.color_range
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path, rgb


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_colour_bars_come_back_in_rgb(
    tmp_path: Path, matrix: str, full: bool, pix_fmt: str
) -> None:
    path, rgb = colour_bars(tmp_path / "a.mkv", matrix, full, pix_fmt)
    (frame,) = frames_of(path)
    middle = slice(4, None, 16)  # away from the borders, where 4:2:0 mixes neighbours
    assert np.abs(frame.image[:, middle].astype(int) - rgb[:, middle]).max() <= 2


def test_an_untold_matrix_is_bt601(tmp_path: Path) -> None:
    path, rgb = colour_bars(tmp_path / "a.mkv", "bt601", False, "yuv420p")
    plain = tmp_path / "b.mp4"
    samples.write(plain, samples.Pictures([rgb], options={"qp": "1"}))
    with av.open(str(plain)) as container:
        assert next(container.decode(video=0)).colorspace == 2  # unspecified
    told, untold = frames_of(path)[0].image, frames_of(plain)[0].image
    middle = slice(4, None, 16)
    assert np.abs(told[:, middle].astype(int) - untold[:, middle]).max() <= 6


def test_hdr_is_left_as_it_is_with_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        stream.codec_context.color_trc = 16  # SMPTE ST 2084
        frame = av.VideoFrame.from_ndarray(samples.numbered(5), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        output.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert numbers(list(reader)) == [5]
        (warning,) = reader.warnings
    assert "HDR" in warning


@pytest.mark.parametrize("pix_fmt", ["gray", "rgb24", "rgba"])
def test_packed_and_gray_formats_are_exact(tmp_path: Path, pix_fmt: str) -> None:
    image = np.repeat(samples.moving_noise(0, 40, 30)[..., :1], 3, axis=2)
    (frame,) = frames_of(samples.lossless(tmp_path / "a.mov", [image], pix_fmt))
    assert np.abs(frame.image.astype(int) - image).max() <= (1 if pix_fmt == "gray" else 0)


def test_gray_that_says_limited_range_is_stretched(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    frame = av.VideoFrame(64, 48, "gray")
    frame.planes[0].update(
        np.repeat(np.array([[16, 235]], np.uint8), 32, 1).repeat(48, 0).tobytes()
    )
    frame.color_range, frame.pts, frame.time_base = 1, 0, Fraction(1, 25)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        stream.codec_context.color_range = 1
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    image = frames_of(path)[0].image
    assert (image[0, 0, 0], image[0, -1, 0]) == (0, 255)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_transparency_lies_over_black(tmp_path: Path, suffix: str) -> None:
    rgba = np.full((48, 64, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[:, 32:, 3] = 51  # a fifth
    with VideoReader(samples.still(tmp_path / f"a{suffix}", rgba)) as reader:
        ((image,), notes) = [frame.image for frame in reader], reader.warnings
    assert np.abs(image[:, :30].astype(int) - 200).max() <= 2
    assert np.abs(image[:, 34:].astype(int) - 40).max() <= 2
    assert ["transparent parts are used as black" in note for note in notes] == [True]
    rgba[..., 3] = 255
    with VideoReader(samples.still(tmp_path / f"b{suffix}", rgba)) as reader:
        assert len(list(reader)) == 1 and reader.warnings == []


def test_video_with_alpha_and_10_bit_video(tmp_path: Path) -> None:
    for pix_fmt in ("yuva420p", "yuv420p10le"):
        path = samples.lossless(tmp_path / f"{pix_fmt}.mkv", [samples.numbered(9)], pix_fmt)
        assert numbers(frames_of(path)) == [9]


def test_flagged_frames_are_deinterlaced(tmp_path: Path) -> None:
    def combing(image: np.ndarray) -> float:
        rows = image[..., 1].astype(float)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    path = samples.interlaced(tmp_path / "a.mkv")
    with av.open(str(path)) as container:
        raw = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = frames_of(path)
    assert [frame.pts for frame in frames] == [Fraction(i, 25) for i in range(len(raw))]
    assert combing(raw[4]) > 8
    assert combing(frames[4].image) < combing(raw[4]) / 4
