"""Draw a heatmap over a video and keep its sound: python overlay.py VIDEO OUT.mp4"""

import argparse
from pathlib import Path

import avsal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video", type=Path)
parser.add_argument("out", type=Path)
arguments = parser.parse_args()
video, out = arguments.video, arguments.out
model = avsal.load_model()
with VideoReader(video) as pictures:
    pairs = predicted(model, pictures, PredictSettings())
    write_overlay(pictures, out, pairs, OverlayStyle(alpha=0.6))
print(out)
