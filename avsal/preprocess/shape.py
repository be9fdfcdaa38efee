"""The size that a picture has in a network: its own shape, at about the network's area."""

from __future__ import annotations

import math
from itertools import product

CELL = 32  # pixels; heights and widths are multiples of it
SIDES = range(5, 18)  # cells of a height or width; longer pictures are squeezed
TOLERANCE = 0.05  # of the area

Size = tuple[int, int]  # (height, width)


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
