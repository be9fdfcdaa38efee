"""Pictures for people: heatmaps over frames, contour lines, legends; and writing them."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from avsal import atomic
from avsal.errors import MediaError
from avsal.prediction.style import ColorBy, OverlayStyle

CONTOUR_SHARES = (0.25, 0.5, 0.75)  # of all gaze, inside each line
_CONTOUR_COLOURS = ((255, 255, 255), (255, 220, 0), (0, 200, 255))  # RGB, innermost line first
OUTLINE = (20, 20, 20)  # RGB, around lines and letters, so that they show on any picture

SHARE_THRESHOLD = 0.85
# Position in the colour map (0 to 1) by the share of gaze enclosed. With turbo, what is inside half
# of the gaze is orange to red, and the rest yellow, green and blue.
_SHARES = (0.0, 0.25, 0.5, 0.75, 0.85, 1.0)
_POSITIONS = (0.96, 0.84, 0.68, 0.36, 0.12, 0.0)
_FADE = 0.12  # share of gaze within which the opacity rises from 0 to its full value

_GRID = 384  # pixels of the longer side at which shares are computed; maps have no finer detail
_OCTAVES, _BINS_AN_OCTAVE = 32, 128  # of densities below the peak; a bin is half a per cent

BACKGROUND = 30  # gray level of legends and captions
_LEGEND_LEAST = (320, 240)  # width and height of the smallest picture that gets a legend
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPTION = 0.5  # OpenCV's scale of the letters below a picture
_LETTERS_A_SIDE, _LETTER = 40, 22  # letters along the shorter side; their height at scale 1
JPEG_QUALITY = 95  # of JPEG, 0 to 100
_LONGEST_SIDES = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}  # pixels; others have no limit
_QUALITIES = {
    ".jpg": (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
    ".jpeg": (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
    ".webp": (cv2.IMWRITE_WEBP_QUALITY, 90),
}


def overlay(image: np.ndarray, density: np.ndarray, style: OverlayStyle) -> np.ndarray:
    """Draw a map over a frame.

    Args:
        image: uint8 (H, W, 3) RGB.
        density: float (h, w), resized to the frame if it has another size.

    Returns:
        uint8 RGB, (H, W, 3), or (H, 2 W, 3) side by side.
    """
    drawn = _with_contours(image, density) if style.contours else _heat(image, density, style)
    if _has_legend(image, style):
        _put_legend(drawn, style)
    return np.hstack([image, drawn]) if style.side_by_side else drawn


def _heat(image: np.ndarray, density: np.ndarray, style: OverlayStyle) -> np.ndarray:
    opacity: np.ndarray
    shares = None
    if style.color_by == ColorBy.SHARE or style.threshold is not None:
        shares = _resized(enclosed_share(density), image)
    if style.color_by == ColorBy.DENSITY:
        low, high = float(density.min()), float(density.max())
        gray = levels(_resized(density, image), low, high, 255)
        opacity = (gray * (style.alpha / 255)).astype(np.float32)
        if shares is not None:
            opacity[shares > (style.threshold or 1)] = 0
        heat = cv2.applyColorMap(gray, _colormap(style.colormap))
    else:
        assert shares is not None
        gray = cv2.convertScaleAbs(shares, alpha=255)
        colours, opacities = _share_tables(style)
        heat, opacity = cv2.applyColorMap(gray, colours), cv2.LUT(gray, opacities)
    return cv2.blendLinear(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), image, opacity, 1 - opacity)


def _resized(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if values.shape == (height, width):
        return values
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)


def _colormap(name: str) -> int:
    return int(getattr(cv2, f"COLORMAP_{name.upper()}"))


def _coloured(gray: np.ndarray, style: OverlayStyle) -> np.ndarray:
    """Levels uint8 (n,) in BGR, (n, 1, 3)."""
    return cv2.applyColorMap(gray.reshape(-1, 1), _colormap(style.colormap))


@lru_cache(maxsize=4)
def _share_tables(style: OverlayStyle) -> tuple[np.ndarray, np.ndarray]:
    """BGR colours (256, 1, 3) and opacities (256,) of the shares 0/255, 1/255, ... 1."""
    shares = np.arange(256) / 255
    positions = np.interp(shares, _SHARES, _POSITIONS)
    every = _coloured(np.arange(256, dtype=np.uint8), style)
    opacities = style.alpha * np.clip((_drawn_share(style) - shares) / _FADE, 0, 1)
    return every[np.rint(positions * 255).astype(int)], opacities.astype(np.float32)


def _drawn_share(style: OverlayStyle) -> float:
    """The share of the gaze that is inside what is coloured by shares."""
    if style.contours or style.threshold is None:
        return SHARE_THRESHOLD
    return style.threshold


def levels(density: np.ndarray, low: float, high: float, top: int) -> np.ndarray:
    """Scale densities to whole gray levels; all 0 where low and high are equal.

    Args:
        top: the highest level, 255 or 65535.

    Returns:
        uint8 or uint16.
    """
    eight_bit = top == np.iinfo(np.uint8).max
    if high <= low:
        return np.zeros(density.shape, np.uint8 if eight_bit else np.uint16)
    above = density - low
    np.clip(above, 0, high - low, out=above)
    if eight_bit:
        return cv2.convertScaleAbs(above, alpha=top / (high - low))
    above /= high - low
    above *= top
    return np.rint(above, out=above).astype(np.uint16)


def enclosed_share(density: np.ndarray) -> np.ndarray:
    """For each pixel the share of the map's total inside the smallest area that reaches it.

    That area is where the density is at least the pixel's own, so the share is close to 0 at the
    peak and 1 where the density is least; pixels of one density have one share.

    Args:
        density: float (H, W), not negative.

    Returns:
        float32, of the same shape, or smaller in proportion where the longer side is over 384.
    """
    height, width = density.shape
    scale = _GRID / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        density = cv2.resize(density, size, interpolation=cv2.INTER_AREA)
    peak = float(density.max())
    if not peak > 0:
        return np.ones(density.shape, np.float32)
    least = peak * 2.0**-_OCTAVES
    octaves = np.log2(np.maximum(density, least) / least)  # 0 to 32
    bins = (octaves * _BINS_AN_OCTAVE).astype(np.int32)
    mass = np.bincount(bins.ravel(), weights=density.ravel(), minlength=bins.max() + 1)
    inside = np.cumsum(mass[::-1])[::-1] / mass.sum()
    return inside[bins].astype(np.float32)


def _with_contours(image: np.ndarray, density: np.ndarray) -> np.ndarray:
    drawn = image.copy()
    shares = _resized(enclosed_share(density), image)
    thickness = _thickness(image)
    longest: dict[int, np.ndarray] = {}
    for number, share in enumerate(CONTOUR_SHARES):
        inside = (shares <= share).astype(np.uint8)
        lines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, lines, -1, OUTLINE, thickness + 2, cv2.LINE_AA)
        cv2.drawContours(drawn, lines, -1, _CONTOUR_COLOURS[number], thickness, cv2.LINE_AA)
        if lines and _fits_text(image):
            longest[number] = max(lines, key=cv2.contourArea)
    for number, line in longest.items():  # above all lines
        _put_share(drawn, line, number)
    return drawn


def _put_share(drawn: np.ndarray, line: np.ndarray, number: int) -> None:
    """Write the share on a line: innermost at its right, then at its top, then at its bottom."""
    points = line[:, 0]
    extreme = (points[:, 0].argmax(), points[:, 1].argmin(), points[:, 1].argmax())[number]
    text, size = f"{CONTOUR_SHARES[number]:.0%}", _font_scale(min(drawn.shape[:2]))
    (width, height), _ = cv2.getTextSize(text, _FONT, size, 1)
    x, y = points[extreme] + (0 if number == 0 else -width // 2, height // 2)
    x = int(np.clip(x, 2, max(2, drawn.shape[1] - width - 2)))
    y = int(np.clip(y, height + 2, max(height + 2, drawn.shape[0] - 4)))
    _put_text(drawn, text, (x, y), size, _CONTOUR_COLOURS[number])


def _put_text(
    drawn: np.ndarray,
    text: str,
    position: tuple[int, int],
    size: float,
    colour: tuple[int, int, int] = (255, 255, 255),
) -> None:
    thick = max(1, round(size * 2))
    x, y = position
    # Not by thicker letters: from OpenCV 5 on these are wider.
    for right, down in itertools.product((-1, 0, 1), repeat=2):
        beside = (x + thick * right, y + thick * down)
        cv2.putText(drawn, text, beside, _FONT, size, OUTLINE, thick, cv2.LINE_AA)
    cv2.putText(drawn, text, position, _FONT, size, colour, thick, cv2.LINE_AA)


def with_caption(drawn: np.ndarray, text: str) -> np.ndarray:
    """Add a dark strip with a text below a picture, uint8 (H, W, 3) RGB."""
    (_width, height), _ = cv2.getTextSize(text, _FONT, _CAPTION, 1)
    strip = np.full((2 * height, drawn.shape[1], 3), BACKGROUND, np.uint8)
    _put_text(strip, text, (0, height + height // 2), _CAPTION)
    return np.vstack([drawn, strip])


def _thickness(image: np.ndarray) -> int:
    return max(1, round(min(image.shape[:2]) / 360))


def _font_scale(side: int) -> float:
    """OpenCV's scale for letters of about a fortieth of a picture's shorter side, in pixels."""
    return max(0.33, side / _LETTERS_A_SIDE / _LETTER)


def _fits_text(image: np.ndarray) -> bool:
    return image.shape[1] >= _LEGEND_LEAST[0] and image.shape[0] >= _LEGEND_LEAST[1]


def _has_legend(image: np.ndarray, style: OverlayStyle) -> bool:
    """Without being asked, where it fits; lines bear their shares, and colours of density have no
    fixed meaning."""
    if style.legend is None:
        return _fits_text(image) and not style.contours and style.color_by == ColorBy.SHARE
    return style.legend


def _put_legend(drawn: np.ndarray, style: OverlayStyle) -> None:
    """Draw the legend into the lower left corner."""
    panel = legend_panel(style, min(drawn.shape[:2]))
    height, width = min(panel.shape[0], drawn.shape[0]), min(panel.shape[1], drawn.shape[1])
    corner = drawn[drawn.shape[0] - height :, :width]
    corner[:] = cv2.addWeighted(corner, 0.25, panel[:height, :width], 0.75, 0)


@lru_cache(maxsize=4)
def legend_panel(style: OverlayStyle, side: int) -> np.ndarray:
    """The colours with their meaning, uint8 (h, w, 3) RGB, for a picture whose shorter side is
    `side` pixels."""
    size = _font_scale(side)
    (label, line), _ = cv2.getTextSize("100%", _FONT, size, 1)
    heading = (
        "less likely  -  more likely"
        if style.color_by == ColorBy.DENSITY
        else "share of gaze inside"
    )
    (heading_width, _), _ = cv2.getTextSize(heading, _FONT, size, 1)
    margin, bar = round(0.8 * line), max(5, line)
    width = max(heading_width, 4 * label + 3 * margin) + 2 * margin
    panel = np.full((2 * line + bar + 4 * margin, width, 3), BACKGROUND, np.uint8)
    _put_text(panel, heading, (margin, margin + line), size)
    top = 2 * margin + line
    end = max(SHARE_THRESHOLD, _drawn_share(style))
    shares = np.linspace(end, 0, width - 2 * margin)
    panel[top : top + bar, margin : width - margin] = _legend_colours(style, shares)
    if style.color_by == ColorBy.SHARE or style.contours:
        for share in CONTOUR_SHARES:
            x = margin + int((1 - share / end) * (width - 2 * margin))
            panel[top : top + bar, x : x + max(1, bar // 8)] = OUTLINE
            corner = (x - label // 2, top + bar + margin + line)
            _put_text(panel, f"{share:.0%}", corner, size)
    return panel


def _legend_colours(style: OverlayStyle, shares: np.ndarray) -> np.ndarray:
    """RGB (n, 3) of a legend's bar."""
    if style.contours:
        number = np.searchsorted(CONTOUR_SHARES, shares).clip(max=len(CONTOUR_SHARES) - 1)
        return np.array(_CONTOUR_COLOURS, np.uint8)[number]
    if style.color_by == ColorBy.DENSITY:
        gray = np.linspace(0, 255, len(shares)).astype(np.uint8)
        return _coloured(gray, style)[:, 0, ::-1]
    colours = share_colours(shares, style)
    colours[shares > _drawn_share(style)] = BACKGROUND
    return colours


