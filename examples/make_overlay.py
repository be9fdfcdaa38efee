"""The README's moving picture: python make_overlay.py VIDEO START OUT.webp

Draws an overlay over four seconds of a video. The picture in this folder shows Big Buck Bunny, (c)
Blender Foundation, CC BY 3.0, from second 17. Run it again after a change of the look or of the
default weights.
"""

import argparse

import avsal

SECONDS = 4

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("video")
parser.add_argument("start", type=float, help="seconds")
parser.add_argument("out", help="such as overlay.webp")
arguments = parser.parse_args()
start, end = arguments.start, arguments.start + SECONDS
print(avsal.overlay(arguments.video, arguments.out, start=start, end=end))
