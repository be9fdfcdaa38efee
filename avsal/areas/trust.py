"""How far a share can be trusted: mean absolute errors against recorded gaze.

Figures of `benchmarks/areas.py` for the default network, on ten videos with weights that were
trained without them and on photographs that were held out of training: the difference between the
share that it predicts for a box and the share that half of the observers gave it, in videos within
one second.
"""

from __future__ import annotations

import math

import numpy as np

MEASURED_WITH = "small-224x384"  # the network that the figures are of

# Part of the picture: error where more gaze is predicted than if it were even, and where less is.
VIDEO = {
    1 / 64: (0.039, 0.007),
    1 / 36: (0.056, 0.012),
    1 / 16: (0.091, 0.025),
    1 / 9: (0.120, 0.045),
    1 / 4: (0.173, 0.091),
}
# Photographs, mean of the two sets.
STILL = {
    1 / 64: (0.028, 0.005),
    1 / 36: (0.038, 0.009),
    1 / 16: (0.055, 0.018),
    1 / 9: (0.064, 0.030),
    1 / 4: (0.079, 0.066),
}


def expected_error(share: float, part: float, model: str, still: bool = False) -> float | None:
    """Mean absolute error to be expected of a share; None where it was not measured, or no share.

    Between the sizes that were measured it is interpolated by the logarithm of the part; smaller
    parts have the error of the smallest in proportion, larger ones fall to 0 for the whole picture.

    Args:
        share: predicted, 0..1.
        part: of the picture that the area is, 0..1.
        model: the network's name as `saliency.json` has it.
    """
    if model != MEASURED_WITH or math.isnan(share) or math.isnan(part):
        return None
    table = STILL if still else VIDEO
    column = 0 if share > part else 1
    parts = sorted(table)
    errors = [table[size][column] for size in parts]
    if part < parts[0]:
        return errors[0] * part / parts[0]
    return float(np.interp(np.log(part), np.log([*parts, 1.0]), [*errors, 0.0]))
