"""The size that a picture has in a network: its own shape, at about the network's area."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

from avsal.models.variants import Variant

CELL = 32  # pixels; heights and widths are multiples of it
SIDES = range(5, 18)  # cells of a height or width; longer pictures are squeezed
TOLERANCE = 0.05  # of the area

Size = tuple[int, int]  # (height, width)


def input_size(variant: Variant, height: int, width: int, sample_aspect: Fraction) -> Size:
    """Return the size that a picture has in a network.

    Args:
        height, width: of the picture in pixels.
        sample_aspect: width to height of a displayed pixel.
    """
    if not variant.follows_shape:
        return variant.size
    return size_near(math.prod(variant.size), float(sample_aspect * width / height))


def size_near(area: int, ratio: float) -> Size:
    """Return the size whose shape is nearest to a picture's.

    Args:
        area: pixels; the size has as many, within 5 %.
        ratio: the picture's width to its height, as it is displayed.
    """
    cells = area / CELL**2
    sizes = [
        (height, width)
        for height, width in product(SIDES, SIDES)
        if abs(height * width - cells) <= TOLERANCE * cells
    ]
    height, width = min(sizes, key=lambda size: abs(math.log(size[1] / size[0] / ratio)))
    return height * CELL, width * CELL
