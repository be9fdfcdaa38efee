"""Print what share of the predicted gaze falls in an area, second by second.

    python area_share.py VIDEO LEFT TOP RIGHT BOTTOM

The four numbers are fractions of the width and the height: 0.5 0 1 1 is the right half.
`avsal measure` does this for boxes and polygons that may move, and writes a report.
"""

import argparse
from itertools import groupby

import avsal

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("video")
parser.add_argument("box", type=float, nargs=4, help="left, top, right, bottom, from 0 to 1")
arguments = parser.parse_args()
left, top, right, bottom = arguments.box
for second, frames in groupby(avsal.predict(arguments.video), key=lambda frame: int(frame.time)):
    shares = []
    for frame in frames:
        height, width = frame.density.shape
        rows = slice(round(top * height), round(bottom * height))
        columns = slice(round(left * width), round(right * width))
        shares.append(float(frame.density[rows, columns].sum()))
    print(f"{second} s: {100 * sum(shares) / len(shares):.0f} %")
