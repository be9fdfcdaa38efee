"""Draw a heatmap over a video and keep its sound: python overlay.py VIDEO OUT.mp4"""

import argparse

import avsal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video")
parser.add_argument("out")
arguments = parser.parse_args()
print(avsal.overlay(arguments.video, arguments.out, alpha=0.6))
