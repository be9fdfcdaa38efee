"""Recorded gaze: fixations as points, as a mask and as a blurred map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Standard deviation of the Gaussian around a fixation if the viewing distance is unknown, as a
# fraction of the longer side: about one visual degree of a picture that is 28 degrees wide.
DEFAULT_SIGMA = 0.035
_ROUNDING = 1e-3  # pixels; a pixel's position as a float32 fraction may be rounded down


@dataclass(frozen=True)
class Blur:
    """Width of the Gaussian around a fixation.

    Attributes:
        share: standard deviation as a fraction of the picture's longer side.
        degree: standard deviation in pixels, usually one visual degree; it overrides `share`.
    """

    share: float = DEFAULT_SIGMA
    degree: float | None = None

    def sigma(self, size: tuple[int, int]) -> float:
        """Standard deviation as a fraction of the longer side of a (H, W) picture."""
        return self.share if self.degree is None else self.degree / max(size)


@dataclass(frozen=True)
class Points:
    """Fixations inside the picture.

    Attributes:
        places: (n, 2) float32, x and y as fractions of width and height, 0 <= place < 1.
        observers: (n,) integers, one per person; None if unknown.
    """

    places: np.ndarray
    observers: np.ndarray | None = None

    @classmethod
    def inside(cls, places: np.ndarray, observers: np.ndarray | None = None) -> Points:
        """Keep the points inside the picture; NaN (a blink) is outside."""
        places = np.asarray(places, np.float32).reshape(-1, 2)
        kept = ((places >= 0) & (places < 1)).all(axis=1)
        return cls(places[kept], None if observers is None else np.asarray(observers)[kept])

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> Points:
        """The centres of the marked pixels of a (H, W) mask."""
        rows, columns = np.nonzero(mask)
        height, width = mask.shape
        return cls.inside(np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1))

    def __len__(self) -> int:
        return len(self.places)

    def where(self, chosen: np.ndarray) -> Points:
        """The points that a boolean (n,) marks."""
        observers = None if self.observers is None else self.observers[chosen]
        return Points(self.places[chosen], observers)

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Bool (H, W), true at fixated pixels."""
        height, width = size
        pixels = self.places.astype(np.float64) * (width, height) + _ROUNDING
        columns, rows = pixels.astype(np.intp).T
        mask = np.zeros(size, bool)
        mask[np.minimum(rows, height - 1), np.minimum(columns, width - 1)] = True
        return mask

    def density(self, size: tuple[int, int], sigma: float = DEFAULT_SIGMA) -> np.ndarray:
        """Sum of one Gaussian per fixation, float32 (H, W), each 1 at its centre.

        Args:
            sigma: standard deviation as a fraction of the longer side.
        """
        height, width = size
        spread = sigma * max(size)
        # A Gaussian is the product of one in x and one in y, so the sum is a matrix product.
        x = _profiles(self.places[:, 0] * width, width, spread)
        y = _profiles(self.places[:, 1] * height, height, spread)
        return y.T @ x


def _profiles(centres: np.ndarray, length: int, spread: float) -> np.ndarray:
    """Gaussians along one axis of pixel centres, float32 (n, length)."""
    pixels = np.arange(length, dtype=np.float32) + 0.5
    return np.exp(-0.5 * ((pixels - centres[:, None]) / spread) ** 2)


@dataclass(frozen=True)
class Gaze:
    """The recorded gaze of all observers on one frame.

    Attributes:
        density: float32 (H, W), blurred fixations of any scale.
        fixations: bool (H, W), true at fixated pixels; None if only a map is known.
        points: the fixations as points, if they are known.
        sigma: with which the points were blurred, see `Points.density`.
    """

    density: np.ndarray
    fixations: np.ndarray | None
    points: Points | None = None
    sigma: float = DEFAULT_SIGMA

    @classmethod
    def of_points(cls, points: Points, size: tuple[int, int], sigma: float) -> Gaze | None:
        """Gaze of points on a frame of (H, W) pixels; None without points."""
        if not len(points):
            return None
        return cls(points.density(size, sigma), points.mask(size), points, sigma)

    @property
    def fixation_points(self) -> Points:
        """The fixations as points: if unknown, the centres of fixated pixels."""
        if self.points is not None:
            return self.points
        return Points.of_mask(np.zeros((1, 1)) if self.fixations is None else self.fixations)

    def ground_truth(self) -> np.ndarray | None:
        """The map (H, W) to train on; None if it is empty."""
        return self.density if self.density.any() else None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the arrays."""
        return self.density.shape[0], self.density.shape[1]
