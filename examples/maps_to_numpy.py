"""Save all maps of a video as one NumPy array: python maps_to_numpy.py VIDEO OUT.npz"""

import argparse

import numpy as np

import avsal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("video")
parser.add_argument("out")
arguments = parser.parse_args()
# At the network's own size a minute of video takes about half a gigabyte.
frames = list(avsal.predict(arguments.video, size="model"))
np.savez(
    arguments.out,
    density=np.stack([frame.density for frame in frames]),  # (frames, h, w), each sums to 1
    seconds=np.array([frame.time for frame in frames]),
)
print(f"{arguments.out}: {len(frames)} maps")