def share_colours(shares: np.ndarray, style: OverlayStyle) -> np.ndarray:
    """RGB uint8 (n, 3) of the colours that stand for shares of gaze enclosed."""
    colours, _ = _share_tables(style)
    return colours[np.rint(shares * 255).astype(int), 0, ::-1]


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write a picture, uint8 (H, W, 3) RGB, in the format of its suffix.

    Raises:
        MediaError: the format does not hold pictures of this size.
        OutputError: it cannot be written.
    """
    suffix, (height, width) = path.suffix.lower(), image.shape[:2]
    encoded, data = False, np.empty(0, np.uint8)
    # OpenCV writes lines of its own about pictures that are too long, and about a quality that a
    # format does not have.
    if max(height, width) <= _LONGEST_SIDES.get(suffix, math.inf):
        picture, quality = cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _QUALITIES.get(suffix, ())
        encoded, data = cv2.imencode(path.suffix, picture, quality)
    if not encoded:
        raise MediaError(
            f"{path}: {width}x{height} does not fit this image format; give a .png file"
        )
    atomic.write_bytes(path, data.tobytes())


def shrunk(image: np.ndarray, scale: float) -> np.ndarray:
    """A picture (H, W, 3) with sides `scale` times as long, if that is less than 1."""
    height, width = image.shape[:2]
    scale = min(1.0, scale)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def square_pixels(image: np.ndarray, aspect: Fraction | float) -> np.ndarray:
    """Widen a picture whose pixels have another shape, width to height."""
    if aspect == 1:
        return image
    return cv2.resize(image, (max(1, round(image.shape[1] * float(aspect))), image.shape[0]))


def encode_jpeg(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """A picture, uint8 (H, W, 3) RGB, as a JPEG file; shrunk if it is too long for one."""
    height, width = image.shape[:2]
    scale = _LONGEST_SIDES[".jpg"] / max(height, width)
    if scale < 1:
        size = max(1, int(width * scale)), max(1, int(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def decode_jpeg(data: bytes) -> np.ndarray:
    """The picture of `encode_jpeg`."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
