"""Draw a heatmap over a video and keep its sound: python overlay.py VIDEO OUT.mp4"""

import sys

import avsal

if len(sys.argv) != 3:
    sys.exit(__doc__)
video, out = sys.argv[1:]
print(avsal.overlay(video, out, alpha=0.6))
