"""How a crop moves along one axis: it stays still unless moving keeps more of the gaze, and then
moves smoothly.

Two steps. A dynamic programme over places finds the path that keeps most gaze, where moving costs
gaze in proportion to the way and speed has a bound; it sees the whole shot, so it neither hurries
after every glance nor gets stuck at one of two faces. A linear programme then finds the smooth path
nearest to it: least weighted L1 norms of the first, second and third derivative, which leaves
stretches of rest and of even motion (Grundmann, Kwatra, Essa, "Auto-directed video stabilization
with robust L1 optimal camera paths", CVPR 2011), within bounds on speed and acceleration.

Its solution are the control points of a cubic B-spline, whose speed and acceleration are averages
of the points' differences: the bounds hold between the points too, and a rest is exactly still.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.ndimage import map_coordinates
from scipy.optimize import linprog

from avsal.crops.settings import Motion

KNOT = 0.125  # seconds between control points
PLACES = 65  # of a crop along an axis that the dynamic programme chooses from
_WINDOW = 480  # control points of one linear programme; a longer shot is done piece by piece
_KEPT = 320  # of them that count before the next piece starts
_PAST = 3  # control points that a piece takes over, so that its three derivatives continue


@dataclass(frozen=True)
class Cost:
    """What moving costs.

    Attributes:
        way: seconds of all gaze that must be gained by moving over the crop's own width.
        weights: of the path's first, second and third derivative, in picture widths (heights) per
            second, per second squared and per second cubed, against a distance of one picture
            width from the path of the dynamic programme.
        speed: picture widths (heights) per second at most.
        acceleration: picture widths (heights) per second squared at most.
    """

    way: float
    weights: tuple[float, float, float] = (0.1, 0.05, 0.02)
    speed: float = 0.5
    acceleration: float = 1.0


COSTS: dict[str, Cost] = {
    Motion.STEADY: Cost(way=0.05),
    Motion.FOLLOW: Cost(way=0.02, weights=(0.05, 0.05, 0.02), speed=1.0, acceleration=2.0),
    Motion.STILL: Cost(way=np.inf),
}


def choose_places(gain: np.ndarray, length: float, cost: Cost) -> np.ndarray:
    """The path along one axis that keeps most gaze for its way.

    Args:
        gain: (n, PLACES), share of the gaze kept at every control point by a crop at every place;
            the positions are spaced evenly from one end of the axis to the other.
        length: the crop's, as a fraction of the axis.

    Returns:
        (n,) offset of the crop, 0..1 - length.
    """
    room = 1 - length
    if np.isinf(cost.way) or room <= 0:
        return np.full(len(gain), gain.sum(axis=0).argmax() * room / (PLACES - 1))
    steps = np.abs(np.subtract.outer(np.arange(PLACES), np.arange(PLACES)))
    way = steps * room / (PLACES - 1)
    price = np.where(way > cost.speed * KNOT, np.inf, cost.way / KNOT / length * way)
    best, came_from = gain[0], np.zeros(gain.shape, np.uint8)
    for knot in range(1, len(gain)):
        reached = best - price  # row: place now, column: place before
        came_from[knot] = reached.argmax(axis=1)
        best = reached.max(axis=1) + gain[knot]
    path = [int(best.argmax())]
    for knot in range(len(gain) - 1, 0, -1):
        path.append(int(came_from[knot, path[-1]]))
    return np.array(path[::-1]) * room / (PLACES - 1)


def smooth(places: np.ndarray, room: float, cost: Cost) -> np.ndarray:
    """Control points of the smooth path nearest to `places`.

    Args:
        places: (n,) offsets, see `choose_places`.
        room: the largest offset.
    """
    if len(places) == 0 or np.ptp(places) == 0:
        return places
    done = np.zeros(0)
    while len(done) < len(places):
        past = done[-_PAST:]
        wanted = places[len(done) : len(done) + _WINDOW]
        solved = _nearest(np.concatenate([past, wanted]), len(past), room, cost)[len(past) :]
        last = len(done) + len(solved) == len(places)
        done = np.concatenate([done, solved if last else solved[:_KEPT]])
    return done


def _nearest(wanted: np.ndarray, fixed: int, room: float, cost: Cost) -> np.ndarray:
    """Solve the linear programme; the first `fixed` points are given.

    The unknowns are the points and, for distance and derivatives, bounds on their magnitude.
    """
    count = len(wanted)
    if count <= _PAST:
        return np.full(count, wanted[:fixed][-1] if fixed else np.median(wanted))
    operators = [sp.identity(count, format="csr")]
    for _order in range(3):
        operators.append((operators[-1][1:] - operators[-1][:-1]) / KNOT)
    targets = [wanted, *(np.zeros(op.shape[0]) for op in operators[1:])]
    # A magnitude m of what an operator gives: op x - m <= target and -op x - m <= -target.
    magnitudes = sp.block_diag([sp.identity(len(target)) for target in targets])
    both = sp.vstack(operators)
    matrix = sp.block_array([[both, -magnitudes], [-both, -magnitudes]], format="csr")
    target = np.concatenate(targets)
    price = np.concatenate(
        [np.zeros(count)]
        + [np.full(len(t), w) for t, w in zip(targets, (1.0, *cost.weights), strict=True)]
    )
    bounds: list[tuple[float, float | None]] = [(point, point) for point in wanted[:fixed]]
    bounds += [(0, room)] * (count - fixed)
    limits = (None, cost.speed, cost.acceleration, None)
    for values, limit in zip(targets, limits, strict=True):
        bounds += [(0, limit)] * len(values)
    solved = linprog(price, matrix, np.concatenate([target, -target]), bounds=bounds)
    return np.clip(solved.x[:count], 0, room)


def at_times(points: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Offsets of the crop at times since the shot's start; the points' times are (i + 1/2) KNOT."""
    return map_coordinates(points, [seconds / KNOT - 0.5], order=3, prefilter=False, mode="nearest")
